"""The last lines of what the program wrote to stderr, bounded, for the termination message.

Values that the environment holds under names that speak of secrets, and the tokens in the files that it names, are
blanked: a program may print its environment when it fails.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path

MAX_LINES = 40
MAX_LINE = 400
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY", re.IGNORECASE)
_SHORTEST_SECRET = 6
_BLANK = "[hidden]"


class Tail:
    """Keeps the last lines of a stream of chunks. A carriage return starts its line again, as on a screen."""

    def __init__(self) -> None:
        self._lines: deque[bytes] = deque(maxlen=MAX_LINES)
        self._open = b""
        self._lock = threading.Lock()

    def feed(self, chunk: bytes) -> None:
        """Takes the next bytes of the stream."""
        with self._lock:
            *whole, self._open = (self._open + chunk).split(b"\n")
            self._lines.extend(line for line in map(_shown, whole) if line)
            self._open = self._open.rpartition(b"\r")[2][: 4 * MAX_LINE]

    def lines(self, secrets: Iterable[str] = ()) -> list[str]:
        """The lines as text, oldest first, with `secrets` blanked."""
        with self._lock:
            raw = [line for line in (*self._lines, _shown(self._open)) if line]
        text = [line.decode("utf-8", "replace") for line in raw[-MAX_LINES:]]
        for secret in sorted(secrets, key=len, reverse=True):
            text = [line.replace(secret, _BLANK) for line in text]
        return [line[:MAX_LINE] for line in text]


def _shown(line: bytes) -> bytes:
    return line.rstrip().rpartition(b"\r")[2][: 4 * MAX_LINE]


def secrets_of(env: Mapping[str, str], token_files: Iterable[Path]) -> set[str]:
    """The values to blank: of variables whose names speak of secrets, and the content of token files."""
    found = {value for name, value in env.items() if _SECRET_NAME.search(name)}
    for file in token_files:
        try:
            found.add(file.read_text(encoding="utf-8").strip())
        except (OSError, ValueError):
            continue
    return {value for value in found if len(value) >= _SHORTEST_SECRET and not value.startswith("/")}
