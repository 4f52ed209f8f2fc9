"""`checkpoint.from`: goes on from what another Training paid for, which is kept as long as it is needed. Pure.

The other run must be over: a running one would take its checkpoints away under us. Its output volume is mounted
read-only, and a finalizer holds the Training, with which the volume would go, until the last one that goes on from it
is over. A use is on record (`status.inputs`) before it is relied on, and relied on only once the finalizer is there.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from modelyard.decide.common import guard, has_guard, listed
from modelyard.decide.training.draft import Draft
from modelyard.decide.training.view import Context, TrainingView
from modelyard.plan import Obj, Plan, SetFinalizers
from modelyard.resources.meta import TRAINING
from modelyard.resources.objects import is_deleting
from modelyard.resources.training.status import TERMINAL_PHASES

INPUT: Final = "checkpoint"
_AT: Final = "spec.checkpoint.from"


class Wrong(NamedTuple):
    """Why there is nothing to go on from."""

    reason: str
    message: str


def users(view: TrainingView) -> list[str]:
    """The Trainings that go on from this one and are not over."""
    return [
        t["metadata"]["name"] for t in view.successors if (t.get("status") or {}).get("phase") not in TERMINAL_PHASES
    ]


def hold(view: TrainingView) -> SetFinalizers | None:
    """Puts the finalizer on, or takes it off."""
    return guard(TRAINING, view.training, bool(users(view)))


def leave(view: TrainingView, draft: Draft) -> Plan:
    """A Training that is being deleted: its owner references take everything along but what was saved."""
    if not has_guard(view.training):
        return Plan()
    if (names := users(view)) and draft.phase:
        words = f"Deletion waits for the Trainings that go on from this one: {listed(names)}."
        draft.conditions.set("CleanedUp", "False", "InUse", words)
        return draft.plan()
    release = hold(view)
    return Plan((release,) if release is not None else ())


def wrong(ctx: Context) -> Wrong | None:
    """What is wrong with the Training that is named, or None; it may still run."""
    name = _name(ctx)
    if name is None:
        return None
    at = f"{_AT}.training"
    if name == ctx.view.training["metadata"]["name"]:
        return Wrong("InvalidSpec", f"{at}: a Training goes on from its own checkpoints by itself; remove it.")
    other = ctx.view.origin
    if other is None:
        return Wrong("TrainingNotFound", f"{at}: there is no Training {name} in this namespace; name another.")
    if is_deleting(other) and not has_guard(other):
        return Wrong("TrainingTerminating", f"{at}: Training {name} is being deleted; name another.")
    if (differs := _differs(ctx.view.training["spec"], other["spec"])) is not None:
        words = f"{at}: Training {name} has another {differs}, and its checkpoint fits no other; make them the same."
        return Wrong("CheckpointIncompatible", words)
    status = other.get("status") or {}
    if status.get("phase") not in TERMINAL_PHASES:
        return None
    if ctx.view.origin_claim is None:
        return Wrong("OutputGone", f"{at}: the output volume of Training {name} is gone; name another.")
    if _step(other) is None:
        words = f"{at}: Training {name} has left no checkpoint"
        if status["phase"] == "Succeeded":
            words += ": a run that is saved removes them, unless save.keepCheckpoints is true"
        return Wrong("NoCheckpoint", f"{words}; name another.")
    return None


def entry(ctx: Context) -> dict[str, Any] | None:
    """The input that the checkpoint is; None where the run goes on from nothing. Expects that nothing is `wrong`."""
    name, other = _name(ctx), ctx.view.origin
    if name is None or other is None:
        return None
    found: dict[str, Any] = {"name": INPUT, "training": name}
    status = other.get("status") or {}
    if status.get("phase") not in TERMINAL_PHASES:
        words = f"Training {name}, to go on from, is {status.get('phase') or 'Pending'}: waiting until its run is over."
        return found | {"phase": "Pending", "reason": "WaitingForTraining", "message": words}
    recorded = any(i["name"] == INPUT for i in (ctx.view.training.get("status") or {}).get("inputs") or ())
    if not (recorded and has_guard(other)):
        words = f"Waiting until Training {name} is kept from being deleted."
        return found | {"phase": "Processing", "reason": "HoldingTraining", "message": words}
    saved = status.get("saved") or {}
    found |= {k: saved[k] for k in ("model", "version") if k in saved}
    return found | {"phase": "Ready", "pvcName": status["output"]["pvc"], "resolvedRevision": f"step-{_step(other)}"}


def _name(ctx: Context) -> str | None:
    source = ctx.spec.checkpoint.from_ if ctx.spec.checkpoint is not None else None
    return source.training if source is not None else None


def _step(other: Obj) -> int | None:
    """Step of the newest checkpoint that a run has left, as far as it told."""
    status = other.get("status") or {}
    known = status.get("checkpoint") or {}
    told = known.get("last") or (known.get("lastReported") if status.get("phase") == "Failed" else None) or {}
    return told.get("step")


def _differs(ours: Any, theirs: Any) -> str | None:
    if ours["recipe"]["name"] != theirs["recipe"]["name"]:
        return "recipe"
    if (ours.get("model") or {}) != (theirs.get("model") or {}):
        return "base model"
    return None
