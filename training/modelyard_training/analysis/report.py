"""Tells what was found: all of it in a file on the output volume, the bounded part in the termination message.

The message goes into the Training's status, so it has no sample of the data: names of columns and classes, counts and
ranges. What goes first when there is no room: the later columns, the later classes.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelyard_training.core import files
from modelyard_training.core.errors import DiskFull, no_space
from modelyard_training.params.analysis import REPORT, pack

LIMIT = 4096
"""Bytes that a termination message may have."""

COLUMNS, CLASSES, WARNINGS = 64, 32, 12
_NAME = 64
_SENTENCE = 300


@dataclass
class Findings:
    """All that was found. `samples` show what the model will see, and go into the file alone."""

    profile: dict[str, Any]
    model: dict[str, Any] = field(default_factory=dict)
    suggested: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    samples: list[Any] = field(default_factory=list)
    message: str = ""


def keep(output: Path, findings: Findings) -> None:
    """Writes `analysis.json`. Raises `DiskFull`."""
    whole = {
        "message": findings.message,
        "profile": findings.profile,
        "model": findings.model,
        "suggested": findings.suggested,
        "warnings": findings.warnings,
        "samples": findings.samples,
    }
    try:
        files.write_json(output / REPORT, whole)
    except OSError as error:
        if no_space(error):
            raise DiskFull("The output volume has no room even for the analysis: raise output.storage.") from None
        raise


def last_words(findings: Findings) -> bytes:
    """The termination message of a look that is done."""
    profile = copy.deepcopy(findings.profile)
    # What only a person reads, in the file.
    for column in profile.get("columns") or ():
        column.pop("top", None)
    warnings = [w[:_SENTENCE] for w in findings.warnings[:WARNINGS]]
    columns, classes = COLUMNS, CLASSES
    while True:
        _cut(profile, columns, classes)
        told = {
            "profile": profile,
            "model": findings.model,
            "suggested": findings.suggested,
            "warnings": warnings,
            "message": findings.message,
        }
        words = _encode({"result": "done", "reason": "Analyzed", "message": findings.message, "analysis": pack(told)})
        if len(words) <= LIMIT or (columns == 0 and not warnings):
            return words
        columns, classes = columns * 3 // 4, max(classes // 2, 1)
        if columns < 4:
            columns, warnings = 0, warnings[:-1]


def refusal(reason: str, message: str) -> bytes:
    """The termination message where the data or the model can't be used."""
    return _encode({"result": "failed", "reason": reason, "message": message[:1024]})


def _cut(profile: dict[str, Any], columns: int, classes: int) -> None:
    if isinstance(profile.get("columns"), list):
        profile["columns"] = profile["columns"][:columns]
        for column in profile["columns"]:
            column["name"] = column["name"][:_NAME]
    counts = (profile.get("target") or {}).get("classes")
    if isinstance(counts, Mapping):
        largest = sorted(counts.items(), key=lambda item: -item[1])[:classes]
        profile["target"]["classes"] = {name[:_NAME]: count for name, count in largest}


def _encode(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
