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
from modelyard_training.recipes.common import generator, places, weight_groups
from modelyard_training.recipes.image.backbones import Backbone
from modelyard_training.recipes.image.pictures import Store, change
from modelyard_training.recipes.target import Target


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
        label: str,
        notes: dict[str, Any],
    ) -> None:
        self._run, self._params, self._backbone, self._parts = run, run.params, backbone, parts
        self._train, self._held, self._label, self._notes = train, held, label, notes
        self.model: nn.Module = backbone.model
        self._target = Target.of(parts, run.params, run.world.device)
        self.best_metric: tuple[str, Literal["min", "max"]] = self._target.best_metric(run.params["bestMetric"])
        self._device = run.world.device
        self._mean, self._std = (
            torch.tensor(values, device=self._device).view(3, 1, 1) for values in (backbone.mean, backbone.std)
        )
        self._rows = tuple(
            torch.from_numpy(t.frame[ROW].to_numpy().astype(np.int64)) for t in (parts.train, parts.held)
        )
        self._numbers: dict[int, int] = {}
        self._next: dict[int, Tensor] = {}

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
        order = torch.randperm(len(self._target.train), generator=generator(self._params["seed"], epoch))
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
            "target": self._target.train[indices],
        }

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy, or the squared error in units of the target's deviation."""
        found = self._backbone.outputs(model, (batch["pictures"] - self._mean) / self._std)
        return self._target.loss(found, batch["target"])

    def evaluate(self, world: World) -> dict[str, float]:
        """Metrics on the held-out pictures."""
        # Each process keeps running means of its own batches; those of the first are the model's.
        world.align(self.model)

        def outputs(indices: Indices) -> tuple[Tensor, Tensor]:
            pictures = self._held.get(self._rows[1][indices]).to(self._device).float() / 255
            found = self._backbone.outputs(self.model, (pictures - self._mean) / self._std)
            return found.float(), self._target.held[indices]

        batches = torch.split(torch.arange(len(self._target.held)), self._params["batchSize"] * 2)
        found, target = metrics.gather_outputs(world, self._run.stop, batches, outputs)
        return self._target.measure(found, target)

    def where(self, indices: Indices) -> str:
        """The first few pictures of a batch, by name."""
        return places(self._parts.train, indices)

    def describe(self) -> Description:
        """What was trained, on what."""
        return Description(
            kind="Full",
            algorithm=self._backbone.name,
            train_samples=len(self._target.train),
            test_samples=len(self._target.held),
            target=self._label,
            use=self._backbone.use,
            features=["image"],
            classes=self._parts.classes or [],
            notes={"rowsWithoutTarget": self._parts.dropped, "imageSize": self._backbone.size, **self._notes},
        )

    def export(self, folder: Path) -> None:
        """A folder that transformers or timm loads. A number comes out in the target's own unit."""
        self._target.rescale(self._backbone.head)
        self._backbone.save(folder)
