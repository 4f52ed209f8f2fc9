"""Puts the result in place: `model/` by one rename, then `metadata.json`, which says all about it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelyard_training.core import files
from modelyard_training.core.errors import DiskFull, no_space

MODEL = "model"
METADATA = "metadata.json"
_SAMPLES = re.compile(r"step-(\d{8,18})")
_NAMES = 64
_STEPS = 64
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
        files.sync(output)
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


def finished(output: Path, uid: str) -> dict[str, Any] | None:
    """The metadata of the result that this very Training has left here, if its checkpoints were removed after that.

    An attempt that is begun again by chance then has nothing to go on from, and nothing to do.
    """
    try:
        metadata = dict(json.loads((output / METADATA).read_bytes()))
        same = bool(uid) and metadata["training"]["uid"] == uid and metadata["checkpointsRemoved"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return metadata if same and (output / MODEL).is_dir() else None


def sample_steps(output: Path) -> list[int]:
    """Steps of which the weights are kept beside their samples, newest first."""
    found = (_SAMPLES.fullmatch(p.parent.name) for p in output.glob("samples/*/*.safetensors"))
    return sorted({int(match.group(1)) for match in found if match}, reverse=True)


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
    weights = {"step": metadata["weightsStep"], "bestStep": metadata["bestStep"], "lastStep": metadata["steps"]}
    short["weights"] = {
        **{k: v for k, v in weights.items() if v is not None},
        "samples": metadata["sampleSteps"][:_STEPS],
    }
    short["features"] = metadata["features"][:_NAMES]
    short["classes"] = metadata["classes"][:_CLASSES]
    return short
