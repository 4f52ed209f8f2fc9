"""Tabular classification and regression: a multi-layer perceptron over scaled numbers and embedded categories.

The encoders are fitted on the training rows alone. The network and its use are in `tabular_predict`, which is saved
with the model as `predict.py`, so that what is saved is what was trained.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from modelyard_training.core import data, metrics, split
from modelyard_training.core.data import MISSING, ROW, Table
from modelyard_training.core.errors import BadInput
from modelyard_training.core.run import Run
from modelyard_training.core.task import Batch, Description, Indices
from modelyard_training.core.world import World
from modelyard_training.params import Columns
from modelyard_training.recipes import tabular_predict
from modelyard_training.recipes.common import class_weights, generator, places, target_column, weight_groups
from modelyard_training.recipes.tabular_predict import MISSING_CATEGORY, OTHER_CATEGORY, Network

_HELD_BATCH = 8192


def build(run: Run) -> TabularTask:
    """The task of a tabular recipe. Raises `BadInput`."""
    config = run.config.dataset
    columns = (config.columns if config else None) or Columns()
    tables = data.read(run.dataset(), config)
    run.stop.check()
    target = target_column(tables.train, columns.target, columns.label, "target")
    _check_values(tables, run.params["categoricalColumns"] or [], columns.ignore or [])
    classify = run.config.recipe == "tabular-classification"
    parts = split.divide(tables, target, config.split if config else None, classify=classify)
    return TabularTask(run, parts, target, columns.ignore or [])


def _check_values(tables: data.Tables, categorical: list[str], ignored: list[str]) -> None:
    for table in (tables.train, tables.validation):
        for name in table.frame.columns if table is not None else ():
            if table is not None and name not in categorical and name not in ignored:
                data.check_numbers(table, name)


class TabularTask:
    """See `core.task.Task`. The encoded training rows stay on the device."""

    unit = "rows"

    def __init__(self, run: Run, parts: split.Parts, target: str, ignore: list[str]) -> None:
        self._params, self._parts, self._target = run.params, parts, target
        self._stop = run.stop
        self._ignored: list[str] = []
        spec = self._fit(parts.train, set(ignore) | {target, ROW})
        self.spec = spec
        self.model: nn.Module = Network(spec)
        self.best_metric: tuple[str, Literal["min", "max"]] = metrics.best_metric(
            run.params["bestMetric"], len(parts.classes) if parts.classes else None
        )
        self._train = _tensors(spec, parts.train.frame)
        self._check_columns(parts.held)
        self._test = _tensors(spec, parts.held.frame)
        self._weights: Tensor | None = None
        if parts.classes:
            self._train_target = torch.from_numpy(parts.train_target)
            self._held_target = torch.from_numpy(parts.held_target)
            if run.params["classWeights"] == "Balanced":
                self._weights = class_weights(self._train_target, len(parts.classes)).to(run.world.device)
        else:
            scaled = (parts.train_target - spec["targetCenter"]) / spec["targetScale"]
            self._train_target = torch.from_numpy(scaled.astype(np.float32))
            self._held_target = torch.from_numpy(parts.held_target)
        self._device = run.world.device
        self._train = (self._train[0].to(self._device), self._train[1].to(self._device))
        self._train_target = self._train_target.to(self._device)

    def groups(self) -> list[dict[str, Any]]:
        """Weight decay for matrices only: a decayed bias learns nothing better."""
        return weight_groups(self.model.named_parameters(), self._params["learningRate"], self._params["weightDecay"])

    def batches(self, epoch: int) -> Sequence[Indices]:
        """Shuffled by seed and epoch."""
        order = torch.randperm(len(self._train_target), generator=generator(self._params["seed"], epoch))
        return torch.split(order, self._params["batchSize"])

    def load(self, indices: Indices) -> Batch:
        """Rows by number, where they already are."""
        at = indices.to(self._device)
        return {
            "numbers": self._train[0].index_select(0, at),
            "categories": self._train[1].index_select(0, at),
            "target": self._train_target.index_select(0, at),
        }

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy, or the squared error in units of the target's deviation."""
        found = model(batch["numbers"], batch["categories"])
        if self._parts.classes:
            return nn.functional.cross_entropy(found, batch["target"], weight=self._weights)
        return nn.functional.mse_loss(found[:, 0], batch["target"])

    def evaluate(self, world: World) -> dict[str, float]:
        """Metrics on the held-out rows."""

        def outputs(indices: Indices) -> tuple[Tensor, Tensor]:
            numbers, categories = (t[indices].to(self._device) for t in self._test)
            return self.model(numbers, categories).float(), self._held_target[indices]

        batches = torch.split(torch.arange(len(self._held_target)), _HELD_BATCH)
        found, target = metrics.gather_outputs(world, self._stop, batches, outputs)
        if self._parts.classes:
            return metrics.classification(found, target)
        scale = self.spec["targetScale"]
        return metrics.regression(found[:, 0].double() * scale + self.spec["targetCenter"], target, scale)

    def where(self, indices: Indices) -> str:
        """The first few rows of a batch, by file and line."""
        return places(self._parts.train, indices)

    def describe(self) -> Description:
        """What was trained, on what."""
        notes: dict[str, Any] = {"rowsWithoutTarget": self._parts.dropped}
        if self._ignored:
            notes["columnsWithoutValues"] = self._ignored
        return Description(
            kind="Tabular",
            algorithm=self._params["algorithm"],
            train_samples=len(self._parts.train_target),
            test_samples=len(self._parts.held_target),
            target=self._target,
            features=[c["name"] for c in self.spec["numeric"]] + [c["name"] for c in self.spec["categorical"]],
            classes=self._parts.classes or [],
            notes=notes,
        )

    def export(self, folder: Path) -> None:
        """Weights, the encoders as JSON, and the predictor."""
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "model.json").write_text(json.dumps(self.spec, indent=1, allow_nan=False))
        shutil.copyfile(tabular_predict.__file__, folder / "predict.py")

    def _fit(self, train: Table, skip: set[str]) -> dict[str, Any]:
        """The encoders, from the training rows alone."""
        numeric: list[dict[str, Any]] = []
        categorical: list[dict[str, Any]] = []
        forced = set(self._params["categoricalColumns"] or [])
        for name in forced:
            train.require(name, "…, named in tabular.categoricalColumns")
        for name in train.frame.columns:
            if name in skip:
                continue
            values = train.frame[name]
            if values.null_count() == len(values):
                self._ignored.append(name)
            elif name in forced or values.dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum):
                categorical.append(_fit_category(values, self._params["maxCategories"]))
            elif values.dtype.is_numeric() or values.dtype in (pl.Date, pl.Datetime):
                numeric.append(_fit_number(values, self._params["scaling"]))
            else:
                raise BadInput(
                    f"Column '{name}' holds neither numbers, text, true/false nor dates: leave it out with "
                    "dataset.columns.ignore."
                )
        if not numeric and not categorical:
            raise BadInput(f"The data set has no feature: there is no column but '{self._target}' and what is ignored.")
        classes, target = self._parts.classes, self._parts.train_target
        return {
            "format": "modelyard-tabular/1",
            "target": self._target,
            "classes": classes,
            "missing": MISSING,
            "numeric": numeric,
            "categorical": categorical,
            "targetCenter": 0.0 if classes else float(target.mean()),
            "targetScale": 1.0 if classes else float(target.std()) or 1.0,
            "network": {
                "numbers": len(numeric) + sum(c["indicator"] for c in numeric),
                "hidden": self._params["hiddenSizes"],
                "activation": self._params["activation"],
                "dropout": self._params["dropout"],
                "outputs": len(classes) if classes else 1,
            },
        }

    def _check_columns(self, held: Table) -> None:
        for column in [*self.spec["numeric"], *self.spec["categorical"]]:
            held.require(column["name"], "…: the training split has it, the validation split does not")


def _fit_number(values: pl.Series, scaling: str) -> dict[str, Any]:
    found = _numbers(values)
    given = found[np.isfinite(found)]
    middle = float(np.median(given)) if len(given) else 0.0
    center, scale = 0.0, 1.0
    if scaling == "Standard" and len(given):
        center, scale = float(given.mean()), float(given.std())
    elif scaling == "Robust" and len(given):
        low, high = np.percentile(given, [25, 75])
        center, scale = middle, float(high - low)
    return {
        "name": values.name,
        "kind": "date" if values.dtype in (pl.Date, pl.Datetime) else "number",
        "fill": middle,
        "center": center,
        # A column that never changes carries nothing, and must not be divided by 0.
        "scale": scale if scale > 1e-12 * max(1.0, abs(center)) else 1.0,
        "indicator": len(given) < len(found),
    }


def _fit_category(values: pl.Series, most: int) -> dict[str, Any]:
    counts = _texts(values).drop_nulls().value_counts().sort(["count", values.name], descending=[True, False])
    kept = counts[values.name].head(most).to_list()
    return {"name": values.name, "values": kept, "dimension": min(64, round(1.6 * (len(kept) + 2) ** 0.56))}


def _tensors(spec: dict[str, Any], frame: pl.DataFrame) -> tuple[Tensor, Tensor]:
    """The same as `tabular_predict.encode`, by columns."""
    numbers: list[NDArray[Any]] = []
    for column in spec["numeric"]:
        values = _numbers(frame[column["name"]])
        absent = ~np.isfinite(values)
        numbers.append((np.where(absent, column["fill"], values) - column["center"]) / column["scale"])
        if column["indicator"]:
            numbers.append(absent)
    categories: list[NDArray[Any]] = []
    for column in spec["categorical"]:
        index = {value: i for i, value in enumerate(column["values"], start=2)}
        texts = _texts(frame[column["name"]]).to_list()
        categories.append(np.array([MISSING_CATEGORY if t is None else index.get(t, OTHER_CATEGORY) for t in texts]))
    rows = frame.height
    return (
        torch.from_numpy(_float32(np.stack(numbers, axis=1)) if numbers else np.zeros((rows, 0), np.float32)),
        torch.from_numpy(
            np.stack(categories, axis=1).astype(np.int64) if categories else np.zeros((rows, 0), np.int64)
        ),
    )


def _float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    # What does not fit becomes infinite, and the loop names its row.
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _numbers(values: pl.Series) -> NDArray[np.float64]:
    if values.dtype in (pl.Date, pl.Datetime):
        # A moment without a zone counts as UTC, in `predict.py` too.
        values = values.cast(pl.Datetime("us")).dt.timestamp("us") / 1e6
    try:
        found: NDArray[np.float64] = values.cast(pl.Float64).to_numpy()
    except pl.exceptions.PolarsError:
        raise BadInput(
            f"Column '{values.name}' holds numbers in the training split and something else in the validation split."
        ) from None
    return found


def _texts(values: pl.Series) -> pl.Series:
    return values.cast(pl.String)
