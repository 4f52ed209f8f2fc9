"""What a Model says about itself: the sum of its versions, in the words that kubectl, Flux and Argo CD read. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from modelyard.decide.common import ConditionSet
from modelyard.decide.model.entry import FAILED, PENDING, PROCESSING, READY, Outcome
from modelyard.plan import Event, Obj
from modelyard.resources.meta import MODEL
from modelyard.resources.model import SYNCED_VERSIONS_MAX
from modelyard.resources.objects import generation_of, ref_to, uid_of

_WORST_FIRST: Final = (FAILED, PROCESSING, PENDING, READY)
_SHOWN: Final = 3
_WAITING_FOR_A_TRAINING: Final = "NotSaved"


def model_status(model: Obj, outcomes: Sequence[Outcome], now: datetime) -> dict[str, Any]:
    """The whole status, from what was decided about each version."""
    generation = generation_of(model)
    wanted = [o for o in outcomes if o.wanted]
    phases = {o.phase for o in wanted}
    phase = next((p for p in _WORST_FIRST if p in phases), READY)
    ready = sum(o.phase == READY for o in wanted)
    times = [o.entry["lastSyncTime"] for o in outcomes if "lastSyncTime" in o.entry]
    conditions = ConditionSet((model.get("status") or {}).get("conditions"), now=now, generation=generation)
    reason, message = _summary(wanted, ready)
    conditions.flag("Ready", phase == READY, reason, message)
    busy = phase == PROCESSING or any(o.phase == PROCESSING or _waits_for_source(o) for o in wanted)
    conditions.flag("Reconciling", busy, reason if busy else "Settled", message if busy else "Nothing is in progress.")
    stalled = phase == FAILED and not busy
    conditions.flag("Stalled", stalled, reason if stalled else "Settled", message if stalled else "Nothing is stuck.")
    return {
        "observedGeneration": generation,
        "phase": phase,
        "versionsReady": ready,
        "versionsTotal": len(wanted),
        "lastSyncTime": max(times, default=None),
        "conditions": conditions.result(),
        "syncedVersions": [o.entry for o in outcomes][:SYNCED_VERSIONS_MAX],
    }


def held_status(model: Obj, reason: str, message: str, now: datetime, *, stalled: bool) -> dict[str, Any]:
    """The status as it was, with one cause over all: an unreadable spec (`stalled`), or a deletion that waits."""
    old = model.get("status") or {}
    generation = generation_of(model)
    conditions = ConditionSet(old.get("conditions"), now=now, generation=generation)
    conditions.set("Ready", "False", reason, message)
    conditions.flag(
        "Reconciling",
        not stalled,
        reason if not stalled else "Settled",
        message if not stalled else "Nothing is in progress.",
    )
    conditions.flag("Stalled", stalled, reason if stalled else "Settled", message if stalled else "Nothing is stuck.")
    phase = FAILED if stalled else old.get("phase")
    return {**old, "observedGeneration": generation, "phase": phase, "conditions": conditions.result()}


def events(model: Obj, outcomes: Sequence[Outcome]) -> list[Event]:
    """One Event for each version that became ready or failed just now."""
    old = {e["name"]: e for e in (model.get("status") or {}).get("syncedVersions") or ()}
    found = []
    for outcome in outcomes:
        before = old.get(outcome.entry["name"], {})
        if outcome.phase not in (READY, FAILED):
            continue
        said = outcome.entry.get("reason", "Ready"), outcome.phase
        if said == (before.get("reason", "Ready"), before.get("phase")):
            continue
        name, failed = outcome.entry["name"], outcome.phase == FAILED
        reason = outcome.entry["reason"] if failed else "VersionReady"
        words = outcome.entry["message"] if failed else "The files are there."
        about = ref_to(MODEL, model), uid_of(model)
        found.append(Event(*about, reason, f"Version {name}: {words}", "Warning" if failed else "Normal"))
    return found


def _summary(wanted: Sequence[Outcome], ready: int) -> tuple[str, str]:
    if not wanted:
        return "NoVersions", "There are no versions, so there is nothing to do."
    if ready == len(wanted):
        return "Ready", "All versions are ready."
    rest = sorted((o for o in wanted if o.phase != READY), key=lambda o: _WORST_FIRST.index(o.phase or PENDING))
    shown = "; ".join(f"{o.entry['name']}: {o.entry.get('message', '')}" for o in rest[:_SHOWN])
    more = f" And {len(rest) - _SHOWN} more." if len(rest) > _SHOWN else ""
    return rest[0].entry.get("reason", "NotReady"), f"{ready} of {len(wanted)} versions are ready. {shown}{more}"


def _waits_for_source(outcome: Outcome) -> bool:
    return outcome.phase == PENDING and outcome.entry.get("reason") != _WAITING_FOR_A_TRAINING
