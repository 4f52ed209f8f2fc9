"""Follows the running Trainings and writes what they report to their status, at a bounded rate over all.

Writes are made one after the other, at least a tenth of a second apart, failed ones counted. A refused one is looked
into: the Training is read once, and dropped if it is another one or in another attempt by now.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from modelyard.collector.access import Access, PatchRefusedError, UnavailableError
from modelyard.collector.metrics import Metrics
from modelyard.collector.runs import Run
from modelyard.collector.schedule import Schedule
from modelyard.collector.wire import Batch
from modelyard.plan import Key, Obj

log = logging.getLogger(__name__)

WRITES_PER_SECOND = 10
IDLE_SECONDS = 900.0
FLUSH_SECONDS = 5.0


class Writer:
    """The runs that are followed. `changed` is told of a Training that is no longer what a grant was given for."""

    def __init__(self, access: Access, metrics: Metrics, changed: Callable[[Key], None]) -> None:
        self._access = access
        self._metrics = metrics
        self._changed = changed
        self._runs: dict[Key, Run] = {}
        self._heard: dict[Key, float] = {}
        self._schedule = Schedule()
        self._wake = asyncio.Event()

    def contradicts(self, key: Key, training: Obj) -> bool:
        """Whether another run of this name is followed: the Training was made again, or is in another attempt."""
        run = self._runs.get(key)
        return run is not None and not run.is_about(training)

    def run_of(self, key: Key, training: Obj) -> Run:
        """The run that a Training is in; begins to follow it."""
        if key not in self._runs or self.contradicts(key, training):
            self._runs[key] = Run.of(training)
        return self._runs[key]

    def take(self, key: Key, run: Run, pod_uid: str, batch: Batch) -> int:
        """Merges a batch and sees to it that it is written. Returns how many reports were new."""
        now = asyncio.get_running_loop().time()
        self._heard[key] = now
        fresh = run.take(pod_uid, batch, datetime.now(UTC))
        self._metrics.reports.labels("new").inc(fresh)
        self._metrics.reports.labels("known").inc(len(batch.reports) - fresh)
        if fresh and run.differs():
            self._schedule.mark(key, now, run.urgent)
            self._wake.set()
        return fresh

    async def run(self) -> None:
        """Writes until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            now = loop.time()
            self._let_go(now)
            key = self._schedule.pop(now)
            if key is not None:
                await self._write(key)
                await asyncio.sleep(1 / WRITES_PER_SECOND)
                continue
            due = self._schedule.next_at()
            try:
                async with asyncio.timeout(60.0 if due is None else max(0.0, due - now)):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def flush(self) -> None:
        """Writes what still waits, for a bounded time and at the same rate."""
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                while (key := self._schedule.pop(float("inf"))) is not None:
                    await self._write(key)
                    await asyncio.sleep(1 / WRITES_PER_SECOND)
        except TimeoutError:
            log.warning("stopped with %d Trainings still to be written", len(self._schedule))

    async def _write(self, key: Key) -> None:
        run = self._runs.get(key)
        operations = run.patch() if run else []
        if run is None or not operations:
            return
        run.urgent = False
        try:
            run.observe(await self._access.patch_status(key, operations))
            result = "written"
        except UnavailableError:
            result = "unavailable"
        except PatchRefusedError:
            result = await self._refused(key, run)
        self._metrics.writes.labels(result).inc()
        if self._runs.get(key) is run and run.differs():
            self._schedule.mark(key, asyncio.get_running_loop().time(), run.urgent)

    async def _refused(self, key: Key, run: Run) -> str:
        try:
            training = await self._access.training(key)
        except UnavailableError:
            return "unavailable"
        if training is not None and run.is_about(training):
            run.observe(training)
            return "conflict"
        if self._runs.get(key) is run:
            self._drop(key)
        self._changed(key)
        return "gone"

    def _let_go(self, now: float) -> None:
        for key in [key for key, heard in self._heard.items() if now - heard > IDLE_SECONDS]:
            self._drop(key)
            self._changed(key)  # begins anew from what the API server has then
        self._metrics.waiting.set(len(self._schedule))
        self._metrics.runs.set(len(self._runs))

    def _drop(self, key: Key) -> None:
        self._runs.pop(key, None)
        self._heard.pop(key, None)
        self._schedule.forget(key)
