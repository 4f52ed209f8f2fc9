"""What the recipes share: parameter groups, the order of an epoch, adapters."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from modelyard_training.core.data import ROW, Table
from modelyard_training.core.errors import BadInput
from modelyard_training.core.task import Indices


def weight_groups(parameters: Any, rate: float, decay: float) -> list[dict[str, Any]]:
    """AdamW groups of named parameters: matrices with weight decay, vectors without."""
    trained = [p for _, p in parameters if p.requires_grad]
    groups = (([p for p in trained if p.dim() > 1], decay), ([p for p in trained if p.dim() <= 1], 0.0))
    return [{"params": params, "lr": rate, "weight_decay": decay} for params, decay in groups if params]


def generator(seed: int, epoch: int) -> torch.Generator:
    """The order of an epoch: the same in every attempt, and no other random number depends on it."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)


def check_rank(wanted: Any, rank: int) -> None:
    """Raises `BadInput` if the written `lora` block asks for another rank than the adapter that is gone on from has."""
    if wanted is not None and wanted.rank not in (None, rank):
        raise BadInput(
            f"lora.rank is {wanted.rank}, and the adapter of model.ref has rank {rank}, which stays: drop lora.rank, "
            "or name the adapter's base as model.ref to train a new one."
        )


def narrow_adapters(model: nn.Module) -> None:
    """Hands an adapter its inputs as they are, for a run that computes in 16 bits by autocast: peft widens them to
    the adapter's 32 bits, and autocast narrows them again in the next operation.
    """
    from peft.tuners.lora import LoraLayer

    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.cast_input_dtype_enabled = False


def places(table: Table, indices: Indices) -> str:
    """The first three rows of a batch by file and line."""
    rows = table.frame[ROW]
    named = [table.place(int(rows[int(i)])) for i in indices[:3]]
    return ", ".join(named) + (", …" if len(indices) > 3 else "")
