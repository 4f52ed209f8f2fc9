"""Texts from scratch: LSTM, CNN and a small Transformer; what they save loads without our package, exact resume."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelyard_training.core import files

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")

ALONE = """
import importlib.util, json, sys
assert importlib.util.find_spec("modelyard_training") is None
sys.path.insert(0, sys.argv[1])
texts = json.load(open(sys.argv[2]))
if sys.argv[3] == "Transformer":
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1]).eval()
    tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
    with torch.inference_mode():
        found = model(**tokenizer(texts, padding=True, truncation=True, return_tensors="pt")).logits
    found = found.softmax(dim=1) if found.shape[1] > 1 else found[:, 0]
else:
    sys.modules["transformers"] = sys.modules["tokenizers"] = None
    import predict
    found = predict.Predictor().outputs(texts)
print(json.dumps(found.tolist()))
"""


def alone(model: Path, architecture: str, texts: list[str], folder: Path) -> np.ndarray:
    """What the saved files say in an isolated interpreter that can't see our package."""
    (folder / "texts.json").write_text(json.dumps(texts))
    command = [sys.executable, "-I", "-c", ALONE, str(model), str(folder / "texts.json"), architecture]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    return np.array(json.loads(out.stdout.splitlines()[-1]))


def reviews(count: int) -> list[tuple[str, str, float]]:
    """Texts of several lengths, their class, and a number that follows from their words."""
    random = np.random.default_rng(7)
    good, bad = ["Fine", "lovely", "bright"], ["dull", "broken", "Awful"]
    fill = ["the", "film", "was", "a", "day,", "with", "rain", "and", "people"]
    rows = []
    for number in range(count):
        label = ["good", "bad"][number % 2]
        words = list(random.choice(fill, random.integers(3, 20)))
        strong = int(random.integers(1, 4))
        for _ in range(strong):
            words.insert(int(random.integers(0, len(words))), str(random.choice(good if label == "good" else bad)))
        rows.append((" ".join(words) + ".", label, 50.0 + 10.0 * strong * (1 if label == "good" else -1)))
    return rows


def as_jsonl(rows: list[tuple[str, str, float]], column: int) -> str:
    return "".join(json.dumps({"text": row[0], "label": row[column]}) + "\n" for row in rows)


@pytest.mark.parametrize("architecture", ["LSTM", "CNN", "Transformer"])
def test_learns_and_says_the_same_alone(architecture: str, trainer: Callable[..., Any]) -> None:
    rows = reviews(240)
    params = {"architecture": architecture, "epochs": 16, "batchSize": 16, "width": 32, "maxLength": 40}
    params["learningRate"] = 0.002 if architecture == "Transformer" else 0.005
    held = rows[:60]
    split = {"train": "train.jsonl", "validation": "held.jsonl"}
    for recipe, column in (("text-classification", 1), ("text-regression", 2)):
        run = trainer(
            {"recipe": recipe, "params": params, "dataset": {"split": split}},
            {"train.jsonl": as_jsonl(rows[60:], column), "held.jsonl": as_jsonl(held, column)},
            name=recipe,
        )
        code, result = run.here()
        assert code == 0, result
        metrics = result["summary"]["metrics"]
        found = alone(run.output / "model", architecture, [row[0] for row in held], run.root)
        if column == 1:
            assert metrics["accuracy"] >= 0.9
            assert np.mean([["bad", "good"][i] == row[1] for i, row in zip(found.argmax(1), held, strict=True)]) >= 0.9
        else:
            mae = float(np.abs(found - np.array([row[2] for row in held])).mean())
            assert mae == pytest.approx(metrics["mae"], rel=1e-3)
            assert metrics["r2"] >= 0.3
        assert run.metadata()["algorithm"] == architecture


@pytest.mark.parametrize("architecture", ["LSTM", "CNN", "Transformer"])
def test_resumed_is_bit_identical(architecture: str, trainer: Callable[..., Any]) -> None:
    config = {
        "recipe": "text-classification",
        "params": {"architecture": architecture, "epochs": 2, "batchSize": 8, "width": 16, "maxLength": 32},
        "determinism": "Bitwise",
        "checkpoint": {"everySteps": 3, "keep": 100},
    }
    run = trainer(config, {"a.jsonl": as_jsonl(reviews(60), 1)})
    assert run.here()[0] == 0
    rows, listing = run.rows(), files.listing(run.output / "model")
    run.forget_after(3)
    code, result = run.here()
    assert code == 0
    assert result["resumedFrom"] == 3
    assert run.rows() == rows
    assert files.listing(run.output / "model") == listing


def test_two_processes_go_on_exactly(trainer: Callable[..., Any]) -> None:
    config = {
        "recipe": "text-classification",
        "params": {"architecture": "LSTM", "epochs": 2, "batchSize": 8, "width": 16, "maxLength": 32},
        "determinism": "Bitwise",
        "checkpoint": {"everySteps": 2, "keep": 100},
    }
    run = trainer(config, {"a.jsonl": as_jsonl(reviews(80), 1)})
    assert run.run(*TORCHRUN)[0] == 0
    rows, listing = run.rows(), files.listing(run.output / "model")
    run.forget_after(2)
    assert run.run(*TORCHRUN)[0] == 0
    assert run.rows() == rows
    assert files.listing(run.output / "model") == listing


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "needs a base model, and none is there: set spec.model.ref"),
        ({"architecture": "LSTM", "method": "LoRA"}, "method LoRA adapts a base model; architecture LSTM has none"),
        ({"architecture": "CNN", "maxLength": 4, "longText": "Refuse"}, "tokens, more than 4: raise maxLength"),
    ],
)
def test_bad_input_ends_with_a_sentence(params: dict[str, Any], words: str, trainer: Callable[..., Any]) -> None:
    run = trainer({"recipe": "text-classification", "params": params}, {"a.jsonl": as_jsonl(reviews(20), 1)})
    code, result = run.here()
    assert code == 64
    assert words in result["message"]
