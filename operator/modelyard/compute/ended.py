"""How an attempt ended, from what is left of it: the pod if it is there, else the Job's own condition. Pure.

Told apart here: what the user must mend (64), what the cluster did to the run (any eviction, 75, a lost pod), and
what the program did. The agent's words are taken from its termination message, bounded, and only if they have the
agreed form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from modelyard.compute.observed import Cause, Outcome
from modelyard.plan import Obj
from modelyard.resources.conditions import cut, find

CONTAINER: Final = "trainer"
BAD_INPUT: Final = 64
STOPPED: Final = 75
OUT_OF_MEMORY: Final = 137
MESSAGE_MAX: Final = 512

_BY_SIGNAL: Final = (137, 143)
"""Exit codes after SIGKILL and SIGTERM."""

DISRUPTED_RULE, BAD_INPUT_RULE, STOPPED_RULE = 0, 1, 2
"""Places of the Job's pod failure rules, which its condition names."""

_REASON = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")
_RULE = re.compile(r"matching FailJob rule at index (\d+)")
_EXIT = re.compile(r"failed with exit code (\d+)")

_DISRUPTIONS: Final = {
    "PreemptionByScheduler": Cause("Preempted", "A pod of higher priority took the place of this one."),
    "EvictionByEvictionAPI": Cause("Evicted", "The pod was evicted, as when its node is drained."),
    "DeletionByTaintManager": Cause("NodeLost", "The node was tainted, as when it stops answering."),
    "DeletionByPodGC": Cause("NodeLost", "The node of the pod is gone."),
    "TerminationByKubelet": Cause("Evicted", "The node stopped the pod to save itself: pressure or shutdown."),
}
_DISRUPTED = Cause("Disrupted", "The cluster stopped the pod.")
_POD_REASONS: Final = {
    "Evicted": Cause("Evicted", "The node evicted the pod because it ran short of memory or disk."),
    "NodeLost": Cause("NodeLost", "The node of the pod stopped answering."),
    "NodeShutdown": Cause("NodeShutdown", "The node of the pod was shut down."),
    "Terminated": Cause("NodeShutdown", "The node of the pod was shut down."),
    "Preempting": Cause("Preempted", "The node needed the pod's place for a critical one."),
    "UnexpectedAdmissionError": Cause("NodeRefused", "The node could not give the pod what it asked for."),
    "NodeAffinity": Cause("NodeRefused", "The node no longer has the labels that the pod asks for."),
}
POD_LOST = Cause("PodLost", "The pod is gone, and nothing says why: somebody deleted it, or its node went away.")
POD_DELETED = Cause("PodDeleted", "Somebody deleted the pod.")
AGENT_MISSING = Cause("AgentMissing", "The agent could not be put into the pod: see the log of its container `agent`.")
DEADLINE = Cause("DeadlineExceeded", "The Job's own deadline passed.")


def job_condition(job: Obj) -> Mapping[str, Any] | None:
    """The condition that says that the Job is over, if it is."""
    conditions = job.get("status", {}).get("conditions", ())
    for type in ("Complete", "Failed"):
        found = find(conditions, type)
        if found is not None and found.get("status") == "True":
            return found
    return None


def outcome(condition: Mapping[str, Any] | None, pods: Iterable[Obj]) -> Outcome:
    """How it ended, by the Job's last condition (None: it has none yet) and its pods, all of which have ended."""
    found = [_of_pod(pod) for pod in pods]
    if condition is not None and condition.get("type") == "Complete":
        done = next((o for o in found if o.result == "Done"), None)
        return done or Outcome("Done", Cause("Completed", "Training is complete."), 0)
    failed = [o for o in found if o.result != "Done"]
    if failed:
        first = min(failed, key=lambda o: _WEIGHT[o.result])
        return replace(first, report={**_how_far(found), **first.report})
    if found and condition is None:
        return found[0]
    return _of_condition(condition or {})


def _how_far(found: Iterable[Outcome]) -> dict[str, Any]:
    """Of several pods one tells how far they were, and it need not be the one that failed first."""
    told: dict[str, Any] = {}
    for name in ("step", "resumedFrom", "checkpoint"):
        said = [o.report[name] for o in found if name in o.report]
        told |= {name: said[0]} if said else {}
    return told


_WEIGHT: Final = {"BadInput": 0, "Infrastructure": 1, "Error": 2, "Done": 3}
"""Of several pods the first cause counts: others fail because it did."""


def terminated(pod: Obj) -> Mapping[str, Any] | None:
    """The trainer container's end, if it has come."""
    for status in pod.get("status", {}).get("containerStatuses", ()):
        if status.get("name") == CONTAINER:
            end = status.get("state", {}).get("terminated")
            return end if isinstance(end, Mapping) else None
    return None


def disrupted(pod: Obj) -> Cause | None:
    """Why the cluster stops the pod, if it does."""
    condition = find(pod.get("status", {}).get("conditions", ()), "DisruptionTarget")
    if condition is None or condition.get("status") != "True":
        return None
    return _DISRUPTIONS.get(str(condition.get("reason")), _DISRUPTED)


def is_over(pod: Obj) -> bool:
    """Whether the pod has ended for good."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _of_pod(pod: Obj) -> Outcome:
    status, end = pod.get("status", {}), terminated(pod) or {}
    code = end.get("exitCode")
    report = read_report(end.get("message"))
    words = _agent_words(report)
    if status.get("phase") == "Succeeded":
        return Outcome("Done", words or Cause("Completed", "Training is complete."), 0, report)
    if code == BAD_INPUT:
        return Outcome("BadInput", words or Cause("BadInput", "The trainer refused its input."), code, report)
    if end.get("reason") in _NOT_STARTED:
        return Outcome("BadInput", _not_started(pod), code, report)
    if (disruption := disrupted(pod)) is not None:
        return Outcome("Infrastructure", disruption, code, report)
    if status.get("reason") == "Evicted" and _OWN_LIMIT.search(str(status.get("message", ""))):
        return Outcome("Error", _SCRATCH_FULL, code, report)
    if (by_node := _by_node(str(status.get("reason", "")))) is not None:
        return Outcome("Infrastructure", by_node, code, report)
    if code == STOPPED:
        return Outcome("Infrastructure", words or Cause("Stopped", "Stopped after a checkpoint."), code, report)
    if end.get("reason") == "OOMKilled":
        return Outcome("Error", Cause("OutOfMemory", _OUT_OF_MEMORY), code, report)
    if pod.get("metadata", {}).get("deletionTimestamp"):
        return Outcome("Infrastructure", POD_DELETED, code, report)
    if code is None and _agent_missing(pod):
        return Outcome("Infrastructure", AGENT_MISSING, None, report)
    if code is None:
        return Outcome("Infrastructure", POD_LOST, None, report)
    broken = words is not None and words.reason in _BROKEN
    return Outcome("Infrastructure" if broken else "Error", words or _by_code(code), code, report)


_BROKEN: Final = frozenset({"GPULost"})
"""Reasons of the agent that are no fault of the program."""

_OUT_OF_MEMORY = (
    "The trainer was killed because it used more memory than its limit: raise spec.compute.memory or make the batch "
    "smaller."
)


_OWN_LIMIT: Final = re.compile(r"exceed\w* (the limit|the total limit|its local ephemeral storage limit)")
"""What kubelets say where a pod wrote more than it may, and its node was short of nothing."""
_SCRATCH_FULL: Final = Cause(
    "ScratchFull",
    "The trainer wrote more outside its output volume than it may: raise spec.compute.scratch, or write to the volume.",
)
_NOT_STARTED: Final = ("StartError", "ContainerCannotRun")


def _not_started(pod: Obj) -> Cause:
    named = [c for c in pod.get("spec", {}).get("containers", ()) if c.get("name") == CONTAINER]
    container: Obj = named[0] if named else {}
    program = cut(str((container.get("command") or ["its program"])[0]), 64)
    image = cut(str(container.get("image", "")), 256)
    return Cause("ImageNotUsable", f"Image {image} can't start {program}: it must have it, and run under any user.")


def _agent_missing(pod: Obj) -> bool:
    """Whether a container that comes before the trainer failed."""
    before = pod.get("status", {}).get("initContainerStatuses", ())
    return any(s.get("state", {}).get("terminated", {}).get("exitCode") for s in before)


def _by_node(reason: str) -> Cause | None:
    if reason.startswith("OutOf"):
        return Cause("NodeRefused", "The node no longer had what the pod asked for when it came.")
    return _POD_REASONS.get(reason)


def _by_code(code: int) -> Cause:
    if code > 128:
        return Cause("Killed", f"The trainer was killed by signal {code - 128}.")
    return Cause("Error", f"The trainer ended with exit code {code}.")


def _of_condition(condition: Mapping[str, Any]) -> Outcome:
    """The pod is gone: the Job's condition still names the rule that ended it."""
    text = str(condition.get("message", ""))
    rule, code = _RULE.search(text), _EXIT.search(text)
    exit_code = int(code[1]) if code else None
    if condition.get("reason") == "DeadlineExceeded":
        return Outcome("Error", DEADLINE)
    if condition.get("reason") != "PodFailurePolicy" or rule is None:
        return Outcome("Infrastructure", POD_LOST)
    match int(rule[1]):
        case 0:
            return Outcome("Infrastructure", _DISRUPTED, exit_code)
        case 1:
            return Outcome(
                "BadInput", Cause("BadInput", "The trainer refused its input; its words went with the pod."), 64
            )
        case 2:
            return Outcome("Infrastructure", Cause("Stopped", "Stopped after a checkpoint."), STOPPED)
        case _ if exit_code in _BY_SIGNAL:
            # A pod that fails by itself stays until its Job goes: this one was deleted, and killed for it.
            return Outcome("Infrastructure", POD_DELETED, exit_code)
        case _:
            return Outcome("Error", _by_code(exit_code if exit_code is not None else 1), exit_code)


def read_report(text: object) -> Mapping[str, Any]:
    """The agent's termination message, or nothing where it is not the agreed JSON object."""
    if not isinstance(text, str) or not text:
        return {}
    try:
        report = json.loads(text)
    except ValueError:
        return {}
    return report if isinstance(report, dict) else {}


def _agent_words(report: Mapping[str, Any]) -> Cause | None:
    reason, message = report.get("reason"), report.get("message")
    if not isinstance(reason, str) or not _REASON.fullmatch(reason) or not isinstance(message, str) or not message:
        return None
    return Cause(reason, cut(message, MESSAGE_MAX))
