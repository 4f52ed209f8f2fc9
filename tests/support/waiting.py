"""Waiting for something that will be so: polls, and fails with words when it takes so long that it must be broken."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

T = TypeVar("T")


def wait_for(
    look: Callable[[], T | None], what: str, seconds: float = 180, every: float = 0.1, said: Callable[[], str] = str
) -> T:
    """The first true answer of `look`; fails the test if there is none in time, with what `said` then says.

    The garbage collector takes up to half a minute to know of kinds that are new, so children of the first go late; and
    a machine that others use too may stand still for as long.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"waited {seconds:.0f} s in vain for {what} {said()}".strip())
        time.sleep(every)
