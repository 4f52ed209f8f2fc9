"""Whether a run fits: its batch into memory, its checkpoints onto the volume. Told before hours are spent on it.

Memory of a training step is a fixed part and one that grows with the batch. Two steps of different size tell both, and
from these follows what fits; the weights, the optimizer and the random numbers are afterwards as they were before.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modelyard_training.core import determinism
from modelyard_training.core.errors import BadInput, DiskFull
from modelyard_training.core.task import Task, optimizer_of
from modelyard_training.core.world import World

_USABLE = 0.9
"""Share of the memory that is planned with: an allocator can't use the last of it."""
_PROBED = 4
_LOOKED_AT = 16
_OF_ADAMW = 2
_ELSE = "take a GPU with more memory, activationCheckpointing, a smaller model or input, or several GPUs"
_NOT_ONE = f"There is too little memory even for a batch of one example: {_ELSE}."


class GPUOutOfMemory(BadInput):
    """The run does not fit into memory. `str(error)` names a setting that does, if there is one."""

    reason = "GPUOutOfMemory"


@dataclass(frozen=True)
class Need:
    """Bytes of memory of a training step: `fixed`, and `each` for every example of its batch."""

    fixed: float
    each: float

    def most(self, limit: float) -> int:
        """Examples in a batch that fit into `limit` bytes; 0 where none does."""
        if self.fixed + self.each > limit:
            return 0
        return int((limit - self.fixed) / self.each) if self.each > 0 else 2**31


def divided(examples: int, most: int) -> int:
    """The largest batch of at most `most` that an optimizer step of `examples` can be divided into evenly; 0: none."""
    return max((n for n in range(1, min(examples, most) + 1) if examples % n == 0), default=0)


def fitting(task: Task, params: dict[str, Any], world: World) -> int:
    """The largest batch that fits, of those that keep the examples of an optimizer step. Raises `GPUOutOfMemory`."""
    examples = params["batchSize"] * params["gradientAccumulation"]
    try:
        need = measure(task, params, world)
    except torch.OutOfMemoryError:
        need = Need(math.inf, 0.0)
    found = divided(examples, need.most(_USABLE * limit(world.device)))
    if found == 0:
        raise GPUOutOfMemory(_NOT_ONE)
    return found


def too_large() -> GPUOutOfMemory:
    """The error for a model that does not fit by itself."""
    return GPUOutOfMemory(f"The GPU has too little memory for the model itself: {_ELSE}.")


def out_of_memory(task: Task, params: dict[str, Any], world: World, sharded: bool) -> GPUOutOfMemory:
    """The error for a step that ran out of memory, with a setting that was measured to fit."""
    size, accumulation = params["batchSize"], params["gradientAccumulation"]
    try:
        # Shards can't be measured by one process alone.
        fits = size // 2 if sharded else fitting(task, params, world)
    except GPUOutOfMemory as error:
        return error
    # What ran out did not fit, whatever the measurement says.
    fits = divided(size * accumulation, min(fits, size - 1))
    if fits == 0:
        return GPUOutOfMemory(_NOT_ONE)
    return GPUOutOfMemory(
        f"There is too little memory for batchSize {size}: set batchSize: {fits} and gradientAccumulation: "
        f"{size * accumulation // fits}, which learns the same."
    )


def measure(task: Task, params: dict[str, Any], world: World) -> Need:
    """What steps of one and of a few examples need. Raises `torch.OutOfMemoryError`."""
    device = world.device
    sizes = (1, min(_PROBED, params["batchSize"] * params["gradientAccumulation"]))
    given = params["batchSize"], params["gradientAccumulation"]
    task.model.to(device)
    rng = determinism.rng_state(device)
    trained = [p for p in task.model.parameters() if p.requires_grad]
    before = [p.detach().to("cpu", copy=True) for p in trained]
    buffers = {name: b.detach().to("cpu", copy=True) for name, b in task.model.named_buffers()}
    try:
        peaks = []
        for size in sizes:
            params.update(batchSize=size, gradientAccumulation=1)
            peaks.append(_peak(task, params, world))
    finally:
        params.update(batchSize=given[0], gradientAccumulation=given[1])
        with torch.no_grad():
            for parameter, value in zip(trained, before, strict=True):
                parameter.grad = None
                parameter.copy_(value)
            for name, buffer in task.model.named_buffers():
                buffer.copy_(buffers[name])
        determinism.set_rng_state(rng, device)
        _free(device)
    each = max(0.0, (peaks[1] - peaks[0]) / (sizes[1] - sizes[0])) if sizes[1] > 1 else 0.0
    return Need(peaks[0] - each, each)


def _peak(task: Task, params: dict[str, Any], world: World) -> float:
    """Most bytes in use during an optimizer step over the heaviest of the first batches."""
    batches = list(task.batches(0))[:_LOOKED_AT]
    batch = task.load(max(batches, key=lambda b: sum(t.nbytes for t in task.load(b).values())))
    optimizer = optimizer_of(task)
    task.model.train()
    with _watched(world.device) as peak:
        with world.autocast(params["precision"]):
            loss = task.loss(task.model, {name: tensor.to(world.device) for name, tensor in batch.items()})
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(task.model.parameters(), 1.0)
        optimizer.step()
        found = peak()
    optimizer.zero_grad()
    return found


@contextlib.contextmanager
def _watched(device: torch.device) -> Iterator[Callable[[], float]]:
    _free(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: float(torch.cuda.max_memory_allocated(device))
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    yield _peak_of_process


def _peak_of_process() -> float:
    with contextlib.suppress(OSError, StopIteration, ValueError, IndexError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024.0 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _free(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def limit(device: torch.device) -> float:
    """Bytes of memory that this process may have: the GPU's, or the container's."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return float(free + torch.cuda.memory_reserved(device))
    most = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError, ValueError):
        most = min(most, float(Path("/sys/fs/cgroup/memory.max").read_text()))
    return most


def checkpoint_bytes(trained: int) -> int:
    """About how many bytes a checkpoint of `trained` bytes of weights has: AdamW keeps two more of each."""
    return trained * (1 + _OF_ADAMW)


def check_disk(output: Path, model: nn.Module, existing: int) -> None:
    """Raises `DiskFull` where not even two checkpoints and the result have room; `existing` are there already."""
    trained = sum(_bytes(p) for p in model.parameters() if p.requires_grad)
    each = checkpoint_bytes(trained)
    needed = each * max(0, 2 - existing) + trained
    stat = os.statvfs(output)
    free = stat.f_bavail * stat.f_frsize
    if free < needed:
        raise DiskFull(
            f"The output volume has {free // 2**20} MiB free, and the run needs {math.ceil(needed / 2**20)} MiB at "
            f"least: its checkpoints have about {math.ceil(each / 2**20)} MiB each. Give output.storage more room."
        )


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
