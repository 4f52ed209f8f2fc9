"""Where the pictures of a data set are: folders by class, tables with bytes or paths, or tar shards.

Nothing is unpacked or unpickled: a shard's members are read where they lie, by their place in the file. Links and
devices in a shard are passed over; a path in a table stays below the data set.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from modelyard_training.core import data
from modelyard_training.core.data import ROW, Table, target_column
from modelyard_training.core.errors import BadInput
from modelyard_training.params import Columns, DatasetConfig

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_TABLES = (".parquet", ".pq", ".jsonl", ".ndjson", ".csv", ".tsv")
_LABELS = ("cls", "json", "txt")
"""Endings of a shard's members that hold the label, in the order of preference."""
_MOST_LABEL_BYTES = 1 << 20
LABEL = "label"


@dataclass(frozen=True)
class Member:
    """Bytes within a file."""

    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """The bytes. Raises OSError."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


Source = Path | bytes | Member


@dataclass(frozen=True)
class Found:
    """One picture, its name for people, and its label as it is written (None: it has none)."""

    source: Source
    name: str
    label: Any


@dataclass(frozen=True)
class PictureTable(Table):
    """A table of labels whose rows are pictures."""

    pictures: tuple[Found, ...]

    def place(self, row: int) -> str:
        """The picture's name."""
        return self.pictures[row].name

    def pick(self, frame: pl.DataFrame) -> PictureTable:
        """The same pictures with fewer rows."""
        return PictureTable(frame, self.files, self.pictures)


@dataclass(frozen=True)
class PictureTables:
    """Training pictures and, where the data set names them, held-out ones; `target` is what their label is called."""

    train: list[Found]
    validation: list[Found] | None
    target: str


def read(root: Path, config: DatasetConfig | None) -> PictureTables:
    """All pictures of the data set with their labels, in a fixed order. Raises `BadInput`."""
    config = config or DatasetConfig()
    split = config.split
    base = data.below(root, config.path) if config.path else root
    if config.format in ("CSV", "JSONL", "Parquet") or (config.format is None and _is_table(base, config)):
        return _from_tables(root, config)
    train_path = data.below(base, split.train) if split and split.train else base
    train = list(_pictures(train_path, config.format))
    validation = None
    if split is not None and split.validation:
        held_path = data.below(base, split.validation)
        validation = list(_pictures(held_path, config.format))
        if not split.train:
            train = [one for one in train if not _within(one.source, held_path)]
        if not validation:
            raise BadInput(f"There is no picture in '{split.validation}': check dataset.split.validation.")
    if not train:
        raise BadInput(
            "There is no picture in the data set: put .png, .jpg or .webp files into a folder for each class, or name "
            "tables or tar shards; check dataset.path and dataset.split."
        )
    return PictureTables(train, validation, LABEL)


def table(found: list[Found], target: str) -> PictureTable:
    """The labels as a table, a row a picture."""
    labels = [one.label for one in found]
    if any(isinstance(value, str) for value in labels):
        labels = [None if value is None else str(value) for value in labels]
    frame = pl.DataFrame({target: pl.Series(target, labels, strict=False)}).with_row_index(ROW)
    return PictureTable(frame, (), tuple(found))


def _is_table(base: Path, config: DatasetConfig) -> bool:
    named = [config.split.train, config.split.validation] if config.split else []
    if any(name and name.lower().endswith(_TABLES) for name in [*named, base.name]):
        return True
    return base.is_dir() and any(
        p.suffix.lower() in _TABLES and not p.name.startswith(".") for p in base.rglob("*") if p.is_file()
    )


def _from_tables(root: Path, config: DatasetConfig) -> PictureTables:
    tables = data.read(root, config, as_text=True)
    columns = config.columns or Columns()
    target = target_column(tables.train, columns.label, columns.target, LABEL)
    held = list(_rows(tables.validation, columns, root, target)) if tables.validation is not None else None
    return PictureTables(list(_rows(tables.train, columns, root, target)), held, target)


def _rows(given: Table, columns: Columns, root: Path, target: str) -> Iterator[Found]:
    usual = next((n for n in ("image", "file_name", "path") if n in given.frame.columns), "image")
    image = given.require(columns.image or usual, "image")
    given.require(target, LABEL)
    folders = [path.parent for path, count in given.files for _ in range(count)]
    for row, value, label in given.frame.select(ROW, image, target).iter_rows():
        # Hugging Face's tables hold {"bytes", "path"}.
        content = (value.get("bytes") or value.get("path")) if isinstance(value, dict) else value
        place = f"row {row + 1}"
        if content is None or isinstance(content, bytes):
            yield Found(content or b"", place, label)
            continue
        path = (folders[row] / str(content)).resolve()
        if not path.is_relative_to(root.resolve()):
            raise BadInput(f"The picture at {given.place(row)} is outside the data set: name files below its root.")
        yield Found(path, f"{Path(str(content)).name} ({place})", label)


def _pictures(base: Path, given: str | None) -> Iterator[Found]:
    files = sorted(base.parent.glob(base.name)) if not base.exists() else [base]
    found = [p for f in files for p in (sorted(f.rglob("*")) if f.is_dir() else [f])]
    packed = next((p for p in found if p.name.lower().endswith((".tar.gz", ".tgz", ".tar.zst"))), None)
    if packed is not None:
        raise BadInput(f"{packed.name} is compressed: make it a plain .tar; pictures are compressed themselves.")
    shards = [p for p in found if p.suffix.lower() == ".tar" and p.is_file()]
    if given == "Tar" or (given is None and shards):
        for path in shards:
            yield from _shard(path)
        return
    for path in found:
        if path.suffix.lower() in PICTURES and path.is_file() and not path.name.startswith("."):
            yield Found(path, f"{path.parent.name}/{path.name}", path.parent.name if path.parent != base else None)


def _within(source: Source, folder: Path) -> bool:
    path = source.path if isinstance(source, Member) else source
    return isinstance(path, Path) and (path.is_relative_to(folder) or path.match(str(folder)))


def _shard(path: Path) -> Iterator[Found]:
    """The examples of a shard: neighbours of one name up to its first dot, a picture and its label."""
    try:
        with tarfile.open(path, "r:") as shard:
            key, parts = "", dict[str, Member]()
            for member in shard:
                if not member.isreg():
                    continue
                folder, _, name = member.name.rpartition("/")
                stem, _, ending = name.partition(".")
                if f"{folder}/{stem}" != key:
                    yield from _example(path, key, parts)
                    key, parts = f"{folder}/{stem}", {}
                parts[ending.lower()] = Member(path, member.offset_data, member.size)
            yield from _example(path, key, parts)
    except tarfile.TarError:
        raise BadInput(f"{path.name} is not a readable tar file: it is damaged or cut short.") from None


def _example(path: Path, key: str, parts: dict[str, Member]) -> Iterator[Found]:
    picture = next((m for ending, m in parts.items() if f".{ending.rpartition('.')[2]}" in PICTURES), None)
    if picture is None:
        return
    name = f"{key.lstrip('/')} in {path.name}"
    for ending in _LABELS:
        if ending in parts and parts[ending].size <= _MOST_LABEL_BYTES:
            yield Found(picture, name, _label(parts[ending].read(), ending, name))
            return
    yield Found(picture, name, None)


def _label(content: bytes, ending: str, name: str) -> Any:
    try:
        text = content.decode()
        if ending != "json":
            return text.strip()
        value = json.loads(text)
        found = value.get(LABEL, value.get("cls")) if isinstance(value, dict) else value
    except ValueError:
        raise BadInput(f"The label of {name} is not readable: a .cls or .txt holds text, a .json an object.") from None
    return str(found) if found is not None else None
