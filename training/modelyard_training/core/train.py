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

from modelyard_training.core import checkpoint, compiled, determinism, schedule, sharding
from modelyard_training.core.checkpoint import Checkpoints, Snapshot
from modelyard_training.core.errors import BadInput, DiskFull, Stopped, no_space
from modelyard_training.core.progress import Progress, Settings, plan_of
from modelyard_training.core.report import MetricsFile, Reporter
from modelyard_training.core.stop import Stop
from modelyard_training.core.task import (
    Choosing,
    Counting,
    Indices,
    Remembering,
    Result,
    Sampling,
    Task,
    optimizer_of,
)
from modelyard_training.core.world import World

_READ_SECONDS = 0.5
_REPORT_SECONDS = 1.0
_WINDOW = 512
_ROWS = 10_000
"""At most about this many step rows go to `metrics.jsonl`."""


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
        self.checkpoints, self.metrics, self.reporter, self.stop = checkpoints, metrics, reporter, stop
        self.progress = Progress()
        self.last_checkpoint: tuple[int, Path] | None = None
        self.total_steps = self.total_epochs = 0
        self.weights_step = 0
        self._row_every = 1
        self._window: list[tuple[int, Indices, Tensor]] = []
        self._latest: dict[str, float] = {}
        self._count = task.count if isinstance(task, Counting) else len
        self._examples = 0
        now = time.monotonic()
        self._began = self._clock = self._read_at = self._reported_at = self._saved_at = now
        self._first_step = 0

    def run(self, resume_from: Path | None) -> bool:
        """Trains. True: finished, with the last checkpoint written; False: stopped, likewise. Raises `BadInput`."""
        self._start(resume_from)
        while True:
            while not self._finished():
                if not self._epoch():
                    self._save(wait=True)
                    return False
            if not self._advance():
                self._save(wait=True)
                return True

    def _start(self, resume_from: Path | None) -> None:
        rng = None
        if resume_from is not None:
            state, rng = checkpoint.load_state(resume_from, self.world.rank)
            if state["identity"] != self.settings.identity:
                raise BadInput(
                    "The checkpoint was written by a run with another recipe or other data: give the run what it "
                    "had, or start over with checkpoint.resume: Never."
                )
            if self.settings.bitwise:
                here = determinism.circumstances(self.world.size, self.world.device)
                determinism.check_same(state["circumstances"], here)
            self.progress = Progress(**state["progress"])
            if isinstance(self.task, Remembering):
                self.task.remember(state["task"])
            self._prepare()
            tensors = checkpoint.load_tensors(resume_from, sharding.shards(self.task.model))
            checkpoint.put_back(tensors, self.task.model, self.optimizer)
            self.last_checkpoint = (self.progress.step, resume_from)
        else:
            self._prepare()
        if resume_from is not None and resume_from.parent != self.checkpoints.folder:
            # Of another Training, whose volume is not there for ever: the best is looked for anew.
            p = self.progress
            p.best_value = p.best_step = p.best_epoch = None
            p.best_metrics, p.stale_epochs, p.ended = {}, 0, False
        self._resumed_from = resume_from
        self._first_step = self.progress.step
        self.checkpoints.start(self.progress.step if resume_from is not None else None)
        if self.world.first:
            self.metrics.cut(self.progress.step, self.progress.epoch)
        if rng is not None:
            determinism.set_rng_state(rng, self.world.device)
        self._began = self._clock = time.monotonic()

    def _prepare(self) -> None:
        """Makes ready to train the task's model, or the candidate that `progress` names."""
        task, p, world = self.task, self.progress, self.world
        if self.settings.compile:
            compiled.compile_in_place(task.model)
        self.model = world.wrap(task.model, shard=self.settings.shard, bf16=world.bf16(self.settings.precision))
        self.sharded = sharding.is_sharded(self.model)
        self.optimizer = optimizer_of(task)
        self._rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        lengths = [(self.settings.epochs, len(task.batches(0)))]
        if isinstance(task, Choosing):
            lengths = task.lengths()
        plan = plan_of(lengths, self.settings, world.size)
        self._epochs, self._epoch_steps, steps = plan[p.candidate]
        self._row_every = max(1, sum(one.steps for one in plan) // _ROWS)
        self._last_step = p.first_step + steps
        self.total_steps = p.first_step + sum(one.steps for one in plan[p.candidate :])
        self.total_epochs = p.first_epoch + sum(math.ceil(one.steps / one.epoch_steps) for one in plan[p.candidate :])

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
        self._prepare()
        return True

    def _result(self) -> Result:
        metrics = self._use_best()
        self._tick()
        p = self.progress
        return Result(metrics, p.best_step, p.best_epoch, round(p.seconds - p.first_seconds, 3))

    def _finished(self) -> bool:
        p = self.progress
        return p.ended or p.step >= self._last_step or p.epoch - p.first_epoch >= self._epochs

    def _epoch(self) -> bool:
        """The rest of an epoch and its evaluation. False: the run is to stop before the epoch's end."""
        p = self.progress
        batches = self.world.share(self.task.batches(p.epoch - p.first_epoch))
        self.model.train()
        while p.batch < len(batches) and p.step < self._last_step:
            self._step(batches[p.batch : p.batch + self.settings.accumulation])
            self._sample()
            last = p.batch >= len(batches) or p.step >= self._last_step
            if not self._turn(may_save=not last):
                return False
        self._read_losses()
        self._report("Evaluating")
        try:
            metrics = self._evaluate()
        except Stopped:
            # Every batch of the epoch is done: the next attempt begins with this evaluation.
            return False
        self._end_epoch(metrics)
        return self._turn(may_save=True)

    def _step(self, batches: Sequence[Indices]) -> None:
        """One optimizer step over the batches, their gradients summed as one mean."""
        p = self.progress
        at, total_steps = p.step - p.first_step, self._last_step - p.first_step
        share = schedule.factor(at, total_steps, self.settings.schedule, self.settings.warmup_ratio)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        total: Tensor | None = None
        for number, indices in enumerate(batches, start=1):
            batch = self.world.on_device(self.task.load(indices))
            with self.world.unsynced(self.model, number < len(batches)), self.world.autocast(self.settings.precision):
                loss = self.task.loss(self.model, batch) / len(batches)
            loss.backward()  # type: ignore[no-untyped-call]
            total = loss.detach() if total is None else total + loss.detach()
            self._examples += self._count(indices)
        if self.settings.clip > 0:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        p.step += 1
        p.batch += len(batches)
        assert total is not None
        self._window.append((p.step, batches[0], total))

    def _sample(self) -> None:
        """Lets the first process write samples when they are due; the others wait for it."""
        task, step = self.task, self.progress.step
        if not isinstance(task, Sampling) or (step % task.sample_every and step != self.total_steps):
            return
        self._read_losses()
        if self.world.first:
            self._report("Sampling")
            rng = determinism.rng_state(self.world.device)
            try:
                with self.world.autocast(self.settings.precision):
                    task.sample(step)
            except OSError as error:
                if not no_space(error):
                    raise
                raise DiskFull(
                    f"The output volume is full: the samples of step {step} could not be written. Give output.storage "
                    "more room, or raise sampleEvery."
                ) from error
            determinism.set_rng_state(rng, self.world.device)
        self.world.barrier()

    def _turn(self, *, may_save: bool) -> bool:
        """Between two steps: what the clock or a signal asks of any process, all do. False: stop here."""
        now = time.monotonic()
        every = self.settings.save_steps
        by_steps = every is not None and self.progress.step % every == 0
        stop, failed, read, save = self.world.agree(
            self.stop.requested,
            self.checkpoints.failed,
            now - self._read_at >= _READ_SECONDS or len(self._window) >= _WINDOW,
            may_save and (by_steps or now - self._saved_at >= self.settings.save_seconds),
        )
        if read or save or stop:
            self._read_losses()
        if stop:
            return False
        if failed:
            self.checkpoints.finish()
        if save:
            self._save()
        self._tell_saved()
        if now - self._reported_at >= _REPORT_SECONDS:
            self._report("Training")
        return True

    def _read_losses(self) -> None:
        """Fetches the losses of the steps since the last time: once, so that a GPU is not waited for in each step."""
        self._read_at = time.monotonic()
        if not self._window:
            return
        p = self.progress
        losses = self.world.mean(torch.stack([loss.float() for _, _, loss in self._window])).tolist()
        for (step, indices, _), loss in zip(self._window, losses, strict=True):
            if not math.isfinite(loss):
                batch = (step - p.first_step - 1) % self._epoch_steps + 1
                raise BadInput(
                    f"The loss is not a finite number at step {step} (epoch {p.epoch + 1}, batch {batch}: "
                    f"{self.task.where(indices)}). Look for extreme values there, or lower learningRate."
                )
            p.loss_sum += loss
            p.loss_count += 1
            if step % self._row_every == 0 or step == self._last_step:
                self.metrics.add({"step": step, "loss": loss})
        self._latest["loss"] = losses[-1]
        self._window.clear()
        if self.world.first:
            self.metrics.flush()

    def _evaluate(self) -> dict[str, float]:
        self.model.eval()
        # What a sharded model gathers here it uses in training too.
        with torch.no_grad() if self.sharded else torch.inference_mode(), self.world.autocast(self.settings.precision):
            metrics = self.task.evaluate(self.world)
        self.model.train()
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
        self._latest.update(row)
        if self.world.first:
            which = {"candidate": self.task.candidate} if isinstance(self.task, Choosing) else {}
            self.metrics.add({"step": p.step, "epoch": p.epoch, **which, **row})
            self.metrics.flush()
        self._report("Training", epoch_row={"epoch": p.epoch, "metrics": row})

    def _tick(self) -> None:
        now = time.monotonic()
        self.progress.seconds, self._clock = self.progress.seconds + now - self._clock, now

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
        tensors = checkpoint.tensors_of(self.task.model, self.optimizer)
        return Snapshot(self.progress.step, tensors, state, determinism.rng_state(self.world.device))

    def _save(self, *, wait: bool = False) -> None:
        """Takes a checkpoint. Without `wait` it is written while training goes on."""
        self._read_losses()
        self.checkpoints.save(self._snapshot(), self.progress.best_step, wait=wait)
        self._saved_at = time.monotonic()
        self._tell_saved()

    def _tell_saved(self) -> None:
        saved = self.checkpoints.last
        if saved is None or saved == self.last_checkpoint:
            return
        self.last_checkpoint = saved
        if self.world.first:
            self.reporter.send({"step": saved[0], "checkpoint": self.checkpoint_report()}, keep=True)

    def checkpoint_report(self) -> dict[str, Any] | None:
        """Step and name of the last checkpoint, as reports carry it."""
        if self.last_checkpoint is None:
            return None
        step, path = self.last_checkpoint
        return {"step": step, "path": f"{path.parent.name}/{path.name}"}

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
            return p.best_metrics or dict(self._latest)
        if self.settings.last_weights:
            return dict(self._latest)
        self.checkpoints.finish()
        tensors = self.checkpoints.best_tensors(p.best_step, self._resumed_from, sharding.shards(self.task.model))
        if tensors is None:
            return dict(self._latest)
        checkpoint.put_back(tensors, self.task.model, None)
        self.weights_step = p.best_step
        return p.best_metrics

    def _report(self, phase: str, epoch_row: dict[str, Any] | None = None) -> None:
        if not self.world.first:
            return
        p, now = self.progress, time.monotonic()
        done = p.step - self._first_step
        eta = round((self.total_steps - p.step) * (now - self._began) / done) if done else None
        # The work is finished when the result is there, and says so itself: never by 100 %.
        percent = min(99, 100 * p.step // self.total_steps)
        status = {
            "progressPercentage": percent,
            "metrics": [{"name": k, "value": str(v)} for k, v in self._latest.items()],
        }
        ours: dict[str, Any] = {
            "phase": phase,
            "step": p.step,
            "totalSteps": self.total_steps,
            "epoch": p.epoch,
            "totalEpochs": self.total_epochs,
            "metrics": dict(self._latest),
        }
        if eta is not None:
            status["estimatedRemainingSeconds"] = eta
        if now > self._reported_at and self._examples:
            ours["throughput"] = round(self._examples * self.world.size / (now - self._reported_at), 2)
            ours["unit"] = f"{self.task.unit}/s"
        if epoch_row is not None:
            ours["epochRow"] = epoch_row
        self._reported_at, self._examples = now, 0
        self.reporter.send(ours, status, keep=epoch_row is not None)
