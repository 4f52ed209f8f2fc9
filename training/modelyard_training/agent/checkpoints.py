"""Finds the checkpoint that a run goes on from.

The contract with whoever writes them: a checkpoint is a folder `checkpoints/step-XXXXXXXX`, and it is valid once it
holds `complete.json`, which is written last and put in place by a rename. A folder without it is torn and never used.
A stock Hugging Face `Trainer`'s are taken too: `checkpoints/checkpoint-N`, where `trainer_state.json` comes last.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

FOLDER = "checkpoints"
MARKER = "complete.json"
_NAMES = ((re.compile(r"step-(\d{8,18})"), MARKER), (re.compile(r"checkpoint-(\d{1,18})"), "trainer_state.json"))
_UNFINISHED = "checkpoint-is-incomplete.txt"


class Checkpoint(NamedTuple):
    """A valid checkpoint: the optimizer step after which it was written, and its folder."""

    step: int
    path: Path


def newest(output: Path) -> Checkpoint | None:
    """The valid checkpoint with the highest step under `output`, or None."""
    found: list[tuple[Checkpoint, str]] = []
    try:
        entries = list((output / FOLDER).iterdir())
    except OSError:
        return None
    for entry in entries:
        for pattern, last in _NAMES:
            if match := pattern.fullmatch(entry.name):
                found.append((Checkpoint(int(match.group(1)), entry), last))
    return next((c for c, last in sorted(found, reverse=True) if _valid(c.path, last)), None)


def _valid(folder: Path, last: str) -> bool:
    # A machine that lost power may keep the name of a renamed file without its content, so the content is read too.
    try:
        return isinstance(json.loads((folder / last).read_bytes()), dict) and not (folder / _UNFINISHED).exists()
    except (OSError, ValueError):
        return False
