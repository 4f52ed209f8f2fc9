"""Runs the analysis as its pod does, and reads what it left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from modelyard_training.params.analysis import unpack

REPO = Path(__file__).resolve().parents[2]


class Looked:
    """What one look left behind."""

    def __init__(self, code: int, words: dict[str, Any], output: Path) -> None:
        self.code = code
        self.words = words
        self.found = unpack(words.get("analysis")) or {}
        file = output / "analysis.json"
        self.file: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    @property
    def profile(self) -> dict[str, Any]:
        found: dict[str, Any] = self.found["profile"]
        return found

    def column(self, name: str) -> dict[str, Any]:
        return next(c for c in self.profile["columns"] if c["name"] == name)

    def warned(self, *words: str) -> bool:
        return any(all(word in text for word in words) for text in self.found.get("warnings", ()))


def look(
    root: Path, config: dict[str, Any], files: dict[str, str] | None = None, *, model: Path | None = None
) -> Looked:
    """Looks at `root/data`, with these files added to it."""
    data, output, words = root / "data", root / "output", root / "last-words"
    for folder in (data, output):
        folder.mkdir(exist_ok=True)
    for name, text in (files or {}).items():
        (data / name).write_text(text)
    env = {
        **os.environ,
        "PYTHONPATH": str(REPO / "training"),
        "MODELYARD_CONFIG": json.dumps(config),
        "MODELYARD_DATASET": str(data),
        "MODELYARD_OUTPUT": str(output),
        "MODELYARD_TERMINATION_LOG": str(words),
    }
    if model is not None:
        env["MODELYARD_MODEL"] = str(model)
    ended = subprocess.run(
        [sys.executable, "-m", "modelyard_training.analysis"], env=env, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode in (0, 64), ended.stderr
    assert words.stat().st_size <= 4096
    return Looked(ended.returncode, json.loads(words.read_text()), output)
