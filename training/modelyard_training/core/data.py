"""Reads a mounted data set: CSV, JSONL or Parquet files into a frame whose rows still know their file and line.

The fast readers (polars, pyarrow) read; when they refuse a file, a slow pass in Python finds the row and names it by
line and column. Nothing outside the mount is opened.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv

from modelyard_training.core.errors import BadInput
from modelyard_training.params import DatasetConfig

ROW = "__modelyard_row__"
"""Column with a row's number (from 0) over all files of its table."""

MISSING = ["", "NA", "N/A", "NaN", "nan", "NULL", "null", "?"]
"""What stands for a missing value in a table of numbers and categories; in a text only the empty string does."""
NONE = ["None", "none"]
"""The same among numbers and dates; among categories and classes it is a word like others."""

_FORMATS = {
    ".csv": "CSV",
    ".tsv": "CSV",
    ".jsonl": "JSONL",
    ".ndjson": "JSONL",
    ".parquet": "Parquet",
    ".pq": "Parquet",
}
_SHOWN = 40


@dataclass(frozen=True)
class Table:
    """Rows of one or several files, `ROW` among the columns."""

    frame: pl.DataFrame
    files: tuple[tuple[Path, int], ...]
    """Each file with its number of rows, in the order of the rows."""

    def place(self, row: int) -> str:
        """Where a row (a value of `ROW`) stands, such as `line 7 of train.csv`."""
        for path, count in self.files:
            if row < count:
                return _place(path, row)
            row -= count
        return "an unknown place"

    def pick(self, frame: pl.DataFrame) -> Table:
        """The same files with fewer rows or columns."""
        return Table(frame, self.files)

    def require(self, column: str, field: str) -> str:
        """`column` if it is there. Raises `BadInput` with the columns that are."""
        if column not in self.frame.columns:
            names = [c for c in self.frame.columns if c != ROW]
            more = f" and {len(names) - 20} more" if len(names) > 20 else ""
            raise BadInput(
                f"The data set has no column '{column}' (dataset.columns.{field}). It has: "
                f"{', '.join(names[:20])}{more}."
            )
        return column


@dataclass(frozen=True)
class Tables:
    """What is read: the training rows and, where the data set names them, the held-out rows."""

    train: Table
    validation: Table | None


def read(root: Path, config: DatasetConfig | None, *, as_text: bool = False, words: Collection[str] = ()) -> Tables:
    """Reads what `config` names below `root`. `as_text`: CSV values stay strings, those of columns `words` always do.

    Raises `BadInput`.
    """
    config = config or DatasetConfig()
    if config.format is not None and config.format not in _READERS:
        raise BadInput(f"dataset.format {config.format} is for image recipes: name CSV, JSONL or Parquet.")
    base = below(root, config.path) if config.path else root
    split = config.split
    if split is not None and (split.train or split.validation):
        folder = base if base.is_dir() else base.parent
        train = _files(folder / split.train if split.train else base, config.format)
        held = _files(folder / split.validation, config.format) if split.validation else []
        train = [path for path in train if path not in held]
    else:
        train, held = _files(base, config.format), []
    return Tables(
        _table(train, config.format, as_text, words, "training"),
        _table(held, config.format, as_text, words, "validation") if held else None,
    )


def check_numbers(table: Table, column: str) -> None:
    """Raises `BadInput` for a column of text that holds numbers but for a few values: those rows are broken."""
    values = table.frame[column]
    if values.dtype != pl.String or values.null_count() == len(values):
        return
    given = values.is_not_null()
    numbers = values.cast(pl.Float64, strict=False).is_not_null()
    broken = given & ~numbers
    if 0 < int(broken.sum()) <= 0.1 * int(given.sum()):
        at = int(broken.arg_true()[0])
        row, value = int(table.frame[ROW][at]), str(values[at])[:_SHOWN]
        raise BadInput(
            f"Column '{column}' holds numbers, but {table.place(row)} has '{value}' there "
            f"({int(broken.sum())} such rows of {len(values)}). Mend the rows, leave the column out with "
            "dataset.columns.ignore, or name it in tabular.categoricalColumns."
        )


def check_table(tables: Tables, categorical: list[str], ignored: list[str]) -> None:
    """`check_numbers` for every column that is taken for numbers if it can be."""
    for table in (tables.train, tables.validation):
        for name in table.frame.columns if table is not None else ():
            if table is not None and name not in categorical and name not in ignored:
                check_numbers(table, name)


def target_column(table: Table, first: str | None, second: str | None, usual: str) -> str:
    """The column to predict: what the user named, else `target` or `label`, whichever is there."""
    if first or second:
        return table.require(first or second or "", usual)
    other = "label" if usual == "target" else "target"
    return table.require(other if usual not in table.frame.columns and other in table.frame.columns else usual, usual)


def below(root: Path, path: str) -> Path:
    """`root / path`. Raises `BadInput` for a path that leaves the root."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        raise BadInput(f"The path '{path}' leaves the data set: name a file or folder below its root.")
    return root / path


def _files(path: Path, given: str | None) -> list[Path]:
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(
            p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in _FORMATS and not _hidden(p, path)
        )
        found = [p for p in found if given is None or _FORMATS[p.suffix.lower()] == given]
        what = f"{given} file" if given else "CSV, JSONL or Parquet file"
        if not found:
            raise BadInput(f"There is no {what} in the data set's folder '{path.name}': check dataset.path and format.")
        return found
    if ".." in path.parts:
        raise BadInput(f"The path '{path.name}' leaves the data set: name a file or folder below its root.")
    found = sorted(p for p in path.parent.glob(path.name) if p.is_file()) if path.parent.is_dir() else []
    if not found:
        raise BadInput(f"There is no '{path.name}' in the data set: check dataset.path and dataset.split.")
    return found


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _table(paths: list[Path], given: str | None, as_text: bool, words: Collection[str], part: str) -> Table:
    frames: list[pl.DataFrame] = []
    for path in paths:
        kind = given or _FORMATS.get(path.suffix.lower())
        if kind is None:
            raise BadInput(f"The ending of {path.name} does not tell its format: set dataset.format.")
        frame = _READERS[kind](path, as_text, words)
        if frames and set(frame.columns) != set(frames[0].columns):
            differs = sorted(set(frame.columns) ^ set(frames[0].columns))
            raise BadInput(
                f"{paths[0].name} and {path.name} do not have the same columns: '{differs[0]}' is in one only."
            )
        frames.append(frame if not frames else frame.select(frames[0].columns))
    frame = pl.concat(frames, how="vertical_relaxed")
    if frame.height == 0:
        raise BadInput(f"The {part} split is empty: {', '.join(p.name for p in paths[:5])} has no rows.")
    return Table(frame.with_row_index(ROW), tuple((p, f.height) for p, f in zip(paths, frames, strict=True)))


def _read_csv(path: Path, as_text: bool, words: Collection[str]) -> pl.DataFrame:
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        # polars fills a row that is too short with nothing; pyarrow refuses it.
        pa_csv.read_csv(
            path,
            parse_options=pa_csv.ParseOptions(delimiter=separator, newlines_in_values=True),
            convert_options=pa_csv.ConvertOptions(include_columns=[]),
        )
        if as_text:
            return pl.read_csv(path, separator=separator, infer_schema=False)
        frame = pl.read_csv(
            path,
            separator=separator,
            infer_schema_length=None,
            null_values=MISSING,
            schema_overrides=dict.fromkeys(words, pl.String),
        )
        return frame.with_columns(_number_of(frame[name]) for name in frame.columns if name not in words)
    except (pa.ArrowException, pl.exceptions.PolarsError, UnicodeDecodeError):
        _name_broken_csv(path, separator)
        raise BadInput(
            f"{path.name} is not readable as CSV: check its separator, quotes and encoding (UTF-8)."
        ) from None


def _number_of(values: pl.Series) -> pl.Series:
    """A column of numbers that were taken for text because some of them are `None`."""
    if values.dtype != pl.String or not values.is_in(NONE).any():
        return values
    given = values.set(values.is_in(NONE), None)
    for kind in (pl.Int64, pl.Float64):
        numbers = given.cast(kind, strict=False)
        if numbers.null_count() == given.null_count() < len(given):
            return numbers
    return values


def _name_broken_csv(path: Path, separator: str) -> None:
    _check_utf8(path)
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file, delimiter=separator, strict=True)
        try:
            header = next(rows, [])
            if not header:
                raise BadInput(f"{path.name} is empty: its first line must name the columns.")
            for row in rows:
                if row and len(row) < len(header):
                    raise BadInput(
                        f"Line {rows.line_num} of {path.name} ends after {len(row)} of {len(header)} columns: "
                        f"column '{header[len(row)]}' is missing."
                    )
                if len(row) > len(header):
                    raise BadInput(
                        f"Line {rows.line_num} of {path.name} has {len(row)} values for {len(header)} columns: "
                        f"the first one too many comes after column '{header[-1]}'."
                    )
        except csv.Error:
            raise BadInput(
                f"Line {rows.line_num} of {path.name} has a quote that is not closed or stands wrong."
            ) from None


def _check_utf8(path: Path) -> None:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                at = f"byte {error.start + 1}"
                raise BadInput(
                    f"Line {number} of {path.name} is not UTF-8 (at {at}): save the file as UTF-8."
                ) from None


def _read_jsonl(path: Path, as_text: bool, words: Collection[str]) -> pl.DataFrame:
    try:
        return pl.read_ndjson(path, infer_schema_length=None)
    except pl.exceptions.PolarsError:
        _name_broken_jsonl(path)
        raise BadInput(f"{path.name} is not readable as JSONL: each line must be one JSON object.") from None


def _name_broken_jsonl(path: Path) -> None:
    _check_utf8(path)
    empty = True
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            empty = False
            try:
                value = json.loads(line.rstrip())
            except ValueError as error:
                at = getattr(error, "colno", 1)
                raise BadInput(f"Line {number} of {path.name} is not valid JSON (at character {at}).") from None
            if not isinstance(value, dict):
                raise BadInput(f"Line {number} of {path.name} is not a JSON object.")
    if empty:
        raise BadInput(f"{path.name} is empty: each line must be one JSON object.")


def _read_parquet(path: Path, as_text: bool, words: Collection[str]) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError):
        raise BadInput(f"{path.name} is not a readable Parquet file: it is damaged, or of another format.") from None


_READERS: dict[str, Callable[[Path, bool, Collection[str]], pl.DataFrame]] = {
    "CSV": _read_csv,
    "JSONL": _read_jsonl,
    "Parquet": _read_parquet,
}


def _place(path: Path, row: int) -> str:
    if path.suffix.lower() in (".parquet", ".pq"):
        return f"row {row + 1} of {path.name}"
    for number, line in enumerate(_row_lines(path)):
        if number == row:
            return f"line {line} of {path.name}"
    return f"row {row + 1} of {path.name}"


def _row_lines(path: Path) -> Iterator[int]:
    """The line on which each row starts; a quoted value may span several."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        if _FORMATS.get(path.suffix.lower()) == "JSONL":
            yield from (number for number, line in enumerate(file, start=1) if line.strip())
            return
        rows = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        next(rows, None)
        before = rows.line_num
        for row in rows:
            if row:
                yield before + 1
            before = rows.line_num
