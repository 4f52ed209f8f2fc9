"""Several processes: exact resume of the recipes for large models, with weights divided over a node's or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from modelyard_training.core import checkpoint, files
from support import tiny_models, trainer_forks


def config(**params: Any) -> dict[str, Any]:
    short = {"method": "Full", "epochs": 2, "batchSize": 2, "sequenceLength": 64, "learningRate": 1e-3}
    return {
        "recipe": "causal-lm",
        "params": {**short, **params},
        "determinism": "Bitwise",
        "checkpoint": {"everySteps": 2, "keep": 99},
    }


def losses(run: Any) -> list[float]:
    return [row["loss"] for row in run.rows()]


def texts() -> dict[str, str]:
    return {"a.jsonl": "".join(json.dumps({"text": line}) + "\n" for line in tiny_models.local_text()[:40])}


def train(run: Any, processes: int, nodes: int = 1) -> None:
    assert trainer_forks.together(run.environment(), processes, nodes) == [0] * processes


def goes_on_exactly(run: Any, processes: int, nodes: int = 1) -> None:
    """A run that has ended loses its later checkpoints, goes on from the one half-way, and ends with the same bytes."""
    rows, listing, steps = run.rows(), files.listing(run.output / "model"), run.steps()
    half = steps[len(steps) // 2 - 1]
    for step in steps:
        if step > half:
            (run.output / "checkpoints" / f"step-{step:08d}" / checkpoint.MARKER).unlink()
    train(run, processes, nodes)
    assert 0 < run.metadata()["resumedFrom"] == half < steps[-1]
    assert run.rows() == rows
    assert files.listing(run.output / "model") == listing


# Two nodes of two: weights are divided in a node and the same in both.
@pytest.mark.parametrize(("processes", "nodes"), [(2, 1), (4, 2)])
def test_processes_share_the_weights(processes: int, nodes: int, trainer: Callable[..., Any], tmp_path: Path) -> None:
    base = tiny_models.language_model(tmp_path / "base", "gpt2")
    whole = trainer(config(sharding="None"), texts(), name="whole", model=base)
    sharded = trainer(config(), texts(), name="sharded", model=base)
    for run in (whole, sharded):
        train(run, processes, nodes)
    assert losses(sharded) == pytest.approx(losses(whole), rel=1e-4)
    names = sorted(files.listing(sharded.output / "model"))
    assert names == sorted(files.listing(whole.output / "model"))

    # Each process wrote its own part, what the other node has as well is written once, and one alone can read it.
    (_, newest), *_ = checkpoint.checkpoints_in(sharded.output / "checkpoints")
    written = [path.stat().st_size for path in (newest / "tensors").glob("*.safetensors")]
    alone = sum(p.stat().st_size for p in (whole.output / "checkpoints" / newest.name / "tensors").iterdir())
    assert len(written) == processes
    assert sum(written) < 1.5 * alone
    found, plain = checkpoint.load_tensors(newest), checkpoint.load_tensors(whole.output / "checkpoints" / newest.name)
    assert found.keys() == plain.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, plain[name], atol=1e-4, rtol=1e-2)
    goes_on_exactly(sharded, processes, nodes)


def test_an_adapter_in_two_processes_goes_on_exactly(trainer: Callable[..., Any], tmp_path: Path) -> None:
    base = tiny_models.language_model(tmp_path / "base", "llama")
    lora = {"rank": 4, "alpha": 8, "dropout": 0.1}
    params = config(method="LoRA", lora=lora, gradientAccumulation=2, activationCheckpointing=True)
    run = trainer(params, texts(), model=base)
    train(run, 2)
    goes_on_exactly(run, 2)


def test_a_4_bit_base_is_shared_too(trainer: Callable[..., Any], tmp_path: Path) -> None:
    base = tiny_models.language_model(tmp_path / "base", "llama", hidden_size=64, intermediate_size=128)
    lora = {"rank": 4, "alpha": 8, "dropout": 0.0}
    whole, sharded = (
        trainer(config(method="QLoRA", lora=lora, sharding=how), texts(), name=how, model=base)
        for how in ("None", "Node")
    )
    for run in (whole, sharded):
        train(run, 2)
    assert losses(sharded) == pytest.approx(losses(whole), rel=1e-4)
    goes_on_exactly(sharded, 2)


def test_pictures_in_two_processes_go_on_exactly(trainer: Callable[..., Any], tmp_path: Path) -> None:
    params = {
        "resolution": 64,
        "maxSteps": 8,
        "sampleEvery": 3,
        "samplePrompts": ["a square"],
        "captionDropout": 0.3,
        "flip": True,
        "lora": {"rank": 4, "alpha": 16, "dropout": 0.1},
    }
    given = {**config(), "recipe": "text-to-image-lora", "params": params, "dataset": {}}
    run = trainer(given, model=tiny_models.pipeline(tmp_path / "base", "sd15"))
    for number in range(8):
        pixels = np.full((64, 64, 3), 30 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(run.root / "data" / f"{number}.png")
        (run.root / "data" / f"{number}.txt").write_text(f"a square of shade {number}")
    train(run, 2)
    samples = files.listing(run.output / "samples")
    goes_on_exactly(run, 2)
    assert files.listing(run.output / "samples") == samples
