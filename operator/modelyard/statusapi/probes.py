"""/healthz, /readyz and /metrics on a port of their own, without authentication and without anything of the cluster."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from modelyard.statusapi.service import Service


async def serve_probes(service: Service, port: int) -> web.AppRunner:
    """Listens on all addresses. The caller cleans the runner up. OSError if the port is taken."""
    fresh = service.freshness

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        # Stale is no reason to be taken away: it would leave nobody who can say so.
        if not fresh.synced:
            return web.Response(status=503, text="the caches are being filled\n")
        since = fresh.stale_since()
        return web.Response(text=f"stale since {since}\n" if since else "ready\n")

    async def metrics(_: web.Request) -> web.Response:
        body = generate_latest(service.metrics.registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", alive)
    app.router.add_get("/readyz", ready)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner
