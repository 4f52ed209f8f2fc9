"""A table as every algorithm takes it: numbers scaled, categories numbered, both fitted on the training rows alone.

What is fitted is JSON, goes into the saved model, and is used there by `predict.encode`, which does the same by rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelyard_training.core import columns as meaning
from modelyard_training.core import data, split
from modelyard_training.core.data import MISSING, NONE, ROW, Table
from modelyard_training.core.errors import BadInput
from modelyard_training.core.run import Run
from modelyard_training.params import Columns
from modelyard_training.recipes.tabular.predict import MISSING_CATEGORY, OTHER_CATEGORY
from modelyard_training.recipes.target import Target


@dataclass(frozen=True)
class Encoded:
    """The data set of a run. Rows are numbers (float32 [N, F]) and categories (int64 [N, K])."""

    parts: split.Parts
    spec: dict[str, Any]
    """Encoders, classes and target: the part of the saved `model.json` that no algorithm changes."""
    ignored: list[str]
    """Columns without any value."""
    train: tuple[Tensor, Tensor]
    held: tuple[Tensor, Tensor]
    target: Target


def read(run: Run) -> Encoded:
    """Reads, divides and encodes the data set. Raises `BadInput`."""
    config = run.config.dataset
    columns = (config.columns if config else None) or Columns()
    tables, dates = meaning.read(run.dataset(), config, run.params["categoricalColumns"] or [])
    run.stop.check()
    target = data.target_column(tables.train, columns.target, columns.label, "target")
    data.check_table(tables, run.params["categoricalColumns"] or [], columns.ignore or [])
    classify = run.config.recipe == "tabular-classification"
    parts = split.divide(tables, target, config.split if config else None, classify=classify)
    return _fitted(run, parts, target, set(columns.ignore or []), dates)


def _fitted(run: Run, parts: split.Parts, name: str, ignore: set[str], dates: dict[str, str]) -> Encoded:
    """The encoders of the training rows, and all rows by them. `name`: the target's; `dates`: how they are written."""
    numeric, categorical, ignored = _fit(run.params, parts.train, ignore | {name, ROW}, dates)
    if not numeric and not categorical:
        raise BadInput(f"The data set has no feature: there is no column but '{name}' and what is ignored.")
    target = Target.of(parts, run.params, run.world.device)
    spec = {
        "format": "modelyard-tabular/3",
        "target": name,
        "classes": target.classes,
        "missing": MISSING,
        "missingNumbers": [*MISSING, *NONE],
        "numeric": numeric,
        "categorical": categorical,
        "numbers": len(numeric) + sum(c["indicator"] for c in numeric),
        "outputs": len(target.classes) if target.classes else 1,
        "targetCenter": target.center,
        "targetScale": target.scale,
    }
    for column in [*numeric, *categorical]:
        parts.held.require(column["name"], "…: the training split has it, the validation split does not")
    return Encoded(parts, spec, ignored, encoded(spec, parts.train.frame), encoded(spec, parts.held.frame), target)


def _fit(
    params: dict[str, Any], train: Table, skip: set[str], dates: dict[str, str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Encoders of numbers, encoders of categories, and the columns without any value."""
    numeric: list[dict[str, Any]] = []
    categorical: list[dict[str, Any]] = []
    ignored: list[str] = []
    forced = set(params["categoricalColumns"] or [])
    for name in sorted(forced):
        train.require(name, "…, named in tabular.categoricalColumns")
    for name in train.frame.columns:
        if name in skip:
            continue
        values = train.frame[name]
        if values.null_count() == len(values):
            ignored.append(name)
        elif name in forced or values.dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum):
            categorical.append(_fit_category(values, params["maxCategories"]))
        elif values.dtype.is_numeric() or values.dtype in (pl.Date, pl.Datetime):
            numeric.append(_fit_number(values, params["scaling"], dates.get(name, meaning.ISO)))
        else:
            raise BadInput(
                f"Column '{name}' holds neither numbers, text, true/false nor dates: leave it out with "
                "dataset.columns.ignore."
            )
    return numeric, categorical, ignored


def _fit_number(values: pl.Series, scaling: str, written: str) -> dict[str, Any]:
    found = _numbers(values)
    given = found[np.isfinite(found)]
    middle = float(np.median(given)) if len(given) else 0.0
    center, scale = 0.0, 1.0
    if scaling == "Standard" and len(given):
        center, scale = float(given.mean()), float(given.std())
    elif scaling == "Robust" and len(given):
        low, high = np.percentile(given, [25, 75])
        center, scale = middle, float(high - low)
    date = values.dtype in (pl.Date, pl.Datetime)
    return {
        "name": values.name,
        "kind": "date" if date else "number",
        **({"written": written} if date else {}),
        "fill": middle,
        "center": center,
        # A column that never changes carries nothing, and must not be divided by 0.
        "scale": scale if scale > 1e-12 * max(1.0, abs(center)) else 1.0,
        "indicator": len(given) < len(found),
    }


def _fit_category(values: pl.Series, most: int) -> dict[str, Any]:
    counts = _texts(values).drop_nulls().value_counts().sort(["count", values.name], descending=[True, False])
    kept = counts[values.name].head(most).to_list()
    return {
        "name": values.name,
        "kind": "boolean" if values.dtype == pl.Boolean else "text",
        "values": kept,
        "dimension": min(64, round(1.6 * (len(kept) + 2) ** 0.56)),
    }


def encoded(spec: dict[str, Any], frame: pl.DataFrame) -> tuple[Tensor, Tensor]:
    """The same as `predict.encode`, by columns."""
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
