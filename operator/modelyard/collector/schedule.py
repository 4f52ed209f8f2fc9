"""Whose turn it is to be written, so that no Training is written too often and none waits for a busy one. Pure.

Each Training is in the queue at most once and in the order in which it became ready. What is urgent (a first report, an
epoch, the end) has every other turn for itself: it overtakes a thousand ordinary reports and can't shut them out.
A clock's seconds are passed in.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import NamedTuple

from modelyard.plan import Key

SPACING_SECONDS = 5.0
URGENT_SPACING_SECONDS = 1.0


class _Entry(NamedTuple):
    ready: float
    order: int
    key: Key


class Schedule:
    """A queue of Trainings that wait for their next write."""

    def __init__(self) -> None:
        self._queues: dict[bool, list[_Entry]] = {True: [], False: []}
        self._due: dict[Key, tuple[bool, _Entry]] = {}
        self._last: dict[Key, float] = {}
        self._order = count()
        self._urgent_had_it = False

    def mark(self, key: Key, now: float, urgent: bool = False) -> None:
        """The Training has something to write."""
        spacing = URGENT_SPACING_SECONDS if urgent else SPACING_SECONDS
        ready = max(now, self._last.get(key, -spacing) + spacing)
        if key in self._due:
            was_urgent, entry = self._due[key]
            if entry.ready <= ready and (was_urgent or not urgent):
                return
            ready, urgent = min(ready, entry.ready), urgent or was_urgent
        entry = _Entry(ready, next(self._order), key)
        self._due[key] = (urgent, entry)
        heapq.heappush(self._queues[urgent], entry)

    def pop(self, now: float) -> Key | None:
        """The Training whose turn it is; its write counts as made at `now`. None: none is ready."""
        self._tidy()
        ready = [urgent for urgent, queue in self._queues.items() if queue and queue[0].ready <= now]
        if not ready:
            return None
        urgent = ready[0] if len(ready) == 1 else not self._urgent_had_it
        self._urgent_had_it = urgent
        key = heapq.heappop(self._queues[urgent]).key
        del self._due[key]
        self._last[key] = now
        return key

    def next_at(self) -> float | None:
        """When the next Training is ready; None: nothing waits."""
        self._tidy()
        return min((queue[0].ready for queue in self._queues.values() if queue), default=None)

    def forget(self, key: Key) -> None:
        """The Training is no concern any more."""
        self._due.pop(key, None)
        self._last.pop(key, None)

    def __len__(self) -> int:
        return len(self._due)

    def _tidy(self) -> None:
        for urgent, queue in self._queues.items():
            while queue and self._due.get(queue[0].key) != (urgent, queue[0]):
                heapq.heappop(queue)
