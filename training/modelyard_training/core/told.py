"""What the loop tells: the losses of its steps, read back once in a while, and how far it is, at what rate."""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from modelyard_training.core.course import Course
from modelyard_training.core.errors import BadInput
from modelyard_training.core.progress import Progress
from modelyard_training.core.report import MetricsFile, Reporter
from modelyard_training.core.task import Counting, Indices, Task
from modelyard_training.core.world import World

_READ_SECONDS = 0.5
_REPORT_SECONDS = 1.0
_WINDOW = 512


class Teller:
    """The losses of one run, its `metrics.jsonl` and its reports. `latest` holds the newest of each metric."""

    def __init__(self, task: Task, world: World, metrics: MetricsFile, reporter: Reporter) -> None:
        self._task, self._world, self._metrics, self._reporter = task, world, metrics, reporter
        self._count = task.count if isinstance(task, Counting) else len
        self.latest: dict[str, float] = {}
        self._window: list[tuple[int, Indices, Tensor]] = []
        self._examples = 0
        self._first_step = 0
        self._began = self._read_at = self._reported_at = time.monotonic()

    def begin(self, progress: Progress) -> None:
        """Tells from here on; rows of steps that come again are dropped."""
        if self._world.first:
            self._metrics.cut(progress.step, progress.epoch)
        self._first_step, self._began = progress.step, time.monotonic()

    def step(self, step: int, indices: Indices, loss: Tensor) -> None:
        """Keeps the loss of a step, which began with the batch `indices`; it is not waited for."""
        self._window.append((step, indices, loss))

    def seen(self, indices: Indices) -> None:
        """Counts a batch in the rate."""
        self._examples += self._count(indices)

    def due(self, now: float) -> bool:
        """Whether losses are to be read back."""
        return now - self._read_at >= _READ_SECONDS or len(self._window) >= _WINDOW

    def read(self, progress: Progress, course: Course) -> None:
        """Fetches the losses since the last time: once, so that a GPU is not waited for in each step.

        Raises `BadInput` for one that is not finite.
        """
        self._read_at = time.monotonic()
        if not self._window:
            return
        losses = self._world.mean(torch.stack([loss.float() for _, _, loss in self._window])).tolist()
        for (step, indices, _), loss in zip(self._window, losses, strict=True):
            if not math.isfinite(loss):
                raise BadInput(
                    f"The loss is not a finite number at step {step} (epoch {progress.epoch + 1}, batch "
                    f"{course.batch_of(step)}: {self._task.where(indices)}). Look for extreme values there, or lower "
                    "learningRate."
                )
            progress.loss_sum += loss
            progress.loss_count += 1
            if course.has_row(step):
                self._metrics.add({"step": step, "loss": loss})
        self.latest["loss"] = losses[-1]
        self._window.clear()
        if self._world.first:
            self._metrics.flush()

    def row(self, row: dict[str, Any]) -> None:
        """Writes the row of an epoch."""
        if self._world.first:
            self._metrics.add(row)
            self._metrics.flush()

    def checkpoint(self, told: dict[str, Any]) -> None:
        """Reports a checkpoint that is complete."""
        if self._world.first:
            self._reporter.send({"step": told["step"], "checkpoint": told}, keep=True)

    def report(
        self, phase: str, progress: Progress, course: Course, epoch_row: dict[str, Any] | None = None, *, due: bool
    ) -> None:
        """Reports how far the run is; unless it is `due`, only if the last time is a while ago."""
        now = time.monotonic()
        if not self._world.first or not (due or now - self._reported_at >= _REPORT_SECONDS):
            return
        done = progress.step - self._first_step
        eta = round((course.total_steps - progress.step) * (now - self._began) / done) if done else None
        # The work is finished when the result is there, and says so itself: never by 100 %.
        status: dict[str, Any] = {
            "progressPercentage": min(99, 100 * progress.step // course.total_steps),
            "metrics": [{"name": k, "value": str(v)} for k, v in self.latest.items()],
        }
        ours: dict[str, Any] = {
            "phase": phase,
            "step": progress.step,
            "totalSteps": course.total_steps,
            "epoch": progress.epoch,
            "totalEpochs": course.total_epochs,
            "metrics": dict(self.latest),
        }
        if eta is not None:
            status["estimatedRemainingSeconds"] = eta
        if now > self._reported_at and self._examples:
            ours["throughput"] = round(self._examples * self._world.size / (now - self._reported_at), 2)
            ours["unit"] = f"{self._task.unit}/s"
        if epoch_row is not None:
            ours["epochRow"] = epoch_row
        self._reported_at, self._examples = now, 0
        self._reporter.send(ours, status, keep=epoch_row is not None)
