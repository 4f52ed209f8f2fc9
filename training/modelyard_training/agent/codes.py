"""Exit codes and reasons: the words that the operator and the agent share.

The Job's pod failure policy and the operator's retry counters act on the codes, the termination message carries the
reasons. Both are fixed: a new one is added here and in the operator together.
"""

from __future__ import annotations

from typing import NamedTuple

DONE = 0
ERROR = 1
BAD_INPUT = 64
STOPPED = 75


class Reason:
    """Reasons that the agent itself gives; the program may give others of the same form for its failures."""

    COMPLETED = "Completed"
    STOPPED = "Stopped"
    BAD_INPUT = "BadInput"
    OUT_OF_MEMORY = "OutOfMemory"
    GPU_LOST = "GPULost"
    NCCL_TIMEOUT = "NCCLTimeout"
    NCCL_ERROR = "NCCLError"
    GRACE_EXCEEDED = "GraceExceeded"
    ERROR = "Error"
    AGENT_ERROR = "AgentError"


class BadInputError(Exception):
    """What the pod was given can't work, and a retry can't change that. The text is shown to the user."""


class Verdict(NamedTuple):
    """How a run ended: the agent's exit code, and `result` (`done`, `stopped`, `failed`) with its cause in words."""

    code: int
    result: str
    reason: str
    message: str
