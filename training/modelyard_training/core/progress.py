"""What the loop is told, how far it is, and how many steps that will be: values alone, nothing of torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from modelyard_training.core.errors import BadInput


@dataclass(frozen=True)
class Settings:
    """What the loop is told: the effective parameters and the checkpoint policy."""

    epochs: int
    max_steps: int | None
    accumulation: int
    schedule: str
    warmup_ratio: float
    clip: float
    precision: str
    patience: int
    min_delta: float
    save_steps: int | None
    save_seconds: float
    bitwise: bool
    last_weights: bool
    """The result is what the last step left, not the best."""
    compile: bool
    shard: bool
    identity: dict[str, Any]
    """What a checkpoint must agree with to be gone on from: recipe, examples."""


@dataclass
class Progress:
    """How far the run is. `epoch` counts finished epochs, `batch` the batches done in the one under way.

    Of a task with several candidates `candidate` is the one that is trained, and `first_…` is where it began.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0
    best_value: float | None = None
    best_step: int | None = None
    best_epoch: int | None = None
    best_metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    stale_epochs: int = 0
    seconds: float = 0.0
    ended: bool = False
    candidate: int = 0
    first_step: int = 0
    first_epoch: int = 0
    first_seconds: float = 0.0


class Length(NamedTuple):
    """Epochs at most, steps an epoch, and steps at most."""

    epochs: int
    epoch_steps: int
    steps: int


def plan_of(lengths: Sequence[tuple[int, int]], settings: Settings, processes: int) -> list[Length]:
    """How long each candidate trains, from its epochs and batches an epoch.

    Raises `BadInput` when there are fewer batches than processes.
    """
    found = []
    for epochs, batches in lengths:
        each = math.ceil(batches // processes / settings.accumulation)
        if each == 0:
            raise BadInput(
                f"There are fewer training batches than the {processes} processes: lower batchSize, or use fewer GPUs."
            )
        found.append(Length(epochs, each, min(epochs * each, settings.max_steps or epochs * each)))
    return found
