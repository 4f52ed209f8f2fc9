"""Held-out metrics of classification and regression, and the loop over the held-out split that feeds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from modelyard_training.core.errors import BadInput, Stopped
from modelyard_training.core.stop import Stop
from modelyard_training.core.task import Indices
from modelyard_training.core.world import World

CLASSIFICATION = ("loss", "accuracy", "f1", "auroc")
REGRESSION = ("loss", "r2", "mae", "rmse")


def best_metric(chosen: str, classes: int | None) -> tuple[str, Literal["min", "max"]]:
    """The key in `evaluate`'s result for `bestMetric`, and its direction. Raises `BadInput` for a wrong one."""
    allowed, kind = (REGRESSION, "regression") if classes is None else (CLASSIFICATION, "classification")
    if chosen not in allowed:
        raise BadInput(f"bestMetric {chosen} does not fit a {kind} recipe: use one of {', '.join(allowed)}.")
    if chosen == "loss":
        return "validationLoss", "min"
    return chosen, "min" if chosen in ("mae", "rmse") else "max"


def gather_outputs(
    world: World, stop: Stop, batches: Sequence[Indices], outputs: Callable[[Indices], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Outputs and targets of the whole held-out split, each process having computed its share, on the CPU.

    Raises `Stopped`, in all processes together, if one of them is asked to stop.
    """
    share: list[tuple[Tensor, Tensor]] = []
    for at in range(0, len(batches), world.size):
        if world.agree(stop.requested)[0]:
            raise Stopped
        if at + world.rank < len(batches):
            share.append(outputs(batches[at + world.rank]))
    if not share:
        # A process without a share still takes part in the gathering, with rows of the right shape.
        output, target = outputs(batches[0])
        share = [(output[:0], target[:0])]
    return world.gather(torch.cat([s[0] for s in share])), world.gather(torch.cat([s[1] for s in share]))


def classification(logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Loss, accuracy, macro F1 and (macro, one against the rest) AUROC from logits [N, C] and targets [N]."""
    logits = logits.float()
    classes, predicted = logits.shape[1], logits.argmax(1)
    hits = torch.bincount(targets[predicted == targets], minlength=classes)
    said = torch.bincount(predicted, minlength=classes) + torch.bincount(targets, minlength=classes)
    found = {
        "validationLoss": torch.nn.functional.cross_entropy(logits, targets),
        "accuracy": (predicted == targets).float().mean(),
        # Classes that are neither there nor said have no F1.
        "f1": (2 * hits[said > 0] / said[said > 0]).mean(),
    }
    present = torch.unique(targets)
    if len(present) > 1:
        # A class that the held-out split does not have would count as 0 in the mean.
        shares = logits.double().softmax(1)
        found["auroc"] = torch.stack([_auroc(shares[:, c], targets == c) for c in present.tolist()]).mean()
    return {name: float(value) for name, value in found.items()}


def _auroc(scores: Tensor, positive: Tensor) -> Tensor:
    """The share of pairs of a positive and another one [N] in which the positive has the higher score; half for ties.

    torchmetrics says the same, and takes twice as long to be imported as torch.
    """
    _, inverse, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0) - (counts - 1) / 2)[inverse]
    yes = positive.sum()
    found: Tensor = (ranks[positive].sum() - yes * (yes + 1) / 2) / (yes * (len(scores) - yes))
    return found


def regression(predicted: Tensor, targets: Tensor, scale: float) -> dict[str, float]:
    """R2, MAE, RMSE from predictions and targets [N] in the target's unit; the loss is in units of `scale`."""
    predicted, targets = predicted.double(), targets.double()
    mse = torch.nn.functional.mse_loss(predicted, targets)
    found = {
        "validationLoss": mse / scale**2,
        "mae": torch.nn.functional.l1_loss(predicted, targets),
        "rmse": mse.sqrt(),
    }
    if len(targets) > 1:
        found["r2"] = 1 - mse / targets.var(correction=0)
    return {name: float(value) for name, value in found.items()}
