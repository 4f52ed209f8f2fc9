"""Puts the result in place: `model/` by one rename, then `metadata.json`, which says all about it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelyard_training.core import files
from modelyard_training.core.errors import DiskFull, no_space

MODEL = "model"
METADATA = "metadata.json"
_NAMES = 64
_CLASSES = 32


def export(output: Path, write: Callable[[Path], None], metadata: dict[str, Any]) -> dict[str, Any]:
    """Writes `output/model` through `write` and `output/metadata.json`; returns the metadata, completed.

    Raises `DiskFull`; a model of an earlier attempt is still there then.
    """
    partial = output / f".{MODEL}.partial"
    try:
        for leftover in output.glob(f".{MODEL}.*"):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir()
        write(partial)
        files.sync_tree(partial)
        listing = files.listing(partial)
        files.remove(output / MODEL)
        partial.rename(output / MODEL)
        files.sync_folder(output)
        complete = {
            "path": MODEL,
            **metadata,
            "bytes": sum(entry["bytes"] for entry in listing.values()),
            "files": len(listing),
            "digest": files.tree_digest(listing),
            "listing": listing,
        }
        files.write_json(output / METADATA, complete)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        if no_space(error):
            raise DiskFull(
                "The output volume is full: the trained model could not be written. Its last checkpoint is whole. "
                "Give output.storage more room, and go on from this Training with checkpoint.from."
            ) from error
        raise
    return complete


def summary(metadata: dict[str, Any]) -> dict[str, Any]:
    """The part of the metadata that fits into a termination message and a status."""
    names = (
        "path",
        "kind",
        "bytes",
        "files",
        "digest",
        "metrics",
        "params",
        "target",
        "trainSamples",
        "testSamples",
        "trainingSeconds",
        "algorithm",
        "recipe",
        "determinism",
    )
    short = {name: metadata[name] for name in names if name in metadata}
    short["features"] = metadata["features"][:_NAMES]
    short["classes"] = metadata["classes"][:_CLASSES]
    return short
