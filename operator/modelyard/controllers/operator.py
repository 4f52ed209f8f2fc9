"""The process `modelyard operator`: puts the parts together, starts them in order, and ends when any of them does.

Order: endpoints, kinds served, watch, complete re-list (ready: a standby's cache is warm), lease, certificates,
workers.
Crash-only: whatever breaks for good ends the process with a status that is not 0; a restart writes nothing that is
there already. SIGTERM and SIGINT end it cleanly: work in hand is finished, the lease is given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import signal
import socket
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import uvloop

from modelyard import __version__
from modelyard.cluster import errors
from modelyard.cluster.apply import Applier
from modelyard.cluster.client import Client, LoginError, connect
from modelyard.cluster.facts import Facts
from modelyard.cluster.feed import Feed
from modelyard.cluster.lease import Lease, LeaseLostError
from modelyard.cluster.logs import set_up_logging, stack, where
from modelyard.cluster.mounts import Mounts
from modelyard.cluster.queue import WorkQueue
from modelyard.cluster.reads import Reads
from modelyard.cluster.recorder import Recorder
from modelyard.cluster.resync import Resync
from modelyard.cluster.store import Change, EventType, Store, key_of
from modelyard.cluster.watched import Scope, default_scope
from modelyard.controllers.downloads import Downloads
from modelyard.controllers.health import Health, serve
from modelyard.controllers.metrics import Metrics
from modelyard.controllers.protocol import Controller
from modelyard.controllers.runtime import Item, Runtime
from modelyard.controllers.tls import Certificates
from modelyard.plan import Kind, Obj
from modelyard.resources.meta import DATASET, PVC
from modelyard.settings import Settings

logger = logging.getLogger(__name__)

_KINDS_RETRY_SECONDS = 2.0
_DRAIN_SECONDS = 5.0
_CANCEL_SECONDS = 2.0
_EXIT_SECONDS = 10.0
_SPREAD_SECONDS = 30.0
_GARBAGE = 50_000, 20, 50
"""Python looks for garbage every 700 objects otherwise: with a large cache that is most of the work of a start."""

_Status = TypeVar("_Status", int, int | None)


def utc_now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


class Operator:
    """One process's parts. `run` once."""

    def __init__(
        self, settings: Settings, client: Client, metrics: Metrics, controllers: Sequence[Controller[Any]], scope: Scope
    ) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._ended: asyncio.Queue[asyncio.Task[Any]] = asyncio.Queue()
        self._stop_asked = asyncio.Event()
        # After some stream errors tasks of kopf ignore their cancellation, and the loop would wait for them for ever.
        self._last_resort = threading.Timer(_EXIT_SECONDS, os._exit, (1,))
        self._last_resort.daemon = True
        self.settings = settings
        self.client = client
        self.metrics = metrics
        self.scope = scope
        self.health = Health()
        self.store = Store()
        self.facts = Facts(utc_now)
        self.queue: WorkQueue[Item] = WorkQueue(time.monotonic, random.random, metrics)
        metrics.watch_queue(self.queue.depth, self.queue.longest_running)
        metrics.watch_store({w.kind.plural: partial(self.store.count, w.kind) for w in scope.kinds})
        self.runtime = Runtime(controllers, self.store, self.facts, self.queue, metrics, utc_now)
        identity = f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        lease = settings.lease
        self.lease = Lease(
            client,
            settings.namespace,
            lease.name,
            identity,
            duration=lease.duration_seconds,
            renew_deadline=lease.renew_deadline_seconds,
            retry=lease.retry_seconds,
            monotonic=time.monotonic,
        )
        self.applier = Applier(
            client,
            self.store,
            self.facts,
            Recorder(client, identity, utc_now),
            scope,
            may_write=self.lease.held,
            on_change=self.runtime.on_change,
        )
        self.reads: Reads[Item] = Reads(
            client,
            self.facts,
            period=settings.secrets.period_seconds,
            per_second=settings.secrets.max_per_second,
            monotonic=time.monotonic,
            clock=utc_now,
            jitter=random.random,
            on_news=self.runtime.wake,
        )
        self.runtime.connect(self.applier, self.reads)
        self.resync = Resync(
            client,
            self.store,
            scope,
            period=settings.resync_seconds,
            jitter=random.random,
            on_changes=self._relisted,
            after=self._after_relist,
        )
        self.feed = Feed(scope, self._observed, self.resync.begin)
        self.downloads = Downloads(
            settings.collector, self.store, self.facts, lambda claim: self.runtime.poke(PVC, claim)
        )
        self.mounts = Mounts(
            client,
            self.store,
            self.facts,
            period=settings.secrets.period_seconds,
            per_second=settings.secrets.max_per_second,
            on_news=lambda claim: self.runtime.poke(PVC, claim),
        )
        self.certificates = Certificates(client, settings, utc_now)
        self.changed = False
        """Whether the run ended because Datasets came or went: another one, with other watches, goes on."""

    async def run(self) -> int:
        """Until a signal (0) or until a part breaks for good (1)."""
        server = await serve(self.health, self.metrics.registry, self.settings.metrics_port)
        try:
            self._start("signals", self._stop_asked.wait())
            self._start("start", self._lead())
            while True:
                task = await self._ended.get()
                if task.get_name() == "signals":
                    logger.info("Stopping.")
                    return 0
                if task.get_name() == "datasets" and not task.cancelled() and task.exception() is None:
                    logger.info("Datasets are now %s: starting anew.", "gone" if self._watches_datasets() else "served")
                    self.changed = True
                    return 0
                if not self._ended_well(task):
                    # A stream may break because of the very kind that is gone.
                    self.changed = await self._datasets_changed()
                    return 1
        finally:
            self.health.ready, self.health.words = False, "stopping"
            self._last_resort.start()
            await self._stop()
            await server.cleanup()

    def stay(self) -> None:
        """The process goes on with another run."""
        self._last_resort.cancel()

    def _start(self, name: str, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._supervise(asyncio.create_task(coroutine, name=name))

    def _supervise(self, task: asyncio.Task[Any]) -> None:
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        task.add_done_callback(self._ended.put_nowait)

    def _ended_well(self, task: asyncio.Task[Any]) -> bool:
        """Whether a task that ended was to end; says why if not."""
        if task.get_name() == "start" and task.exception() is None:
            return True
        error = None if task.cancelled() else task.exception()
        if isinstance(error, LeaseLostError):
            logger.error("Leadership was lost (%s). The process ends; it starts anew as a standby.", error)
        elif isinstance(error, errors.ApiError):
            logger.error("The process ends: %s.", error)
        elif error is not None:
            logger.error("The process ends: %s at %s in %s.", type(error).__name__, where(error), task.get_name())
            logger.debug("Where it came from:\n%s", stack(error))
        else:
            logger.error("The process ends: %s is over.", task.get_name())
        return False

    async def _lead(self) -> None:
        """From nothing to leading."""
        self._on_signals()
        self._start("datasets", self._until_datasets_change())  # they may go while they are waited for
        await self._await_kinds()
        gc.disable()  # of what the lists bring nothing is garbage
        for task in await self.feed.start():
            self._supervise(task)
        self._on_signals()  # kopf has just taken them
        await self.resync.until_complete()
        gc.freeze()
        gc.enable()
        self._start("resync", self.resync.run())
        self.health.ready, self.health.words = True, "standby"
        logger.info("Ready: %d roots known. Waiting for the lease.", self._roots())
        await self.lease.acquire()
        self._start("lease", self.lease.hold())
        self.health.words = "leading"
        self.metrics.leader.set(1)
        logger.info("Leading as %s.", self.lease.identity)
        await self._prepare_certificates()
        self.runtime.wake_all(0, random.random)
        self._start("reads", self.reads.run())
        self._start("mounts", self.mounts.run())
        self._start("downloads", self._forever(self.downloads.run()))
        for number in range(self.settings.workers):
            self._start(f"worker-{number}", self.runtime.work())

    async def _await_kinds(self) -> None:
        for watched in self.scope.kinds:
            kind = watched.kind
            while True:
                try:
                    if await self.client.served(kind):
                        break
                    words = f"{kind.plural}.{kind.group or 'core'} is not served: install Modelyard's CRDs"
                except errors.ApiError as error:
                    words = f"the API server cannot be asked what it serves ({error})"
                if words != self.health.words:
                    logger.warning("Waiting: %s.", words)
                self.health.words = words
                await asyncio.sleep(_KINDS_RETRY_SECONDS)

    async def _until_datasets_change(self) -> None:
        """kopf watches the kinds that it was started with: others need another run."""
        changed = False
        while not changed:
            await asyncio.sleep(self.settings.baize.discovery_seconds)
            changed = await self._datasets_changed()

    async def _datasets_changed(self) -> bool:
        try:
            return await self.client.served(DATASET) != self._watches_datasets()
        except errors.ApiError:
            return False

    def _watches_datasets(self) -> bool:
        return any(w.kind == DATASET for w in self.scope.kinds)

    async def _prepare_certificates(self) -> None:
        collector = self.settings.collector
        if not collector.url:
            return
        if collector.ca_file:
            self.facts.ca_pem = await asyncio.to_thread(collector.ca_file.read_text, encoding="utf-8")
            return
        while True:
            try:
                self.facts.ca_pem = await self.certificates.ensure()
                self.health.words = "leading"
                break
            except errors.ApiError as error:
                self.health.words = f"the collector's certificates could not be made ({error})"
                logger.warning("The collector's certificates could not be made (%s); trying again.", error)
                await asyncio.sleep(_KINDS_RETRY_SECONDS)
        self._start("certificates", self._keep_certificates())

    async def _keep_certificates(self) -> None:
        while True:
            await asyncio.sleep(self.certificates.seconds_to_next_check())
            try:
                self.facts.ca_pem = await self.certificates.ensure()
            except errors.ApiError as error:
                logger.warning("The collector's certificates could not be checked (%s); trying again later.", error)

    def _observed(self, kind: Kind, event: EventType, obj: Obj) -> None:
        filed, kept = self.scope.filed(kind, obj)
        self.runtime.observe(filed, event, kept)
        for other in self.scope.stored(kind):
            # Its labels may have changed, so that it was kept as another's until now.
            if other != filed and (change := self.store.drop(other, *key_of(obj), obj["metadata"]["uid"])) is not None:
                self.runtime.on_change(change)

    def _relisted(self, changes: list[Change]) -> None:
        if not self.resync.complete:
            return  # whoever comes to lead looks at every root
        self.metrics.relist_changes.inc(len(changes))
        for change in changes:
            self.runtime.on_change(change)

    def _after_relist(self, regular: bool) -> None:
        self.metrics.relists.labels("regular" if regular else "stream").inc()
        if regular:
            self.runtime.wake_all(min(_SPREAD_SECONDS, self.settings.resync_seconds / 10), random.random)

    def _roots(self) -> int:
        return sum(self.store.count(kind) for kind in self.runtime.kinds())

    def _on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_asked.set)

    async def _forever(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """What may have nothing to do must not count as broken when it returns."""
        await coroutine
        await asyncio.Event().wait()

    async def _stop(self) -> None:
        """Lets work in hand finish, gives the lease back, and ends everything else."""
        if self.lease.held():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DRAIN_SECONDS):
                    await self.runtime.drain()
        running = set(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=_CANCEL_SECONDS)
        self.metrics.leader.set(0)
        await self.lease.release()


async def run(settings: Settings, controllers: Sequence[Controller[Any]], scope: Scope) -> int:
    """The operator with these controllers; returns the process's exit status."""

    async def once(client: Client, metrics: Metrics) -> int:
        return await Operator(settings, client, metrics, controllers, scope).run()

    return await _with_client(settings, once)


def main(settings: Settings) -> int:
    """The command: all kinds, in the namespaces that the settings name."""
    from modelyard.controllers.registry import controllers

    async def once(client: Client, metrics: Metrics) -> int | None:
        datasets = await _datasets_are_served(client, wanted=settings.data_plane == "baize")
        made = controllers(settings, datasets=datasets)
        scope = default_scope(settings.watch_namespaces, datasets=datasets, volumes=settings.makes_volumes)
        operator = Operator(settings, client, metrics, made, scope)
        status = await operator.run()
        if operator.changed:
            operator.stay()
            return None
        return status

    while (status := uvloop.run(_with_client(settings, once))) is None:
        pass
    return status


async def _with_client(settings: Settings, once: Callable[[Client, Metrics], Awaitable[_Status]]) -> _Status | int:
    set_up_logging(settings.log_format, settings.log_level)
    gc.set_threshold(*_GARBAGE)
    metrics = Metrics(__version__)
    try:
        client = await connect("operator", pool=4 * settings.workers, observer=metrics.request)
    except LoginError as error:
        logger.error("%s", error)
        return 1
    where_to = ", ".join(settings.watch_namespaces) or "all namespaces"
    logger.info("Modelyard operator %s, in %s, for %s.", __version__, settings.namespace, where_to)
    try:
        return await once(client, metrics)
    finally:
        await client.close()


async def _datasets_are_served(client: Client, *, wanted: bool) -> bool:
    """Asked before anything is watched; until the API server answers, and until they are where they are `wanted`."""
    said = ""
    while True:
        try:
            if (served := await client.served(DATASET)) or not wanted:
                return served
            words = "dataPlane is baize, and datasets.dataset.baizeai.io is not served: install the Dataset controller"
        except errors.ApiError as error:
            words = f"the API server cannot be asked what it serves ({error})"
        if words != said:
            logger.warning("Waiting: %s.", words)
        said = words
        await asyncio.sleep(_KINDS_RETRY_SECONDS)
