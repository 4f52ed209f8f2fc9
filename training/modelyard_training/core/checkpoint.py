"""Checkpoints: all that a run needs to go on exactly, in a folder that is whole or not there.

`checkpoints/step-XXXXXXXX/` holds the tensors (safetensors, by torch's distributed checkpoint), `state.json`, one
`rng-<rank>.json` a process and, last and by a rename, `complete.json` with every file's digest. A folder without it,
or whose digests differ, is never loaded. Nothing is ever unpickled. The newest `keep` stay, and the best one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import re
import shutil
import threading
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modelyard_training.core import files, sharding
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
    sharding.settle(model)
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    # A weight with two names, such as an embedding that is the head too, is frozen under both.
    every = model.named_parameters(remove_duplicate=False)
    frozen = {name for name, parameter in every if not parameter.requires_grad}
    found = {f"model.{k}": v.detach() for k, v in model.state_dict().items() if _trained(k, frozen)}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            found[f"optimizer.{key}.{names[parameter]}"] = value
    return found


def _trained(key: str, frozen: set[str]) -> bool:
    """Whether a key of a model's state is no frozen weight, nor what quantisation keeps below the name of one."""
    parts = key.split(".")
    return not any(".".join(parts[:end]) in frozen for end in range(1, len(parts) + 1))


def put_back(tensors: dict[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer | None) -> None:
    """The reverse of `tensors_of`. Raises `BadInput` when the tensors belong to another model."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    frozen = {name for name, parameter in parameters.items() if not parameter.requires_grad}
    own = {k: v for k, v in model.state_dict().items() if _trained(k, frozen)}
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
        self.last: tuple[int, Path] | None = None
        """Step and folder of the newest one that was completed."""
        self._keep = keep
        self._world = world
        # What the writing thread has to agree on must not meet what the loop agrees on.
        self._writers = world.apart()
        self._held: Snapshot | None = None
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    @property
    def failed(self) -> bool:
        """Whether a checkpoint could not be written; `finish` says why."""
        return self._error is not None

    def hold(self, snapshot: Snapshot) -> None:
        """Remembers the best so far. A small one reaches the disk with the next `save`, if it is the best still."""
        size = sum(t.nbytes for t in snapshot.tensors.values())
        if size > _HOLD_BYTES or _sharded(snapshot.tensors):
            self._held = None
            self.save(snapshot, best=snapshot.step)
            return
        self._held = dataclasses.replace(snapshot, tensors=sharding.on_cpu(snapshot.tensors, self._world))

    def save(self, snapshot: Snapshot, best: int | None, *, wait: bool = False) -> None:
        """Writes the snapshot, and the held best before it, while the caller goes on; with `wait` before it returns.

        Raises `DiskFull` for this one or the one before; the older checkpoints are still there.
        """
        self.finish()
        if self._held is not None and self._held.step != best:
            self._held = None
        if not wait and _fits(snapshot.tensors):
            copies = sharding.on_cpu(snapshot.tensors, self._world)
            snapshot, wait = dataclasses.replace(snapshot, tensors=copies), False
        else:
            wait = True
        together = [s for s in (self._held, snapshot) if s is not None and (s is snapshot or s.step != snapshot.step)]
        # A process that fails elsewhere must not wait here for the others.
        self._thread = threading.Thread(target=self._write_all, args=(together, best), name="checkpoint", daemon=True)
        self._thread.start()
        if wait:
            self.finish()

    def finish(self) -> None:
        """Waits until what is being written is there. Raises what kept it from being written."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _write_all(self, snapshots: list[Snapshot], best: int | None) -> None:
        try:
            for snapshot in snapshots:
                path = self._write(snapshot)
            self._prune(best)
            self.last = snapshots[-1].step, path
        except Exception as error:
            self._error = error

    def _write(self, snapshot: Snapshot) -> Path:
        final = self.folder / f"step-{snapshot.step:08d}"
        if self._agreed(self._world.first and is_complete(final)):
            return final
        partial = self.folder / f".step-{snapshot.step:08d}.partial"
        with self._together(partial):
            if self._world.first:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
        with self._together(partial):
            if _sharded(snapshot.tensors):
                _save_shards(snapshot.tensors, partial / "tensors", self._writers)
            elif self._world.first:
                _save_tensors(snapshot.tensors, partial / "tensors")
            files.write_json(partial / f"rng-{self._world.rank}.json", snapshot.rng)
        with self._together(partial):
            if self._world.first:
                files.write_json(partial / "state.json", snapshot.state)
                files.sync_tree(partial)
                marker = {"step": snapshot.step, "files": files.listing(partial)}
                files.remove(final)
                partial.rename(final)
                files.write_json(final / MARKER, marker)
                files.sync(self.folder)
        return final

    @contextlib.contextmanager
    def _together(self, partial: Path) -> Iterator[None]:
        """All processes go on, or all give up."""
        error: Exception | None = None
        try:
            yield
        except Exception as caught:
            error = caught
        self._settle(error, partial)

    def _agreed(self, flag: bool) -> bool:
        return self._writers.agree(flag)[0]

    def _settle(self, error: Exception | None, partial: Path) -> None:
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

    def best_tensors(
        self, best: int, resumed_from: Path | None, like: Mapping[str, Tensor]
    ) -> dict[str, Tensor] | None:
        """The tensors of the best checkpoint, from memory or disk; None if it is lost. `like`: see `load_tensors`."""
        if self._held is not None and self._held.step == best:
            return self._held.tensors
        for folder in (self.folder, resumed_from.parent if resumed_from else self.folder):
            path = folder / f"step-{best:08d}"
            if fault(path) is None:
                return load_tensors(path, like)
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


def load_tensors(path: Path, like: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint that `fault` found whole, on the CPU; by `like` (parameters by name) as shards."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = HuggingFaceStorageReader(str(path / "tensors"))
    tensors: dict[str, Any] = {}
    for name, meta in reader.read_metadata().state_dict_metadata.items():
        if isinstance(meta, TensorStorageMetadata):
            parameter = (like or {}).get(name.split(".", 1 if name.startswith("model.") else 2)[-1])
            if parameter is not None and parameter.shape == meta.size:
                tensors[name] = torch.empty_like(parameter, dtype=meta.properties.dtype, requires_grad=False)
            else:
                tensors[name] = torch.empty(meta.size, dtype=meta.properties.dtype)
    with _one_process():
        load(tensors, storage_reader=reader, no_dist=True)
    return tensors


def _save_tensors(tensors: dict[str, Tensor], folder: Path) -> None:
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with _one_process():
        save(plain, storage_writer=HuggingFaceStorageWriter(str(folder)), no_dist=True)


def _save_shards(tensors: dict[str, Tensor], folder: Path, world: World) -> None:
    """Every process writes its own shards; what all have is written once."""
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    with _one_process():
        save(dict(tensors), storage_writer=writer, process_group=world.group)


def _sharded(tensors: Mapping[str, Tensor]) -> bool:
    return any(hasattr(tensor, "to_local") for tensor in tensors.values())


def _fits(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a copy of the tensors leaves the most of the free memory free."""
    size = sum((t.to_local() if hasattr(t, "to_local") else t).nbytes for t in tensors.values())
    return size < os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4


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
