"""What lies beside the weights: a card that hubs read and whose program runs, and curves; no pickle anywhere."""

from __future__ import annotations

import ast
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from modelyard_training.core import card, curves
from modelyard_training.core.task import Use
from support import tiny_models

ALONE = """
import contextlib, importlib.util, io, json, os, sys
assert importlib.util.find_spec("modelyard_training") is None
said = []
for folder in sys.argv[1:]:
    os.chdir(folder)
    text = open("README.md").read()
    sys.path[:] = [p for p in sys.path if p not in (".", folder)]
    sys.modules.pop("predict", None)
    sys.path_importer_cache.clear()
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(text.split("```python\\n")[1].split("```")[0], {})
    said.append(out.getvalue())
print(json.dumps(said))
"""


def programs(*folders: Path) -> list[str]:
    """What the programs of the cards print, in an isolated interpreter that can't see our package."""
    command = [sys.executable, "-I", "-c", ALONE, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def front(model: Path) -> tuple[dict[str, Any], str]:
    _, before, body = (model / card.CARD).read_text().split("---\n", 2)
    return yaml.safe_load(before), body


def test_card_and_curves(trainer: Callable[..., Any], digits_csv: str) -> None:
    dataset = {"path": "digits.csv", "columns": {"target": "target", "ignore": ["pixel_0_0"]}, "split": {"seed": 5}}
    config = {"recipe": "tabular-classification", "params": {"epochs": 2}, "dataset": dataset}
    run = trainer(config, {"digits.csv": digits_csv}, extra={"MODELYARD_TRAINING": "digits"})
    assert run.here()[0] == 0
    model, metadata = run.output / "model", run.metadata()
    said, body = front(model)
    assert said["pipeline_tag"] == "tabular-classification"
    assert "library_name" not in said
    (entry,) = said["model-index"]
    assert entry["name"] == "digits"
    found = {m["type"]: m["value"] for m in entry["results"][0]["metrics"]}
    # The training loss is no result on the held-out split.
    assert found == {k: v for k, v in metadata["metrics"].items() if k != "loss"}
    assert f"| Training examples | {metadata['trainSamples']} |" in body
    assert "| Held out | 0.2 of the rows, seed 5 |" in body
    assert "| Ignored columns | pixel_0_0 |" in body
    assert "| Rows without target | 0 |" in body
    assert "| batchSize | 64 |" in body
    epochs = [row for row in run.rows() if "epoch" in row]
    assert all(f"| {row['step']} | {row['epoch']} | {row['loss']:.6g} |" in body for row in epochs)
    assert metadata["dataset"] == dataset
    with Image.open(model / card.CURVES) as image:
        assert image.size[0] > 400
    assert {card.CARD, card.CURVES} <= set(metadata["listing"])


def test_a_contest_shows_all_candidates(trainer: Callable[..., Any], breast_cancer_csv: str) -> None:
    params = {"algorithm": "Auto", "epochs": 3, "width": 16, "layers": 1, "heads": 2}
    config = {"recipe": "tabular-classification", "params": params, "dataset": {"columns": {"target": "diagnosis"}}}
    run = trainer(config, {"data.csv": breast_cancer_csv})
    assert run.here()[0] == 0
    metadata = run.metadata()
    _, body = front(run.output / "model")
    board = body.split("## Leaderboard")[1].split("##")[0]
    assert board.count("\n|") == 6
    assert board.index(f"| {metadata['algorithm']} |") == min(board.index(f"| {a} |") for a in ("MLP", "Linear"))
    assert metadata["params"]["algorithm"] == metadata["algorithm"]
    assert f'| algorithm | "{metadata["algorithm"]}" |' in body


def test_the_cards_programs_run_without_our_package(
    trainer: Callable[..., Any], tiny_bert: Path, tmp_path: Path, breast_cancer_csv: str
) -> None:
    texts = "".join(
        json.dumps({"text": f"{'good' if i % 2 else 'bad'} film {i}", "label": 5 + i % 2}) + "\n" for i in range(40)
    )
    lines = "".join(json.dumps({"text": line}) + "\n" for line in tiny_models.local_text()[:20])
    short = {"epochs": 1, "batchSize": 8}
    runs: dict[str, Any] = {
        "table": trainer(
            {
                "recipe": "tabular-classification",
                "params": {"epochs": 1},
                "dataset": {"columns": {"target": "diagnosis"}},
            },
            {"a.csv": breast_cancer_csv},
            name="table",
        ),
        "words": trainer(
            {"recipe": "text-classification", "params": {**short, "architecture": "CNN"}},
            {"a.jsonl": texts},
            name="words",
        ),
        "bert": trainer(
            {"recipe": "text-regression", "params": short}, {"a.jsonl": texts}, name="bert", model=tiny_bert
        ),
        "pictures": trainer(
            {"recipe": "image-regression", "params": {**short, "imageSize": 16}, "dataset": {}}, name="pictures"
        ),
        "timm": trainer(
            {
                "recipe": "image-classification",
                "params": {**short, "imageSize": 32},
                "dataset": {},
                "model": {"kind": "Full"},
            },
            name="timm",
            model=_timm(tmp_path),
        ),
        "adapter": trainer(
            {"recipe": "causal-lm", "params": {**short, "sequenceLength": 64}},
            {"a.jsonl": lines},
            name="adapter",
            model=tiny_models.language_model(tmp_path / "llama", "llama"),
        ),
        "whole": trainer(
            {"recipe": "causal-lm", "params": {**short, "method": "Full", "sequenceLength": 64}},
            {"a.jsonl": lines},
            name="whole",
            model=tmp_path / "llama",
        ),
        "slider": trainer(
            {
                "recipe": "text-to-image-lora",
                "params": {"prompt": "red", "samplePrompts": ['a "red" square'], "maxSteps": 1, "resolution": 64},
            },
            name="slider",
            model=tiny_models.pipeline(tmp_path / "sd15", "sd15"),
        ),
    }
    for name in ("pictures", "timm"):
        _pictures(runs[name].root / "data")
    models = {}
    for name, run in runs.items():
        code, result = run.here()
        assert code == 0, (name, result)
        models[name] = run.output / "model"
    (models["table"] / "rows.csv").write_text(breast_cancer_csv)
    for name in ("pictures", "timm"):
        Image.open(runs[name].root / "data" / "100" / "0.png").save(models[name] / "picture.jpg")
    (models["adapter"] / "base").symlink_to(tmp_path / "llama")
    (models["slider"] / "base").symlink_to(tmp_path / "sd15")

    said = dict(zip(models, programs(*models.values()), strict=True))
    assert said["table"].count("benign") + said["table"].count("malignant") == 569
    assert len(said["words"].split(",")) == 2
    assert said["bert"].count("score") == 2
    assert "'100': " in said["timm"]
    assert "'200': " in said["timm"]
    assert said["whole"].startswith("Once upon a time")
    assert "Once" in said["adapter"]
    with Image.open(models["slider"] / "picture.png") as image:
        assert image.size[0] >= 64
    libraries = {name: front(model)[0].get("library_name") for name, model in models.items()}
    assert libraries == {
        "table": None,
        "words": None,
        "bert": "transformers",
        "pictures": "transformers",
        "timm": "timm",
        "adapter": "peft",
        "whole": "transformers",
        "slider": "diffusers",
    }
    # What a stock pipeline says of a number is the number, not its share.
    for name, least in (("bert", 0.0), ("pictures", 50.0)):
        assert ast.literal_eval(said[name])[0]["label"] == "value"
        assert ast.literal_eval(said[name])[0]["score"] > least


def _timm(root: Path) -> Path:
    import timm
    from timm.models import save_for_hf

    save_for_hf(timm.create_model("test_resnet", num_classes=7), str(root / "timm"), safe_serialization=True)
    return root / "timm"


def _pictures(root: Path) -> None:
    random = np.random.default_rng(3)
    for number in range(20):
        path = root / ["100", "200"][number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(path)


def test_hubs_read_the_card() -> None:
    from huggingface_hub import ModelCard

    metadata = {
        "recipe": "causal-lm",
        "kind": "Adapter",
        "algorithm": "llama (LoRA)",
        "metrics": {"loss": 1.5, "validationLoss": 1.6, "perplexity": 4.5},
        "baseModel": {"name": "llama", "version": "v1"},
        "dataset": None,
        "target": "",
        "classes": [],
        "features": ["text"],
        "notes": {"data": "Text"},
        "trainSamples": 10,
        "testSamples": 2,
        "steps": 5,
        "epochs": 1,
        "bestStep": None,
        "bestEpoch": None,
        "weightsStep": 5,
        "determinism": "Reproducible",
        "params": {"lora": {"rank": 4}, "note": "a|b"},
        "training": {"name": "chat"},
    }
    read = ModelCard(card.card(metadata, Use("text-generation", "peft", ("print(folder)",)), []))
    assert read.data.library_name == "peft"
    assert read.data.eval_results is not None
    assert {r.metric_type: r.metric_value for r in read.data.eval_results} == {"validationLoss": 1.6, "perplexity": 4.5}
    assert "lora" in read.data.tags
    assert "a\\|b" in read.text


@pytest.mark.parametrize("candidates", [[None], ["Linear", "MLP"]])
def test_same_rows_same_picture(candidates: list[str | None], tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"step": n, "loss": 1 / n} for n in range(1, 5000)]
    for number, name in enumerate(candidates, start=1):
        of = {"candidate": name} if name else {}
        metrics = {"loss": 0.1, "validationLoss": 0.2, "accuracy": 0.9}
        rows.append({"step": 2500 * number, "epoch": number, **of, **metrics})
    for name in ("a.png", "b.png"):
        curves.draw(rows, 2500, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    curves.draw([], None, tmp_path / "c.png")
    with Image.open(io.BytesIO((tmp_path / "c.png").read_bytes())) as image:
        assert image.size[0] > 300
