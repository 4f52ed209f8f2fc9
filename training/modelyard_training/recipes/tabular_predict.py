"""Predicts with a trained table model: one file that needs torch, safetensors and numpy, and nothing else.

It lies beside `model.safetensors` and `model.json`, and is what the model was trained with, too.

    python predict.py rows.csv > predictions.csv

    from predict import Predictor
    Predictor().predict([{"age": 31, "city": "Bergen"}])
"""

from __future__ import annotations

import csv
import json
import math
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

MISSING_CATEGORY = 1
OTHER_CATEGORY = 0
_ACTIVATIONS = {"ReLU": nn.ReLU, "GELU": nn.GELU, "SiLU": nn.SiLU}


class Network(nn.Module):
    """Numbers [N, F] and categories [N, K] (int64) to outputs [N, O]; each category has its own embedding."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__()
        shape = spec["network"]
        self.embeddings = nn.ModuleList(nn.Embedding(len(c["values"]) + 2, c["dimension"]) for c in spec["categorical"])
        width = shape["numbers"] + sum(c["dimension"] for c in spec["categorical"])
        layers: list[nn.Module] = []
        for size in shape["hidden"]:
            layers += [nn.Linear(width, size), _ACTIVATIONS[shape["activation"]](), nn.Dropout(shape["dropout"])]
            width = size
        self.layers = nn.Sequential(*layers, nn.Linear(width, shape["outputs"]))

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Class scores, or the scaled number, of each row."""
        parts = [numbers, *(embed(categories[:, k]) for k, embed in enumerate(self.embeddings))]
        output: Tensor = self.layers(torch.cat(parts, dim=1) if len(parts) > 1 else numbers)
        return output


class Predictor:
    """The model in `folder` (unset: where this file is)."""

    def __init__(self, folder: str | Path | None = None) -> None:
        place = Path(folder) if folder is not None else Path(__file__).resolve().parent
        self.spec: dict[str, Any] = json.loads((place / "model.json").read_text())
        self.network = Network(self.spec)
        self.network.load_state_dict(load_file(place / "model.safetensors"))
        self.network.eval()

    @torch.inference_mode()
    def outputs(self, rows: list[dict[str, Any]]) -> Tensor:
        """Probabilities [N, classes], or predicted numbers [N], for rows by column name; an absent value is missing."""
        found: Tensor = self.network(*encode(self.spec, rows))
        if self.spec["classes"]:
            return found.softmax(dim=1)
        scale: float = self.spec["targetScale"]
        center: float = self.spec["targetCenter"]
        return found[:, 0].double() * scale + center

    def predict(self, rows: list[dict[str, Any]]) -> list[Any]:
        """The most probable class, or the predicted number, of each row."""
        found = self.outputs(rows)
        if self.spec["classes"]:
            return [self.spec["classes"][int(i)] for i in found.argmax(dim=1)]
        return [float(value) for value in found]


def encode(spec: dict[str, Any], rows: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
    """Rows as the network takes them. Raises ValueError for a value that is not a number in a column of numbers."""
    missing = frozenset(spec["missing"])
    numbers = np.zeros((len(rows), spec["network"]["numbers"]), dtype=np.float32)
    at = 0
    for column in spec["numeric"]:
        values = np.array([_number(row.get(column["name"]), column, missing) for row in rows], dtype=np.float64)
        absent = ~np.isfinite(values)
        values[absent] = column["fill"]
        numbers[:, at] = (values - column["center"]) / column["scale"]
        at += 1
        if column["indicator"]:
            numbers[:, at] = absent
            at += 1
    categories = np.zeros((len(rows), len(spec["categorical"])), dtype=np.int64)
    for k, column in enumerate(spec["categorical"]):
        index = {value: i for i, value in enumerate(column["values"], start=2)}
        categories[:, k] = [_category(row.get(column["name"]), index, missing) for row in rows]
    return torch.from_numpy(numbers), torch.from_numpy(categories)


def _number(value: Any, column: dict[str, Any], missing: frozenset[str]) -> float:
    if value is None or (isinstance(value, str) and value in missing):
        return math.nan
    if column["kind"] != "date":
        return float(value)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return float(moment.timestamp())


def _category(value: Any, index: dict[str, int], missing: frozenset[str]) -> int:
    if value is None or (isinstance(value, str) and value in missing):
        return MISSING_CATEGORY
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return index.get(text, OTHER_CATEGORY)


def main() -> None:
    """Reads a CSV of rows and writes the predictions as CSV."""
    if len(sys.argv) != 2:
        sys.exit("usage: python predict.py rows.csv > predictions.csv")
    predictor = Predictor()
    with open(sys.argv[1], newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    classes = predictor.spec["classes"]
    writer = csv.writer(sys.stdout)
    writer.writerow(["prediction", *(f"p({name})" for name in classes or [])])
    for found in predictor.outputs(rows):
        if classes:
            writer.writerow([classes[int(found.argmax())], *(f"{float(p):.6f}" for p in found)])
        else:
            writer.writerow([float(found)])


if __name__ == "__main__":
    main()
