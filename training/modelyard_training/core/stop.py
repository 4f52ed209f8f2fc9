"""The wish to stop: a SIGTERM sets a flag, nothing more. The loop asks for it once a step, over all processes.

The handler is installed before torch is imported [that takes seconds, and a pod may be told to go at once].
"""

from __future__ import annotations

import signal
from types import FrameType

from modelyard_training.core.errors import Stopped


class Stop:
    """Whether this process was asked to stop."""

    def __init__(self) -> None:
        self.requested = False

    def install(self) -> Stop:
        """Takes SIGTERM and SIGINT from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._request)
        return self

    def check(self) -> None:
        """Raises `Stopped` if the run was asked to stop: for the stages before the first step, which save nothing."""
        if self.requested:
            raise Stopped

    def _request(self, signum: int, frame: FrameType | None) -> None:
        self.requested = True
