"""Which weights of a run become the version: what the run exported, or those that it kept of a step. Pure.

The recipes export once, as they end: the best weights, or the last if that was chosen before. `text-to-image-lora`
keeps its adapter with the sample pictures of a step too, so that a person picks by eye.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from modelyard.decide.training.draft import Draft
from modelyard.decide.training.view import Context

SAMPLES: Final = "samples/step-{:08d}"
"""Where the weights of a sample step are in the output volume."""

KEEP_SAMPLES: Final = frozenset({"text-to-image-lora"})
_SHOWN: Final = 12


class Refused(NamedTuple):
    """Why the result is not saved (yet)."""

    reason: str
    message: str


class Chosen(NamedTuple):
    """Folder of the weights in the output volume, and the step that they are of."""

    path: str
    step: int


def unknown(ctx: Context) -> Refused | None:
    """Whether no run of this recipe could have what is asked for; told before the run is over."""
    step = _number(_wanted(ctx))
    if step is None or ctx.spec.recipe.name in KEEP_SAMPLES:
        return None
    return _refused(
        f"spec.save.checkpoint step-{step}: recipe {ctx.spec.recipe.name} keeps no weights of single steps; choose "
        "Best or Last."
    )


def chosen(ctx: Context, draft: Draft) -> Chosen | Refused | None:
    """The weights that `spec.save.checkpoint` names, of a run that is over; None: what the run exported."""
    wanted = _wanted(ctx)
    if wanted is None:
        return None
    output = draft.status.get("output") or {}
    known: Mapping[str, Any] = output.get("weights") or {}
    best, last = known.get("bestStep"), known.get("lastStep")
    if known.get("step") is None or last is None:
        return _refused(f"spec.save.checkpoint {wanted}: the run did not tell which weights it kept; remove the field.")
    step = _number(wanted)
    if step is None:
        step = int(best if wanted == "Best" and best is not None else last)
    if step == known["step"]:
        return Chosen(output["path"], step)
    if step in (known.get("samples") or ()):
        return Chosen(SAMPLES.format(step), step)
    there = sorted({known["step"], *(known.get("samples") or ())}, reverse=True)
    names = ", ".join(f"step-{n}{_also(n, best, last)}" for n in there[:_SHOWN])
    hint = (
        ""
        if _number(wanted) is not None
        else f" Before a run begins, spec.save.checkpoint {wanted} makes it keep them."
    )
    return _refused(
        f"spec.save.checkpoint {wanted}: the weights of step {step} are not there; there are: {names}.{hint}"
    )


def _also(step: int, best: int | None, last: int | None) -> str:
    said = [name for name, at in (("Best", best), ("Last", last)) if at == step]
    return f" ({', '.join(said)})" if said else ""


def _wanted(ctx: Context) -> str | None:
    return ctx.spec.save.checkpoint if ctx.spec.save is not None else None


def _number(wanted: str | None) -> int | None:
    return int(wanted.removeprefix("step-")) if wanted is not None and wanted.startswith("step-") else None


def _refused(message: str) -> Refused:
    return Refused("CheckpointNotAvailable", message)
