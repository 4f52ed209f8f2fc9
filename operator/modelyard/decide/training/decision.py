"""The decision about one Training: from what is seen to what is written next. Pure.

Three parts of a life: until the run is committed everything may be edited and is checked anew; a committed run is a
sequence of attempts; a run that is over is cleaned up and saved.
"""

from __future__ import annotations

from datetime import datetime

from modelyard.decide.ports import DataPlane
from modelyard.decide.training import analysis, attempts, making, origin, phases
from modelyard.decide.training.draft import Draft
from modelyard.decide.training.finish import finish
from modelyard.decide.training.inputs import resolve
from modelyard.decide.training.ports import Compute
from modelyard.decide.training.save import save
from modelyard.decide.training.validate import refusal, unshared
from modelyard.decide.training.view import Context, TrainingView
from modelyard.plan import Plan
from modelyard.resources.objects import is_deleting
from modelyard.resources.problems import ManifestError, parse
from modelyard.resources.training.spec import TrainingSpec
from modelyard.settings import Settings


def decide_training(view: TrainingView, now: datetime, settings: Settings, compute: Compute, plane: DataPlane) -> Plan:
    """What to write next for this Training, and when to look again. Decided twice, it asks for nothing new."""
    draft = Draft(view.training, now)
    if is_deleting(view.training):
        return origin.leave(view, draft)
    if (held := origin.hold(view)) is not None:
        return Plan((held,))
    try:
        spec = parse(TrainingSpec, view.training.get("spec"))
    except ManifestError as error:
        _unreadable(draft, f"{error}.")
        return draft.plan()
    ctx = Context(view, spec, now, settings, compute, plane)
    if draft.terminal:
        analysis.drop(ctx, draft)
        finish(ctx, draft)
    elif draft.status.get("frozen"):
        analysis.drop(ctx, draft)
        attempts.advance(ctx, draft)
        save(ctx, draft)
    else:
        _prepare(ctx, draft)
    return draft.plan()


def _prepare(ctx: Context, draft: Draft) -> None:
    """Checks the spec, waits for what it reads, and commits the run."""
    refused = refusal(ctx)
    if refused is not None:
        (phases.checking if refused.unknown else phases.invalid)(draft, refused.reason, refused.message)
        return
    save(ctx, draft)
    if ctx.spec.suspend:
        analysis.drop(ctx, draft)
        phases.validated(draft)
        phases.suspended(draft, "Suspended", "Suspended by spec.suspend before it began; nothing is held.")
        return
    inputs = resolve(ctx)
    draft.status["inputs"] = [dict(entry) for entry in inputs.entries]
    draft.then(*inputs.actions)
    draft.look_again(inputs.requeue_after)
    if inputs.waiting is not None:
        reason, message = inputs.waiting
        phases.preparing(draft, reason, message, failed=inputs.failed)
        return
    if (refused := unshared(ctx, inputs.entries)) is not None:
        phases.invalid(draft, refused.reason, refused.message)
        return
    if analysis.passed(ctx, draft, inputs.entries):
        making.commit(ctx, draft, inputs.entries)


def _unreadable(draft: Draft, message: str) -> None:
    if draft.terminal:
        phases.terminal(draft)
    elif draft.status.get("frozen"):
        phases.refused_later(draft, message)
    else:
        phases.invalid(draft, "InvalidSpec", message)
