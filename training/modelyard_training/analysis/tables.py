"""Tables: columns with types, missing values, cardinality and ranges; duplicates, leakage, and the target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from modelyard_training.analysis import suggest
from modelyard_training.analysis.report import Findings
from modelyard_training.core import columns as meaning
from modelyard_training.core import data, split
from modelyard_training.core.data import ROW, Table, Tables, target_column

if TYPE_CHECKING:
    from modelyard_training.analysis.look import Given

_SAMPLES = 3
_TOP = 5
_ID_SHARE = 0.98
"""Above this share of different values, a whole number or a text that has no order is taken for a name of its row."""
_SURE = 0.995
"""A column that alone tells the target this well most likely is the target in other words."""
_LEAST_ROWS = 50


def look(given: Given) -> Findings:
    """The table of a tabular recipe. Raises `BadInput`."""
    read, _ = meaning.read(given.root(), given.data, given.params["categoricalColumns"] or [])
    columns = given.columns
    target = target_column(read.train, columns.target, columns.label, "target")
    categorical, ignored = given.params["categoricalColumns"] or [], columns.ignore or []
    data.check_table(read, categorical, ignored)
    classify = given.config.recipe == "tabular-classification"
    parts = split.divide(read, target, given.data.split, classify=classify)
    profile = {**profile_of(read, given), **about_parts(parts, target)}
    profile["features"] = _features(parts.train, {target, *ignored}, categorical, given.params["maxCategories"])
    warnings = [*_odd_columns(profile, target, ignored), *_telling(parts, profile, target, ignored)]
    held = parts.held.frame.drop(ROW)
    profile["rowsInBothParts"] = shared(parts.train.frame.drop(ROW), held)
    warnings += about_both(profile, named=read.validation is not None)
    shown = parts.train.frame.drop(ROW).head(_SAMPLES)
    samples = [{"row": _as_text(row), "target": str(row[target])[:200]} for row in shown.iter_rows(named=True)]
    found = Findings(profile, warnings=warnings, samples=samples)
    found.suggested = suggest.tabular(profile, given.config.recipe, target)
    found.message = summary(profile, "rows")
    return found


def profile_only(given: Given) -> Findings:
    """A table whose use is not known. Raises `BadInput` if it is none."""
    read, _ = meaning.read(given.root(), given.data)
    return Findings(profile_of(read, given))


def profile_of(read: Tables, given: Given) -> dict[str, Any]:
    """Rows, bytes and columns of a table, and its duplicates."""
    frame = read.train.frame.drop(ROW)
    return {
        "kind": "table",
        **sizes(given.root(), given.data.path),
        "rows": frame.height + (read.validation.frame.height if read.validation is not None else 0),
        "columnCount": frame.width,
        "columns": [column(frame[name]) for name in frame.columns],
        "duplicateRows": _duplicates(frame),
    }


def sizes(root: Path, inner: str | None) -> dict[str, int]:
    """Number and bytes of the files that are read."""
    base = root / inner if inner and (root / inner).exists() else root
    found = [base] if base.is_file() else [p for p in base.rglob("*") if p.is_file()]
    return {"files": len(found), "bytes": sum(p.stat().st_size for p in found)}


def column(values: pl.Series) -> dict[str, Any]:
    """What can be said of one column without showing a value of a text."""
    kind = _kind(values.dtype)
    about: dict[str, Any] = {"name": values.name, "type": kind}
    if missing := values.null_count():
        about["missing"] = missing
    if not values.dtype.is_nested():
        about["distinct"] = values.drop_nulls().n_unique()
    if kind == "number" and missing < len(values):
        numbers = values.drop_nulls().cast(pl.Float64)
        numbers = numbers.filter(numbers.is_finite())
        if len(numbers):
            about |= {"min": short(numbers.min()), "max": short(numbers.max()), "mean": short(numbers.mean())}
    elif kind == "date" and missing < len(values):
        about |= {"min": str(values.min()), "max": str(values.max())}
    elif kind == "text" and missing < len(values):
        lengths = values.drop_nulls().str.len_chars()
        about["longest"] = int(lengths.max() or 0)  # type: ignore[arg-type]
        if about["distinct"] <= max(_LEAST_ROWS, len(values) // 20):
            about["top"] = {
                str(v)[:64]: int(n) for v, n in values.drop_nulls().value_counts(sort=True).head(_TOP).rows()
            }
    return about


def about_parts(parts: split.Parts, target: str) -> dict[str, Any]:
    """The split, and the target: balance of the classes, or the range of the numbers."""
    divided = {"train": len(parts.train_target), "validation": len(parts.held_target)}
    about: dict[str, Any] = {"column": target}
    if parts.dropped:
        about["missing"] = parts.dropped
    if parts.classes is None:
        numbers = parts.train_target
        about |= {"kind": "number", "outputs": 1, "min": short(numbers.min()), "max": short(numbers.max())}
        about |= {"mean": short(numbers.mean()), "deviation": short(numbers.std())}
    else:
        whole = pl.concat([pl.Series(parts.train_target), pl.Series(parts.held_target)])
        counts = {parts.classes[int(v)]: int(n) for v, n in whole.value_counts(sort=True).rows()}
        about |= {"kind": "classes", "outputs": len(parts.classes), "classes": counts}
    return {"split": divided, "target": about}


def about_both(profile: dict[str, Any], *, named: bool) -> list[str]:
    """Warnings on doubled rows, on rows in both parts and on rare classes, of any kind of data.

    `named`: the user chose the validation split; else some copies in it are chance.
    """
    said = []
    chance = 0 if named else (profile.get("split") or {}).get("validation", 0) // 50
    rows, doubled = profile["rows"], profile.get("duplicateRows") or 0
    if doubled > max(3, rows // 100):
        said.append(
            f"{doubled} of {rows} rows are copies of others: a copy of a training row that is held out makes the "
            "metrics better than they are."
        )
    if (both := profile.get("rowsInBothParts") or 0) > chance:
        said.append(
            f"{both} rows of the validation split are in the training split too: the metrics will be better than they "
            f"are. {'Remove them from one of the two.' if named else 'Remove the copies.'}"
        )
    classes = (profile.get("target") or {}).get("classes") or {}
    if classes and min(classes.values()) < 10:
        rare = [name for name, count in classes.items() if count < 10]
        said.append(
            f"{len(rare)} classes have fewer than 10 rows, '{rare[0][:40]}' among them: they are hardly learnt."
        )
    return said


def summary(profile: dict[str, Any], what: str) -> str:
    """One sentence on the data set."""
    words = f"{profile['rows']} {what}"
    if "columnCount" in profile and profile["kind"] == "table":
        words += f" of {profile['columnCount']} columns"
    target = profile.get("target") or {}
    if target.get("kind") == "classes":
        words += f", {target['outputs']} classes in '{target['column'][:64]}'"
    elif target:
        words += f", '{target['column'][:64]}' from {target['min']:g} to {target['max']:g}"
    divided = profile.get("split")
    return words + (f"; {divided['train']} train, {divided['validation']} are held out." if divided else ".")


def shared(train: pl.DataFrame, held: pl.DataFrame) -> int:
    """Rows of the held-out part that are in the training part as well."""
    names = [name for name in train.columns if name in held.columns and not train[name].dtype.is_nested()]
    if not names:
        return 0
    known = train.select(pl.concat_str([pl.col(n).cast(pl.String).fill_null("\0") for n in names], separator="\1"))
    asked = held.select(pl.concat_str([pl.col(n).cast(pl.String).fill_null("\0") for n in names], separator="\1"))
    return int(asked.to_series().is_in(known.to_series().unique().implode()).sum())


def short(value: Any) -> float:
    """A number with as many digits as anybody reads."""
    return float(f"{float(value):.5g}")


def _kind(dtype: pl.DataType) -> str:
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_numeric():
        return "number"
    if dtype.is_temporal():
        return "date"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "text"
    return "list" if dtype.is_nested() else "other"


def _duplicates(frame: pl.DataFrame) -> int:
    flat = frame.select(n for n in frame.columns if not frame[n].dtype.is_nested())
    return frame.height - flat.n_unique() if flat.width else 0


def _features(train: Table, skip: set[str], categorical: list[str], most: int) -> dict[str, int]:
    """How many columns go into the model, and how wide they are once encoded; as the recipe embeds categories."""
    numeric = embedded = width = 0
    for name in train.frame.columns:
        values = train.frame[name]
        if name in skip or name == ROW or values.null_count() == len(values):
            continue
        if name in categorical or values.dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum):
            embedded += 1
            width += min(64, round(1.6 * (min(values.n_unique(), most) + 2) ** 0.56))
        else:
            numeric += 1
            width += 1 + (values.null_count() > 0)
    return {"numeric": numeric, "categorical": embedded, "encoded": width}


def _odd_columns(profile: dict[str, Any], target: str, ignored: list[str]) -> list[str]:
    """Columns that help nothing: one value, no value, or a name of its own for each row."""
    said, rows = [], profile["rows"]
    for about in profile["columns"]:
        name, distinct = about["name"], about.get("distinct", 0)
        if name == target or name in ignored:
            continue
        if distinct == 1 and not about.get("missing"):
            said.append(f"Column '{name[:64]}' has the same value in every row: it helps nothing.")
        elif about.get("missing", 0) > rows // 2:
            said.append(f"Column '{name[:64]}' has no value in {about['missing']} of {rows} rows.")
        elif rows >= _LEAST_ROWS and about["type"] == "text" and distinct >= _ID_SHARE * rows:
            said.append(
                f"Column '{name[:64]}' is different in almost every row, like a name: leave it out with "
                "dataset.columns.ignore."
            )
    return said


def _telling(parts: split.Parts, profile: dict[str, Any], target: str, ignored: list[str]) -> list[str]:
    """Columns that tell the target alone: what is known only afterwards does not help to predict."""
    if parts.classes is None or len(parts.train_target) < _LEAST_ROWS:
        return []
    frame = parts.train.frame.with_columns(pl.Series("__target__", parts.train_target))
    most = max(profile["target"]["classes"].values()) / max(sum(profile["target"]["classes"].values()), 1)
    said = []
    for about in profile["columns"]:
        name = about["name"]
        distinct = about.get("distinct", 0)
        if name == target or name in ignored or not 1 < distinct <= len(parts.classes) * 4:
            continue
        largest = frame.group_by(name).agg(pl.col("__target__").unique_counts().max().alias("n"))["n"].sum()
        if largest / frame.height >= _SURE > most:
            said.append(
                f"Column '{name[:64]}' alone tells '{target[:64]}': if it is not known when you predict, leave it out "
                "with dataset.columns.ignore."
            )
    return said


def _as_text(row: dict[str, Any]) -> dict[str, str]:
    return {name: str(value)[:200] for name, value in row.items()}
