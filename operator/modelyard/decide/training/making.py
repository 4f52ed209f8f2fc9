"""How an attempt begins: its number goes on record, then its Job is made, and before the first the output volume.

What must stay true: an attempt's number is on record before its Job is made, and nobody else's object is used. Pure.
"""

from __future__ import annotations

from typing import Any, Final

from modelyard.decide.training import cost, phases
from modelyard.decide.training.config import effective_params, run_config
from modelyard.decide.training.draft import Draft
from modelyard.decide.training.inputs import mounts
from modelyard.decide.training.view import Context
from modelyard.plan import Create
from modelyard.resources.meta import ANNOTATION_SAVED, COMPONENT_OUTPUT, JOB, PVC, SERVICE, TRAINING, managed_labels
from modelyard.resources.names import output_volume, training_job
from modelyard.resources.objects import annotation, is_deleting, owner_reference, uid_of, whose
from modelyard.resources.times import format_time
from modelyard.resources.volumes import Claim, claim_spec

TAKEN_RECHECK_SECONDS: Final = 30
TRIED_AGAIN: Final = "It is tried again by itself."


def commit(ctx: Context, draft: Draft, inputs: tuple[dict[str, Any], ...]) -> None:
    """Records that the run begins, with all that it was made of, and makes the first attempt."""
    draft.status |= {
        "frozen": True,
        "inputs": [dict(e) for e in inputs],
        "effectiveParams": effective_params(ctx.spec, draft.status.get("analysis")),
        "startTime": format_time(ctx.now),
        "output": {"pvc": output_claim_name(ctx)},
    }
    begin(ctx, draft)


def output_claim_name(ctx: Context) -> str:
    """`trn-<name>-output`, or with a piece of the uid where an earlier Training's saved result has that name."""
    training = ctx.view.training
    plain = output_volume(training["metadata"]["name"])
    taken = ctx.view.claims.get(plain)
    if taken is not None and not ctx.view.owns(taken) and annotation(taken, ANNOTATION_SAVED) is not None:
        return f"{plain}-{uid_of(training)[:8]}"
    return plain


def begin(ctx: Context, draft: Draft) -> None:
    """The intent of the next attempt, and what it takes to make it."""
    number = draft.number + 1
    attempts = dict(draft.status.get("attempts") or {})
    draft.status["attempts"] = {"infrastructure": 0, "error": 0} | attempts | {"number": number}
    placement: dict[str, Any] = {"job": training_job(ctx.view.training["metadata"]["name"], number)}
    if count := cost.gpus(ctx.spec):
        placement |= {"gpuType": cost.gpu_type(ctx.spec), "gpus": count}
    draft.status["placement"] = placement
    make(ctx, draft)


def make(ctx: Context, draft: Draft) -> None:
    """The output volume and the Job of the attempt that is on record."""
    number, handed_over = draft.number, _handed_over(draft)
    claim_name, job_name = draft.status["output"]["pvc"], draft.status["placement"]["job"]
    claim = ctx.view.claims.get(claim_name)
    taken = None
    if claim is not None and is_deleting(claim):
        message = f"Volume claim {claim_name} is being deleted; it is made anew when it is gone."
        phases.committed(draft, "Queued", "VolumeTerminating", message, handed_over=handed_over)
        draft.look_again(TAKEN_RECHECK_SECONDS)
        return
    if claim is not None and not ctx.view.owns(claim):
        taken = f"Volume claim {claim_name}", claim
    elif job_name in ctx.view.strangers:
        taken = f"Job {job_name}", ctx.view.strangers[job_name]
    elif ctx.view.service is not None and not ctx.view.owns(ctx.view.service):
        taken = f"Service {ctx.view.service['metadata']['name']}", ctx.view.service
    if taken is not None:
        message = f"{taken[0]} is there already and {whose(taken[1])}; it is left alone. Remove it to go on."
        phases.committed(draft, "Queued", "NameTaken", message, handed_over=handed_over, stalled=True)
        draft.look_again(TAKEN_RECHECK_SECONDS)
        return
    service = ctx.compute.service(ctx.view.training)
    names = [claim_name if claim is None else "", service["metadata"]["name"] if service else "", job_name]
    refused = next((ctx.view.refused[name] for name in names if name in ctx.view.refused), None)
    if refused is not None:
        phases.committed(draft, "Queued", refused.reason, f"{refused.message} {TRIED_AGAIN}", handed_over=handed_over)
    else:
        phases.committed(draft, "Queued", "Starting", f"Attempt {number} is being made.", handed_over=handed_over)
    if claim is None:
        draft.then(Create(PVC, output_claim(ctx, claim_name)))
    if service is not None and ctx.view.service is None:
        draft.then(Create(SERVICE, service))
    inputs = draft.status.get("inputs")
    job = ctx.compute.job(
        ctx.view.training,
        attempt=number,
        output_claim=claim_name,
        config=run_config(ctx.spec, inputs, draft.status.get("analysis")),
        mounts=mounts(inputs),
    )
    draft.then(Create(JOB, job, irrevocable=True))


def output_claim(ctx: Context, name: str) -> dict[str, Any]:
    """The volume claim of that name for all that the run writes."""
    meta = ctx.view.training["metadata"]
    storage = ctx.spec.output.storage if ctx.spec.output is not None else None
    return {
        "apiVersion": PVC.api_version,
        "kind": PVC.kind,
        "metadata": {
            "namespace": meta["namespace"],
            "name": name,
            "labels": managed_labels(COMPONENT_OUTPUT, training=meta["name"]),
            "ownerReferences": [owner_reference(TRAINING, ctx.view.training)],
        },
        "spec": claim_spec(Claim.of(storage), ctx.settings.storage, ctx.settings.training.default_output_size),
    }


def _handed_over(draft: Draft) -> bool:
    return bool(draft.status.get("history"))
