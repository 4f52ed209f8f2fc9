"""The last lines of what the program wrote to stderr, bounded, for the termination message.

A program may print its environment when it fails. Blanked are: values that the environment holds under names that
speak of secrets, or that come from a Secret (`MODELYARD_SECRETS` names those); the tokens in the files that it names;
and what looks like a credential: user and query of a URL, what follows `token=` and its like, long runs of letters and
digits.
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
SECRETS = "MODELYARD_SECRETS"
_LOOKS_SECRET = (
    (re.compile(r"://[^/\s@]+@"), "://[hidden]@"),
    (re.compile(r"(https?://[^\s?]+)\?\S+"), r"\1?[hidden]"),
    (
        re.compile(
            r"(?i)((?:bearer|basic)\s+|(?:token|secret|passw(?:or)?d|api[_-]?key|credential)s?[\"']?\s*[=:]\s*)\S+"
        ),
        r"\1[hidden]",
    ),
    (re.compile(r"\b(?=[A-Za-z_+=-]*[0-9])(?=[0-9_+=-]*[A-Za-z])[A-Za-z0-9_+=-]{24,}"), "[hidden]"),
    (re.compile(r"\bA[KS]IA[A-Z0-9]{12,}"), "[hidden]"),
)
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
        for shape, blank in _LOOKS_SECRET:
            text = [shape.sub(blank, line) for line in text]
        return [line[:MAX_LINE] for line in text]


def _shown(line: bytes) -> bytes:
    return line.rstrip().rpartition(b"\r")[2][: 4 * MAX_LINE]


def secrets_of(env: Mapping[str, str], token_files: Iterable[Path]) -> set[str]:
    """The values to blank: of variables whose names speak of secrets, and the content of token files."""
    given = env.get(SECRETS, "").split(",")
    found = {value for name, value in env.items() if name in given or _SECRET_NAME.search(name)}
    for file in token_files:
        try:
            found.add(file.read_text(encoding="utf-8").strip())
        except (OSError, ValueError):
            continue
    return {value for value in found if len(value) >= _SHORTEST_SECRET and not value.startswith("/")}
