"""Gradient boosting in the one loop: a step is a round, its gradient is the loss's by the scores themselves.

The scores of the training rows are the parameter. The optimizer fits one round of trees to their gradient, with a
LightGBM that knows nothing of the rounds before it: a round is a function of the data and the scores alone, so that a
checkpoint of scores and trees is all that an exact resume needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from modelyard_training.core.run import Run
from modelyard_training.core.task import Batch, Indices
from modelyard_training.core.world import World
from modelyard_training.recipes.tabular import onnx, predict
from modelyard_training.recipes.tabular.encode import Encoded
from modelyard_training.recipes.tabular.task import TableTask
from modelyard_training.recipes.tabular.trees import document, trees_of

_Array = NDArray[np.float64]


class Scores(nn.Module):
    """The sums of all trees, [N, O] of the training rows (trained) and of the held-out ones."""

    def __init__(self, start: Tensor, train: int, held: int) -> None:
        super().__init__()
        self.train_scores = nn.Parameter(start.repeat(train, 1))
        self.held_scores: Tensor
        self.register_buffer("held_scores", start.repeat(held, 1))
        self.rounds: Tensor
        self.register_buffer("rounds", torch.zeros((), dtype=torch.int64))

    def forward(self) -> Tensor:
        """The training rows' scores."""
        return self.train_scores


class Boosting(torch.optim.Optimizer):
    """Adds a round of trees a step; the learning rate is their weight."""

    def __init__(
        self, model: Scores, rate: float, grow: Callable[[_Array, _Array, float], tuple[_Array, _Array]]
    ) -> None:
        super().__init__([model.train_scores], {"lr": rate})
        self._model, self._grow = model, grow

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Fits trees to the gradient and adds what they say to the scores."""
        model = self._model
        scores, gradient = model.train_scores, model.train_scores.grad
        assert gradient is not None
        added = self._grow(scores.double().cpu().numpy(), gradient.double().cpu().numpy(), self.param_groups[0]["lr"])
        scores.add_(torch.from_numpy(added[0]).to(scores))
        model.held_scores.add_(torch.from_numpy(added[1]).to(scores))
        model.rounds.add_(1)


class BoostingTask(TableTask):
    """LightGBM's trees; see `core.task.Task`, `Optimizing` and `Remembering`."""

    def __init__(self, run: Run, params: dict[str, Any], data: Encoded) -> None:
        import lightgbm

        super().__init__(run, params, data)
        self._processes = run.world.size
        self._weights = self.target.weights.double() if self.target.weights is not None else None
        self._start = self._first_scores()
        self._rounds: list[str] = []
        self.model: nn.Module = Scores(self._start, len(self.target.train), len(self.target.held))
        self._settings = {
            "objective": "none",
            "num_class": len(self._start),
            "num_leaves": params["leaves"],
            "min_data_in_leaf": params["minLeafRows"],
            "use_missing": False,
            "deterministic": True,
            "force_col_wise": True,
            "num_threads": torch.get_num_threads(),
            "seed": params["seed"],
            "verbosity": -1,
        }
        self._values = (predict.joined(*data.train), predict.joined(*data.held))
        self._set = lightgbm.Dataset(self._values[0], params=self._settings, free_raw_data=True)
        self._train_target = self.target.train.to(self._device)

    def groups(self) -> list[dict[str, Any]]:
        """The scores."""
        return [{"params": list(self.model.parameters()), "lr": self.params["learningRate"]}]

    def optimizer(self) -> torch.optim.Optimizer:
        """One round of trees a step."""
        assert isinstance(self.model, Scores)
        return Boosting(self.model, self.params["learningRate"], self._grow)

    def batches(self, epoch: int) -> Sequence[Indices]:
        """All rows at once, in each process: a round needs them all."""
        return [torch.arange(len(self.target.train))] * self._processes

    def load(self, indices: Indices) -> Batch:
        """The target."""
        return {"target": self._train_target}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy, or the squared error in units of the target's deviation."""
        found = model()
        if self.target.classes:
            return nn.functional.cross_entropy(predict.scores(found), batch["target"], weight=self._weights)
        return nn.functional.mse_loss(found[:, 0], batch["target"].double())

    def evaluate(self, world: World) -> dict[str, float]:
        """Metrics on the held-out rows, whose scores each process has."""
        assert isinstance(self.model, Scores)
        held = self.model.held_scores.detach().cpu()
        return self.target.measure(predict.scores(held) if self.target.classes else held, self.target.held)

    def memory(self) -> dict[str, Any]:
        """The trees, a text each round."""
        return {"rounds": list(self._rounds)}

    def remember(self, memory: dict[str, Any]) -> None:
        """Takes the trees back."""
        self._rounds = list(memory["rounds"])

    def export(self, folder: Path) -> None:
        """The trees in LightGBM's text format and as ONNX, the encoders as JSON, and the predictor."""
        assert isinstance(self.model, Scores)
        trees = [tree for text in self._rounds[: int(self.model.rounds)] for tree in trees_of(text)]
        start = self._start.tolist()
        # What the file says is the target in its own unit, its beginning included.
        center, scale = float(self.spec["targetCenter"]), float(self.spec["targetScale"])
        trees = [
            tree.scaled(scale, scale * start[n % len(start)] + center if n < len(start) else 0.0)
            for n, tree in enumerate(trees)
        ]
        classes = len(self.target.classes or [])
        features = self.spec["numbers"] + len(self.spec["categorical"])
        (folder / "model.txt").write_text(document(trees, classes, features))
        onnx.write_forest(folder / "model.onnx", self.spec, trees)
        self.write(folder)

    def _first_scores(self) -> Tensor:
        """The scores before the first tree, [O]: the logarithms of the classes' shares, or 0."""
        if not self.target.classes:
            return torch.zeros(1, dtype=torch.float64)
        counts = torch.bincount(self.target.train, minlength=len(self.target.classes)).double()
        if self._weights is not None:
            counts *= self._weights.cpu()
        logs = counts.clamp(min=1e-9).log() - counts.sum().log()
        return logs[1:] - logs[:1] if len(logs) == 2 else logs

    def _grow(self, scores: _Array, gradient: _Array, rate: float) -> tuple[_Array, _Array]:
        """A round of trees against the gradient; what they add to the training and the held-out scores."""
        import lightgbm

        rows = len(scores)
        # The loss is a mean; a tree's leaves are about sums.
        gradient, second = gradient * rows, self._second(scores)
        booster = lightgbm.Booster({**self._settings, "learning_rate": max(rate, 1e-12)}, self._set)
        flat = scores.shape[1] == 1
        given = (gradient[:, 0], second[:, 0]) if flat else (gradient, second)
        booster.update(fobj=lambda *_: given)
        self._rounds.append(booster.model_to_string())
        train, held = (np.asarray(booster.predict(v, raw_score=True)).reshape(len(v), -1) for v in self._values)
        return train, held

    def _second(self, scores: _Array) -> _Array:
        """The loss's second derivative by each score, times the rows."""
        if not self.target.classes:
            return np.full_like(scores, 2.0)
        likely = predict.scores(torch.from_numpy(scores)).softmax(dim=1)
        found = likely * (1 - likely)
        # LightGBM's own bound for many classes, which keeps the steps from overshooting.
        found = found[:, 1:] if scores.shape[1] == 1 else found * (found.shape[1] / (found.shape[1] - 1))
        if self._weights is not None:
            each = self._weights.cpu()[self.target.train]
            found = found * (each * len(each) / each.sum())[:, None]
        return found.clamp(min=1e-16).numpy()
