"""Predicts with a trained table model: one file that needs torch, safetensors and numpy, and nothing else.

It lies beside `model.json` (the encoders) and `model.safetensors`, or `model.txt` in LightGBM's text format, and is
what the model was trained with, too. `model.onnx` is the same model from the encoded features on.

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
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

MISSING_CATEGORY = 1
OTHER_CATEGORY = 0
_ACTIVATIONS = {"ReLU": nn.ReLU, "GELU": nn.GELU, "SiLU": nn.SiLU}


class Network(nn.Module):
    """Numbers [N, F] and categories [N, K] (int64) to outputs [N, O]; each category has its own embedding.

    Without hidden layers it is a linear model.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__()
        shape = spec["network"]
        self.embeddings = nn.ModuleList(nn.Embedding(len(c["values"]) + 2, c["dimension"]) for c in spec["categorical"])
        width = spec["numbers"] + sum(c["dimension"] for c in spec["categorical"])
        layers: list[nn.Module] = []
        for size in shape["hidden"]:
            layers += [nn.Linear(width, size), _ACTIVATIONS[shape["activation"]](), nn.Dropout(shape["dropout"])]
            width = size
        self.layers = nn.Sequential(*layers, nn.Linear(width, spec["outputs"]))

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Class scores, or the scaled number, of each row."""
        parts = [numbers, *(embed(categories[:, k]) for k, embed in enumerate(self.embeddings))]
        output: Tensor = self.layers(torch.cat(parts, dim=1) if len(parts) > 1 else numbers)
        return output


class Block(nn.Module):
    """Attention between a row's columns, then a small network on each: [N, T, D] to [N, T, D]."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """The columns, each knowing of the others."""
        rows, count, width = tokens.shape
        parts = self.qkv(self.norm(tokens)).view(rows, count, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.dropout(self.out(mixed.transpose(1, 2).reshape(rows, count, width)))
        found: Tensor = tokens + self.dropout(self.down(nn.functional.gelu(self.up(self.inner(tokens)))))
        return found


class Transformer(nn.Module):
    """The same from a token for each column, and one that gathers the answer (Gorishniy et al., 2021)."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__()
        shape = spec["network"]
        width = shape["width"]
        self.embeddings = nn.ModuleList(nn.Embedding(len(c["values"]) + 2, width) for c in spec["categorical"])
        count = spec["numbers"]
        self.weight = nn.Parameter(torch.randn(count, width) / width**0.5)
        self.bias = nn.Parameter(torch.randn(count + 1, width) / width**0.5)
        self.blocks = nn.ModuleList(Block(width, shape["heads"], shape["dropout"]) for _ in range(shape["layers"]))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, spec["outputs"])

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Class scores, or the scaled number, of each row."""
        first = torch.cat([torch.zeros_like(self.weight[:1]), self.weight])
        padded = nn.functional.pad(numbers, (1, 0))
        parts = [padded.unsqueeze(2) * first + self.bias]
        parts += [embed(categories[:, k]).unsqueeze(1) for k, embed in enumerate(self.embeddings)]
        tokens = torch.cat(parts, dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        output: Tensor = self.head(nn.functional.relu(self.norm(tokens[:, 0])))
        return output


NETWORKS: dict[str, type[nn.Module]] = {"MLP": Network, "Linear": Network, "Transformer": Transformer}


class Forest:
    """The trees of LightGBM's text format, without LightGBM. Splits are `value <= threshold`, no value is missing."""

    def __init__(self, text: str) -> None:
        head, *blocks = text.split("end of trees")[0].split("\nTree=")
        self.outputs = int(_fields(head)["num_tree_per_iteration"])
        self.trees = [_fields(block) for block in blocks]

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums of the leaves [N, outputs] for features [N, F]."""
        total = np.zeros((len(values), self.outputs))
        for number, tree in enumerate(self.trees):
            leaves = np.array(tree["leaf_value"].split(), dtype=np.float64)
            total[:, number % self.outputs] += leaves[_leaves(tree, values)]
        return total


def _fields(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.splitlines() if "=" in line)


def _leaves(tree: dict[str, str], values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The number of the leaf in which each row ends."""
    if int(tree["num_leaves"]) == 1:
        return np.zeros(len(values), dtype=np.int64)
    feature, left, right = (np.array(tree[k].split(), np.int64) for k in ("split_feature", "left_child", "right_child"))
    threshold = np.array(tree["threshold"].split(), np.float64)
    node = np.zeros(len(values), dtype=np.int64)
    # A child below 0 is a leaf: ~child is its number.
    while len(inside := np.flatnonzero(node >= 0)):
        at = node[inside]
        node[inside] = np.where(values[inside, feature[at]] <= threshold[at], left[at], right[at])
    return ~node


class Predictor:
    """The model in `folder` (unset: where this file is)."""

    def __init__(self, folder: str | Path | None = None) -> None:
        place = Path(folder) if folder is not None else Path(__file__).resolve().parent
        self.spec: dict[str, Any] = json.loads((place / "model.json").read_text())
        self.forest: Forest | None = None
        if self.spec["algorithm"] == "LightGBM":
            self.forest = Forest((place / "model.txt").read_text())
            return
        self.network = NETWORKS[self.spec["algorithm"]](self.spec)
        self.network.load_state_dict(load_file(place / "model.safetensors"))
        self.network.eval()

    @torch.inference_mode()
    def outputs(self, rows: list[dict[str, Any]]) -> Tensor:
        """Probabilities [N, classes], or predicted numbers [N], for rows by column name; an absent value is missing."""
        numbers, categories = encode(self.spec, rows)
        if self.forest is not None:
            sums = torch.from_numpy(self.forest(joined(numbers, categories)))
            if not self.spec["classes"]:
                return sums[:, 0]
            return scores(sums).softmax(dim=1).float()
        found: Tensor = self.network(numbers, categories)
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


def joined(numbers: Tensor, categories: Tensor) -> NDArray[np.float64]:
    """The features of a forest: the numbers, then the categories' numbers."""
    found: NDArray[np.float64] = torch.cat([numbers.double(), categories.double()], dim=1).cpu().numpy()
    # What is too large for 32 bits is the largest there.
    return np.nan_to_num(found, posinf=3.4e38, neginf=-3.4e38)


def scores(sums: Tensor) -> Tensor:
    """Class scores from a forest's sums: of two classes only the second one has a sum."""
    return torch.cat([torch.zeros_like(sums), sums], dim=1) if sums.shape[1] == 1 else sums


def encode(spec: dict[str, Any], rows: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
    """Rows as the network takes them. Raises ValueError for what is no number or date in such a column."""
    missing, no_number = frozenset(spec["missing"]), frozenset(spec["missingNumbers"])
    numbers = np.zeros((len(rows), spec["numbers"]), dtype=np.float32)
    at = 0
    for column in spec["numeric"]:
        values = np.array([_number(row.get(column["name"]), column, no_number) for row in rows], dtype=np.float64)
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
        categories[:, k] = [_category(row.get(column["name"]), column["kind"], index, missing) for row in rows]
    return torch.from_numpy(numbers), torch.from_numpy(categories)


def _number(value: Any, column: dict[str, Any], missing: frozenset[str]) -> float:
    if value is None or (isinstance(value, str) and value in missing):
        return math.nan
    if column["kind"] != "date":
        return float(value)
    if isinstance(value, str):
        written = column["written"]
        value = datetime.fromisoformat(value) if written == "ISO" else datetime.strptime(value, written)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return float(moment.timestamp())


def _category(value: Any, kind: str, index: dict[str, int], missing: frozenset[str]) -> int:
    if value is None or (isinstance(value, str) and value in missing):
        return MISSING_CATEGORY
    text = str(value)
    return index.get(text.lower() if kind == "boolean" else text, OTHER_CATEGORY)


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
