"""`modelyard collector --settings FILE`: starts the servers, stops them in order.

HTTPS for the pods, the operator and the status API, plain HTTP for probes and Prometheus on a port of its own. It
serves as soon as there is a certificate, whether or not the store of curves is there. On SIGTERM it takes nothing more
and writes what it has taken.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop
from aiohttp import web

from modelyard.cluster.certificate import Certificate
from modelyard.cluster.client import Client, LoginError, connect
from modelyard.cluster.logs import set_up_logging
from modelyard.collector.access import Access, UnavailableError
from modelyard.collector.curves import Curves, Exists, StoreAwayError
from modelyard.collector.database import BadUrlError, Database, StoreError, file_url, url_of
from modelyard.collector.downloads import Downloads
from modelyard.collector.gate import Gate
from modelyard.collector.metrics import Metrics
from modelyard.collector.server import Server, health
from modelyard.collector.writer import Writer
from modelyard.plan import Key
from modelyard.settings import CurveStore, Settings, SettingsError, load_settings

log = logging.getLogger(__name__)

_KEEPALIVE_SECONDS = 75.0
_STOP_SECONDS = 2.0
_BACKLOG = 1024


def main(argv: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT. Returns 0, or 2 if it can't start: the reason is on stderr."""
    parser = argparse.ArgumentParser(prog="modelyard collector", description="Takes reports from running pods.")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="settings file (default: MODELYARD_SETTINGS)")
    options = parser.parse_args(argv)
    try:
        settings = load_settings(options.settings)
        set_up_logging(settings.log_format, settings.log_level)
        uvloop.run(_serve(settings))
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
        api_user=settings.collector.api_user,
        clock=clock,
        reviewed=lambda result: metrics.reviews.labels(result).inc(),
    )
    writer = Writer(access, metrics, changed=gate.forget)
    store = settings.collector.store
    curves = Curves(lambda: _open_store(store), metrics)
    server = Server(gate, writer, curves, Downloads(), metrics)
    serving = asyncio.Event()
    probes = web.AppRunner(health(metrics, serving.is_set), access_log=None)
    reports = web.AppRunner(
        server.application(), access_log=None, keepalive_timeout=_KEEPALIVE_SECONDS, shutdown_timeout=_STOP_SECONDS
    )
    await probes.setup()
    await reports.setup()
    port = settings.collector.port
    await web.TCPSite(probes, port=settings.collector.metrics_port).start()
    storing = asyncio.create_task(curves.run())
    tasks = [
        asyncio.create_task(_listen(certificate, reports, port, serving)),
        asyncio.create_task(writer.run()),
        asyncio.create_task(curves.sweep(_exists(access), store.sweep_seconds, store.retention_days * 86400)),
    ]
    stopped: asyncio.Task[bool] = asyncio.create_task(stop.wait())
    # No task ever ends by itself: one that does has failed, and a restart is the cure.
    ended, _ = await asyncio.wait({*tasks, storing, stopped}, return_when=asyncio.FIRST_COMPLETED)
    serving.clear()
    await reports.cleanup()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(writer.flush(), curves.close(storing))
    await probes.cleanup()
    for failed in [task for task in (*tasks, storing) if task in ended]:
        failed.result()


async def _open_store(store: CurveStore) -> Database:
    """The URL's file is read each time: a new password is used from the next connection on. Raises `StoreError`."""
    try:
        if store.url_file is None:
            store.path.parent.mkdir(parents=True, exist_ok=True)
            url = file_url(str(store.path))
        else:
            url = url_of(await asyncio.to_thread(store.url_file.read_text, encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        what = "its folder can't be made" if store.url_file is None else "the file with its URL can't be read"
        raise StoreError(f"{what} ({type(error).__name__})") from None
    except BadUrlError as error:
        raise StoreError(f"what is in the file of its URL {error}") from None
    return await Database.open(url, store.points)


def _exists(access: Access) -> Exists:
    async def exists(uid: str, key: Key) -> bool:
        try:
            training = await access.training(key)
        except UnavailableError:
            raise StoreAwayError from None
        return training is not None and bool(training["metadata"]["uid"] == uid)

    return exists


async def _listen(certificate: Certificate, runner: web.AppRunner, port: int, serving: asyncio.Event) -> None:
    await certificate.wait()
    await web.TCPSite(runner, port=port, ssl_context=certificate.context, backlog=_BACKLOG).start()
    log.info("listening on port %d", port)
    serving.set()
    await certificate.watch()


if __name__ == "__main__":
    sys.exit(main())
