"""Why a download fails, in the fixed words that leave this process.

An upstream's body or an exception's text is never part of a failure: both can hold secrets.
"""

from __future__ import annotations

from typing import Literal

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

    @property
    def exit_code(self) -> int:
        """64 when another run can't help, 75 when it can, 1 for what nobody foresaw."""
        if self.reason == "Unexpected":
            return EXIT_UNEXPECTED
        return EXIT_RETRY if self.retryable else EXIT_PERMANENT


def bad_input(message: str) -> LoadError:
    """The request itself is wrong: only an edit helps."""
    return LoadError("BadInput", message)
