"""Held-out metrics are those of scikit-learn and torchmetrics, ties and absent classes among them."""

from __future__ import annotations

import pytest
import torch
import torchmetrics.functional as tm
from sklearn import metrics as reference

from modelyard_training.core import metrics


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_classification(classes: int) -> None:
    random = torch.Generator().manual_seed(classes)
    logits = torch.randn(200, classes, generator=random)
    logits[::7] = logits[1]
    targets = torch.randint(0, classes, (200,), generator=random)
    if classes == 6:
        # One that is never right, and one that the split does not have.
        targets[targets == 4] = 3
        logits[:, 5], targets[targets == 5] = -9.0, 0
    found = metrics.classification(logits, targets)
    shares, predicted = logits.double().softmax(1), logits.argmax(1)
    present = targets.unique().tolist()
    each = [reference.roc_auc_score(targets == c, shares[:, c]) for c in present]
    assert found["auroc"] == pytest.approx(sum(each) / len(each))
    assert found["f1"] == pytest.approx(reference.f1_score(targets, predicted, average="macro"))
    assert found["f1"] == pytest.approx(
        float(tm.f1_score(logits, targets, task="multiclass", num_classes=classes, average="macro"))
    )
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(targets, predicted))
    assert found["validationLoss"] == pytest.approx(reference.log_loss(targets, shares, labels=range(classes)))


def test_one_class_alone_has_no_auroc() -> None:
    assert "auroc" not in metrics.classification(torch.randn(4, 3), torch.ones(4, dtype=torch.int64))


def test_regression() -> None:
    random = torch.Generator().manual_seed(1)
    targets = torch.randn(50, generator=random) * 3 + 100
    predicted = targets + torch.randn(50, generator=random)
    found = metrics.regression(predicted, targets, 3.0)
    assert found["r2"] == pytest.approx(reference.r2_score(targets.double(), predicted.double()))
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(targets.double(), predicted.double()))
    assert found["rmse"] ** 2 == pytest.approx(reference.mean_squared_error(targets.double(), predicted.double()))
    assert found["validationLoss"] == pytest.approx(found["rmse"] ** 2 / 9)
    # A target that is always the same: torch's own answer is not finite, and the loop leaves it out.
    assert set(metrics.regression(predicted[:1], targets[:1], 1.0)) == {"validationLoss", "mae", "rmse"}
