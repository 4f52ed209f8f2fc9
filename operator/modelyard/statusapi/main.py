"""`modelyard api --settings FILE`: caches, then servers; and everything ends together.

The API on one port, probes and Prometheus on another. It listens at once and is ready when the first complete lists are
in. A watch that breaks is begun anew under the open streams; if that does not help the process ends, and a restart
begins a new epoch of the stream.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import random
import signal
import sys
import time
import uuid
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import uvicorn
import uvloop
from starlette.types import ASGIApp

from modelyard import __version__
from modelyard.cluster import errors
from modelyard.cluster.certificate import Certificate
from modelyard.cluster.client import Client, LoginError, connect
from modelyard.cluster.feed import Feed
from modelyard.cluster.logs import set_up_logging, where
from modelyard.cluster.resync import Resync
from modelyard.cluster.store import Change, Store
from modelyard.cluster.watched import Scope, Watched
from modelyard.plan import Kind
from modelyard.resources.meta import DATASET, MODEL, NAMESPACE
from modelyard.settings import Api, Settings, SettingsError, load_settings
from modelyard.statusapi.access import Access, Rights, Unguarded
from modelyard.statusapi.app import guarded
from modelyard.statusapi.auth import Tokens
from modelyard.statusapi.changelog import ChangeLog
from modelyard.statusapi.connection import Connection
from modelyard.statusapi.curves import CurveSource
from modelyard.statusapi.followers import Followers
from modelyard.statusapi.freshness import Freshness
from modelyard.statusapi.kinds import ALL, DATASETS, Shown
from modelyard.statusapi.limits import Slots
from modelyard.statusapi.metrics import Metrics
from modelyard.statusapi.middleware import is_loopback
from modelyard.statusapi.probes import serve_probes
from modelyard.statusapi.rows import Rows
from modelyard.statusapi.service import Service

logger = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 2.0
_SERVED_SECONDS: Final = 60.0
PULSE_SECONDS: Final = 5.0
_STOP_SECONDS: Final = 3
_BEGUN_MOST: Final = 5
_BEGUN_SECONDS: Final = 60.0


class NoAuthenticationError(SettingsError):
    """`authentication: none` on an address that others can reach."""


class Process:
    """The parts of one API process. `run` once."""

    def __init__(self, settings: Settings, client: Client, metrics: Metrics, kinds: tuple[Shown, ...]) -> None:
        self._settings = settings
        self._client = client
        self._metrics = metrics
        self._tasks: set[asyncio.Task[Any]] = set()
        self._watches: set[asyncio.Task[Any]] = set()
        self._begun: deque[float] = deque(maxlen=_BEGUN_MOST)
        self._given_up: set[asyncio.Task[Any]] = set()
        self._ended: asyncio.Queue[asyncio.Task[Any]] = asyncio.Queue()
        self._stop_asked = asyncio.Event()
        watched = [shown.watched for shown in kinds]
        if not settings.watch_namespaces:
            watched.append(Watched(NAMESPACE))
        self._scope = Scope(tuple(watched), settings.watch_namespaces)
        self.service = service_of(settings, client, metrics, kinds)
        self._resync = Resync(
            client,
            self.service.store,
            self._scope,
            period=settings.resync_seconds,
            jitter=random.random,
            on_changes=self._relisted,
            after=lambda _: None,
        )
        self._feed = self._new_feed()

    async def run(self) -> int:
        """Until a signal (0) or until a part breaks for good (1)."""
        api = self._settings.api
        stop = self._stop_asked
        self._on_signals()
        certificate = _certificate(api)
        probes = await serve_probes(self.service, api.metrics_port)
        server = _Server(_uvicorn(api, guarded(self.service), certificate))
        self._start("server", server.serve())
        self._start("freshness", self.service.freshness.run())
        self._start("followers", self.service.followers.run())
        self._start("caches", self._fill())
        if certificate is not None:
            self._start("certificate", certificate.watch())
        self._start("signals", stop.wait())
        try:
            while True:
                task = await self._ended.get()
                if task.get_name() == "signals":
                    return 0
                if task in self._watches and self._may_begin_anew():
                    gone, self._watches = self._watches, set()
                    self._given_up |= gone - {task}
                    logger.warning("The watch of the API server broke (%s); it begins anew.", _ending(task))
                    self._start("caches", self._watch_anew(gone))
                elif task in self._given_up:
                    self._given_up.discard(task)
                elif task.get_name() != "caches" or task.cancelled() or task.exception() is not None:
                    return _broken(task)
        finally:
            self.service.freshness.synced = False
            server.should_exit = True
            await self._stop()
            await self.service.curves.close()
            await probes.cleanup()

    async def _fill(self) -> None:
        await self._watch()
        await self._resync.until_complete()
        self.service.freshness.synced = True
        await self.service.freshness.probe()
        self._start("resync", self._resync.run())
        if DATASETS not in self.service.kinds:
            self._start("datasets", self._until_datasets())
        logger.info("Ready: %d objects.", sum(self.service.store.count(w.kind) for w in self._scope.kinds))

    async def _watch(self) -> None:
        self._watches = set(await self._feed.start())
        for task in self._watches:
            self._supervise(task)
        self._on_signals()  # kopf has just taken them

    def _may_begin_anew(self) -> bool:
        """Not if it breaks again and again, nor before everything was there once."""
        now = time.monotonic()
        often = len(self._begun) == _BEGUN_MOST and now - self._begun[0] < _BEGUN_SECONDS
        self._begun.append(now)
        return self.service.freshness.synced and not often

    async def _watch_anew(self, gone: set[asyncio.Task[Any]]) -> None:
        """What changed or went in between comes with the lists that a watch begins with."""
        for task in gone:
            task.cancel()
        await asyncio.wait(gone, timeout=_STOP_SECONDS)
        self._feed = self._new_feed()
        await self._watch()

    def _new_feed(self) -> Feed:
        return Feed(self._scope, self._take_in, self._resync.begin)

    async def _until_datasets(self) -> None:
        """Datasets came to the cluster: a fresh process watches them too."""
        while True:
            await asyncio.sleep(_SERVED_SECONDS)
            with contextlib.suppress(errors.ApiError):
                if await self._client.served(DATASET):
                    logger.info("Datasets are served now: starting anew to watch them.")
                    self._stop_asked.set()

    def _take_in(self, kind: Kind, event: Any, obj: Any) -> None:
        change = self.service.store.observe(kind, event, obj)
        if change is not None:
            self._observe(change)

    def _relisted(self, changes: list[Change]) -> None:
        for change in changes:
            self._observe(change)

    def _observe(self, change: Change) -> None:
        self.service.rows.observe(change)
        self.service.followers.touch()

    def _start(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        self._supervise(asyncio.create_task(work, name=name))

    def _supervise(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(self._ended.put_nowait)

    def _on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_asked.set)

    async def _stop(self) -> None:
        running = set(self._tasks)
        for task in running:
            if task.get_name() != "server":
                task.cancel()
        if running:
            await asyncio.wait(running, timeout=_STOP_SECONDS)


class _Server(uvicorn.Server):
    """uvicorn, without taking the process's signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """They are the process's own."""
        yield


def service_of(settings: Settings, client: Client, metrics: Metrics, kinds: tuple[Shown, ...]) -> Service:
    """The parts that routes share, empty."""
    api = settings.api
    rows = Rows(ChangeLog(uuid.uuid4().hex[:12]))
    freshness = Freshness(lambda: client.served(MODEL), time.time)
    streams = Slots(api.limits.streams, api.limits.total_streams)
    tokens: Tokens | None = None
    rights: Rights = Unguarded()
    if api.authentication == "token":
        tokens = Tokens(
            client, api.audiences, time.monotonic, time.time, lambda r: metrics.token_reviews.labels(r).inc()
        )
        rights = Access(client, time.monotonic, lambda r: metrics.access_reviews.labels(r).inc())
    service = Service(
        settings=api,
        watch_namespaces=settings.watch_namespaces,
        client=client,
        store=Store(),
        rows=rows,
        curves=CurveSource(settings.collector),
        followers=Followers(rows.log, api.stream_window_seconds, PULSE_SECONDS),
        rights=rights,
        tokens=tokens,
        freshness=freshness,
        metrics=metrics,
        streams=streams,
        kinds=kinds,
        clock=time.monotonic,
        wall=time.time,
    )
    metrics.watch(lambda: len(streams), lambda: sum(len(rows.keys(s.kind)) for s in kinds), freshness.age)
    return service


def main(argv: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT. Returns 0, 1 if it breaks, 2 if it can't start: the reason is on stderr."""
    parser = argparse.ArgumentParser(prog="modelyard api", description="Serves the status API.")
    parser.add_argument("--settings", type=Path, metavar="FILE", help="settings file (default: MODELYARD_SETTINGS)")
    options = parser.parse_args(argv)
    try:
        settings = load_settings(options.settings)
        _check_authentication(settings.api)
        set_up_logging(settings.log_format, settings.log_level)
        return uvloop.run(_serve(settings))
    except (SettingsError, LoginError) as problem:
        print(f"modelyard api: {problem}", file=sys.stderr)
        return 2
    except OSError as problem:
        print(f"modelyard api: it cannot listen: {problem.strerror}.", file=sys.stderr)
        return 2


async def _serve(settings: Settings) -> int:
    metrics = Metrics(__version__)
    client = await connect("api", pool=64, observer=metrics.cluster_request)
    try:
        return await Process(settings, client, metrics, await _kinds(client)).run()
    finally:
        await client.close()


async def _kinds(client: Client) -> tuple[Shown, ...]:
    """The kinds that the cluster serves: ours must be there, Datasets may be."""
    while True:
        try:
            if await client.served(MODEL):
                datasets = await client.served(DATASET)
                return tuple(shown for shown in ALL if datasets or shown is not DATASETS)
            logger.warning("Waiting: Modelyard's CRDs are not installed.")
        except errors.ApiError as error:
            logger.warning("Waiting: the API server cannot be asked what it serves (%s).", error)
        await asyncio.sleep(_RETRY_SECONDS)


def _check_authentication(api: Api) -> None:
    if api.authentication != "none":
        return
    if not is_loopback(api.host):
        raise NoAuthenticationError(
            "api.authentication is none, but api.host is no loopback address: set api.host to 127.0.0.1, or use tokens."
        )
    print("WARNING: no authentication: whoever reaches this port sees everything.", file=sys.stderr)


def _certificate(api: Api) -> Certificate | None:
    """What to serve with, followed as it is renewed; None: plain HTTP. Raises SettingsError."""
    if api.tls_dir is None:
        return None
    found = Certificate(api.tls_dir)
    if not found.load():
        raise SettingsError("api.tlsDir holds no tls.crt and tls.key that fit together.")
    return found


def _uvicorn(api: Api, app: ASGIApp, certificate: Certificate | None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=api.host,
        port=api.port,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_STOP_SECONDS,
        ssl_context_factory=(lambda *_: certificate.context) if certificate is not None else None,
    )


def _broken(task: asyncio.Task[Any]) -> int:
    logger.error("The process ends: %s: %s.", task.get_name(), _ending(task))
    return 1


def _ending(task: asyncio.Task[Any]) -> str:
    error = None if task.cancelled() else task.exception()
    return f"{type(error).__name__} at {where(error)}" if error else "it is over"


if __name__ == "__main__":
    sys.exit(main())
