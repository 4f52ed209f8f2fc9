"""What Kueue says of an attempt: why it waits, why it was stopped, whether somebody has switched it off. Pure.

Its sentences are passed on as the scheduler's are, since their numbers are the answer.
"""

from __future__ import annotations

from typing import Final

from modelyard.plan import Obj
from modelyard.resources.conditions import cut, find

SWITCHED_OFF: Final = "SwitchedOffInQueue"
EVICTED: Final = "EvictedByQueue"
_SAID_MAX: Final = 320


def why_queued(workload: Obj | None) -> str:
    """Why it has no place yet; empty if Kueue has not said anything."""
    return _said(workload, "QuotaReserved", "False") or _said(workload, "Admitted", "False")


def why_evicted(workload: Obj | None) -> str:
    """Why the place was taken back; empty if that is not known."""
    return _said(workload, "Evicted", "True")


def switched_off(workload: Obj | None) -> str | None:
    """In words, if somebody does not want it to run: a new Job would get round that."""
    if workload is None or workload.get("spec", {}).get("active", True):
        return None
    name = workload["metadata"]["name"]
    return f"Switched off in the queue: it waits until spec.active of Workload {name} is true again."


def _said(workload: Obj | None, type: str, status: str) -> str:
    condition = find(((workload or {}).get("status") or {}).get("conditions") or (), type) or {}
    said = condition.get("message") if condition.get("status") == status else None
    return f"Kueue says: {cut(str(said), _SAID_MAX)}" if said else ""
