"""The operator's HTTP endpoints for kubelet and Prometheus: /healthz, /readyz, /metrics. Open, and without secrets."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


@dataclass(slots=True)
class Health:
    """What the process says about itself."""

    ready: bool = False
    words: str = "starting"


async def serve(health: Health, registry: CollectorRegistry, port: int) -> web.AppRunner:
    """Listens on all addresses; port 0 is any. The caller cleans the runner up. OSError if the port is taken."""
    app = web.Application()

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        return web.Response(status=200 if health.ready else 503, text=health.words + "\n")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app.router.add_get("/healthz", alive)
    app.router.add_get("/readyz", ready)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner
