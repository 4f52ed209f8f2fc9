"""The GPU's bench runs on the CPU in tiny shapes: that it works, not how fast."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from support import bench

SCRIPT = Path(__file__).parents[1] / "bench" / "train_gpu.py"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("train_gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def test_every_shape_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = load()
    monkeypatch.setattr(bench, "FOLDER", tmp_path)
    monkeypatch.setattr(script, "peak", lambda device: 1e12)
    rows = script.main(["--tiny", "--steps", "3"])
    assert [row.unit for row in rows] == ["tokens/s", "%"] * 2 + ["s/image", "%"] * 3
    assert all(row.ours > 0 for row in rows)
    assert (tmp_path / "train-gpu-tiny.json").exists()


def test_a_batch_that_does_not_fit_is_halved() -> None:
    script = load()

    def measured(batch: int) -> str:
        if batch > 2:
            raise torch.OutOfMemoryError
        return "measured"

    assert script.largest(8, measured, torch.device("cpu")) == ("measured", 2)
