"""A Training deleted at every stage."""

from __future__ import annotations

from typing import Any

import pytest

from modelyard.resources.meta import JOB, MODELSOURCE, POD, PVC, SERVICE, TRAINING
from support.build import make_source
from support.cluster import Kube, wait_for
from support.kubelet import Ending, PretendKubelet
from support.live_trainings import add_claim, edit, put, until, until_condition
from support.trainings import ANALYZED, BAD, DONE, STOPPED

Obj = dict[str, Any]


SAVED: Obj = {"save": {"model": "flowers", "version": "v1"}}
NODES: Obj = {
    "dataset": None,
    "recipe": {"name": "custom", "custom": {"command": ["true"]}},
    "compute": {"nodes": 2},
    "output": {"storage": {"accessModes": ["ReadWriteMany"]}},
}
STAGES: tuple[tuple[str, Obj, str], ...] = (
    ("invalid", {"recipe": {"name": "text-classification"}}, "Validating"),
    ("fetching", {"dataset": {"source": {"sourceRef": "hub", "repo": "org/rows"}}}, "Preparing"),
    ("looked-at", {"pauseAfter": "Analysis"}, "Analyzing"),
    ("asked", {"pauseAfter": "Analysis"}, "AwaitingApproval"),
    ("queued", {"compute": {"queueName": "team"}}, "Queued"),
    ("running", {}, "Running"),
    ("nodes", NODES, "Running"),
    ("paused", {}, "Suspended"),
    ("retrying", {"retry": {"onError": 5}}, "Retrying"),
    ("failed", {}, "Failed"),
    ("done", {}, "Succeeded"),
    ("saved", SAVED, "Succeeded"),
)
ENDS: dict[str, Ending] = {
    "asked": Ending(0, ANALYZED),
    "retrying": Ending(1),
    "failed": Ending(64, BAD),
    "done": Ending(0, DONE),
    "saved": Ending(0, DONE),
}
"""How the pods of some end; those of the others go on until they are stopped."""


@pytest.mark.usefixtures("operator")
def test_deleted_at_any_stage_nothing_is_left_but_what_was_saved(kube: Kube, namespace: str) -> None:
    add_claim(kube, namespace)
    kube.create(make_source("hub", namespace=namespace), MODELSOURCE)

    def script(pod: Obj) -> Ending | None:
        return ENDS.get(pod["metadata"]["labels"].get("modelyard.dev/training", ""))

    with PretendKubelet(kube, namespace, script, stopped=Ending(75, STOPPED)):
        for name, spec, _ in STAGES:
            put(kube, namespace, name, **spec)
        until(kube, namespace, "Running", "paused")
        edit(kube, namespace, "paused", suspend=True)
        until_condition(kube, namespace, "Saved", "True", "saved")
        for name, _, phase in STAGES:
            until(kube, namespace, phase, name)
        assert [s["metadata"]["name"] for s in kube.list(SERVICE, namespace)] == ["trn-nodes"]
        for name, _, _ in STAGES:
            kube.delete(TRAINING, namespace, name)
        for kind in (TRAINING, JOB, POD, SERVICE):
            wait_for(lambda kind=kind: not kube.list(kind, namespace), f"all {kind.plural} to go")  # type: ignore[misc]
        wait_for(
            lambda: [c["metadata"]["name"] for c in kube.list(PVC, namespace)] == ["rows", "trn-saved-output"],
            "all volumes to go but the user's and the saved one",
        )
