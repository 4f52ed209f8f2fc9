"""From a Job and its pods to what `decide` asks about an attempt. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from modelyard.compute import waiting
from modelyard.compute.ended import CONTAINER, disrupted, is_over, job_condition, outcome, terminated
from modelyard.compute.observed import Attempt, Cause, State
from modelyard.plan import Obj
from modelyard.resources.conditions import find
from modelyard.resources.times import parse_time


def observe(number: int, job: Obj | None, pods: Sequence[Obj]) -> Attempt:
    """The attempt as its Job (None: there is none) and the pods that belong to it show it."""
    running_pods = [p for p in pods if not is_over(p)]
    if job is None:
        return Attempt(number, live=bool(running_pods), deleting=bool(running_pods), **_placement(pods))
    meta, condition = job["metadata"], job_condition(job)
    deleting = "deletionTimestamp" in meta
    ended = condition is not None or (deleting and bool(pods) and not running_pods)
    state, reason = ("Ended", None) if ended else _state(job, pods)
    return Attempt(
        number,
        state=state,
        live=deleting or not ended or bool(running_pods),
        deleting=deleting,
        uid=meta["uid"],
        created=_time(meta.get("creationTimestamp")),
        admitted=_time(job.get("status", {}).get("startTime")),
        waiting=reason,
        outcome=outcome(condition, [p for p in pods if is_over(p)]) if ended else None,
        released=_released(condition, pods) if ended else None,
        **_placement(pods),
    )


def _state(job: Obj, pods: Sequence[Obj]) -> tuple[State, Cause | None]:
    if job.get("spec", {}).get("suspend"):
        queue = job["metadata"].get("labels", {}).get("kueue.x-k8s.io/queue-name", "")
        return "Queued", Cause("WaitingForQueue", f"Waiting for queue {queue} to admit the run.")
    if not pods:
        return "Queued", Cause("WaitingForPod", "The Job is made; waiting for its pod.")
    stopping = next((cause for pod in pods if (cause := disrupted(pod)) is not None), None)
    pods = [p for p in pods if not is_over(p)]
    if not pods:
        return "Running", stopping or Cause("Ending", "The trainer has ended; its Job is about to say how.")
    for pod in pods:
        if not pod.get("spec", {}).get("nodeName"):
            return "Queued", waiting.unscheduled(pod)
    for pod in pods:
        if _started(pod) is None:
            return "Provisioning", waiting.starting(pod)
    return "Running", stopping


def _placement(pods: Sequence[Obj]) -> dict[str, Any]:
    placed = [t for p in pods if (t := _scheduled(p)) is not None]
    started = [t for p in pods if (t := _started(p)) is not None]
    complete = bool(pods) and len(started) == len(pods)
    return {
        "pod": min((p["metadata"]["name"] for p in pods), default=None),
        "nodes": tuple(sorted({n for p in pods if (n := p.get("spec", {}).get("nodeName"))})),
        "placed": min(placed, default=None),
        "running": max(started) if complete else None,
    }


def _scheduled(pod: Obj) -> datetime | None:
    """When the pod got its node. The node's name is what counts: the condition is missing where nobody schedules."""
    if not pod.get("spec", {}).get("nodeName"):
        return None
    status = pod.get("status", {})
    condition = find(status.get("conditions", ()), "PodScheduled") or {}
    at = condition.get("lastTransitionTime") if condition.get("status") == "True" else None
    return _time(at or status.get("startTime") or pod["metadata"].get("creationTimestamp")) or _started(pod)


def _started(pod: Obj) -> datetime | None:
    for status in pod.get("status", {}).get("containerStatuses", ()):
        if status.get("name") == CONTAINER:
            state = status.get("state", {})
            return _time((state.get("running") or state.get("terminated") or {}).get("startedAt"))
    return None


def _released(condition: Obj | None, pods: Iterable[Obj]) -> datetime | None:
    ends = [t for p in pods if (t := _time((terminated(p) or {}).get("finishedAt"))) is not None]
    return max(ends, default=None) or _time((condition or {}).get("lastTransitionTime"))


def _time(text: object) -> datetime | None:
    return parse_time(text) if isinstance(text, str) and text else None
