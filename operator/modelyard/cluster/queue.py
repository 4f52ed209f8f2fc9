"""The work queue: which roots to look at, and when.

A key is in it at most once and worked on by at most one worker at a time; what is added meanwhile comes again
afterwards. Waiting (`add_after`) and failing (`fail`, exponential with jitter) are different things. A key is not
handed out twice within the coalescing time, so that a burst of events is one look; what may wait for the rest of its
burst (`settle`) does so, within a bound.

`Schedule` is the plain data structure with the time passed in; `WorkQueue` lets workers wait for it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)

COALESCE = 0.2
BACKOFF_BASE = 0.2
BACKOFF_MAX = 300.0
SETTLE_MOST = 1.0
"""For so long a burst may put off the look that it asked for."""


class QueueMetrics(Protocol):
    """What the queue tells about itself; seconds."""

    def added(self) -> None:
        """A key was added that was not waiting already."""

    def retried(self) -> None:
        """A key was put back after a failure."""

    def waited(self, seconds: float) -> None:
        """A key was handed out that long after it was due."""


class Schedule(Generic[K]):
    """Keys with the time at which they are due. Times are seconds on any clock that does not go back."""

    def __init__(self, coalesce: float = COALESCE) -> None:
        self._coalesce = coalesce
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._order = itertools.count()
        self._started: dict[K, float] = {}
        self._in_flight: dict[K, float] = {}
        self._bursts: dict[K, tuple[float, float]] = {}

    def __len__(self) -> int:
        """How many keys wait, those that are not due yet included."""
        return len(self._due)

    def add(self, key: K, at: float) -> bool:
        """Makes `key` due at `at` or earlier; whether it was not waiting before."""
        at = self._not_before(key, at)
        known = self._due.get(key)
        if known is not None and known <= at:
            return False
        self._set(key, at)
        return known is None

    def settle(self, key: K, now: float, quiet: float) -> bool:
        """Makes `key` due when it has not been settled anew for `quiet` seconds, but no later than `SETTLE_MOST` after
        the first time, nor than it is due for another reason; whether it was not waiting before.
        """
        first, put_off = self._bursts.get(key, (now, None))
        at = self._not_before(key, min(now + quiet, first + max(quiet, SETTLE_MOST)))
        known = self._due.get(key)
        if known is not None and known < at and known != put_off:
            return False
        self._bursts[key] = first, at
        if known != at:
            self._set(key, at)
        return known is None

    def take(self, now: float) -> tuple[K, float] | None:
        """The next key that is due and in nobody's hands, and since when it was due; it is then in the caller's.

        A later time that it was also to be looked at is forgotten: the look to come decides that anew.
        """
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._due.get(key) != at or key in self._in_flight:
                continue
            del self._due[key]
            self._bursts.pop(key, None)
            self._in_flight[key] = now
            self._started[key] = now
            return key, at
        return None

    def done(self, key: K, now: float) -> None:
        """The key is out of the caller's hands. What was added meanwhile comes in its time."""
        self._in_flight.pop(key, None)
        if (at := self._due.get(key)) is not None:
            heapq.heappush(self._heap, (at, next(self._order), key))
        if len(self._started) > 2 * len(self._in_flight) + 1000:
            self._started = {k: t for k, t in self._started.items() if t + self._coalesce > now}

    def _not_before(self, key: K, at: float) -> float:
        return max(at, self._started.get(key, float("-inf")) + self._coalesce)

    def _set(self, key: K, at: float) -> None:
        self._due[key] = at
        if key not in self._in_flight:
            heapq.heappush(self._heap, (at, next(self._order), key))

    def next_due(self) -> float | None:
        """When something is due next (or was already), None if nothing waits."""
        while self._heap:
            at, _, key = self._heap[0]
            if self._due.get(key) == at and key not in self._in_flight:
                return at
            heapq.heappop(self._heap)
        return None

    def ready(self, now: float) -> int:
        """How many keys are due."""
        return sum(1 for at in self._due.values() if at <= now)

    def longest_running(self, now: float) -> float:
        """Seconds since the oldest key in hand was handed out, 0 if there is none."""
        return max((now - since for since in self._in_flight.values()), default=0.0)


def backoff(failures: int, jitter: float) -> float:
    """Seconds to wait after the `failures`-th failure in a row (from 1). `jitter` from 0 to 1 takes up to half off."""
    full = min(BACKOFF_MAX, BACKOFF_BASE * 2.0 ** min(failures - 1, 20))
    return full * (1 - jitter / 2)


class WorkQueue(Generic[K]):
    """A `Schedule` that workers wait on."""

    def __init__(
        self, clock: Callable[[], float], jitter: Callable[[], float], metrics: QueueMetrics | None = None
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._metrics = metrics
        self._schedule: Schedule[K] = Schedule()
        self._failures: dict[K, int] = {}
        self._changed = asyncio.Event()

    def add(self, key: K) -> None:
        """Look at it now."""
        self.add_after(key, 0)

    def add_after(self, key: K, seconds: float) -> None:
        """Look at it then, if nothing asks for it earlier."""
        if self._schedule.add(key, self._clock() + seconds) and self._metrics:
            self._metrics.added()
        self._changed.set()

    def settle(self, key: K, seconds: float) -> None:
        """Look at it when nothing has asked for it in this way for so long, and soon in any case."""
        if self._schedule.settle(key, self._clock(), seconds) and self._metrics:
            self._metrics.added()
        self._changed.set()

    def fail(self, key: K, at_least: float = 0.0) -> float:
        """Look again, later after each failure in a row; returns in how many seconds."""
        self._failures[key] = self._failures.get(key, 0) + 1
        seconds = max(at_least, backoff(self._failures[key], self._jitter()))
        if self._metrics:
            self._metrics.retried()
        self.add_after(key, seconds)
        return seconds

    def succeed(self, key: K) -> None:
        """The next failure is the first again."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """Waits for the next key. The caller must call `done` with it."""
        while True:
            now = self._clock()
            taken = self._schedule.take(now)
            if taken is not None:
                key, due = taken
                if self._metrics:
                    self._metrics.waited(now - due)
                return key
            self._changed.clear()
            due_next = self._schedule.next_due()
            try:
                async with asyncio.timeout(None if due_next is None else max(0.0, due_next - now)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: K) -> None:
        """The key can be handed out again."""
        self._schedule.done(key, self._clock())
        self._changed.set()

    def depth(self) -> int:
        """How many keys are due and wait for a worker."""
        return self._schedule.ready(self._clock())

    def longest_running(self) -> float:
        """Seconds since the oldest key in hand was handed out."""
        return self._schedule.longest_running(self._clock())
