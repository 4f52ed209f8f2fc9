"""What the recipes share: parameter groups, the order of an epoch."""

from __future__ import annotations

from typing import Any

import torch

from modelyard_training.core.data import ROW, Table
from modelyard_training.core.task import Indices


def weight_groups(parameters: Any, rate: float, decay: float) -> list[dict[str, Any]]:
    """AdamW groups of named parameters: matrices with weight decay, vectors without."""
    trained = [p for _, p in parameters if p.requires_grad]
    groups = (([p for p in trained if p.dim() > 1], decay), ([p for p in trained if p.dim() <= 1], 0.0))
    return [{"params": params, "lr": rate, "weight_decay": decay} for params, decay in groups if params]


def generator(seed: int, epoch: int) -> torch.Generator:
    """The order of an epoch: the same in every attempt, and no other random number depends on it."""
    return torch.Generator().manual_seed(seed * 1_000_003 + epoch)


def places(table: Table, indices: Indices) -> str:
    """The first three rows of a batch by file and line."""
    rows = table.frame[ROW]
    named = [table.place(int(rows[int(i)])) for i in indices[:3]]
    return ", ".join(named) + (", …" if len(indices) > 3 else "")
