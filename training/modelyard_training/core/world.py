"""The processes that train together, and the device of this one.

One process is the common case and costs nothing. Several are started by torchrun; what they must do at the same step
(stop, save, read losses back) they agree on over gloo on the CPU, so that a GPU is never waited for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from modelyard_training.core import sharding


@dataclass(frozen=True)
class World:
    """This process among all: `rank` of `size`, and its device."""

    rank: int
    size: int
    device: torch.device
    group: Any = None
    """Whom the words of this object go to; None: the group that all processes began with."""

    def apart(self) -> World:
        """The same processes with a line of their own, for a thread. Every process must call it."""
        if self.size == 1:
            return self
        return dataclasses.replace(self, group=dist.new_group(backend="gloo"))

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def agree(self, *flags: bool) -> tuple[bool, ...]:
        """What any process wants, all do: the flags, or-ed over the processes. Every process must call it."""
        if self.size == 1:
            return flags
        wanted = torch.tensor([int(f) for f in flags], dtype=torch.int32)
        dist.all_reduce(wanted, op=dist.ReduceOp.MAX, group=self.group)
        return tuple(bool(w) for w in wanted.tolist())

    def mean(self, values: Tensor) -> Tensor:
        """Element-wise mean over the processes, on the CPU."""
        values = values.detach().to("cpu", torch.float64)
        if self.size > 1:
            dist.all_reduce(values, group=self.group)
            values /= self.size
        return values

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, in rank order, on the CPU. Shapes differ in the first dimension only."""
        rows = rows.detach().to("cpu").contiguous()
        if self.size == 1:
            return rows
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(rows)]), group=self.group)
        most = max(int(n) for n in lengths)
        padded = torch.zeros((most, *rows.shape[1:]), dtype=rows.dtype)
        padded[: len(rows)] = rows
        parts = [torch.zeros_like(padded) for _ in range(self.size)]
        dist.all_gather(parts, padded, group=self.group)
        return torch.cat([part[: int(n)] for part, n in zip(parts, lengths, strict=True)])

    def share(self, items: Sequence[Tensor]) -> list[Tensor]:
        """This process's part of the training batches; all get equally many, so a few at the end may be left out."""
        return list(items[self.rank : len(items) // self.size * self.size : self.size])

    def wrap(self, model: nn.Module, *, shard: bool = False, bf16: bool = False) -> nn.Module:
        """`model` on this device, with gradients averaged over the processes; `shard`: divided over those of a node."""
        if shard and self.size > 1:
            sharding.shard(model, self, bf16)
            return model
        model.to(self.device)
        if self.size == 1:
            return model
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=ids)

    def align(self, model: nn.Module) -> None:
        """Gives all processes the first one's buffers, such as the running means of a batch norm."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def bf16(self, precision: str) -> bool:
        """Whether the forward and backward pass are computed in 16 bits, by the parameter `precision`."""
        auto = precision == "Auto" and self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        return auto or precision == "BF16"

    def autocast(self, precision: str) -> contextlib.AbstractContextManager[Any]:
        """What a forward pass runs in."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16(precision) else contextlib.nullcontext()

    def on_device(self, batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The batch on this device."""
        if self.device.type == "cpu":
            return batch
        return {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}

    def unsynced(self, model: nn.Module, more: bool) -> contextlib.AbstractContextManager[Any]:
        """Gradients are averaged over the processes once a step, with its last batch: `more` says that it is not."""
        if isinstance(model, nn.parallel.DistributedDataParallel):
            return model.no_sync() if more else contextlib.nullcontext()
        if sharding.is_sharded(model):
            model.set_requires_gradient_sync(not more)  # type: ignore[operator]
        return contextlib.nullcontext()

    def barrier(self) -> None:
        """Waits until every process is here."""
        if self.size > 1:
            self.agree(False)

    def close(self) -> None:
        """Leaves the group, so that the process ends without a warning."""
        if self.size > 1:
            dist.destroy_process_group()


def join() -> World:
    """This process's world, from torchrun's variables; one process without them."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if size > 1:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    return World(rank=int(os.environ.get("RANK", "0")), size=size, device=device)
