"""Held-out metrics of classification and regression, and the loop over the held-out split that feeds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

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
    import torchmetrics.functional as tm

    logits = logits.float()
    classes = logits.shape[1]
    task: dict[str, Any] = {"task": "multiclass", "num_classes": classes}
    found = {
        "validationLoss": torch.nn.functional.cross_entropy(logits, targets),
        "accuracy": (logits.argmax(1) == targets).float().mean(),
        "f1": tm.f1_score(logits, targets, average="macro", **task),
    }
    present = torch.unique(targets)
    if len(present) > 1:
        # A class that the held-out split does not have would count as 0 in the mean.
        each = tm.auroc(logits.softmax(1), targets, average="none", **task)
        found["auroc"] = each[present].mean()
    return {name: float(value) for name, value in found.items()}


def regression(predicted: Tensor, targets: Tensor, scale: float) -> dict[str, float]:
    """R2, MAE, RMSE from predictions and targets [N] in the target's unit; the loss is in units of `scale`."""
    import torchmetrics.functional as tm

    predicted, targets = predicted.double(), targets.double()
    mse = torch.nn.functional.mse_loss(predicted, targets)
    found = {
        "validationLoss": mse / scale**2,
        "mae": torch.nn.functional.l1_loss(predicted, targets),
        "rmse": mse.sqrt(),
    }
    if len(targets) > 1:
        found["r2"] = tm.r2_score(predicted, targets)
    return {name: float(value) for name, value in found.items()}
