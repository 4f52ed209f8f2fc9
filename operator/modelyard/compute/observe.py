"""From a Job and its pods to what `decide` asks about an attempt. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from modelyard.compute import waiting
from modelyard.compute.ended import CONTAINER, disrupted, is_over, job_condition, outcome, terminated
from modelyard.compute.observed import Attempt, Cause, Outcome, State
from modelyard.plan import Obj
from modelyard.resources.conditions import find
from modelyard.resources.times import parse_time

INDEX_ANNOTATION: Final = "batch.kubernetes.io/job-completion-index"


def observe(number: int, job: Obj | None, pods: Sequence[Obj], departed: Sequence[Obj] = ()) -> Attempt:
    """The attempt as its Job (None: there is none) and the pods that belong to it show it.

    A pod that is stopped is gone a moment after it has ended: its last words are those of the `departed`.
    """
    pods = sorted(pods, key=_index)
    running_pods = [p for p in pods if not is_over(p)]
    over = sorted((p for p in (*pods, *departed) if is_over(p)), key=_index)
    if job is None:
        return Attempt(
            number,
            live=bool(running_pods),
            deleting=bool(running_pods),
            outcome=outcome(None, over) if over and not running_pods else None,
            released=_released(None, over) if not running_pods else None,
            **_placement(pods, len(pods)),
        )
    meta, condition = job["metadata"], job_condition(job)
    deleting, suspended = "deletionTimestamp" in meta, _suspended(job)
    # A Job has its condition when its pods have ended, and the watch of pods may still be about to say so.
    ended = not running_pods and (condition is not None or ((deleting or suspended) and bool(pods)))
    state, reason = ("Ended", None) if ended else _state(job, pods)
    return Attempt(
        number,
        state=state,
        live=deleting or not ended,
        deleting=deleting,
        uid=meta["uid"],
        created=_time(meta.get("creationTimestamp")),
        admitted=_time(job.get("status", {}).get("startTime")),
        waiting=reason,
        outcome=_outcome(job, condition, over) if ended else None,
        released=_released(condition, over) if ended else None,
        **_placement(pods, _wanted(job)),
    )


def _outcome(job: Obj, condition: Obj | None, pods: Sequence[Obj]) -> Outcome:
    found = outcome(condition, pods)
    if condition is None and _suspended(job) and found.result == "Infrastructure":
        return replace(found, cause=evicted(job))
    return found


def evicted(job: Obj) -> Cause:
    """A queue has taken back what it gave: its own way of preemption."""
    return Cause("EvictedByQueue", f"Queue {_queue(job)} has taken the place back; the run asks for another.")


def _suspended(job: Obj) -> bool:
    return bool(job.get("spec", {}).get("suspend"))


def _queue(job: Obj) -> str:
    return str(job["metadata"].get("labels", {}).get("kueue.x-k8s.io/queue-name", ""))


def _wanted(job: Obj) -> int:
    """How many pods train together."""
    return int(job.get("spec", {}).get("completions") or 1)


def _index(pod: Obj) -> tuple[int, str]:
    number = pod["metadata"].get("annotations", {}).get(INDEX_ANNOTATION, "")
    return int(number) if number.isdigit() else 0, pod["metadata"]["name"]


def _state(job: Obj, pods: Sequence[Obj]) -> tuple[State, Cause | None]:
    wanted = _wanted(job)
    if _suspended(job) and not pods:
        return "Queued", Cause("WaitingForQueue", f"Waiting for queue {_queue(job)} to admit the run.")
    if _suspended(job):
        words = f"Queue {_queue(job)} takes the place back: the run saves a checkpoint and asks for another."
        return ("Running" if any(map(_started, pods)) else "Provisioning"), Cause("EvictedByQueue", words)
    if not pods:
        return "Queued", Cause("WaitingForPod", "The Job is made; waiting for its pod.")
    stopping = next((cause for pod in pods if (cause := disrupted(pod)) is not None), None)
    pods = [p for p in pods if not is_over(p)]
    if not pods:
        return "Running", stopping or Cause("Ending", "The trainer has ended; its Job is about to say how.")
    waits = [p for p in pods if not p.get("spec", {}).get("nodeName")]
    if waits:
        return "Queued", waiting.together(waiting.unscheduled(waits[0]), len(pods) - len(waits), wanted)
    if len(pods) < wanted and not any(map(_started, pods)):
        return "Queued", Cause("WaitingForPod", f"{len(pods)} of {wanted} pods are made; waiting for the others.")
    for pod in pods:
        if _started(pod) is None:
            return "Provisioning", waiting.starting(pod)
    return "Running", stopping


def _placement(pods: Sequence[Obj], wanted: int) -> dict[str, Any]:
    placed = [t for p in pods if (t := _scheduled(p)) is not None]
    started = [t for p in pods if (t := _started(p)) is not None]
    complete = bool(pods) and len(started) == len(pods)
    together = len(placed) >= wanted
    return {
        "pod": pods[0]["metadata"]["name"] if pods else None,
        "nodes": tuple(sorted({n for p in pods if (n := p.get("spec", {}).get("nodeName"))})),
        "partly": min(placed) if placed and not together else None,
        "placed": _mean(placed) if placed and together else None,
        "running": max(started) if complete else None,
    }


def _mean(times: Sequence[datetime]) -> datetime:
    """As if all had come then: what was held from there on is what was held from each one's own time on."""
    first = min(times)
    return first + sum((t - first for t in times), timedelta()) / len(times)


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
