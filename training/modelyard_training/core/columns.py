"""What the texts in a table's columns mean: missing values and dates.

Decided on the training rows alone, and by Python's own functions, which the saved predictor calls too: what a row means
in training it means there.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from modelyard_training.core import data
from modelyard_training.core.data import MISSING, NONE, ROW, Table, Tables
from modelyard_training.core.errors import BadInput
from modelyard_training.params import DatasetConfig

ISO = "ISO"
_DAYS = ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d")
_TIMES = ("%H:%M:%S", "%H:%M")
FORMATS = (ISO, *_DAYS, *(f"{day} {time}" for day in _DAYS for time in _TIMES), *_TIMES)
"""How a date may be written, in the order of preference: with 03/04/2020 alone, the day comes first."""
_LIKELY = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}:\d{2}")


def read(root: Path, config: DatasetConfig | None, words: Collection[str] = ()) -> tuple[Tables, dict[str, str]]:
    """The tables, and how the dates in their columns of text were written. Columns in `words` stay as they are written.

    Raises `BadInput`.
    """
    tables = data.read(root, config, words=words)
    train = _without_missing(tables.train)
    held = _without_missing(tables.validation) if tables.validation is not None else None
    dates: dict[str, str] = {}
    for name in train.frame.columns:
        values = train.frame[name]
        if values.dtype != pl.String or name in words or (found := format_of(values)) is None:
            continue
        dates[name] = found
        train = _parsed(train, name, found)
        if held is not None and name in held.frame.columns and held.frame[name].dtype == pl.String:
            held = _parsed(held, name, found)
    return Tables(train, held), dates


def format_of(values: pl.Series) -> str | None:
    """The format in which every text of a column is a date, if there is one."""
    texts = values.filter(values.is_not_null() & ~values.is_in(NONE)).unique()
    if len(texts) == 0 or not _LIKELY.match(str(texts[0])):
        return None
    return next((known for known in FORMATS if all(moment(text, known) is not None for text in texts)), None)


def moment(text: str, known: str) -> datetime | None:
    """What a text in that format says, in UTC; None: it is not in it. Without a zone it counts as UTC."""
    try:
        found = datetime.fromisoformat(text) if known == ISO else datetime.strptime(text, known)
    except ValueError:
        return None
    return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo is not None else found


def _without_missing(table: Table) -> Table:
    """The table of every format as CSV is read: what stands for a missing value is none."""
    texts = [name for name in table.frame.columns if table.frame[name].dtype == pl.String]
    return table.pick(
        table.frame.with_columns(pl.when(~pl.col(name).is_in(MISSING)).then(pl.col(name)).alias(name) for name in texts)
    )


def _parsed(table: Table, name: str, known: str) -> Table:
    values = table.frame[name]
    texts = values.unique().drop_nulls().to_list()
    means = {text: None if text in NONE else moment(text, known) for text in texts}
    wrong = [text for text, found in means.items() if found is None and text not in NONE]
    if wrong:
        at = int((values == wrong[0]).arg_true()[0])
        place = table.place(int(table.frame[ROW][at]))
        raise BadInput(
            f"Column '{name}' holds dates written as {known}, but {place} has '{wrong[0][:40]}' there. Mend the row, "
            "or leave the column out with dataset.columns.ignore."
        )
    found = values.replace_strict(texts, [means[t] for t in texts], default=None, return_dtype=pl.Datetime("us"))
    return table.pick(table.frame.with_columns(found.alias(name)))
