"""Where the time went: each step is announced, timed, and listed at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Steps in the order that they ran, in seconds."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float]] = []

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Announce the step and time its body."""
        print(f"\n=== {title}", flush=True)
        begin = time.monotonic()
        yield
        self.steps.append((title, time.monotonic() - begin))

    def table(self) -> str:
        """One line a step, and the sum."""
        rows = [*self.steps, ("all", sum(seconds for _, seconds in self.steps))]
        return "\n".join(f"  {seconds:7.1f} s  {title}" for title, seconds in rows)
