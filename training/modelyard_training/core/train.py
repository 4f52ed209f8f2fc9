"""The loop, the same for every recipe: batches, steps, held-out metrics, checkpoints, stopping, going on.

Its whole state between two steps is `Progress`, the weights, the optimizer and the random generators. Whatever is
decided by a clock or a signal (save, stop, read losses back) is agreed on by all processes at one step, and changes
nothing of what is computed: a run that was killed anywhere computes the same steps as one that was not.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modelyard_training.core import checkpoint, determinism, sharding
from modelyard_training.core.checkpoint import Checkpoints, Snapshot
from modelyard_training.core.course import Course
from modelyard_training.core.errors import BadInput, DiskFull, Stopped, no_space
from modelyard_training.core.progress import Progress, Settings
from modelyard_training.core.report import MetricsFile, Reporter
from modelyard_training.core.stop import Stop
from modelyard_training.core.task import Choosing, Indices, Remembering, Result, Sampling, Task
from modelyard_training.core.told import Teller
from modelyard_training.core.world import World


class Loop:
    """One run of a task. `run` returns when it is finished, or when it has saved because it was asked to stop."""

    def __init__(
        self,
        task: Task,
        settings: Settings,
        world: World,
        checkpoints: Checkpoints,
        metrics: MetricsFile,
        reporter: Reporter,
        stop: Stop,
    ) -> None:
        self.task, self.settings, self.world = task, settings, world
        self.checkpoints, self.stop = checkpoints, stop
        self.told = Teller(task, world, metrics, reporter)
        self._sampling = task if isinstance(task, Sampling) else None
        self.progress = Progress()
        self.last_checkpoint: tuple[int, Path] | None = None
        self.weights_step = 0
        self.begun = False
        """Whether the model and its optimizer are in their place."""
        self._resumed_from: Path | None = None
        self._clock = self._saved_at = time.monotonic()

    def run(self, resume_from: Path | None) -> bool:
        """Trains. True: finished, with the last checkpoint written; False: stopped, likewise. Raises `BadInput`."""
        self._start(resume_from)
        while True:
            while not self.course.finished(self.progress):
                if not self._epoch():
                    self._save(wait=True)
                    return False
            if not self._advance():
                self._save(wait=True)
                return True

    def _epoch(self) -> bool:
        """The rest of an epoch and its evaluation. False: the run is to stop before the epoch's end."""
        p, course = self.progress, self.course
        batches = self.world.share(self.task.batches(p.epoch - p.first_epoch))
        course.model.train()
        while p.batch < len(batches) and p.step < course.last_step:
            self._step(batches[p.batch : p.batch + self.settings.accumulation])
            self._sample()
            last = p.batch >= len(batches) or p.step >= course.last_step
            if not self._turn(may_save=not last):
                return False
        self.told.read(p, course)
        self.told.report("Evaluating", p, course, due=True)
        try:
            metrics = self._evaluate()
        except Stopped:
            # Every batch of the epoch is done: the next attempt begins with this evaluation.
            return False
        self._end_epoch(metrics)
        return self._turn(may_save=True)

    def _step(self, batches: Sequence[Indices]) -> None:
        """One optimizer step over the batches, their gradients summed as one mean."""
        p, model, optimizer = self.progress, self.course.model, self.course.optimizer
        self.course.set_rates(p.step)
        total: Tensor | None = None
        for number, indices in enumerate(batches, start=1):
            batch = self.world.on_device(self.task.load(indices))
            with self.world.unsynced(model, number < len(batches)), self.world.autocast(self.settings.precision):
                loss = self.task.loss(model, batch)
            if len(batches) > 1:
                loss = loss / len(batches)
            loss.backward()  # type: ignore[no-untyped-call]
            total = loss.detach() if total is None else total + loss.detach()
            self.told.seen(indices)
        if self.settings.clip > 0:
            nn.utils.clip_grad_norm_(self.course.trained, self.settings.clip)
        optimizer.step()
        for parameter in self.course.trained:
            parameter.grad = None
        p.step += 1
        p.batch += len(batches)
        assert total is not None
        self.told.step(p.step, batches[0], total)

    def _turn(self, *, may_save: bool) -> bool:
        """Between two steps: what the clock or a signal asks of any process, all do. False: stop here."""
        now = time.monotonic()
        every = self.settings.save_steps
        by_steps = every is not None and self.progress.step % every == 0
        stop, failed, read, save = self.world.agree(
            self.stop.requested,
            self.checkpoints.failed,
            self.told.due(now),
            may_save and (by_steps or now - self._saved_at >= self.settings.save_seconds),
        )
        if read or save or stop:
            self.told.read(self.progress, self.course)
        if stop:
            return False
        if failed:
            self.checkpoints.finish()
        if save:
            self._save()
        self._tell_saved()
        self.told.report("Training", self.progress, self.course, due=False)
        return True

    def _sample(self) -> None:
        """Lets the first process write samples when they are due; the others wait for it."""
        task, step = self._sampling, self.progress.step
        if task is None or (step % task.sample_every and step != self.course.total_steps):
            return
        self.told.read(self.progress, self.course)
        if self.world.first:
            self.told.report("Sampling", self.progress, self.course, due=True)
            rng = determinism.rng_state(self.world.device)
            try:
                with self.world.autocast(self.settings.precision):
                    task.sample(step)
            except Exception as error:
                # safetensors has an error of its own.
                if not no_space(error):
                    raise
                raise DiskFull(
                    f"The output volume is full: the samples of step {step} could not be written. Give output.storage "
                    "more room, or raise sampleEvery."
                ) from error
            determinism.set_rng_state(rng, self.world.device)
        self.world.barrier()

    def _evaluate(self) -> dict[str, float]:
        self.course.model.eval()
        # What a sharded model gathers here it uses in training too.
        without = torch.no_grad() if self.course.sharded else torch.inference_mode()
        with without, self.world.autocast(self.settings.precision):
            metrics = self.task.evaluate(self.world)
        self.course.model.train()
        if not math.isfinite(metrics.get("validationLoss", 0.0)):
            raise BadInput(
                f"The loss on the held-out split is not a finite number after step {self.progress.step}. Look for "
                "extreme values in its rows, or lower learningRate."
            )
        return {name: value for name, value in metrics.items() if math.isfinite(value)}

    def _end_epoch(self, metrics: dict[str, float]) -> None:
        p = self.progress
        row = {"loss": p.loss_sum / max(1, p.loss_count), **metrics}
        p.epoch, p.batch, p.loss_sum, p.loss_count = p.epoch + 1, 0, 0.0, 0
        name, direction = self.task.best_metric
        value = metrics.get(name)
        better = value is not None and (
            p.best_value is None
            or (p.best_value - value if direction == "min" else value - p.best_value) > self.settings.min_delta
        )
        p.stale_epochs = 0 if better else p.stale_epochs + 1
        p.ended = 0 < self.settings.patience <= p.stale_epochs
        if better:
            p.best_value, p.best_step, p.best_epoch, p.best_metrics = value, p.step, p.epoch, row
            self.checkpoints.hold(self._snapshot())
        self.told.latest.update(row)
        which = {"candidate": self.task.candidate} if isinstance(self.task, Choosing) else {}
        self.told.row({"step": p.step, "epoch": p.epoch, **which, **row})
        self.told.report("Training", p, self.course, {"epoch": p.epoch, "metrics": row}, due=True)

    def _save(self, *, wait: bool = False) -> None:
        """Takes a checkpoint. Without `wait` it is written while training goes on."""
        self.told.read(self.progress, self.course)
        self.checkpoints.save(self._snapshot(), self.progress.best_step, wait=wait)
        self._saved_at = time.monotonic()
        self._tell_saved()

    def _snapshot(self) -> Snapshot:
        self._tick()
        state = {
            "progress": dataclasses.asdict(self.progress),
            "identity": self.settings.identity,
            "circumstances": determinism.circumstances(self.world.size, self.world.device),
            "threads": torch.get_num_threads(),
        }
        if isinstance(self.task, Remembering):
            state["task"] = self.task.memory()
        tensors = checkpoint.tensors_of(self.task.model, self.course.optimizer)
        return Snapshot(self.progress.step, tensors, state, determinism.rng_state(self.world.device))

    def _tell_saved(self) -> None:
        saved = self.checkpoints.last
        if saved is None or saved == self.last_checkpoint:
            return
        self.last_checkpoint = saved
        if (told := self.checkpoint_report()) is not None:
            self.told.checkpoint(told)

    def checkpoint_report(self) -> dict[str, Any] | None:
        """Step and name of the last checkpoint, as reports carry it."""
        if self.last_checkpoint is None:
            return None
        step, path = self.last_checkpoint
        return {"step": step, "path": f"{path.parent.name}/{path.name}"}

    # The beginning, and what follows a candidate of several.

    def _start(self, resume_from: Path | None) -> None:
        self._resumed_from = resume_from
        if resume_from is None:
            self.course = self._course()
        else:
            rng = self._go_on(resume_from)
        self.checkpoints.start(self.progress.step if resume_from is not None else None)
        self.told.begin(self.progress)
        if resume_from is not None and rng is not None:
            determinism.set_rng_state(rng, self.world.device)
        self.begun = True
        self._clock = time.monotonic()

    def _go_on(self, resume_from: Path) -> dict[str, Any] | None:
        """Puts back what a checkpoint holds, but the state of the random generators, which it returns."""
        state, rng = checkpoint.load_state(resume_from, self.world.rank)
        if state["identity"] != self.settings.identity:
            raise BadInput(
                "The checkpoint was written by a run with another recipe or other data: give the run what it "
                "had, or start over with checkpoint.resume: Never."
            )
        if self.settings.bitwise:
            here = determinism.circumstances(self.world.size, self.world.device)
            determinism.check_same(state["circumstances"], here)
        p = self.progress = Progress(**state["progress"])
        if isinstance(self.task, Remembering):
            self.task.remember(state["task"])
        self.course = self._course()
        tensors = checkpoint.load_tensors(resume_from, sharding.shards(self.task.model))
        checkpoint.put_back(tensors, self.task.model, self.course.optimizer)
        self.last_checkpoint = (p.step, resume_from)
        if resume_from.parent != self.checkpoints.folder:
            # Of another Training, whose volume is not there for ever: the best is looked for anew.
            p.best_value = p.best_step = p.best_epoch = None
            p.best_metrics, p.stale_epochs, p.ended = {}, 0, False
        return rng

    def _course(self) -> Course:
        return Course(self.task, self.settings, self.world, self.progress)

    def _advance(self) -> bool:
        """Turns to the task's next candidate. False: there is none."""
        p = self.progress
        if not isinstance(self.task, Choosing) or p.candidate + 1 >= len(self.task.lengths()):
            return False
        self.task.advance(self._result())
        self.progress = Progress(
            step=p.step,
            epoch=p.epoch,
            seconds=p.seconds,
            candidate=p.candidate + 1,
            first_step=p.step,
            first_epoch=p.epoch,
            first_seconds=p.seconds,
        )
        self.course = self._course()
        return True

    def _result(self) -> Result:
        metrics = self._use_best()
        self._tick()
        p = self.progress
        return Result(metrics, p.best_step, p.best_epoch, round(p.seconds - p.first_seconds, 3))

    def use_best(self) -> dict[str, float]:
        """Puts the best checkpoint's weights into the model and returns its metrics; the last ones if it is lost."""
        if not isinstance(self.task, Choosing):
            return self._use_best()
        best = self.task.choose(self._result())
        self.progress.best_step, self.progress.best_epoch = best.step, best.epoch
        self.weights_step = self.progress.step if best.step is None else best.step
        return best.metrics

    def _use_best(self) -> dict[str, float]:
        p = self.progress
        self.weights_step = p.step
        if p.best_step is None or p.best_step == p.step:
            return p.best_metrics or dict(self.told.latest)
        if self.settings.last_weights:
            return dict(self.told.latest)
        self.checkpoints.finish()
        tensors = self.checkpoints.best_tensors(p.best_step, self._resumed_from, sharding.shards(self.task.model))
        if tensors is None:
            return dict(self.told.latest)
        checkpoint.put_back(tensors, self.task.model, None)
        self.weights_step = p.best_step
        return p.best_metrics

    def _tick(self) -> None:
        now = time.monotonic()
        self.progress.seconds, self._clock = self.progress.seconds + now - self._clock, now
