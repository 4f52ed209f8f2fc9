"""A queue that admits, evicts and admits again, as Kueue writes on a Job; and a Training deleted at every stage."""

from __future__ import annotations

import time
from typing import Any

import pytest

from localcluster import ControlPlane
from modelyard.resources.meta import JOB, MODELSOURCE, POD, PVC, SERVICE, TRAINING
from support.audit import Audit
from support.build import make_source
from support.cluster import Kube, wait_for
from support.kubelet import Ending, PretendKubelet
from support.live_trainings import add_claim, condition, edit, put, until, until_condition, until_reason
from support.trainings import ANALYZED, BAD, DONE, STOPPED

Obj = dict[str, Any]


def admit(kube: Kube, namespace: str, job: str) -> None:
    """What Kueue writes when there is room: where the flavor's nodes are, then that the Job may run."""
    template = {"spec": {"nodeSelector": {"cloud.example.org/flavor": "spot"}}}
    kube.merge(JOB, namespace, job, {"spec": {"template": template}})
    kube.merge(JOB, namespace, job, {"spec": {"suspend": False}})


@pytest.mark.usefixtures("operator")
def test_a_queue_has_the_say_over_its_jobs(kube: Kube, namespace: str, control_plane: ControlPlane) -> None:
    add_claim(kube, namespace)

    def script(pod: Obj) -> Ending | None:
        return Ending(0, DONE) if pod["metadata"]["labels"]["modelyard.dev/attempt"] == "2" else None

    with PretendKubelet(kube, namespace, script, stopped=Ending(75, STOPPED)):
        put(kube, namespace, compute={"queueName": "team", "priorityClassName": "system-node-critical"})
        waiting = until_reason(kube, namespace, "WaitingForQueue")
        assert waiting["phase"] == "Queued"
        assert condition(waiting, "Reconciling")["status"] == condition(waiting, "Stalled")["status"] == "False"
        job = kube.get(JOB, namespace, "t-1")
        assert job["spec"]["suspend"]
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
        assert job["spec"]["template"]["spec"]["priorityClassName"] == "system-node-critical"
        assert control_plane.audit_log
        audit = Audit(control_plane.audit_log)
        time.sleep(5)  # a re-list and more: nothing of ours writes on a Job that waits
        assert not audit.writes(namespace=namespace)
        assert not kube.list(POD, namespace)

        admit(kube, namespace, "t-1")
        until(kube, namespace, "Running")
        kube.merge(JOB, namespace, "t-1", {"spec": {"suspend": True}})  # an eviction
        again = wait_for(lambda: kube.find(JOB, namespace, "t-2"), "a new Job that asks the queue again")
        assert again["spec"]["suspend"]
        waiting = until_reason(kube, namespace, "WaitingForQueue")
        (entry,) = waiting["history"]
        assert (entry["cause"], entry["reason"]) == ("Infrastructure", "EvictedByQueue")
        assert waiting["attempts"] == {"number": 2, "infrastructure": 1, "error": 0}
        assert kube.find(JOB, namespace, "t-1") is None

        admit(kube, namespace, "t-2")
        until(kube, namespace, "Succeeded")
    assert not [r for r in audit.requests(namespace=namespace) if (r.verb, r.resource) == ("patch", "jobs")]


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
            wait_for(lambda kind=kind: not kube.list(kind, namespace), f"all {kind.plural} to go", 120)  # type: ignore[misc]
        wait_for(
            lambda: [c["metadata"]["name"] for c in kube.list(PVC, namespace)] == ["rows", "trn-saved-output"],
            "all volumes to go but the user's and the saved one",
        )
