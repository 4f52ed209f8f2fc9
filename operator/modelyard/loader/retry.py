"""Trying again within one run: with growing pauses, as the server wishes, and only for so long."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception

from modelyard.loader.console import say, span
from modelyard.loader.failure import LoadError

T = TypeVar("T")
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0


class Patience:
    """How long one piece of work may go without getting further. `further` starts the time and the pauses anew."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since = time.monotonic()
        self._failures = 0

    def further(self) -> None:
        """Something arrived."""
        self._since = time.monotonic()
        self._failures = 0

    def keep(self, action: Callable[[], T]) -> T:
        """Runs the action until it succeeds.

        Raises:
            LoadError: the last one, when it can't be helped by waiting or the time is up.
        """
        failed: list[LoadError] = []
        try:
            return action()  # what goes well at once, such as each of many small files, pays for no more than that
        except LoadError as error:
            if not _passing(error):
                raise
            failed.append(error)

        def again() -> T:
            if failed:
                raise failed.pop()
            return action()

        retrying = Retrying(
            retry=retry_if_exception(_passing),
            wait=self._pause,
            stop=lambda state: time.monotonic() - self._since + state.upcoming_sleep > self._seconds,
            before_sleep=self._tell,
            reraise=True,
        )
        return retrying(again)

    def _pause(self, state: RetryCallState) -> float:
        pause: float = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**self._failures)
        self._failures += 1
        error = state.outcome.exception() if state.outcome else None
        wished: float = error.retry_after or 0.0 if isinstance(error, LoadError) else 0.0
        return max(wished, pause * random.uniform(0.5, 1.0))

    @staticmethod
    def _tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, LoadError):
            say(f"{error.message} Trying again in {span(max(1, state.upcoming_sleep))}.")


def _passing(error: BaseException) -> bool:
    return isinstance(error, LoadError) and error.retryable and error.here
