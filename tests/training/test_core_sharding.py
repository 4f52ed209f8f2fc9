"""Weights divided over processes: the same losses, exact resume, a result that loads elsewhere; in any world."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from modelyard_training.core import checkpoint, files
from support import tiny_models

TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def config(**params: Any) -> dict[str, Any]:
    short = {"method": "Full", "epochs": 2, "batchSize": 2, "sequenceLength": 64, "learningRate": 1e-3}
    return {
        "recipe": "causal-lm",
        "params": {**short, **params},
        "determinism": "Bitwise",
        "checkpoint": {"everySteps": 3, "keep": 9},
    }


def losses(run: Any) -> list[float]:
    return [row["loss"] for row in run.rows()]


def test_two_processes_share_the_weights(trainer: Callable[..., Any], tmp_path: Path) -> None:
    base = tiny_models.language_model(tmp_path / "base", "gpt2")
    given = {"a.jsonl": "".join(json.dumps({"text": line}) + "\n" for line in tiny_models.local_text()[:40])}
    whole = trainer(config(sharding="None"), given, name="whole", model=base)
    sharded = trainer(config(), given, name="sharded", model=base)
    for run in (whole, sharded):
        assert run.run(*TWO)[0] == 0
    assert losses(sharded) == pytest.approx(losses(whole), rel=1e-4)
    names = sorted(files.listing(sharded.output / "model"))
    assert names == sorted(files.listing(whole.output / "model"))

    # Each process wrote its own half, and one process alone can read both.
    (_, newest), *_ = checkpoint.checkpoints_in(sharded.output / "checkpoints")
    assert len(list((newest / "tensors").glob("*.safetensors"))) == 2
    found, plain = checkpoint.load_tensors(newest), checkpoint.load_tensors(whole.output / "checkpoints" / newest.name)
    assert found.keys() == plain.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, plain[name], atol=1e-4, rtol=1e-2)

    # Gone on from a checkpoint half-way it ends with the same bytes.
    again = trainer(config(), given, name="again", model=base)
    steps = sharded.steps()
    for step in steps[: len(steps) // 2]:
        name = f"step-{step:08d}"
        shutil.copytree(sharded.output / "checkpoints" / name, again.output / "checkpoints" / name)
    shutil.copy(sharded.output / "metrics.jsonl", again.output)
    code, reports = again.run(*TWO)
    assert code == 0
    resumed = reports[-1]["result"]["resumedFrom"]
    assert 0 < resumed < steps[-1]
    assert losses(again) == losses(sharded)
    assert files.listing(again.output / "model") == files.listing(sharded.output / "model")
