"""Progress on stderr, so that a user sees what takes long; stdout stays free for answers that scripts read."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

_started = time.monotonic()


def say(text: str) -> None:
    """Print one line, stamped with the seconds since the launcher began."""
    print(f"[{time.monotonic() - _started:6.1f}s] {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(text: str) -> Iterator[None]:
    """Print how long a step took once it is over. Steps that may last minutes announce themselves with `say` first."""
    begun = time.monotonic()
    yield
    say(f"{text} ({time.monotonic() - begun:.1f} s)")
