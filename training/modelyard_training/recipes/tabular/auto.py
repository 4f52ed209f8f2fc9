"""`Auto`: every algorithm on the same split, one after the other, each as if it were chosen alone; the best is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modelyard_training.core.run import Run
from modelyard_training.core.task import Batch, Description, Indices, Remembering, Result, optimizer_of
from modelyard_training.core.world import World
from modelyard_training.params import TabularParams, resolve
from modelyard_training.recipes.tabular.boosting import BoostingTask
from modelyard_training.recipes.tabular.encode import Encoded
from modelyard_training.recipes.tabular.task import NetworkTask

ALGORITHMS = ("Linear", "LightGBM", "MLP", "Transformer")


def make(run: Run, algorithm: str, data: Encoded) -> BoostingTask | NetworkTask:
    """The task of one algorithm, with its own defaults for what the user left open."""
    block = run.config.block()
    assert isinstance(block, TabularParams)
    params = resolve(block.model_copy(update={"algorithm": algorithm}))
    return (BoostingTask if algorithm == "LightGBM" else NetworkTask)(run, params, data)


class Contest(nn.Module):
    """The candidate that is trained, and the tensors of the best one before it."""

    def __init__(self, trained: nn.Module, leader: Sequence[Tensor]) -> None:
        super().__init__()
        self.trained = trained
        for number, tensor in enumerate(leader):
            self.register_buffer(f"leader{number}", tensor.detach().clone())

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the candidate says."""
        found: Tensor = self.trained(*inputs)
        return found

    def leader(self) -> list[Tensor]:
        """The tensors of the best one so far."""
        named = dict(self.named_buffers(recurse=False))
        return [named[f"leader{number}"] for number in range(len(named))]


class AutoTask:
    """See `core.task.Task` and `Choosing`. The state of the contest is in `memory`, all tensors are in `model`."""

    unit = "rows"

    def __init__(self, run: Run, data: Encoded) -> None:
        self._run, self._data = run, data
        self._results: list[Result] = []
        self._best: int | None = None
        self._best_memory: dict[str, Any] = {}
        self._kept: list[Tensor] = []
        self._task = self._made(0)
        self.model = Contest(self._task.model, ())
        self.best_metric = self._task.best_metric

    @property
    def candidate(self) -> str:
        """The algorithm that is trained now."""
        return ALGORITHMS[len(self._results)]

    def lengths(self) -> list[tuple[int, int]]:
        """Rounds of LightGBM are epochs of one batch."""
        found = []
        for algorithm in ALGORITHMS:
            params = resolve(self._run.config.block().model_copy(update={"algorithm": algorithm}))
            rows, size = len(self._data.target.train), params["batchSize"]
            found.append((params["epochs"], self._run.world.size if algorithm == "LightGBM" else -(-rows // size)))
        return found

    def advance(self, result: Result) -> None:
        """Keeps the candidate's weights if it is the best so far, and makes the next one."""
        self._take(result)
        leader = self._kept if self._best == len(self._results) - 1 else self.model.leader()
        self._turn_to(len(self._results), leader)

    def choose(self, result: Result) -> Result:
        """Turns to the winner."""
        self._take(result)
        assert self._best is not None
        if self._best < len(self._results) - 1:
            leader = self.model.leader()
            self._task = self._made(self._best)
            self._put(leader)
        return self._results[self._best]

    def memory(self) -> dict[str, Any]:
        """Results, and what the candidate and the best one remember."""
        return {
            "results": [asdict(result) for result in self._results],
            "best": self._best,
            "bestMemory": self._best_memory,
            "memory": self._task.memory() if isinstance(self._task, Remembering) else {},
        }

    def remember(self, memory: dict[str, Any]) -> None:
        """Makes the candidate of that moment."""
        self._results = [Result(**result) for result in memory["results"]]
        self._best, self._best_memory = memory["best"], memory["bestMemory"]
        leader: Sequence[Tensor] = ()
        if self._best is not None:
            leader = list(self._made(self._best).model.state_dict().values())
        self._turn_to(len(self._results), leader)
        if isinstance(self._task, Remembering):
            self._task.remember(memory["memory"])

    def groups(self) -> list[dict[str, Any]]:
        """The candidate's."""
        return self._task.groups()

    def optimizer(self) -> torch.optim.Optimizer:
        """The candidate's."""
        return optimizer_of(self._task)

    def batches(self, epoch: int) -> Sequence[Indices]:
        """The candidate's."""
        return self._task.batches(epoch)

    def load(self, indices: Indices) -> Batch:
        """The candidate's."""
        return self._task.load(indices)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The candidate's."""
        return self._task.loss(model, batch)

    def evaluate(self, world: World) -> dict[str, float]:
        """The candidate's."""
        return self._task.evaluate(world)

    def where(self, indices: Indices) -> str:
        """The candidate's."""
        return self._task.where(indices)

    def describe(self) -> Description:
        """The winner's, with its own parameters, and the leaderboard."""
        found = self._task.describe()
        rows: list[dict[str, Any]] = [
            {"algorithm": algorithm, "metrics": result.metrics, "epoch": result.epoch, "seconds": result.seconds}
            for algorithm, result in zip(ALGORITHMS, self._results, strict=False)
        ]
        name, direction = self.best_metric
        rows.sort(key=lambda row: _order(row["metrics"].get(name), direction))
        return replace(found, notes={**found.notes, "leaderboard": rows}, params=self._task.params)

    def export(self, folder: Path) -> None:
        """The winner's files."""
        self._task.export(folder)

    def _made(self, number: int) -> BoostingTask | NetworkTask:
        # The weights of an algorithm do not depend on what was trained before it.
        torch.manual_seed(self._run.params["seed"])
        task = make(self._run, ALGORITHMS[number], self._data)
        if number == self._best and isinstance(task, BoostingTask):
            task.remember(self._best_memory)
        return task

    def _turn_to(self, number: int, leader: Sequence[Tensor]) -> None:
        self._task = self._made(number)
        self.model = Contest(self._task.model, leader)

    def _take(self, result: Result) -> None:
        name, direction = self.best_metric
        self._results.append(result)
        best = self._results[self._best] if self._best is not None else None
        if best is None or _order(result.metrics.get(name), direction) < _order(best.metrics.get(name), direction):
            self._best = len(self._results) - 1
            self._best_memory = self._task.memory() if isinstance(self._task, BoostingTask) else {}
            self._kept = list(self._task.model.state_dict().values())

    def _put(self, tensors: Sequence[Tensor]) -> None:
        state = self._task.model.state_dict()
        self._task.model.load_state_dict(dict(zip(state, tensors, strict=True)))


def _order(value: float | None, direction: str) -> float:
    if value is None:
        return float("inf")
    return value if direction == "min" else -value
