"""Trainings in a queue of the real Kueue: admitted, kept waiting, preempted, switched off, several pods at once."""

from __future__ import annotations

import time
from typing import Any

import pytest

from localcluster import ControlPlane
from modelyard.plan import Kind
from modelyard.resources.meta import JOB, POD, TRAINING, WORKLOAD
from support.audit import Audit
from support.cluster import Kube, wait_for
from support.kubelet import Ending, PretendKubelet
from support.kueue import Kueue
from support.live_trainings import add_claim, condition, edit, put, status_of, until, until_reason
from support.trainings import DONE, STOPPED

Obj = dict[str, Any]
PRIORITY_CLASS = Kind("scheduling.k8s.io/v1", "PriorityClass", "priorityclasses")


class Runs:
    """How the pods of a namespace go: on and on, until a test ends them."""

    def __init__(self) -> None:
        self.done: set[str] = set()

    def __call__(self, pod: Obj) -> Ending | None:
        return Ending(0, DONE) if pod["metadata"]["labels"]["modelyard.dev/training"] in self.done else None


def pods(kube: Kube, namespace: str, name: str) -> list[Obj]:
    return kube.list(POD, namespace, f"modelyard.dev/training={name}")


def until_said(kube: Kube, namespace: str, name: str, words: str) -> Obj:
    """Its status once its message has these words."""

    def look() -> Obj | None:
        found = status_of(kube, namespace, name)
        return found if words in found.get("message", "") else None

    return wait_for(look, f"{name} to say {words}", said=lambda: str(status_of(kube, namespace, name)))


@pytest.mark.usefixtures("operator")
def test_one_is_admitted_and_the_next_waits_for_its_quota(
    kube: Kube, namespace: str, control_plane: ControlPlane, kueue: Kueue
) -> None:
    add_claim(kube, namespace)
    kueue.queue(namespace, gpus=8)
    runs = Runs()
    assert control_plane.audit_log
    audit = Audit(control_plane.audit_log)
    with PretendKubelet(kube, namespace, runs, stopped=Ending(75, STOPPED)):
        put(kube, namespace, "first", compute={"queueName": "team", "gpu": "H100:8"})
        until(kube, namespace, "Running", "first")
        job = kube.get(JOB, namespace, "first-1")
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
        assert not job["spec"]["suspend"]
        assert job["spec"]["template"]["spec"]["nodeSelector"] == {"example.org/pool": "spot"}
        (pod,) = pods(kube, namespace, "first")
        assert pod["spec"]["nodeSelector"] == {"example.org/pool": "spot"}

        put(kube, namespace, "second", compute={"queueName": "team", "gpu": "H100:8"})
        waiting = until_said(kube, namespace, "second", "insufficient unused quota for nvidia.com/gpu")
        assert waiting["reason"] == "WaitingForQueue"
        assert waiting["phase"] == "Queued"
        assert condition(waiting, "Reconciling")["status"] == condition(waiting, "Stalled")["status"] == "False"
        # A re-list and more: nothing of ours writes on a run that waits.
        Audit(control_plane.audit_log).wait_for_rest(namespace)
        assert not pods(kube, namespace, "second")

        edit(kube, namespace, "first", suspend=True)
        until(kube, namespace, "Suspended", "first")
        until(kube, namespace, "Running", "second")
        edit(kube, namespace, "first", suspend=False)
        until_reason(kube, namespace, "WaitingForQueue", "first")
        runs.done |= {"first", "second"}
        until(kube, namespace, "Succeeded", "second")
        until(kube, namespace, "Succeeded", "first")
    assert status_of(kube, namespace, "first")["attempts"] == {"number": 2, "infrastructure": 0, "error": 0}
    for name in ("first", "second"):
        kube.delete(TRAINING, namespace, name)
    for kind in (TRAINING, JOB, POD, WORKLOAD):
        wait_for(lambda kind=kind: not kube.list(kind, namespace), f"all {kind.plural} to go")  # type: ignore[misc]
    assert not [r for r in audit.requests(namespace=namespace) if (r.verb, r.resource) == ("patch", "jobs")]


@pytest.mark.usefixtures("operator")
def test_a_higher_priority_takes_the_place_and_gives_it_back(kube: Kube, namespace: str, kueue: Kueue) -> None:
    add_claim(kube, namespace)
    kueue.queue(namespace, gpus=8, preemption=True)
    urgent = f"urgent-{namespace}"
    kube.create(
        {
            "apiVersion": PRIORITY_CLASS.api_version,
            "kind": PRIORITY_CLASS.kind,
            "metadata": {"name": urgent},
            "value": 1000,
        },
        PRIORITY_CLASS,
    )
    runs = Runs()
    with PretendKubelet(kube, namespace, runs, stopped=Ending(75, STOPPED)):
        put(kube, namespace, "usual", compute={"queueName": "team", "gpu": "H100:8"})
        until(kube, namespace, "Running", "usual")
        put(kube, namespace, "urgent", compute={"queueName": "team", "gpu": "H100:8", "priorityClassName": urgent})
        until(kube, namespace, "Running", "urgent")
        (pod,) = pods(kube, namespace, "urgent")
        assert pod["spec"]["priorityClassName"] == urgent
        waiting = until_reason(kube, namespace, "WaitingForQueue", "usual")
        (entry,) = waiting["history"]
        assert (entry["cause"], entry["reason"]) == ("Infrastructure", "EvictedByQueue")
        assert "Kueue says: Preempted to accommodate a workload" in entry["message"]
        assert waiting["attempts"] == {"number": 2, "infrastructure": 1, "error": 0}
        assert kube.find(JOB, namespace, "usual-1") is None
        runs.done |= {"usual", "urgent"}
        until(kube, namespace, "Succeeded", "urgent")
        until(kube, namespace, "Succeeded", "usual")


@pytest.mark.usefixtures("operator")
def test_several_nodes_are_admitted_together_or_not_at_all(kube: Kube, namespace: str, kueue: Kueue) -> None:
    kueue.queue(namespace, gpus=24)
    nodes: Obj = {
        "dataset": None,
        "recipe": {"name": "custom", "custom": {"command": ["true"]}},
        "output": {"storage": {"accessModes": ["ReadWriteMany"]}},
    }
    compute = {"queueName": "team", "gpu": "H100:8", "nodes": 2}
    with PretendKubelet(kube, namespace, Runs(), stopped=Ending(75, STOPPED)):
        put(kube, namespace, "first", **nodes, compute=compute)
        until(kube, namespace, "Running", "first")
        wait_for(lambda: len(pods(kube, namespace, "first")) == 2, "both pods")
        put(kube, namespace, "second", **nodes, compute=compute)
        until_said(kube, namespace, "second", "insufficient unused quota for nvidia.com/gpu")
        assert kueue.workload(namespace, "second-1")["spec"]["podSets"][0]["count"] == 2
        assert not pods(kube, namespace, "second")  # there is room for one of them
        kube.delete(TRAINING, namespace, "first")
        until(kube, namespace, "Running", "second")
        wait_for(lambda: len(pods(kube, namespace, "second")) == 2, "both pods")


@pytest.mark.usefixtures("operator")
def test_what_an_administrator_switches_off_stays_off(kube: Kube, namespace: str, kueue: Kueue) -> None:
    add_claim(kube, namespace)
    kueue.queue(namespace, gpus=8)
    runs = Runs()
    with PretendKubelet(kube, namespace, runs, stopped=Ending(75, STOPPED)):
        put(kube, namespace, compute={"queueName": "team", "gpu": "H100:8"})
        until(kube, namespace, "Running")
        kueue.switch(namespace, "t-1", active=False)
        off = until_reason(kube, namespace, "SwitchedOffInQueue")
        assert off["phase"] == "Queued"
        assert off["attempts"] == {"number": 1, "infrastructure": 1, "error": 0}
        assert "The workload is deactivated" in off["history"][0]["message"]
        wait_for(lambda: not pods(kube, namespace, "t"), "its pod to go")
        time.sleep(5)  # a re-list and more
        assert not pods(kube, namespace, "t")
        assert [j["metadata"]["name"] for j in kube.list(JOB, namespace)] == ["t-1"]
        kueue.switch(namespace, "t-1", active=True)
        wait_for(lambda: kube.find(JOB, namespace, "t-2"), "the next attempt")
        runs.done.add("t")
        until(kube, namespace, "Succeeded")
    assert status_of(kube, namespace)["attempts"] == {"number": 2, "infrastructure": 1, "error": 0}
