"""The way of reports into the store and of curves out of it. The store may be away: nothing else waits for it then.

Points are collected for a moment and committed together. A request that brought some is answered when they are
committed, so that an agent sends again what was lost with this process; while the store does not take anything nobody
waits, points are kept in memory, and thinned when they are too many: what is left still covers the whole outage.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from modelyard.collector.database import Database, StoreError
from modelyard.collector.metrics import Metrics
from modelyard.collector.points import Ingest, Point
from modelyard.plan import Key

log = logging.getLogger(__name__)

LINGER_SECONDS: Final = 0.02
ANSWER_SECONDS: Final = 1.0
MOST_WAITING: Final = 50_000
AT_ONCE: Final = 2_000
CLOSE_SECONDS: Final = 5.0
_BACKOFF: Final = (0.5, 1.0, 2.0, 5.0, 10.0)
_SWEEP_AT_ONCE: Final = 200
_CHECKS_PER_SECOND: Final = 5

Open = Callable[[], Awaitable[Database]]
Exists = Callable[[str, Key], Awaitable[bool]]


class StoreAwayError(Exception):
    """The store cannot be asked now."""


class Curves:
    """Points on their way. `run` and `sweep` are tasks for the life of the process."""

    def __init__(self, open_database: Open, metrics: Metrics) -> None:
        self._open = open_database
        self._metrics = metrics
        self._database: Database | None = None
        self._waiting: list[Ingest] = []
        self._count = 0
        self._committed: asyncio.Future[None] | None = None
        self._takes = False
        self._wake = asyncio.Event()
        self._closing = asyncio.Event()

    async def take(self, ingest: Ingest) -> None:
        """Keeps points; returns when they are in the store, or when waiting for that has no use."""
        if not ingest.points:
            return
        self._waiting.append(ingest)
        self._count += len(ingest.points)
        if self._count > MOST_WAITING:
            self._make_room()
        self._wake.set()
        if not self._takes:
            return
        if self._committed is None:
            self._committed = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._committed], timeout=ANSWER_SECONDS)

    async def read(self, uid: str, attempt: int | None, steps: tuple[int | None, int | None]) -> Sequence[Point]:
        """Points of a Training. Raises `StoreAwayError`."""
        if self._database is None:
            raise StoreAwayError
        try:
            return await self._database.read(uid, attempt, steps)
        except StoreError as error:
            log.warning("The store could not be read: %s.", error)
            raise StoreAwayError from None

    async def run(self) -> None:
        """Opens the store and writes to it until `close`; opens it again whenever it fails."""
        failures = 0
        while not self._closing.is_set():
            try:
                if not self._takes:
                    await self._reopen()
                await self._write_all()
                failures = 0
                await self._wake.wait()
                await asyncio.sleep(0 if self._closing.is_set() else LINGER_SECONDS)
            except StoreError as error:
                if not failures:
                    log.warning("The store of curves: %s. Status goes on; points wait in memory.", error)
                self._takes = False
                self._metrics.store_up.set(0)
                self._release()
                await self._pause(_BACKOFF[min(failures, len(_BACKOFF) - 1)])
                failures += 1

    async def close(self, running: asyncio.Task[None]) -> None:
        """Writes what waits, for a bounded time, and ends the task of `run`."""
        self._closing.set()
        self._wake.set()
        await asyncio.wait([running], timeout=CLOSE_SECONDS)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._takes:
                    await self._write_all()
        except (StoreError, TimeoutError):
            pass
        if self._count:
            log.warning("Stopped with %d points that are not in the store.", self._count)
        if self._database is not None:
            await self._database.close()

    async def sweep(self, exists: Exists, every: float, keep_seconds: float) -> None:
        """Removes what belongs to no Training any more, and what nobody added to for too long; until cancelled.

        `exists` says whether a Training of that uid is there, and raises `StoreAwayError` where that can't be known.
        """
        while True:
            await asyncio.sleep(min(every, 60.0))
            try:
                await self._sweep(exists, time.time() - every, time.time() - keep_seconds)
            except (StoreError, StoreAwayError):
                log.info("The store of curves was not swept; it will be later.")

    async def _sweep(self, exists: Exists, checked: float, heard: float) -> None:
        database = self._database
        if database is None:
            return
        if silent := await database.silent(heard, _SWEEP_AT_ONCE):
            await database.forget(silent)
        there, gone = list[str](), list[str]()
        for uid, key in await database.due(checked, _SWEEP_AT_ONCE):
            (there if await exists(uid, key) else gone).append(uid)
            await asyncio.sleep(1 / _CHECKS_PER_SECOND)
        if there:
            await database.checked(there, time.time())
        if gone:
            await database.forget(gone)
        if silent or gone:
            log.info("Removed the curves of %d Trainings.", len(silent) + len(gone))

    async def _reopen(self) -> None:
        """What was open before serves readers until this has succeeded."""
        fresh = await self._open()
        before, self._database = self._database, fresh
        if before is not None:
            await before.close()
        self._takes = True
        self._metrics.store_up.set(1)
        log.info("The store of curves is open.")

    async def _write_all(self) -> None:
        assert self._database is not None
        while self._waiting:
            batch, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
            count = sum(len(ingest.points) for ingest in batch)
            committed, self._committed = self._committed, None
            try:
                await self._database.write(batch, time.time())
            except BaseException:
                self._waiting = [*batch, *self._waiting]
                raise
            finally:
                _release(committed)
            self._count -= count
            self._metrics.points.labels("stored").inc(count)
            self._metrics.points_waiting.set(self._count)
        self._wake.clear()

    def _release(self) -> None:
        committed, self._committed = self._committed, None
        _release(committed)

    async def _pause(self, seconds: float) -> None:
        """Unlike a sleep it ends when the process does."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._closing.wait()

    def _make_room(self) -> None:
        """Every second batch that ends no epoch goes; if there are none, the oldest ones."""
        plain = [at for at, ingest in enumerate(self._waiting) if all(p.row is None for p in ingest.points)]
        gone = set(plain[::2]) or set(range(len(self._waiting) // 2))
        dropped = sum(len(self._waiting[at].points) for at in gone)
        self._waiting = [ingest for at, ingest in enumerate(self._waiting) if at not in gone]
        self._count -= dropped
        self._metrics.points.labels("dropped").inc(dropped)
        self._metrics.points_waiting.set(self._count)


def _release(committed: asyncio.Future[None] | None) -> None:
    if committed is not None and not committed.done():
        committed.set_result(None)
