"""From Jobs and pods, as clusters show them, to a state and a cause in words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelyard.compute.observe import INDEX_ANNOTATION, observe
from modelyard.compute.observed import Attempt

Obj = dict[str, Any]
T0, T1, T2, T3 = (f"2026-11-21T12:00:{s:02}Z" for s in (0, 10, 20, 30))
SCHEDULED = {"type": "PodScheduled", "status": "True", "lastTransitionTime": T1}
RULE = "Container trainer for pod ns/t-1-x failed with exit code {} matching FailJob rule at index {}"


def job(condition: Obj | None = None, *, deleting: bool = False, suspend: bool = False) -> Obj:
    meta: Obj = {"name": "t-1", "uid": "j", "creationTimestamp": T0, "labels": {"kueue.x-k8s.io/queue-name": "team"}}
    if deleting:
        meta["deletionTimestamp"] = T2
    return {"metadata": meta, "spec": {"suspend": suspend}, "status": {"conditions": [condition] if condition else []}}


def failed(reason: str = "PodFailurePolicy", message: str = "") -> Obj:
    return {"type": "Failed", "status": "True", "reason": reason, "message": message, "lastTransitionTime": T3}


COMPLETE = {"type": "Complete", "status": "True", "lastTransitionTime": T3}


def pod(phase: str = "Running", state: Obj | None = None, *conditions: Obj, node: str = "n1", **status: Any) -> Obj:
    meta: Obj = {"name": "t-1-x"}
    if status.pop("deleting", False):
        meta["deletionTimestamp"] = T2
    containers = [{"name": "trainer", "image": "img:1", "state": state}] if state is not None else []
    spec = {"nodeName": node} if node else {}
    found = {"phase": phase, "conditions": list(conditions or (SCHEDULED,)), "containerStatuses": containers, **status}
    return {"metadata": meta, "spec": spec, "status": found}


def ended(code: int, message: str = "", reason: str = "Error") -> Obj:
    return {"terminated": {"exitCode": code, "message": message, "reason": reason, "startedAt": T2, "finishedAt": T3}}


RUNNING = {"running": {"startedAt": T2}}


def waiting(reason: str, message: str = "") -> Obj:
    return {"waiting": {"reason": reason, "message": message}}


def unscheduled(message: str = "", reason: str = "Unschedulable") -> Obj:
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    return pod("Pending", None, condition, node="")


WAITING: list[tuple[str, Obj, list[Obj], str, str, str]] = [
    ("queue", job(suspend=True), [], "Queued", "WaitingForQueue", "Waiting for queue team"),
    ("no pod yet", job(), [], "Queued", "WaitingForPod", "waiting for its pod"),
    (
        "no node",
        job(),
        [unscheduled("0/3 nodes are available.")],
        "Queued",
        "Unschedulable",
        "0/3 nodes are available.",
    ),
    ("gate", job(), [unscheduled(reason="SchedulingGated")], "Queued", "SchedulingGated", "gate"),
    ("fresh", job(), [unscheduled()], "Queued", "Scheduling", "scheduler"),
    ("starting", job(), [pod("Pending", waiting("ContainerCreating"))], "Provisioning", "Starting", "Node n1"),
    (
        "no image",
        job(),
        [pod("Pending", waiting("ImagePullBackOff", "manifest unknown: secret-host"))],
        "Provisioning",
        "ImageNotFound",
        "Image img:1 was not found",
    ),
    (
        "denied",
        job(),
        [pod("Pending", waiting("ErrImagePull", "401 Unauthorized"))],
        "Provisioning",
        "ImagePullDenied",
        "imagePullSecrets",
    ),
    (
        "unreachable",
        job(),
        [pod("Pending", waiting("ErrImagePull", "dial tcp: i/o timeout"))],
        "Provisioning",
        "RegistryUnreachable",
        "can't reach",
    ),
    ("bad name", job(), [pod("Pending", waiting("InvalidImageName"))], "Provisioning", "InvalidImageName", "img:1"),
    (
        "config",
        job(),
        [pod("Pending", waiting("CreateContainerConfigError", "secret x not found"))],
        "Provisioning",
        "ContainerConfigError",
        "missing",
    ),
]


@pytest.mark.parametrize(
    ("seen", "pods", "state", "reason", "words"), [c[1:] for c in WAITING], ids=[c[0] for c in WAITING]
)
def test_waiting(seen: Obj, pods: list[Obj], state: str, reason: str, words: str) -> None:
    found = observe(1, seen, pods)
    assert found.state == state
    assert found.live
    assert found.waiting is not None
    assert found.waiting.reason == reason
    assert words in found.waiting.message
    assert "secret-host" not in found.waiting.message


def disrupted(reason: str) -> Obj:
    return {"type": "DisruptionTarget", "status": "True", "reason": reason}


AGENT = json.dumps({"result": "failed", "reason": "BadInput", "message": "No column kind.", "step": 3})
ENDED: list[tuple[str, Obj, list[Obj], str, str, str]] = [
    ("done", job(COMPLETE), [pod("Succeeded", ended(0))], "Done", "Completed", "complete"),
    ("done, pod gone", job(COMPLETE), [], "Done", "Completed", "complete"),
    ("bad input", job(failed()), [pod("Failed", ended(64, AGENT))], "BadInput", "BadInput", "No column kind."),
    ("bad input, no words", job(failed()), [pod("Failed", ended(64, "{"))], "BadInput", "BadInput", "refused"),
    ("bad input, pod gone", job(failed(message=RULE.format(64, 1))), [], "BadInput", "BadInput", "refused"),
    ("stopped", job(failed()), [pod("Failed", ended(75))], "Infrastructure", "Stopped", "checkpoint"),
    ("stopped, pod gone", job(failed(message=RULE.format(75, 2))), [], "Infrastructure", "Stopped", "checkpoint"),
    ("deleted by force", job(failed(message=RULE.format(137, 3))), [], "Infrastructure", "PodDeleted", "deleted"),
    ("error", job(failed()), [pod("Failed", ended(1))], "Error", "Error", "exit code 1"),
    ("error, pod gone", job(failed(message=RULE.format(9, 3))), [], "Error", "Error", "exit code 9"),
    ("signal", job(failed()), [pod("Failed", ended(139))], "Error", "Killed", "signal 11"),
    (
        "memory",
        job(failed()),
        [pod("Failed", ended(137, reason="OOMKilled"))],
        "Error",
        "OutOfMemory",
        "raise spec.compute.memory",
    ),
    ("deadline", job(failed("DeadlineExceeded")), [], "Error", "DeadlineExceeded", "deadline"),
    ("lost", job(failed("BackoffLimitExceeded")), [], "Infrastructure", "PodLost", "gone"),
    (
        "disrupted, pod gone",
        job(failed(message="Pod ns/x has condition DisruptionTarget matching FailJob rule at index 0")),
        [],
        "Infrastructure",
        "Disrupted",
        "cluster",
    ),
    (
        "deleted",
        job(failed()),
        [pod("Failed", ended(137), deleting=True)],
        "Infrastructure",
        "PodDeleted",
        "Somebody deleted",
    ),
    (
        "no python",
        job(failed()),
        [pod("Failed", ended(128, "exec: python3: not found in secret-host", reason="StartError"))],
        "BadInput",
        "ImageNotUsable",
        "must have it",
    ),
    (
        "no agent",
        job(failed("BackoffLimitExceeded")),
        [pod("Failed", None, initContainerStatuses=[{"name": "agent", "state": {"terminated": {"exitCode": 1}}}])],
        "Infrastructure",
        "AgentMissing",
        "container `agent`",
    ),
    *[
        (
            f"scratch, {which}",
            job(failed()),
            [pod("Failed", ended(137), reason="Evicted", message=said)],
            "Error",
            "ScratchFull",
            "raise spec.compute.scratch",
        )
        for which, said in [
            ("volume", 'Usage of EmptyDir volume "tmp" exceeds the limit "1Gi". '),
            ("container", 'Container trainer exceeded its local ephemeral storage limit "1Gi". '),
            ("pod", "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi. "),
        ]
    ],
    ("node pressure", job(failed()), [pod("Failed", None, reason="Evicted")], "Infrastructure", "Evicted", "evicted"),
    ("admission", job(failed()), [pod("Failed", None, reason="OutOfcpu")], "Infrastructure", "NodeRefused", "node"),
    *[
        (
            cause,
            job(failed()),
            [pod("Failed", ended(137), SCHEDULED, disrupted(cause))],
            "Infrastructure",
            reason,
            "",
        )
        for cause, reason in [
            ("PreemptionByScheduler", "Preempted"),
            ("EvictionByEvictionAPI", "Evicted"),
            ("DeletionByTaintManager", "NodeLost"),
            ("DeletionByPodGC", "NodeLost"),
            ("TerminationByKubelet", "Evicted"),
            ("SomethingNew", "Disrupted"),
        ]
    ],
    (
        "bad input beats eviction",
        job(failed()),
        [pod("Failed", ended(64, AGENT), SCHEDULED, disrupted("EvictionByEvictionAPI"))],
        "BadInput",
        "BadInput",
        "",
    ),
]


@pytest.mark.parametrize(
    ("seen", "pods", "result", "reason", "words"), [c[1:] for c in ENDED], ids=[c[0] for c in ENDED]
)
def test_ended(seen: Obj, pods: list[Obj], result: str, reason: str, words: str) -> None:
    found = observe(1, seen, pods)
    assert found.state == "Ended"
    assert not found.live
    assert found.outcome is not None
    assert (found.outcome.result, found.outcome.cause.reason) == (result, reason)
    assert words in found.outcome.cause.message
    assert found.released is not None


def test_times() -> None:
    found = observe(1, job(), [pod("Running", RUNNING)])
    assert found.state == "Running"
    assert [t.second for t in (found.created, found.placed, found.running) if t] == [0, 10, 20]
    assert found.nodes == ("n1",)
    over = observe(1, job(COMPLETE), [pod("Succeeded", ended(0))])
    assert over.released is not None
    assert over.released.second == 30


def test_a_deleted_job_is_over_when_its_pod_is() -> None:
    assert observe(1, job(deleting=True), [pod("Running", RUNNING)]).state == "Running"
    over = observe(1, job(deleting=True), [pod("Failed", ended(75))])
    assert (over.state, over.live) == ("Ended", True)


def test_no_job() -> None:
    assert observe(1, None, []) == Attempt(1)
    assert observe(1, None, [pod("Running", RUNNING)]).live


def test_a_running_pod_that_the_cluster_stops_says_so() -> None:
    found = observe(1, job(), [pod("Running", RUNNING, SCHEDULED, disrupted("PreemptionByScheduler"))])
    assert found.state == "Running"
    assert found.waiting is not None
    assert found.waiting.reason == "Preempted"


@pytest.mark.parametrize(
    "message", ["", "not json", "[1]", '{"reason": "bad reason", "message": "x"}', '{"reason": 5, "message": null}']
)
def test_words_of_the_wrong_form_are_not_passed_on(message: str) -> None:
    found = observe(1, job(failed()), [pod("Failed", ended(1, message))])
    assert found.outcome is not None
    assert found.outcome.cause.message == "The trainer ended with exit code 1."


def test_long_words_are_cut() -> None:
    long = json.dumps({"reason": "Error", "message": "x" * 5000})
    found = observe(1, job(failed()), [pod("Failed", ended(1, long))])
    assert found.outcome is not None
    assert len(found.outcome.cause.message) == 512


def test_the_last_words_of_pods_that_are_gone_count() -> None:
    said = json.dumps({"checkpoint": {"step": 9}})
    gone = pod("Failed", ended(75, said), deleting=True)
    rule = failed(message=RULE.format(75, 2))
    for seen in (observe(1, job(rule), [], [gone]), observe(1, None, [], [gone])):
        assert seen.outcome is not None
        assert (seen.outcome.result, seen.outcome.report) == ("Infrastructure", {"checkpoint": {"step": 9}})
        assert not seen.live
    assert observe(1, None, [], [pod("Running", RUNNING, deleting=True)]).outcome is None
    assert observe(1, job(), [], [gone]).outcome is None


def test_of_several_pods_one_tells_how_far_they_were() -> None:
    first = pod("Failed", ended(75, json.dumps({"step": 9, "checkpoint": {"step": 9}})))
    second = pod("Failed", ended(1, json.dumps({"reason": "GPULost", "message": "GPU 0 is lost."})))
    for number, member in enumerate((first, second)):
        member["metadata"]["annotations"] = {INDEX_ANNOTATION: str(number)}
    seen = observe(1, job(failed()), [second], [first])
    assert seen.outcome is not None
    assert seen.outcome.report["step"] == 9


def test_a_job_that_is_over_before_its_pods_are_said_to_be_is_waited_for() -> None:
    seen = observe(1, job(failed()), [pod("Running", RUNNING)])
    assert (seen.state, seen.outcome, seen.live) == ("Running", None, True)
