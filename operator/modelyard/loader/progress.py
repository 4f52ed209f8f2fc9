"""How far a download is. Those who fetch count, the main thread reads; nothing here waits or writes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from modelyard.loader.console import files, size, span

_WINDOW_SECONDS = 10.0


@dataclass(frozen=True)
class Reading:
    """One look at the counters. Bytes and files include what an earlier run left; totals are None while unknown."""

    bytes: int
    total_bytes: int | None
    files: int
    total_files: int | None
    bytes_per_second: float
    eta_seconds: float | None

    def line(self) -> str:
        """For people."""
        if self.total_files is None:
            here = f" {size(self.bytes)} in {files(self.files)} came with the answers." if self.files else ""
            return f"Asking the source what there is.{here}"
        of_bytes = "" if self.total_bytes is None else f" of {size(self.total_bytes)}"
        percent = "" if not self.total_bytes else f" ({100 * self.bytes / self.total_bytes:.1f}%)"
        left = "" if self.eta_seconds is None else f", {span(self.eta_seconds)} left"
        counted = f"{self.files} of {files(self.total_files)}"
        return f"{size(self.bytes)}{of_bytes}{percent}, {counted}, {size(self.bytes_per_second)}/s{left}"


class Counter(Protocol):
    """What those who fetch tell."""

    def fetched(self, count: int) -> None:
        """Bytes that just came over the network."""

    def kept(self, count: int) -> None:
        """Bytes that were there already; negative for bytes that are thrown away."""

    def whole(self, count: int = 1) -> None:
        """So many more files are there and verified."""


class Progress:
    """Thread-safe counters with a rate over the last ten seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._bytes = 0
        self._fetched = 0
        self._files = 0
        self._total_bytes: int | None = None
        self._total_files: int | None = None
        self._marks: deque[tuple[float, int]] = deque([(clock(), 0)])

    def there(self, count: int, files: int) -> None:
        """So many bytes and files are whole before the rest is fetched, whatever was counted until now."""
        with self._lock:
            self._bytes, self._files = count, files

    def expect(self, total_bytes: int | None, total_files: int) -> None:
        """Sets the totals once they are known."""
        with self._lock:
            self._total_bytes, self._total_files = total_bytes, total_files

    def fetched(self, count: int) -> None:
        """Bytes that just came over the network."""
        with self._lock:
            self._bytes += count
            self._fetched += count

    def kept(self, count: int) -> None:
        """Bytes that were there already; negative for bytes that are thrown away."""
        with self._lock:
            self._bytes += count

    def whole(self, count: int = 1) -> None:
        """So many more files are there and verified."""
        with self._lock:
            self._files += count

    def read(self) -> Reading:
        """The state now."""
        with self._lock:
            now = self._clock()
            self._marks.append((now, self._fetched))
            while len(self._marks) > 2 and now - self._marks[1][0] >= _WINDOW_SECONDS:
                self._marks.popleft()
            since, before = self._marks[0]
            rate = (self._fetched - before) / (now - since) if now > since else 0.0
            eta = None
            if self._total_bytes is not None and rate > 0:
                eta = max(0, self._total_bytes - self._bytes) / rate
            return Reading(self._bytes, self._total_bytes, self._files, self._total_files, rate, eta)
