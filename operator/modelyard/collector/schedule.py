"""Whose turn it is to be written, so that no Training is written too often and none waits for a busy one. Pure.

Each Training is in the queue at most once and in the order in which it became ready. A clock's seconds are passed in.
"""

from __future__ import annotations

import heapq
from itertools import count

from modelyard.plan import Key

SPACING_SECONDS = 5.0
URGENT_SPACING_SECONDS = 1.0


class Schedule:
    """A queue of Trainings that wait for their next write."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Key]] = []
        self._due: dict[Key, tuple[float, int]] = {}
        self._last: dict[Key, float] = {}
        self._order = count()

    def mark(self, key: Key, now: float, urgent: bool = False) -> None:
        """The Training has something to write."""
        spacing = URGENT_SPACING_SECONDS if urgent else SPACING_SECONDS
        ready = max(now, self._last.get(key, -spacing) + spacing)
        if key in self._due and self._due[key][0] <= ready:
            return
        entry = (ready, next(self._order))
        self._due[key] = entry
        heapq.heappush(self._heap, (*entry, key))

    def pop(self, now: float) -> Key | None:
        """The Training that is ready for longest; its write counts as made at `now`. None: none is ready."""
        self._tidy()
        if not self._heap or self._heap[0][0] > now:
            return None
        _, _, key = heapq.heappop(self._heap)
        del self._due[key]
        self._last[key] = now
        return key

    def next_at(self) -> float | None:
        """When the next Training is ready; None: nothing waits."""
        self._tidy()
        return self._heap[0][0] if self._heap else None

    def forget(self, key: Key) -> None:
        """The Training is no concern any more."""
        self._due.pop(key, None)
        self._last.pop(key, None)

    def __len__(self) -> int:
        return len(self._due)

    def _tidy(self) -> None:
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][:2]:
            heapq.heappop(self._heap)
