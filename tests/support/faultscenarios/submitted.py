"""A Training is submitted: what its scenarios have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from modelyard.resources.meta import JOB, PVC, TRAINING
from support.build import make_claim, make_training
from support.faultscenarios.place import Place
from support.faultscenarios.stories import Step
from support.kubelet import Ending
from support.trainings import DONE

Obj = dict[str, Any]
TABULAR: Obj = {
    "dataset": {"pvc": {"claimName": "rows"}, "path": "iris.csv"},
    "recipe": {"name": "tabular-classification"},
    "compute": {"gpu": "H100:2"},
}
LONG_AGO = "2026-01-01T00:00:00Z"


def submit(**spec: Any) -> Callable[[Place], None]:
    """Training `t` and the volume with its rows are made."""

    def act(place: Place) -> None:
        claim = make_claim("rows")
        del claim["status"]
        place.create(PVC, claim)
        place.create(TRAINING, make_training("t", spec={**TABULAR, **spec}))

    return act


def clean(place: Place, phase: str) -> bool:
    """Whether the Training came to that end and its Jobs are gone."""
    return place.phase(phase) and place.reason(TRAINING, "t", "CleanedUp") != "" and not place.names(JOB)


def failed(place: Place) -> bool:
    """Whether the Training failed for good."""
    return place.phase("Failed") and place.reason(TRAINING, "t", "Stalled") != ""  # its Job stays, for its log


ENDED = Ending(0, DONE)
RUNNING = Step("submit", submit(), lambda p: p.phase("Running"))
SUCCEEDED = Step("submit", submit(), lambda p: clean(p, "Succeeded"))
