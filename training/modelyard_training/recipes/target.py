"""What a model is trained to say of an example: one of several classes, or a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from modelyard_training.core import metrics
from modelyard_training.core.split import Parts


@dataclass(frozen=True)
class Target:
    """The targets of a data set, and what follows from their kind. A number is learned in deviations from its mean."""

    classes: list[str] | None
    """Names of the classes by number; None for a number."""
    train: Tensor
    """Class numbers (int64), or deviations (float32), [N], on the CPU."""
    held: Tensor
    """Class numbers (int64), or the number as it is (float64), [N], on the CPU."""
    center: float
    scale: float
    """Mean and deviation of the training rows' number; 0 and 1 for classes."""
    weights: Tensor | None
    """Weight of each class (float32 [C]), if they differ, where the loss is computed."""

    @classmethod
    def of(cls, parts: Parts, params: dict[str, Any], device: torch.device) -> Target:
        """The target of divided rows; `classWeights` of the parameters says whether rare classes weigh more."""
        held = torch.from_numpy(parts.held_target)
        if parts.classes is None:
            center, scale = float(parts.train_target.mean()), float(parts.train_target.std()) or 1.0
            deviations = ((parts.train_target - center) / scale).astype(np.float32)
            return cls(None, torch.from_numpy(deviations), held, center, scale, None)
        train = torch.from_numpy(parts.train_target)
        balanced = params["classWeights"] == "Balanced"
        weights = _balanced(train, len(parts.classes)).to(device) if balanced else None
        return cls(parts.classes, train, held, 0.0, 1.0, weights)

    def best_metric(self, chosen: str) -> tuple[str, Literal["min", "max"]]:
        """See `core.task.Task`; `chosen`: what `bestMetric` says. Raises `BadInput` if it does not fit."""
        return metrics.best_metric(chosen, len(self.classes) if self.classes else None)

    def loss(self, found: Tensor, wanted: Tensor) -> Tensor:
        """Of class scores, or of deviations, [N, O] against some of `train`: cross-entropy, or the squared error."""
        if self.classes:
            return nn.functional.cross_entropy(found, wanted, weight=self.weights)
        return nn.functional.mse_loss(found[:, 0], wanted)

    def measure(self, found: Tensor, wanted: Tensor) -> dict[str, float]:
        """Metrics of class scores, or of deviations, [N, O] against some of `held`."""
        if self.classes:
            return metrics.classification(found, wanted)
        return metrics.regression(found[:, 0].double() * self.scale + self.center, wanted, self.scale)

    def rescale(self, last: nn.Linear) -> None:
        """Makes the last layer give a number in its own unit, so that the stock library needs no note about scaling."""
        if self.classes:
            return
        with torch.no_grad():
            last.weight.mul_(self.scale)
            if last.bias is None:
                last.bias = nn.Parameter(torch.zeros(last.out_features, device=last.weight.device))
            last.bias.mul_(self.scale).add_(self.center)


def _balanced(targets: Tensor, classes: int) -> Tensor:
    """Weight of each class, so that all classes weigh the same in the loss."""
    counts = torch.bincount(targets, minlength=classes).clamp(min=1)
    return len(targets) / (classes * counts.float())
