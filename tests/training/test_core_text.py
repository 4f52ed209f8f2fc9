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
texts, found = json.load(open(sys.argv[1])), []
for folder in sys.argv[2:]:
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        logits = model(**tokenizer(texts, padding=True, truncation=True, max_length=32, return_tensors="pt")).logits
    names = [model.config.id2label[i] for i in range(logits.shape[1])]
    found.append({"logits": logits.tolist(), "names": names})
json.dump(found, sys.stdout)
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


def in_stock_transformers(models: list[Path], texts: list[str], folder: Path) -> list[dict[str, Any]]:
    """Logits of the saved folders in an isolated interpreter that can't see our package."""
    (folder / "texts.json").write_text(json.dumps(texts))
    command = [sys.executable, "-I", "-c", STOCK, str(folder / "texts.json"), *map(str, models)]
    found: list[dict[str, Any]] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
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

    (stock,) = in_stock_transformers([run.output / "model"], [text for text, _ in rows], run.root)
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
    (stock,) = in_stock_transformers([run.output / "model"], [text for text, _ in held], run.root)
    predicted = np.array(stock["logits"])[:, 0]
    mae = float(np.abs(predicted - np.array([value for _, value in held])).mean())
    assert mae == pytest.approx(result["summary"]["metrics"]["mae"], rel=1e-4)


FAMILIES: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 16},
    "deberta-v2": {},
    "distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32},
    "electra": {"embedding_size": 16},
    "modernbert": {"cls_token_id": 101, "sep_token_id": 102, "bos_token_id": 101, "eos_token_id": 102},
    "mpnet": {},
    "roberta": {},
    "xlnet": {"d_model": 16, "n_layer": 1, "n_head": 2, "d_inner": 32},
}


def test_encoders_of_many_families_are_adapted_and_load(
    trainer: Callable[..., Any], minilm: Path, tmp_path: Path
) -> None:
    from transformers import AutoConfig, AutoModel

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    rows = [(f"{'good' if i % 3 else 'bad'} words number {i}", 10.0 + (i % 3) * 4.0) for i in range(40)]
    held = rows[:10]
    config = {
        "recipe": "text-regression",
        "params": {"method": "LoRA", "epochs": 1, "batchSize": 8},
        "dataset": {"split": {"train": "train.csv", "validation": "held.csv"}},
    }
    measured, models = {}, []
    for family, more in FAMILIES.items():
        base = tmp_path / f"base-{family}"
        AutoModel.from_config(
            AutoConfig.for_model(family, **{**small, "vocab_size": 30522, "pad_token_id": 0, **more})
        ).save_pretrained(base)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (base / name).write_bytes((minilm / name).read_bytes())
        files_of = {"train.csv": as_csv(rows[10:]), "held.csv": as_csv(held)}
        run = trainer(config, files_of, name=family, model=base)
        code, result = run.here()
        assert code == 0, (family, result)
        measured[family] = result["summary"]["metrics"]["mae"]
        models.append(run.output / "model")
    said = in_stock_transformers(models, [text for text, _ in held], tmp_path)
    for family, stock in zip(FAMILIES, said, strict=True):
        predicted = np.array(stock["logits"])[:, 0]
        mae = float(np.abs(predicted - np.array([value for _, value in held])).mean())
        assert mae == pytest.approx(measured[family], rel=1e-3), family


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
