"""What an attempt that does not run yet waits for, as far as it can be found out. Pure.

The reasons that stand in the status decide what is read: events about a Job that makes no pods, the cluster's nodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, NamedTuple

from modelyard.decide.training.bounds import QUEUED
from modelyard.decide.training.draft import Draft
from modelyard.decide.training.making import TRIED_AGAIN
from modelyard.decide.training.ports import Attempt, Cause
from modelyard.decide.training.queue import SWITCHED_OFF, switched_off, why_queued
from modelyard.decide.training.view import Context

NO_POD_SECONDS: Final = 10
"""How long a Job may take to make its pods before it is asked why."""
_NO_POD: Final = "WaitingForPod"
_UNPLACED: Final = frozenset({"Unschedulable", "PartlyPlaced", "NoNodeFits", "ClusterFull"})
_OTHER: Final = frozenset({"Starting", "Scheduling", "SchedulingGated", QUEUED, SWITCHED_OFF, "NameTaken", _NO_POD})


class _Cause(NamedTuple):
    reason: str
    message: str


def why_waiting(ctx: Context, draft: Draft, attempt: Attempt, waiting: Cause) -> Cause:
    """The cause that the Job and its pods show, or the one behind it."""
    if waiting.reason == QUEUED:
        if (words := switched_off(ctx.view.workload)) is not None:
            return _Cause(SWITCHED_OFF, words)
        return _Cause(QUEUED, f"{waiting.message} {why_queued(ctx.view.workload)}".rstrip())
    since = attempt.admitted or attempt.created
    if waiting.reason == _NO_POD and attempt.pod is None and since is not None:
        late = since + timedelta(seconds=NO_POD_SECONDS)
        if ctx.now < late:
            draft.look_again_at(late)
            return waiting
        if (why := ctx.view.no_pods) is not None:
            return _Cause(why.reason, f"The Job gets no pods. {why.message} {TRIED_AGAIN}")
        return _Cause("PodMissing", f"The Job has made no pods for {NO_POD_SECONDS} s, and nothing says why (yet).")
    if waiting.reason in _UNPLACED and ctx.view.nodes is not None:
        found = ctx.compute.capacity(ctx.view.training["spec"], ctx.view.nodes)
        if found is not None:
            placed = f"{waiting.message.partition('.')[0]}. " if waiting.reason == "PartlyPlaced" else ""
            return _Cause(found.reason, f"{placed}{found.message}")
    return waiting


def wants_events(status: Mapping[str, Any]) -> bool:
    """Whether the Training's Job has made no pods for a while."""
    placement = status.get("placement") or {}
    waits = status.get("phase") == "Queued" and bool(placement.get("jobUID")) and not placement.get("pod")
    return waits and status.get("reason") not in _OTHER | _UNPLACED


def wants_nodes(status: Mapping[str, Any]) -> bool:
    """Whether the Training's pods find no place."""
    return status.get("phase") == "Queued" and status.get("reason") in _UNPLACED
