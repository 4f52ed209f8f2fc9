"""Finds the checkpoint that a run goes on from.

The contract with whoever writes them: a checkpoint is a folder `checkpoints/step-XXXXXXXX`, and it is valid once it
holds `complete.json`, which is written last and put in place by a rename. A folder without it is torn and never used.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

FOLDER = "checkpoints"
MARKER = "complete.json"
_NAME = re.compile(r"step-(\d{8,18})")


class Checkpoint(NamedTuple):
    """A valid checkpoint: the optimizer step after which it was written, and its folder."""

    step: int
    path: Path


def newest(output: Path) -> Checkpoint | None:
    """The valid checkpoint with the highest step under `output`, or None."""
    found: list[Checkpoint] = []
    try:
        entries = list((output / FOLDER).iterdir())
    except OSError:
        return None
    for entry in entries:
        match = _NAME.fullmatch(entry.name)
        if match:
            found.append(Checkpoint(int(match.group(1)), entry))
    return next((c for c in sorted(found, reverse=True) if _valid(c.path)), None)


def _valid(folder: Path) -> bool:
    # A machine that lost power may keep the name of a renamed file without its content, so the content is read too.
    try:
        return isinstance(json.loads((folder / MARKER).read_bytes()), dict)
    except (OSError, ValueError):
        return False
