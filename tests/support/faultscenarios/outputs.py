"""What a Training leaves is saved, gone on from, or expires."""

from __future__ import annotations

import json
from typing import Any

from modelyard.resources.meta import PVC, TRAINING
from support.build import make_training
from support.faultscenarios.place import Place
from support.faultscenarios.stories import Scenario, Step, trained
from support.faultscenarios.submitted import ENDED, LONG_AGO, SUCCEEDED, TABULAR, clean, submit
from support.kubelet import Ending
from support.trainings import DONE

Obj = dict[str, Any]
SAVE: Obj = {"model": "flowers", "version": "v1"}
LEFT = json.dumps({**json.loads(DONE), "checkpoint": {"step": 40, "path": "checkpoints/step-00000040"}})
"""The last words of a run that left a checkpoint too."""


def _age(place: Place) -> None:
    """The run has ended long ago."""
    place.kube.merge(TRAINING, place.namespace, "t", {"status": {"completionTime": LONG_AGO}}, "status")


def _go_on(place: Place) -> None:
    place.create(TRAINING, make_training("u", spec={**TABULAR, "checkpoint": {"from": {"training": "t"}}}))


def _held(place: Place) -> bool:
    finalizers = (place.kube.find(TRAINING, place.namespace, "t") or {"metadata": {}})["metadata"].get("finalizers")
    return bool(finalizers) and place.status(TRAINING, "u").get("phase") == "Running"


def _kept(place: Place) -> bool:
    return place.entry("v1", "flowers").get("phase") == "Ready" and place.reason(TRAINING, "t", "Saved") == "Saved"


def _first_only(pod: Obj) -> Ending | None:
    """Training `t` ends at once, any other runs until it is stopped."""
    return Ending(0, LEFT) if pod["metadata"]["labels"].get("modelyard.dev/training") == "t" else None


_SAVED = Step("submit", submit(save=SAVE), lambda p: clean(p, "Succeeded") and _kept(p))
OUTPUTS = (
    Scenario(
        "training saved",
        (
            Step(
                "submit",
                submit(save=SAVE),
                lambda p: clean(p, "Succeeded") and p.entry("v1", "flowers").get("phase") == "Ready",
            ),
        ),
        script=trained(ENDED),
    ),
    Scenario(
        "saved after the end",
        (Step("save", lambda p: p.edit(TRAINING, "t", save=SAVE), _kept),),
        given=(SUCCEEDED,),
        script=trained(ENDED),
    ),
    Scenario(
        "output expired",
        (
            Step(
                "expire",
                lambda p: p.edit(TRAINING, "t", output={"unsavedTTLSeconds": 60}),
                lambda p: p.names(PVC) == ["rows"] and p.reason(TRAINING, "t", "Saved") == "OutputExpired",
            ),
        ),
        given=(SUCCEEDED, Step("age", _age, lambda p: True)),
        script=trained(ENDED),
    ),
    Scenario(
        "saved one deleted",
        (
            Step(
                "delete",
                lambda p: p.delete(TRAINING, "t"),
                lambda p: p.went(TRAINING, "t") and p.names(PVC) == ["rows", "trn-t-output"],
            ),
        ),
        given=(_SAVED,),
        script=trained(ENDED),
    ),
    Scenario(
        "gone on from",
        (
            Step("go on", _go_on, _held),
            Step(
                "delete the first",
                lambda p: p.delete(TRAINING, "t"),
                lambda p: p.reason(TRAINING, "t", "CleanedUp") == "InUse",
            ),
            Step(
                "delete the second",
                lambda p: p.delete(TRAINING, "u"),
                lambda p: p.went(TRAINING, "t") and p.went(TRAINING, "u") and p.names(PVC) == ["rows"],
            ),
        ),
        given=(SUCCEEDED,),
        script=_first_only,
    ),
)
