"""Why a download fails, in the fixed words that leave this process.

An upstream's body or an exception's text is never part of a failure: both can hold secrets.
"""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any, Literal

from modelyard.loader.console import say

Reason = Literal[
    "Unauthorized",
    "Forbidden",
    "NotFound",
    "RateLimited",
    "Unreachable",
    "ServerError",
    "HashMismatch",
    "DiskFull",
    "NoMatch",
    "BadInput",
    "Interrupted",
    "Unexpected",
]

EXIT_DONE = 0
EXIT_UNEXPECTED = 1
EXIT_PERMANENT = 64
EXIT_RETRY = 75


class LoadError(Exception):
    """A download that can't go on.

    `message` is ours and fit for a user: what is wrong, where, what to do. `retryable` says whether another run can
    help; `here` whether trying again within this run can. `retry_after` is the server's wish in seconds.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        retryable: bool = False,
        here: bool = True,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.message = message
        self.retryable = retryable
        self.here = here
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.reason, self.message, self.retryable, self.here, self.retry_after)

    @property
    def exit_code(self) -> int:
        """64 when another run can't help, 75 when it can, 1 for what nobody foresaw."""
        if self.reason == "Unexpected":
            return EXIT_UNEXPECTED
        return EXIT_RETRY if self.retryable else EXIT_PERMANENT


def bad_input(message: str) -> LoadError:
    """The request itself is wrong: only an edit helps."""
    return LoadError("BadInput", message)


def unexpected(error: BaseException) -> LoadError:
    """Says where it happened and of which class, never its text: that may quote what the other side sent."""
    for frame in traceback.extract_tb(error.__traceback__):
        say(f"  {Path(frame.filename).name}:{frame.lineno} in {frame.name}")
    code = f" {os.strerror(error.errno)}" if isinstance(error, OSError) and error.errno else ""
    return LoadError("Unexpected", f"The loader met an unexpected {type(error).__name__}.{code}", retryable=True)


def _again(reason: Reason, message: str, retryable: bool, here: bool, retry_after: float | None) -> LoadError:
    return LoadError(reason, message, retryable=retryable, here=here, retry_after=retry_after)
