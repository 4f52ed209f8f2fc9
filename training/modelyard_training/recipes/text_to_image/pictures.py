"""Reads pictures with captions: a folder of files with texts of the same name, or a table with paths or bytes.

A picture keeps its shape: it goes to the bucket of the nearest shape at the wanted area, and is never enlarged.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from modelyard_training.core import data, split
from modelyard_training.core.data import ROW, Table
from modelyard_training.core.errors import BadInput
from modelyard_training.core.run import Run
from modelyard_training.params import Columns, DatasetConfig

_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_TABLES = (".parquet", ".pq", ".jsonl", ".ndjson", ".csv", ".tsv")
_BROKEN = 0.1
"""Above this share of unreadable pictures the data set is refused."""


@dataclass(frozen=True)
class Picture:
    """Where a picture is (a file, or its bytes), what it shows, and the bucket (height, width) it is cut to."""

    source: Path | bytes
    name: str
    caption: str
    size: tuple[int, int]
    """Height and width as it is stored."""
    bucket: tuple[int, int]

    def pixels(self) -> tuple[Tensor, tuple[int, int]]:
        """The picture in its bucket, [3, H, W] from -1 to 1, and how much was cut off (top, left) once scaled."""
        from PIL import Image

        height, width = self.bucket
        image = _open(self.source)
        scale = max(width / image.width, height / image.height)
        image = image.resize(
            (max(width, round(image.width * scale)), max(height, round(image.height * scale))), Image.Resampling.LANCZOS
        )
        left, top = (image.width - width) // 2, (image.height - height) // 2
        values = np.asarray(image.crop((left, top, left + width, top + height)), dtype=np.float32)
        return torch.from_numpy(values).permute(2, 0, 1) / 127.5 - 1.0, (top, left)


@dataclass(frozen=True)
class Pictures:
    """The training pictures, the held-out ones (none unless asked for), and how many could not be read."""

    train: list[Picture]
    held: list[Picture]
    broken: int


def read(run: Run, divisor: int, resolution: int) -> Pictures:
    """All pictures of the data set with their captions. Raises `BadInput`."""
    from diffusers.training_utils import generate_aspect_ratio_buckets

    if resolution < divisor:
        raise BadInput(
            f"resolution is {resolution}, and this base model's pictures are at least {divisor} pixels wide."
        )
    rules = run.config.dataset.split if run.config.dataset else None
    if rules is not None and (rules.train or rules.validation):
        raise BadInput("Pictures are held out by dataset.split.validationFraction: drop split.train and .validation.")
    found: list[Picture] = []
    broken: list[str] = []
    buckets: dict[int, list[tuple[int, int]]] = {}
    for source, name, caption in sources(run.dataset(), run.config.dataset or DatasetConfig()):
        run.stop.check()
        try:
            image = _open(source)
        except (OSError, ValueError, SyntaxError, Warning):
            broken.append(name)
            continue
        text = caption or run.params["prompt"]
        if not text:
            raise BadInput(
                f"{name} has no caption: put it into a .txt file of the same name or the column of "
                "dataset.columns.caption, or set textToImageLoRA.prompt for those without."
            )
        edge = min(resolution, int(math.sqrt(image.width * image.height))) // divisor * divisor
        if edge == 0:
            raise BadInput(f"{name} is {image.width} by {image.height} pixels: too small for this base model.")
        if edge not in buckets:
            buckets[edge] = generate_aspect_ratio_buckets(edge, divisibility=divisor)
        shape = math.log(image.width / image.height)
        bucket = min(buckets[edge], key=lambda b: (abs(math.log(b[1] / b[0]) - shape), b))
        found.append(Picture(source, name, text, (image.height, image.width), bucket))
    if len(broken) > _BROKEN * (len(found) + len(broken)):
        raise BadInput(
            f"{len(broken)} of {len(found) + len(broken)} pictures can't be read, {broken[0]} among them: mend or "
            "remove them. A few would be left out."
        )
    if not found:
        raise BadInput("There is no picture in the data set: put .png, .jpg or .webp files there; check dataset.path.")
    if rules is None or rules.validation_fraction is None:
        return Pictures(found, [], len(broken))
    train, held = split.rows(len(found), None, rules.validation_fraction, rules.seed or 17)
    return Pictures([found[i] for i in train], [found[i] for i in held], len(broken))


def _open(source: Path | bytes) -> Any:
    """The whole picture as RGB, turned as its camera was. Raises OSError, ValueError or a Warning for a broken one."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        # A picture that would fill the memory is broken, too.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                return ImageOps.exif_transpose(image).convert("RGB")
        except Image.DecompressionBombError as error:
            raise ValueError from error


def sources(root: Path, config: DatasetConfig) -> Iterator[tuple[Path | bytes, str, str]]:
    """Each picture, its name for people and its caption (empty without one), in a fixed order."""
    if config.path and (".." in Path(config.path).parts or Path(config.path).is_absolute()):
        raise BadInput(f"The path '{config.path}' leaves the data set: name a file or folder below its root.")
    base = root / config.path if config.path else root
    files = sorted(p for p in base.rglob("*") if p.is_file()) if base.is_dir() else [base]
    if config.format is not None or any(p.suffix.lower() in _TABLES for p in files):
        yield from _rows(data.read(root, config, as_text=True).train, config.columns or Columns(), root)
        return
    for path in files:
        if path.suffix.lower() in _ENDINGS and not path.name.startswith("."):
            texts = path.with_suffix(".txt")
            try:
                caption = texts.read_text(encoding="utf-8-sig").strip() if texts.is_file() else ""
            except UnicodeDecodeError:
                raise BadInput(f"{texts.name} is not UTF-8: save the file as UTF-8.") from None
            yield path, path.name, caption


def _rows(table: Table, columns: Columns, root: Path) -> Iterator[tuple[Path | bytes, str, str]]:
    names = table.frame.columns
    usual = next((n for n in ("image", "file_name") if n in names), "image")
    image = table.require(columns.image or usual, "image")
    caption = columns.caption or next((n for n in ("caption", "text", "prompt") if n in names), None)
    if caption is not None:
        table.require(caption, "caption")
    folders = [path.parent for path, count in table.files for _ in range(count)]
    wanted = [ROW, image, *([caption] if caption else [])]
    for row, value, *text in table.frame.select(wanted).iter_rows():
        # Hugging Face's tables hold {"bytes", "path"}.
        given = (value.get("bytes") or value.get("path")) if isinstance(value, dict) else value
        said = str(text[0] or "").strip() if text else ""
        if isinstance(given, bytes):
            yield given, table.place(row), said
            continue
        path = (folders[row] / str(given)).resolve()
        if not path.is_relative_to(root.resolve()):
            raise BadInput(f"The picture at {table.place(row)} is outside the data set: name files below its root.")
        yield path, f"{Path(str(given)).name} ({table.place(row)})", said
