"""File locks, so that two invocations at once never build, start or stop the same thing together."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator

from localcluster.paths import cache_root
from localcluster.progress import say


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock `name`. The kernel drops it when the holder dies, so a killed launcher blocks nobody."""
    folder = cache_root() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another launcher holds {name!r}: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
