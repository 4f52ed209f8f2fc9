"""`modelyard collector --settings FILE`: starts the servers, stops them in order.

HTTPS for the pods and the operator, plain HTTP for probes and Prometheus on a port of its own. It serves as soon as
there is a certificate. On SIGTERM it takes nothing more and writes what it has taken.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web

from modelyard.cluster.client import Client, LoginError, connect
from modelyard.cluster.logs import set_up_logging
from modelyard.collector.access import Access
from modelyard.collector.downloads import Downloads
from modelyard.collector.gate import Gate
from modelyard.collector.metrics import Metrics
from modelyard.collector.server import Server, health
from modelyard.collector.tls import Certificate
from modelyard.collector.writer import Writer
from modelyard.settings import Settings, SettingsError, load_settings

log = logging.getLogger(__name__)

_KEEPALIVE_SECONDS = 75.0
_STOP_SECONDS = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT. Returns 0, or 2 if it can't start: the reason is on stderr."""
    parser = argparse.ArgumentParser(prog="modelyard collector", description="Takes reports from running pods.")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="settings file (default: MODELYARD_SETTINGS)")
    options = parser.parse_args(argv)
    try:
        settings = load_settings(options.settings)
        set_up_logging(settings.log_format, settings.log_level)
        asyncio.run(_serve(settings))
    except (SettingsError, LoginError) as problem:
        print(problem, file=sys.stderr)
        return 2
    except OSError as problem:
        print(f"The collector can't listen: {problem.strerror}.", file=sys.stderr)
        return 2
    return 0


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    client = await connect("collector", pool=32)
    try:
        await _run(settings, client, stop)
    finally:
        await client.close()


async def _run(settings: Settings, client: Client, stop: asyncio.Event) -> None:
    metrics, access = Metrics(), Access(client)
    certificate = Certificate(settings.collector.tls_dir)
    clock = asyncio.get_running_loop().time
    gate = Gate(
        access,
        operator_user=settings.collector.operator_user,
        clock=clock,
        reviewed=lambda result: metrics.reviews.labels(result).inc(),
    )
    writer = Writer(access, metrics, changed=gate.forget)
    server = Server(gate, writer, Downloads(), metrics)
    serving = asyncio.Event()
    probes = web.AppRunner(health(metrics, serving.is_set), access_log=None)
    reports = web.AppRunner(
        server.application(), access_log=None, keepalive_timeout=_KEEPALIVE_SECONDS, shutdown_timeout=_STOP_SECONDS
    )
    await probes.setup()
    await reports.setup()
    port = settings.collector.port
    await web.TCPSite(probes, port=settings.collector.metrics_port).start()
    tasks = [asyncio.create_task(_listen(certificate, reports, port, serving)), asyncio.create_task(writer.run())]
    stopped: asyncio.Task[bool] = asyncio.create_task(stop.wait())
    # Neither task ever ends by itself: one that does has failed, and a restart is the cure.
    ended, _ = await asyncio.wait({*tasks, stopped}, return_when=asyncio.FIRST_COMPLETED)
    serving.clear()
    await reports.cleanup()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await writer.flush()
    await probes.cleanup()
    for failed in [task for task in tasks if task in ended]:
        failed.result()


async def _listen(certificate: Certificate, runner: web.AppRunner, port: int, serving: asyncio.Event) -> None:
    await certificate.wait()
    await web.TCPSite(runner, port=port, ssl_context=certificate.context).start()
    log.info("listening on port %d", port)
    serving.set()
    await certificate.watch()


if __name__ == "__main__":
    sys.exit(main())
