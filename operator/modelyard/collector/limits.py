"""How often one subject may ask: a token bucket each, the table of them bounded. Pure."""

from __future__ import annotations

from collections import OrderedDict


class Limits:
    """`rate` requests a second and subject, `burst` at once. Beyond `most` subjects the longest unseen is forgotten."""

    def __init__(self, rate: float, burst: int, most: int = 20_000) -> None:
        self._rate, self._burst, self._most = rate, float(burst), most
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, subject: str, now: float) -> bool:
        """Takes one request of the subject, if it has one left."""
        left = self._left(subject, now)
        self._buckets[subject] = (left - 1 if left >= 1 else left, now)
        self._buckets.move_to_end(subject)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return left >= 1

    def exhausted(self, subject: str, now: float) -> bool:
        """Whether the subject has none left, without taking one."""
        return self._left(subject, now) < 1

    def _left(self, subject: str, now: float) -> float:
        left, since = self._buckets.get(subject, (self._burst, now))
        return min(self._burst, left + (now - since) * self._rate)
