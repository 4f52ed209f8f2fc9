"""What lies beside the weights: a card with front matter that hubs read, and curves; no pickle anywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from modelyard_training.core import card


def test_card_and_curves(trainer: Callable[..., Any], digits_csv: str) -> None:
    config = {"recipe": "tabular-classification", "params": {"epochs": 2}, "dataset": {}}
    run = trainer(config, {"digits.csv": digits_csv}, extra={"MODELYARD_TRAINING": "digits"})
    assert run.here()[0] == 0
    model = run.output / "model"
    _, front, body = (model / card.CARD).read_text().split("---\n", 2)
    said = yaml.safe_load(front)
    assert said["pipeline_tag"] == "tabular-classification"
    (entry,) = said["model-index"]
    assert entry["name"] == "digits"
    found = {m["type"]: m["value"] for m in entry["results"][0]["metrics"]}
    assert found == run.metadata()["metrics"]
    assert "| Training examples | 1437 |" in body or "| Training examples | 1438 |" in body
    assert "| batchSize | 64 |" in body
    with Image.open(model / card.CURVES) as image:
        assert image.size[0] > 400
    unwanted = {".bin", ".pt", ".pkl", ".pth", ".ckpt", ".joblib"}
    assert not [p for p in run.output.rglob("*") if p.suffix in unwanted]
    assert {card.CARD, card.CURVES} <= set(run.metadata()["listing"])


def test_hubs_read_the_card() -> None:
    from huggingface_hub import ModelCard

    metadata = {
        "recipe": "causal-lm",
        "kind": "Adapter",
        "algorithm": "llama (LoRA)",
        "metrics": {"loss": 1.5, "perplexity": 4.5},
        "baseModel": {"name": "llama", "version": "v1"},
        "target": "",
        "classes": [],
        "trainSamples": 10,
        "testSamples": 2,
        "steps": 5,
        "epochs": 1,
        "bestStep": None,
        "determinism": "Reproducible",
        "params": {"lora": {"rank": 4}, "note": "a|b"},
        "training": {"name": "chat"},
    }
    read = ModelCard(card.card(metadata, curves=False))
    assert read.data.library_name == "peft"
    assert read.data.eval_results is not None
    assert {r.metric_type: r.metric_value for r in read.data.eval_results} == metadata["metrics"]
    assert "lora" in read.data.tags
    assert "a\\|b" in read.text


def test_same_rows_same_picture(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"step": n, "loss": 1 / n} for n in range(1, 5000)]
    rows += [{"step": 5000, "epoch": 1, "loss": 0.1, "validationLoss": 0.2, "accuracy": 0.9}]
    for name in ("a.png", "b.png"):
        assert card.draw(rows, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert not card.draw([], tmp_path / "c.png")
