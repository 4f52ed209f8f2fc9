"""LightGBM's text format: single rounds taken apart, put together to one model that `lightgbm.Booster` reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

_LEAF_VALUES = ("leaf_value", "internal_value")


@dataclass(frozen=True)
class Tree:
    """One tree: the fields of its block, as text."""

    fields: dict[str, str]

    def scaled(self, scale: float, offset: float) -> Tree:
        """The tree whose every value is `value * scale + offset`."""
        changed = {
            name: " ".join(repr(float(v) * scale + offset) for v in self.fields[name].split())
            for name in _LEAF_VALUES
            if name in self.fields
        }
        return replace(self, fields={**self.fields, **changed})

    def floats(self, name: str) -> list[float]:
        """A field of numbers."""
        return [float(v) for v in self.fields.get(name, "").split()]

    def integers(self, name: str) -> list[int]:
        """A field of whole numbers."""
        return [int(v) for v in self.fields.get(name, "").split()]


def trees_of(text: str) -> list[Tree]:
    """The trees of a model's text."""
    _, *blocks = text.split("end of trees")[0].split("\nTree=")
    return [Tree(dict(line.split("=", 1) for line in block.splitlines()[1:] if "=" in line)) for block in blocks]


def document(trees: Sequence[Tree], classes: int, features: int) -> str:
    """One model of all trees. `classes`: 0 for a regression."""
    outputs = classes if classes > 2 else 1
    objective = {0: "regression", 2: "binary sigmoid:1"}.get(classes, f"multiclass num_class:{classes}")
    head = {
        "version": "v4",
        "num_class": outputs,
        "num_tree_per_iteration": outputs,
        "label_index": 0,
        "max_feature_idx": features - 1,
        "objective": objective,
        "feature_names": " ".join(f"Column_{i}" for i in range(features)),
        "feature_infos": " ".join(["[-1e308:1e308]"] * features),
    }
    lines = ["tree", *(f"{name}={value}" for name, value in head.items()), ""]
    for number, tree in enumerate(trees):
        lines += [f"Tree={number}", *(f"{name}={value}" for name, value in tree.fields.items()), "", ""]
    return "\n".join([*lines, "end of trees", "", "pandas_categorical:null", ""])
