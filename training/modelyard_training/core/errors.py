"""How a run ends when it does not end well: exit codes, and the errors that carry a sentence for the user.

A `BadInput` would fail again in every attempt, so it ends with code 64 and is never retried. Its text goes to the
Training's status: it says what is wrong, where, and what to do, and holds nothing of a library's own message.
"""

from __future__ import annotations

import errno

DONE = 0
ERROR = 1
BAD_INPUT = 64
STOPPED = 75

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class BadInput(Exception):  # noqa: N818 [the name is the reason code that the user sees]
    """What the run was given cannot work. `str(error)` is one or two sentences for the user."""

    reason = "BadInput"


class DiskFull(BadInput):
    """The output volume has no room for what must be written. What was valid before is still there."""

    reason = "DiskFull"


class Stopped(Exception):  # noqa: N818
    """The run was asked to stop before it had begun to train: there is nothing to save."""


def no_space(error: BaseException) -> bool:
    """Whether an error, or one that caused it, says that the disk, the quota or the file size limit is reached."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _NO_SPACE:
            return True
        seen = seen.__cause__ or seen.__context__
    # safetensors reports a failed write by text alone.
    return any(words in str(error) for words in ("No space left", "File too large", "quota exceeded"))
