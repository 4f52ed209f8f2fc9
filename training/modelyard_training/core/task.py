"""What a recipe gives to the loop.

A task is built anew in each attempt from the same configuration, so everything in it but the weights must follow from
the configuration, the data and the seed alone: that is what makes a resumed run exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from modelyard_training.core.world import World

Batch = Mapping[str, Tensor]
Indices = Tensor
"""Numbers of examples, int64 [N], on the CPU."""


@dataclass(frozen=True)
class Use:
    """How the result is loaded, for its card: by a stock library, or by a file that lies beside it."""

    task: str
    """What it does, as the hubs call it, such as `text-classification`."""
    library: str | None
    """The stock library as the hubs call it, if there is one."""
    code: tuple[str, ...]
    """Lines of Python that load and use it from its own folder, `folder`; an adapter's base is at `base`."""


@dataclass(frozen=True)
class Description:
    """What the metadata says of the result, beside what the loop knows itself."""

    kind: Literal["Tabular", "Full", "Adapter"]
    algorithm: str
    train_samples: int
    test_samples: int
    target: str
    use: Use
    features: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    """Counts that a person should see, such as rows left out."""
    params: dict[str, Any] | None = None
    """The parameters that made it, where the recipe has chosen some of them itself; else those of the run."""


class Task(Protocol):
    """Model, data, loss, metrics and output of one recipe."""

    @property
    def model(self) -> nn.Module:
        """The model, on the CPU when the loop gets it."""

    @property
    def unit(self) -> str:
        """What is counted in throughput, such as `rows`."""

    @property
    def best_metric(self) -> tuple[str, Literal["min", "max"]]:
        """A key of `evaluate`'s result, and which direction is better."""

    def groups(self) -> list[dict[str, Any]]:
        """Parameter groups for AdamW, with `lr` and `weight_decay`."""

    def batches(self, epoch: int) -> Sequence[Indices]:
        """The training batches of an epoch (from 0) in order: a pure function of the epoch, of constant length."""

    def load(self, indices: Indices) -> Batch:
        """The tensors of a training batch, on the CPU or already on the device."""

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The mean loss of a batch (scalar, with gradient), over `model`, which may wrap the task's own."""

    def evaluate(self, world: World) -> dict[str, float]:
        """Metrics on the held-out split, `validationLoss` among them, or none if nothing is held out.

        Every process calls it and gets the same.

        Raises `Stopped`, in all processes, when the run is asked to stop.
        """

    def where(self, indices: Indices) -> str:
        """Where the examples of a batch come from, in words for the user."""

    def describe(self) -> Description:
        """What was trained, on what."""

    def export(self, folder: Path) -> None:
        """Writes the model as stock libraries load it, without a pickle. Raises OSError."""


@runtime_checkable
class Counting(Protocol):
    """A task whose throughput is not counted in examples."""

    def count(self, indices: Indices) -> int:
        """How many of its `unit` a batch has."""


@runtime_checkable
class Sampling(Protocol):
    """A task that shows what it has learned every `sample_every` steps and after the last one."""

    sample_every: int

    def sample(self, step: int) -> None:
        """Writes samples of the step. It changes no weight; the loop keeps the random generators. Raises OSError."""


@runtime_checkable
class Optimizing(Protocol):
    """A task that AdamW does not train."""

    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the model's parameters, which are on their device by now."""


@runtime_checkable
class Remembering(Protocol):
    """A task with a state of its own that is no tensor, such as trees."""

    def memory(self) -> dict[str, Any]:
        """That state as JSON values, not changed by later steps."""

    def remember(self, memory: dict[str, Any]) -> None:
        """Puts back what `memory` gave; the tensors of `model` follow."""


@dataclass(frozen=True)
class Result:
    """What a candidate reached: its best held-out metrics, and where."""

    metrics: dict[str, float]
    step: int | None
    epoch: int | None
    seconds: float


@runtime_checkable
class Choosing(Protocol):
    """A task of several candidates, which the loop trains one after the other and of which the best is kept."""

    candidate: str
    """Name of the one that is trained now."""

    def lengths(self) -> list[tuple[int, int]]:
        """Epochs and batches an epoch of every candidate, in order."""

    def advance(self, result: Result) -> None:
        """Takes the result of the candidate, whose best weights are in `model`, and turns to the next one."""

    def choose(self, result: Result) -> Result:
        """Takes the last one's result, and gives that of the best, which is then the one described and exported."""


def optimizer_of(task: Task) -> torch.optim.Optimizer:
    """What trains the task's model: AdamW, unless the task brings its own."""
    return task.optimizer() if isinstance(task, Optimizing) else torch.optim.AdamW(task.groups(), fused=True)
