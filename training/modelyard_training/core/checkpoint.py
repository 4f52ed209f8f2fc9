"""Checkpoints: all that a run needs to go on exactly, in a folder that is whole or not there.

`checkpoints/step-XXXXXXXX/` holds the tensors (safetensors, by torch's distributed checkpoint), `state.json`, one
`rng-<rank>.json` a process and, last and by a rename, `complete.json` with every file's digest. A folder without it,
or whose digests differ, is never loaded. Nothing is ever unpickled. The newest `keep` stay, and the best one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modelyard_training.core import files
from modelyard_training.core.errors import BadInput, DiskFull, no_space
from modelyard_training.core.world import World

log = logging.getLogger(__name__)

MARKER = "complete.json"
_NAME = re.compile(r"step-(\d{8,18})")
_HOLD_BYTES = 256 * 2**20
"""A best checkpoint up to this size waits in memory until one is written anyway; a larger one is written at once."""


@dataclass(frozen=True)
class Snapshot:
    """One moment of a run: `tensors` by name, `state` (the same in all processes), `rng` (this process's)."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    rng: dict[str, Any]


def tensors_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What is trained and what the optimizer remembers of it, by parameter name. Frozen weights come from the base."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    # A weight with two names, such as an embedding that is the head too, is frozen under both.
    every = model.named_parameters(remove_duplicate=False)
    frozen = {name for name, parameter in every if not parameter.requires_grad}
    found = {f"model.{k}": v.detach() for k, v in model.state_dict().items() if k not in frozen}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            found[f"optimizer.{key}.{names[parameter]}"] = value
    return found


def put_back(tensors: dict[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
    """The reverse of `tensors_of`. Raises `BadInput` when the tensors belong to another model."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    own = {k: v for k, v in model.state_dict().items() if k not in parameters or parameters[k].requires_grad}
    given = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    if own.keys() != given.keys() or any(own[k].shape != given[k].shape for k in own):
        raise BadInput(
            "The checkpoint belongs to a model of another shape: resume with the same recipe parameters, base model "
            "and data columns, or start over with checkpoint.resume: Never."
        )
    with torch.no_grad():
        for key, value in own.items():
            value.copy_(given[key])
    if optimizer is None:
        return
    optimizer.state.clear()
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, slot, name = key.split(".", 2)
            parameter = parameters[name]
            # AdamW keeps its step counter on the CPU unless it is fused.
            on = parameter.device if value.dim() or optimizer.defaults.get("fused") else torch.device("cpu")
            optimizer.state[parameter][slot] = value.to(on)


class Checkpoints:
    """The checkpoints of one run below `folder`. In a world of several, every process calls every method."""

    def __init__(self, folder: Path, keep: int, world: World) -> None:
        self.folder = folder
        self._keep = keep
        self._world = world
        self._held: Snapshot | None = None

    def hold(self, snapshot: Snapshot) -> None:
        """Remembers the best so far. A small one reaches the disk with the next `save`, if it is the best still."""
        if sum(t.nbytes for t in snapshot.tensors.values()) > _HOLD_BYTES:
            self._held = None
            self.save(snapshot, best=snapshot.step)
            return
        copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in snapshot.tensors.items()}
        self._held = Snapshot(snapshot.step, copies, snapshot.state, snapshot.rng)

    def save(self, snapshot: Snapshot, best: int | None) -> Path:
        """Writes the snapshot, and the held best before it. Raises `DiskFull`, the older checkpoints still there."""
        if self._held is not None and self._held.step == best and self._held.step != snapshot.step:
            self._write(self._held)
        if self._held is not None and self._held.step != best:
            self._held = None
        path = self._write(snapshot)
        self._prune(best)
        return path

    def _write(self, snapshot: Snapshot) -> Path:
        final = self.folder / f"step-{snapshot.step:08d}"
        if self._agreed(self._world.first and is_complete(final)):
            return final
        partial = self.folder / f".step-{snapshot.step:08d}.partial"
        error: Exception | None = None
        try:
            if self._world.first:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                _save_tensors(snapshot.tensors, partial / "tensors")
                files.write_json(partial / "state.json", snapshot.state)
        except Exception as caught:
            error = caught
        self._settle(error, partial)
        try:
            files.write_json(partial / f"rng-{self._world.rank}.json", snapshot.rng)
        except Exception as caught:
            error = caught
        self._settle(error, partial)
        try:
            if self._world.first:
                files.sync_tree(partial)
                marker = {"step": snapshot.step, "files": files.listing(partial)}
                files.remove(final)
                partial.rename(final)
                files.write_json(final / MARKER, marker)
                files.sync_folder(self.folder)
        except Exception as caught:
            error = caught
        self._settle(error, partial)
        return final

    def _agreed(self, flag: bool) -> bool:
        return self._world.agree(flag)[0]

    def _settle(self, error: Exception | None, partial: Path) -> None:
        """All processes go on, or all give up."""
        if not self._agreed(error is not None):
            return
        if self._world.first:
            shutil.rmtree(partial, ignore_errors=True)
        if error is None:
            raise RuntimeError("another process could not write its part of the checkpoint")
        if no_space(error):
            raise DiskFull(
                f"The output volume is full: a checkpoint could not be written, {_free(self.folder)} MiB are free. "
                "The checkpoints before it are whole. Give output.storage more room, or lower checkpoint.keep."
            ) from error
        raise error

    def _prune(self, best: int | None) -> None:
        if not self._world.first:
            return
        valid = [(step, path) for step, path in checkpoints_in(self.folder) if is_complete(path)]
        kept = {step for step, _ in valid[: self._keep]} | {best}
        for step, path in checkpoints_in(self.folder):
            if step not in kept:
                files.remove(path)

    def start(self, resumed_step: int | None) -> None:
        """Clears what a former attempt left half-written, or wrote after the step that this one goes on from."""
        if self._world.first:
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in self.folder.glob(".*"):
                shutil.rmtree(path, ignore_errors=True)
            for step, path in checkpoints_in(self.folder):
                if resumed_step is None or step > resumed_step or not is_complete(path):
                    files.remove(path)
        self._world.barrier()

    def remove(self) -> None:
        """Takes every checkpoint away: the result is there, and says so."""
        files.remove(self.folder)

    def best_tensors(self, best: int, resumed_from: Path | None) -> dict[str, Tensor] | None:
        """The tensors of the best checkpoint, from memory or disk; None if it is lost."""
        if self._held is not None and self._held.step == best:
            return self._held.tensors
        for folder in (self.folder, resumed_from.parent if resumed_from else self.folder):
            path = folder / f"step-{best:08d}"
            if fault(path) is None:
                return load_tensors(path)
        return None


def checkpoints_in(folder: Path) -> list[tuple[int, Path]]:
    """Every checkpoint folder, valid or not, newest first."""
    if not folder.is_dir():
        return []
    found = [(int(m.group(1)), p) for p in folder.iterdir() if (m := _NAME.fullmatch(p.name))]
    return sorted(found, reverse=True)


def is_complete(path: Path) -> bool:
    """Whether the last file is there: enough to keep a checkpoint, not to load it."""
    return (path / MARKER).is_file()


def fault(path: Path) -> str | None:
    """Why a checkpoint must not be loaded, or None. Reads every file."""
    try:
        marker = json.loads((path / MARKER).read_bytes())
        expected = dict(marker["files"])
    except OSError:
        return "it was not completed"
    except (ValueError, KeyError, TypeError):
        return f"its {MARKER} is damaged"
    try:
        for name, entry in expected.items():
            if (path / name).stat().st_size != entry["bytes"] or files.sha256(path / name) != entry["sha256"]:
                return f"{name} does not have its digest"
    except (OSError, KeyError, TypeError):
        return "files are missing"
    return None


def usable(resume_from: Path) -> Path | None:
    """The checkpoint to go on from: the one given, or the newest before it that is whole; None without any."""
    candidates = [resume_from, *(p for _, p in checkpoints_in(resume_from.parent) if p.name < resume_from.name)]
    for path in candidates:
        why = fault(path)
        if why is None:
            return path
        log.warning("checkpoint %s is not used: %s", path.name, why)
    return None


def load_state(path: Path, rank: int) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """State and this process's random state (None if the run had fewer processes)."""
    state: dict[str, Any] = json.loads((path / "state.json").read_bytes())
    rng = path / f"rng-{rank}.json"
    return state, json.loads(rng.read_bytes()) if rng.exists() else None


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint that `fault` found whole, on the CPU."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = HuggingFaceStorageReader(str(path / "tensors"))
    tensors: dict[str, Any] = {
        name: torch.empty(meta.size, dtype=meta.properties.dtype)
        for name, meta in reader.read_metadata().state_dict_metadata.items()
        if isinstance(meta, TensorStorageMetadata)
    }
    with _one_process():
        load(tensors, storage_reader=reader, no_dist=True)
    return tensors


def _save_tensors(tensors: dict[str, Tensor], folder: Path) -> None:
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with _one_process():
        save(plain, storage_writer=HuggingFaceStorageWriter(str(folder)), no_dist=True)


@contextlib.contextmanager
def _one_process() -> Iterator[None]:
    """Every process holds all tensors, so the first one saves for all: that is meant, and no reason for a warning."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            yield
    except CheckpointException as error:
        # It is no Exception, and holds what each process met as (error, traceback).
        raise next(iter(error.failures.values()))[0] from None


def _free(folder: Path) -> int:
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize // 2**20
