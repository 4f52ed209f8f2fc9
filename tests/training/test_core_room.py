"""What fits: the batch is measured, running out of memory ends with a setting that fits, a small disk is told first."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from modelyard_training.core import room
from modelyard_training.core.room import Need, divided
from modelyard_training.core.world import World
from modelyard_training.recipes.causal_lm.task import Objective
from support import tiny_models


def test_what_fits_follows_from_two_steps() -> None:
    assert Need(100.0, 10.0).most(155.0) == 5
    assert Need(100.0, 10.0).most(105.0) == 0
    assert divided(32, 12) == 8
    assert divided(30, 7) == 6
    assert divided(7, 6) == 1
    assert divided(4, 0) == 0


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tiny_models.language_model(tmp_path / "base", "llama")


def texts() -> str:
    return "".join(json.dumps({"text": line}) + "\n" for line in tiny_models.local_text()[:40])


def config(params: dict[str, Any]) -> dict[str, Any]:
    short = {"epochs": 1, "batchSize": 4, "gradientAccumulation": 2, "sequenceLength": 32, "packing": False}
    lora = {"rank": 4, "alpha": 8, "dropout": 0.0}
    return {"recipe": "causal-lm", "params": {**short, "lora": lora, **params}, "determinism": "Bitwise"}


@pytest.fixture
def fits_three(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device with room for three rows: torch's own error above."""
    real = Objective.forward

    def forward(self: Any, input_ids: Any, *more: Any, **named: Any) -> Any:
        if torch.is_grad_enabled() and len(input_ids) > 3:
            raise torch.OutOfMemoryError("Tried to allocate 20.00 MiB.")
        return real(self, input_ids, *more, **named)

    monkeypatch.setattr(Objective, "forward", forward)
    monkeypatch.setattr(room, "measure", lambda *_: Need(100.0, 10.0))
    monkeypatch.setattr(room, "limit", lambda _: 135.0 / 0.9)


def test_out_of_memory_names_a_setting_that_fits(trainer: Callable[..., Any], base: Path, fits_three: None) -> None:
    run = trainer(config({}), {"a.jsonl": texts()}, model=base)
    code, result = run.here()
    assert (code, result["reason"]) == (64, "GPUOutOfMemory")
    assert result["message"] == (
        "There is too little memory for batchSize 4: set batchSize: 2 and gradientAccumulation: 4, which learns the "
        "same."
    )
    mended = trainer(config({"batchSize": 2, "gradientAccumulation": 4}), {"a.jsonl": texts()}, name="b", model=base)
    assert mended.here()[0] == 0


def test_a_model_that_does_not_fit_by_itself(
    trainer: Callable[..., Any], base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrap(*given: Any, **named: Any) -> Any:
        raise torch.OutOfMemoryError("Tried to allocate 140.00 GiB.")

    monkeypatch.setattr(World, "wrap", wrap)
    code, result = trainer(config({}), {"a.jsonl": texts()}, model=base).here()
    assert (code, result["reason"]) == (64, "GPUOutOfMemory")
    assert result["message"].startswith("The GPU has too little memory for the model itself: take a GPU with more")


def test_auto_keeps_the_examples_of_a_step_and_the_weights(
    trainer: Callable[..., Any], base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = trainer(config({"batchSize": 2, "gradientAccumulation": 4}), {"a.jsonl": texts()}, name="f", model=base)
    assert fixed.here()[0] == 0
    measured: list[Need] = []
    real = room.measure

    def measure(*given: Any) -> Need:
        measured.append(real(*given))
        return Need(100.0, 10.0)

    monkeypatch.setattr(room, "measure", measure)
    monkeypatch.setattr(room, "limit", lambda _: 135.0 / 0.9)
    auto = trainer(config({"batch": "Auto"}), {"a.jsonl": texts()}, name="a", model=base)
    assert auto.here()[0] == 0
    assert measured[0].fixed > 0
    params = auto.metadata()["params"]
    assert (params["batchSize"], params["gradientAccumulation"]) == (2, 4)
    # Measured with real steps, and nothing of them is left.
    assert [row["loss"] for row in auto.rows()] == [row["loss"] for row in fixed.rows()]


def test_not_one_example_fits(trainer: Callable[..., Any], base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "limit", lambda _: 1.0)
    code, result = trainer(config({"batch": "Auto"}), {"a.jsonl": texts()}, model=base).here()
    assert code == 64
    assert result["message"].startswith("There is too little memory even for a batch of one example: take a GPU with")


def test_a_disk_without_room_is_told_before_the_first_step(
    trainer: Callable[..., Any], base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs

    def statvfs(path: Any) -> Any:
        values = list(real(path))
        values[4] = 0  # f_bavail
        return os.statvfs_result(values)

    monkeypatch.setattr(room.os, "statvfs", statvfs)
    run = trainer(config({}), {"a.jsonl": texts()}, model=base)
    code, result = run.here()
    assert (code, result["reason"]) == (64, "DiskFull")
    assert "has 0 MiB free, and the run needs 1 MiB at least" in result["message"]
    assert not run.steps()
