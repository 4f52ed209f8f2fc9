"""Weights, gradients and optimizer state divided over the processes of a node, the same in every node (FSDP2).

Within a node the links are fast enough to fetch a block's weights when it is its turn; across nodes only gradients
travel. A model is sharded in place and keeps its names; `whole` makes it a plain one again, for its export.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from modelyard_training.core.compiled import blocks

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from modelyard_training.core.world import World


@functools.cache
def mesh(world: World, kind: str) -> DeviceMesh:
    """The processes as rows of nodes. One row, or one process a node, is a plain line: everything is divided."""
    from torch.distributed.device_mesh import init_device_mesh

    in_node = int(os.environ.get("LOCAL_WORLD_SIZE", str(world.size)))
    nodes = world.size // in_node
    if nodes == 1 or in_node == 1:
        return init_device_mesh(kind, (world.size,))
    return init_device_mesh(kind, (nodes, in_node), mesh_dim_names=("replicate", "shard"))


def shard(model: nn.Module, world: World, bf16: bool) -> None:
    """Shards `model` in place: each repeated block by itself, the rest together."""
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    # Gathered and computed in 16 bits, summed up in 32.
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if bf16 else MixedPrecisionPolicy()
    where = mesh(world, world.device.type)
    for module in (*blocks(model), model):
        fully_shard(module, mesh=where, mp_policy=policy)


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard` was called on it."""
    from torch.distributed.fsdp import FSDPModule

    return isinstance(model, FSDPModule)


def settle(model: nn.Module) -> None:
    """Gives back what a forward pass without a backward one left gathered: parameters are shards from here on."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def shards(model: nn.Module) -> dict[str, Tensor]:
    """The sharded parameters by name; none of a plain model."""
    from torch.distributed.tensor import DTensor

    if not is_sharded(model):
        return {}
    settle(model)
    return {name: p for name, p in model.named_parameters(remove_duplicate=False) if isinstance(p, DTensor)}


def on_cpu(tensors: Mapping[str, Tensor], world: World) -> dict[str, Tensor]:
    """Copies on the CPU that later steps do not change; a shard stays one."""
    from torch.distributed.tensor import DTensor

    there: DeviceMesh | None = None
    copies: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, DTensor):
            copies[name] = tensor.detach().to("cpu", copy=True)
            continue
        there = there or (tensor.device_mesh if tensor.device_mesh.device_type == "cpu" else mesh(world, "cpu"))
        copies[name] = DTensor.from_local(
            tensor.to_local().detach().to("cpu", copy=True),
            there,
            tensor.placements,
            run_check=False,
            shape=tensor.shape,
            stride=tensor.stride(),
        )
    return copies


def whole(model: nn.Module, world: World) -> None:
    """Makes `model` a plain one on the CPU of the first process; every process must call it."""
    from torch.distributed.tensor import DTensor

    settle(model)
    done: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if not isinstance(parameter, DTensor):
                continue
            # A weight with two names stays one.
            if id(parameter) not in done:
                full = parameter.detach().full_tensor()
                done[id(parameter)] = nn.Parameter(full.cpu() if world.first else full[:0].cpu(), requires_grad=False)
            module._parameters[name] = done[id(parameter)]
