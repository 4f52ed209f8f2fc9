"""Text recipes: real MiniLM on the standard library's docstrings, the result in stock transformers, exact resume."""

from __future__ import annotations

import ast
import csv
import io
import json
import random
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelyard_training.core import files

STOCK = """
import importlib.util, json, sys
assert importlib.util.find_spec("modelyard_training") is None
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
torch.set_num_threads(1)
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1]).eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
texts = json.load(open(sys.argv[2]))
with torch.inference_mode():
    logits = model(**tokenizer(texts, padding=True, truncation=True, max_length=32, return_tensors="pt")).logits
names = [model.config.id2label[i] for i in range(logits.shape[1])]
json.dump({"logits": logits.tolist(), "names": names}, sys.stdout)
"""


def docstrings(packages: list[str], each: int) -> list[tuple[str, str]]:
    """Docstrings of the standard library with the package that they are from."""
    root = Path(sysconfig.get_paths()["stdlib"])
    rows: list[tuple[str, str]] = []
    for package in packages:
        found: set[str] = set()
        for path in sorted((root / package).rglob("*.py")):
            if "test" in path.relative_to(root).as_posix():
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    text = " ".join((ast.get_docstring(node) or "").split())[:400]
                    if len(text) > 40:
                        found.add(text)
        rows += [(text, package) for text in random.Random(1).sample(sorted(found), each)]
    random.Random(2).shuffle(rows)
    return rows


def as_csv(rows: list[tuple[Any, Any]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([("text", "label"), *rows])
    return out.getvalue()


def in_stock_transformers(model: Path, texts: list[str], folder: Path) -> dict[str, Any]:
    """Logits of the saved folder in an isolated interpreter that can't see our package."""
    (folder / "texts.json").write_text(json.dumps(texts))
    command = [sys.executable, "-I", "-c", STOCK, str(model), str(folder / "texts.json")]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


@pytest.mark.parametrize("method", ["Full", "LoRA"])
def test_minilm_learns_which_package_a_docstring_is_from(
    method: str, trainer: Callable[..., Any], minilm: Path
) -> None:
    rows = docstrings(["tkinter", "asyncio", "email"], 60)
    params = {
        "method": method,
        "epochs": 3,
        "batchSize": 16,
        "maxLength": 32,
        "learningRate": 1e-4,
        "bestMetric": "accuracy",
    }
    if method == "LoRA":
        params["learningRate"] = 2e-3
    run = trainer({"recipe": "text-classification", "params": params}, {"docs.csv": as_csv(rows)}, model=minilm)
    code, result = run.here()
    assert code == 0
    assert result["summary"]["metrics"]["accuracy"] >= 0.85

    stock = in_stock_transformers(run.output / "model", [text for text, _ in rows], run.root)
    assert stock["names"] == ["asyncio", "email", "tkinter"]
    predicted = [stock["names"][int(np.argmax(row))] for row in stock["logits"]]
    assert np.mean([p == label for p, (_, label) in zip(predicted, rows, strict=True)]) >= 0.85
    metadata = run.metadata()
    assert metadata["kind"] == "Full"
    assert metadata["algorithm"] == f"bert ({method})"
    assert metadata["classes"] == stock["names"]
    assert sorted(files.listing(run.output / "model")) == [
        "README.md",
        "config.json",
        "curves.png",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]


@pytest.mark.parametrize("method", ["Full", "LoRA"])
def test_stock_library_predicts_what_the_trainer_measured(
    method: str, trainer: Callable[..., Any], tiny_bert: Path
) -> None:
    rows = [(f"{'good' if i % 3 else 'bad'} words number {i}", 10.0 + (i % 3) * 4.0) for i in range(60)]
    held = rows[:20]
    config = {
        "recipe": "text-regression",
        "params": {"method": method, "epochs": 4, "batchSize": 8, "learningRate": 1e-3, "headLearningRate": 1e-2},
        "dataset": {"split": {"train": "train.csv", "validation": "held.csv"}},
    }
    run = trainer(config, {"train.csv": as_csv(rows[20:]), "held.csv": as_csv(held)}, model=tiny_bert)
    code, result = run.here()
    assert code == 0
    stock = in_stock_transformers(run.output / "model", [text for text, _ in held], run.root)
    predicted = np.array(stock["logits"])[:, 0]
    mae = float(np.abs(predicted - np.array([value for _, value in held])).mean())
    assert mae == pytest.approx(result["summary"]["metrics"]["mae"], rel=1e-4)


def test_killed_and_resumed_is_bit_identical(
    trainer: Callable[..., Any], tiny_bert: Path, wait_for: Callable[..., None], done: Callable[..., Any]
) -> None:
    rows = docstrings(["tkinter", "asyncio"], 100)
    config = {
        "recipe": "text-classification",
        "params": {"method": "LoRA", "epochs": 10, "batchSize": 8, "maxLength": 32, "gradientAccumulation": 2},
        "checkpoint": {"everySteps": 5, "keep": 2},
        "determinism": "Bitwise",
    }
    undisturbed = trainer(config, {"docs.csv": as_csv(rows)}, name="undisturbed", model=tiny_bert)
    assert undisturbed.run()[0] == 0
    killed = trainer(config, {"docs.csv": as_csv(rows)}, name="killed", model=tiny_bert)
    process = killed.start()
    wait_for(lambda: max([0, *killed.steps()]) >= 15 or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    assert done(process)[0] == -signal.SIGKILL
    assert killed.run()[0] == 0
    assert killed.rows() == undisturbed.rows()
    assert files.listing(killed.output / "model") == files.listing(undisturbed.output / "model")


def test_batches_are_the_same_texts_of_about_one_length(trainer: Callable[..., Any], tiny_bert: Path) -> None:
    from modelyard_training.core import world
    from modelyard_training.core.run import Run, read_config
    from modelyard_training.core.stop import Stop
    from modelyard_training.params import resolve
    from modelyard_training.recipes import text

    rows = [("word " * (1 + i % 50), "ab"[i % 2]) for i in range(500)]
    config = {"recipe": "text-classification", "params": {"batchSize": 10}}
    run = trainer(config, {"a.csv": as_csv(rows)}, model=tiny_bert)
    told = read_config(json.dumps(config))
    task = text.build(
        Run(told, resolve(told.block()), world.World(0, 1, torch.device("cpu")), Stop(), run.environment())
    )
    first, again, other = task.batches(0), task.batches(0), task.batches(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    assert sorted(torch.cat(list(first)).tolist()) == list(range(400))
    assert max(int(np.ptp(task._lengths[batch.numpy()])) for batch in first) <= 4


def test_long_texts_are_cut_and_counted(trainer: Callable[..., Any], tiny_bert: Path) -> None:
    rows = [("word " * (100 if i % 5 == 0 else 3), "ab"[i % 2]) for i in range(50)]
    config = {"recipe": "text-classification", "params": {"epochs": 1, "maxLength": 16}}
    run = trainer(config, {"a.csv": as_csv(rows)}, model=tiny_bert)
    assert run.here()[0] == 0
    assert run.metadata()["notes"]["textsCut"] == 10
