"""What is trained now and for how long: the model in its place, its optimizer and rates, the steps that are planned."""

from __future__ import annotations

import math

from torch import nn

from modelyard_training.core import compiled, schedule, sharding
from modelyard_training.core.progress import Progress, Settings, plan_of
from modelyard_training.core.task import Choosing, Task, optimizer_of
from modelyard_training.core.world import World

_ROWS = 10_000
"""At most about this many step rows go to `metrics.jsonl`."""


class Course:
    """The task's model, or that of the candidate that `progress` names, ready to be trained."""

    def __init__(self, task: Task, settings: Settings, world: World, progress: Progress) -> None:
        self._settings = settings
        if settings.compile:
            compiled.compile_in_place(task.model)
        self.model: nn.Module = world.wrap(task.model, shard=settings.shard, bf16=world.bf16(settings.precision))
        self.sharded = sharding.is_sharded(self.model)
        self.optimizer = optimizer_of(task)
        self.trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self._rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        lengths = task.lengths() if isinstance(task, Choosing) else [(settings.epochs, len(task.batches(0)))]
        plan = plan_of(lengths, settings, world.size)
        self.epochs, self.epoch_steps, self.steps = plan[progress.candidate]
        self.first_step, self.first_epoch = progress.first_step, progress.first_epoch
        self.last_step = self.first_step + self.steps
        ahead = plan[progress.candidate :]
        self.total_steps = self.first_step + sum(one.steps for one in ahead)
        self.total_epochs = self.first_epoch + sum(math.ceil(one.steps / one.epoch_steps) for one in ahead)
        self._row_every = max(1, sum(one.steps for one in plan) // _ROWS)

    def finished(self, progress: Progress) -> bool:
        """Whether nothing is left to train of it."""
        epochs = progress.epoch - self.first_epoch
        return progress.ended or progress.step >= self.last_step or epochs >= self.epochs

    def set_rates(self, step: int) -> None:
        """Gives the optimizer the learning rates of the step that follows `step`."""
        at, told = step - self.first_step, self._settings
        share = schedule.factor(at, self.steps, told.schedule, told.warmup_ratio)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * share

    def batch_of(self, step: int) -> int:
        """Which of its epoch's a step is, from 1."""
        return (step - self.first_step - 1) % self.epoch_steps + 1

    def has_row(self, step: int) -> bool:
        """Whether the step has a row of its own in `metrics.jsonl`."""
        return step % self._row_every == 0 or step == self.last_step
