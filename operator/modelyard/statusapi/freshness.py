"""How old what is shown may be: the API server is asked something small every few seconds.

The watch brings changes by itself, and says nothing when it is cut off; a regular answer is what tells the two apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

from modelyard.cluster import errors
from modelyard.resources.times import format_time

PERIOD_SECONDS: Final = 4.0
ANSWER_SECONDS: Final = 4.0
STALE_SECONDS: Final = 12.0


class Freshness:
    """`ask` makes the small request; `clock` gives seconds since 1970."""

    def __init__(self, ask: Callable[[], Awaitable[object]], clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self.observed: float | None = None
        self.synced = False

    async def run(self) -> None:
        """Asks, for ever."""
        while True:
            await self.probe()
            await asyncio.sleep(PERIOD_SECONDS)

    async def probe(self) -> None:
        """Asks once."""
        began = self._clock()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._ask()
        except (TimeoutError, errors.ApiError):
            return
        self.observed = began

    @property
    def stale(self) -> bool:
        """Whether the API server has not been reached for too long."""
        return self.observed is None or self._clock() - self.observed > STALE_SECONDS

    def observed_at(self) -> str | None:
        """When it was last reached, RFC 3339."""
        return format_time(datetime.fromtimestamp(self.observed, UTC)) if self.observed else None

    def stale_since(self) -> str | None:
        """The same, but only if that is too long ago."""
        return self.observed_at() if self.stale else None

    def age(self) -> float:
        """Seconds since it was last reached."""
        return self._clock() - self.observed if self.observed else float("inf")
