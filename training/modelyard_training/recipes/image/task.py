"""What the loop trains for pictures. The random changes of a batch follow from the seed and its place in the run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from modelyard_training.core import metrics, split
from modelyard_training.core.data import ROW
from modelyard_training.core.run import Run
from modelyard_training.core.task import Batch, Description, Indices
from modelyard_training.core.world import World
from modelyard_training.recipes.common import class_weights, generator, places, rescale_head, weight_groups
from modelyard_training.recipes.image.backbones import Backbone
from modelyard_training.recipes.image.pictures import Store, change


class ImageTask:
    """See `core.task.Task`."""

    unit = "pictures"

    def __init__(
        self,
        run: Run,
        backbone: Backbone,
        parts: split.Parts,
        train: Store,
        held: Store,
        target: str,
        notes: dict[str, Any],
    ) -> None:
        self._run, self._params, self._backbone, self._parts = run, run.params, backbone, parts
        self._train, self._held, self._target, self._notes = train, held, target, notes
        self.model: nn.Module = backbone.model
        self.best_metric: tuple[str, Literal["min", "max"]] = metrics.best_metric(
            run.params["bestMetric"], len(parts.classes) if parts.classes else None
        )
        self._device = run.world.device
        self._mean, self._std = (
            torch.tensor(values, device=self._device).view(3, 1, 1) for values in (backbone.mean, backbone.std)
        )
        self._rows = tuple(
            torch.from_numpy(t.frame[ROW].to_numpy().astype(np.int64)) for t in (parts.train, parts.held)
        )
        self._numbers: dict[int, int] = {}
        self._next: dict[int, Tensor] = {}
        self._weights: Tensor | None = None
        self._center, self._scale = 0.0, 1.0
        if parts.classes:
            self._train_target = torch.from_numpy(parts.train_target)
            if run.params["classWeights"] == "Balanced":
                self._weights = class_weights(self._train_target, len(parts.classes)).to(self._device)
        else:
            self._center, self._scale = float(parts.train_target.mean()), float(parts.train_target.std()) or 1.0
            scaled = (parts.train_target - self._center) / self._scale
            self._train_target = torch.from_numpy(scaled.astype(np.float32))
        self._held_target = torch.from_numpy(parts.held_target)

    def groups(self) -> list[dict[str, Any]]:
        """The backbone at its rate; the new head of a base model at its own."""
        decay, rate = self._params["weightDecay"], self._params["learningRate"]
        if self._run.config.model is None:
            return weight_groups(self.model.named_parameters(), rate, decay)
        head = set(self._backbone.head.parameters())
        named = list(self.model.named_parameters())
        body = weight_groups([(n, p) for n, p in named if p not in head], rate, decay)
        return body + weight_groups([(n, p) for n, p in named if p in head], self._params["headLearningRate"], decay)

    def batches(self, epoch: int) -> Sequence[Indices]:
        """Shuffled by seed and epoch."""
        order = torch.randperm(len(self._train_target), generator=generator(self._params["seed"], epoch))
        found = torch.split(order, self._params["batchSize"])
        self._numbers = {int(batch[0]): epoch * len(found) + at for at, batch in enumerate(found)}
        mine = self._run.world.share(found)
        self._next = {int(one[0]): following for one, following in pairwise(mine)}
        return found

    def load(self, indices: Indices) -> Batch:
        """Pictures from 0 to 1, changed at random."""
        first = int(indices[0])
        pictures = self._train.get(self._rows[0][indices]).float() / 255
        if first in self._next:
            self._train.expect(self._rows[0][self._next[first]])
        random = generator(self._params["seed"] + 1, self._numbers[first])
        return {
            "pictures": change(pictures, self._params["augment"], random),
            "target": self._train_target[indices],
        }

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy, or the squared error in units of the target's deviation."""
        found = self._backbone.outputs(model, (batch["pictures"] - self._mean) / self._std)
        if self._parts.classes:
            return nn.functional.cross_entropy(found, batch["target"], weight=self._weights)
        return nn.functional.mse_loss(found[:, 0], batch["target"])

    def evaluate(self, world: World) -> dict[str, float]:
        """Metrics on the held-out pictures."""
        # Each process keeps running means of its own batches; those of the first are the model's.
        world.align(self.model)

        def outputs(indices: Indices) -> tuple[Tensor, Tensor]:
            pictures = self._held.get(self._rows[1][indices]).to(self._device).float() / 255
            found = self._backbone.outputs(self.model, (pictures - self._mean) / self._std)
            return found.float(), self._held_target[indices]

        batches = torch.split(torch.arange(len(self._held_target)), self._params["batchSize"] * 2)
        found, target = metrics.gather_outputs(world, self._run.stop, batches, outputs)
        if self._parts.classes:
            return metrics.classification(found, target)
        return metrics.regression(found[:, 0].double() * self._scale + self._center, target, self._scale)

    def where(self, indices: Indices) -> str:
        """The first few pictures of a batch, by name."""
        return places(self._parts.train, indices)

    def describe(self) -> Description:
        """What was trained, on what."""
        return Description(
            kind="Full",
            algorithm=self._backbone.name,
            train_samples=len(self._train_target),
            test_samples=len(self._held_target),
            target=self._target,
            use=self._backbone.use,
            features=["image"],
            classes=self._parts.classes or [],
            notes={"rowsWithoutTarget": self._parts.dropped, "imageSize": self._backbone.size, **self._notes},
        )

    def export(self, folder: Path) -> None:
        """A folder that transformers or timm loads. A number comes out in the target's own unit."""
        if not self._parts.classes:
            rescale_head(self._backbone.head, self._scale, self._center)
        self._backbone.save(folder)
