"""How much one caller may ask: a token bucket each, and a count of open streams. Pure; the tables are bounded."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

MOST: Final = 20_000


class Bucket:
    """`rate` requests a second and subject, `burst` at once. Beyond MOST subjects the longest unseen is forgotten."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, float(burst)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, subject: str, now: float) -> int | None:
        """Takes one; None, or after how many whole seconds there will be one again."""
        left = self._level(subject, now)
        taken = left >= 1
        self._left[subject] = (left - 1 if taken else left, now)
        self._left.move_to_end(subject)
        if len(self._left) > MOST:
            self._left.popitem(last=False)
        return None if taken else self._wait(left)

    def wait(self, subject: str, now: float) -> int | None:
        """Takes none: None if there is one, else after how many whole seconds."""
        left = self._level(subject, now)
        return None if left >= 1 else self._wait(left)

    def _level(self, subject: str, now: float) -> float:
        left, since = self._left.get(subject, (self._burst, now))
        return min(self._burst, left + (now - since) * self._rate)

    def _wait(self, left: float) -> int:
        return max(1, math.ceil((1 - left) / self._rate))


class Slots:
    """How many things one subject, and all together, may have open at a time."""

    def __init__(self, each: int, total: int) -> None:
        self._each, self._total = each, total
        self._open: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._open.total()

    @contextmanager
    def hold(self, subject: str) -> Iterator[bool]:
        """Holds one for the time of the block; False if there is none left."""
        if self._open[subject] >= self._each or len(self) >= self._total:
            self._drop_empty(subject)
            yield False
            return
        self._open[subject] += 1
        try:
            yield True
        finally:
            self._open[subject] -= 1
            self._drop_empty(subject)

    def _drop_empty(self, subject: str) -> None:
        if self._open[subject] <= 0:
            del self._open[subject]
