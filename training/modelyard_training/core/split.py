"""Which rows train and which are held out, and the target of a classification or a regression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from modelyard_training.core.data import ROW, Table, Tables, check_numbers
from modelyard_training.core.errors import BadInput
from modelyard_training.params import Split, resolve

_MOST_CLASSES = 10_000


@dataclass(frozen=True)
class Parts:
    """Training and held-out rows with their targets: class numbers (int64) or numbers (float64)."""

    train: Table
    held: Table
    train_target: NDArray[np.int64] | NDArray[np.float64]
    held_target: NDArray[np.int64] | NDArray[np.float64]
    classes: list[str] | None
    """Names of the classes by number; None for a regression."""
    dropped: int
    """Rows left out because they have no target."""


def divide(tables: Tables, target: str, split: Split | None, *, classify: bool) -> Parts:
    """Encodes the target and divides the rows by `split`. Raises `BadInput` for a target that can't be learned."""
    train, dropped = _with_target(tables.train, target)
    held: Table | None = None
    if tables.validation is not None:
        tables.validation.require(target, "target")
        held, more = _with_target(tables.validation, target)
        dropped += more
    if train.frame.height == 0:
        raise BadInput(f"The training split is empty: no row has a value in column '{target}'.")
    if held is not None and held.frame.height == 0:
        raise BadInput(f"The validation split is empty: none of its rows has a value in column '{target}'.")
    names = _classes(train, target) if classify else None
    values = _encode(train, target, names)
    if held is not None:
        return Parts(train, held, values, _encode(held, target, names), names, dropped)
    rules = resolve(split or Split())
    labels = values if names is not None and rules["stratify"] else None
    train_rows, held_rows = rows(len(values), labels, rules["validationFraction"], rules["seed"])
    return Parts(
        train.pick(train.frame[train_rows]),
        train.pick(train.frame[held_rows]),
        values[train_rows],
        values[held_rows],
        names,
        dropped,
    )


def rows(
    count: int, labels: NDArray[np.int64] | NDArray[np.float64] | None, fraction: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sorted row numbers of the training and the held-out part. With `labels`, each class is divided by itself.

    A class of one row trains. Raises `BadInput` when a part would be empty.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    groups = [np.arange(count)] if labels is None else [np.flatnonzero(labels == value) for value in np.unique(labels)]
    held: list[NDArray[np.int64]] = []
    for group in groups:
        wanted = min(len(group) - 1, max(1, round(len(group) * fraction)))
        held.append(random.permutation(group)[:wanted])
    held_rows = np.sort(np.concatenate(held)) if held else np.empty(0, dtype=np.int64)
    if len(held_rows) == 0:
        raise BadInput(
            f"The validation split is empty: {count} rows are too few to hold some out. Add rows, or name a file in "
            "dataset.split.validation."
        )
    return np.setdiff1d(np.arange(count), held_rows), held_rows


def _with_target(table: Table, target: str) -> tuple[Table, int]:
    kept = table.frame.filter(pl.col(target).is_not_null())
    return table.pick(kept), table.frame.height - kept.height


def _classes(table: Table, target: str) -> list[str]:
    values = table.frame[target]
    if values.dtype.is_nested():
        raise BadInput(f"Column '{target}' holds lists or objects: a class must be one text or number.")
    whole = not values.dtype.is_float() or bool((values == values.round()).all())
    distinct = values.n_unique()
    if distinct == 1:
        raise BadInput(
            f"Column '{target}' has only one class, '{_name(values[0], whole)}', in {len(values)} rows: "
            "there is nothing to tell apart."
        )
    if not whole or distinct > _MOST_CLASSES or (values.dtype.is_numeric() and distinct > max(50, len(values) // 2)):
        raise BadInput(
            f"Column '{target}' has {distinct} different values in {len(values)} rows: that is a number to predict, "
            "not a class. Use the regression recipe of the family."
        )
    ordered = values.unique().sort().to_list()
    return [_name(value, whole) for value in ordered]


def _name(value: object, whole: bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and whole else str(value)


def _encode(table: Table, target: str, classes: list[str] | None) -> NDArray[np.int64] | NDArray[np.float64]:
    values = table.frame[target]
    if classes is None:
        return _numbers(table, target)
    number = {name: index for index, name in enumerate(classes)}
    found = [number.get(_name(value, True), -1) for value in values.to_list()]
    encoded = np.asarray(found, dtype=np.int64)
    unknown = np.flatnonzero(encoded < 0)
    if len(unknown):
        at = int(unknown[0])
        raise BadInput(
            f"The label '{str(values[at])[:40]}' at {table.place(int(table.frame[ROW][at]))} is not among the "
            f"{len(classes)} labels of the training split: {', '.join(classes[:10])}."
        )
    return encoded


def _numbers(table: Table, target: str) -> NDArray[np.float64]:
    check_numbers(table, target)
    values = table.frame[target]
    if values.dtype == pl.String and values.cast(pl.Float64, strict=False).null_count() == 0:
        values = values.cast(pl.Float64)
    if not values.dtype.is_numeric():
        raise BadInput(
            f"Column '{target}' does not hold numbers: a regression needs one. Use the classification recipe."
        )
    numbers = values.cast(pl.Float64).to_numpy(writable=True)
    broken = np.flatnonzero(~np.isfinite(numbers))
    if len(broken):
        at = int(broken[0])
        raise BadInput(f"Column '{target}' is not a finite number at {table.place(int(table.frame[ROW][at]))}.")
    return numbers
