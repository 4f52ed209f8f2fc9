"""Keeps a result as a version of a Model, by one write on the output volume.

The volume's labels and annotation are the record of the version, and with the same write it changes hands: from the
Training to the Model or, where the Model retains what was trained, to nobody. A Model that is missing is made once and
then left alone; the spec of one that is there is never written. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from modelyard.decide.training import weights
from modelyard.decide.training.draft import Draft
from modelyard.decide.training.view import Context
from modelyard.decide.training.weights import Chosen, Refused
from modelyard.plan import Create, Obj, PatchMetadata
from modelyard.resources.meta import (
    ANNOTATION_SAVED,
    LABEL_MODEL,
    LABEL_VERSION,
    MODEL,
    PVC,
)
from modelyard.resources.objects import annotation, is_deleting, label, owner_reference, ref_to, uid_of
from modelyard.resources.times import format_time

EXPIRED: Final = "The output was not saved and was deleted after spec.output.unsavedTTLSeconds."


def save(ctx: Context, draft: Draft) -> None:
    """The `Saved` condition, and the write that saves once the run has succeeded."""
    claim = ctx.view.claims.get((draft.status.get("output") or {}).get("pvc", ""))
    if (record := saved_record(ctx, claim)) is not None and claim is not None:
        _report(draft, claim, record)
        return
    if draft.status.get("saved") or ctx.spec.save is None:
        return
    refused = _conflict(ctx) or weights.unknown(ctx) or _not_yet(draft, claim) or _other_form(ctx, draft)
    chosen = refused or weights.chosen(ctx, draft)
    if isinstance(chosen, Refused):
        refused = chosen
        draft.conditions.set("Saved", "False", refused.reason, refused.message)
        return
    wanted = ctx.spec.save
    message = f"Saving as version {wanted.version} of Model {wanted.model}."
    draft.conditions.set("Saved", "False", "Saving", message)
    model = ctx.view.models.get(wanted.model)
    if model is None:
        draft.then(Create(MODEL, _model(ctx, wanted.model)))
    assert claim is not None, "without a claim there is nothing to save"
    draft.then(_hand_over(ctx, draft, claim, model, chosen))


def saved_record(ctx: Context, claim: Obj | None) -> Mapping[str, Any] | None:
    """What is written on the volume, if it holds this Training's result as a version."""
    text = annotation(claim, ANNOTATION_SAVED) if claim is not None else None
    if text is None:
        return None
    try:
        record = json.loads(text)
    except ValueError:
        return None
    return record if isinstance(record, dict) and record.get("uid") == uid_of(ctx.view.training) else None


def _report(draft: Draft, claim: Obj, record: Mapping[str, Any]) -> None:
    model, version = label(claim, LABEL_MODEL), label(claim, LABEL_VERSION)
    draft.status["saved"] = {"model": model, "version": version, "time": record.get("time")}
    message = f"Saved as version {version} of Model {model}."
    draft.conditions.set("Saved", "True", "Saved", message)


def _conflict(ctx: Context) -> Refused | None:
    """Whether the name can be used at all; asked before the run is over, so that a wrong choice is seen early."""
    wanted = ctx.spec.save
    assert wanted is not None, "asked only for a Training that is to be saved"
    at = f"version {wanted.version} of Model {wanted.model}"
    for claim in ctx.view.saved:
        if label(claim, LABEL_MODEL) == wanted.model and label(claim, LABEL_VERSION) == wanted.version:
            return Refused("VersionExists", f"{at} is there already, saved by a Training: choose another spec.save.")
    model = ctx.view.models.get(wanted.model)
    if model is not None and is_deleting(model):
        return Refused("ModelTerminating", f"Model {wanted.model} is being deleted; saving waits until it is gone.")
    for version in (model or {"spec": {}})["spec"].get("versions") or ():
        if version.get("name") != wanted.version:
            continue
        if version.get("repo") is not None:
            return Refused("VersionExists", f"{at} is one that its spec fetches: choose another spec.save.version.")
        if version.get("state") == "ABSENT":
            return Refused("VersionAbsent", f"{at} is ABSENT in the Model's spec, so it would be deleted at once.")
    first = min((ctx.view.training, *ctx.view.rivals), key=_age)
    if first is not ctx.view.training:
        name = first["metadata"]["name"]
        return Refused("NameTaken", f"Training {name} is older and saves to {at} too: choose another spec.save.")
    return None


def _not_yet(draft: Draft, claim: Obj | None) -> Refused | None:
    if draft.phase == "Failed":
        return Refused("NothingToSave", "The run failed: there is no result to save.")
    if draft.phase != "Succeeded":
        return Refused("Waiting", "The result is saved when the run has succeeded.")
    if (draft.status.get("output") or {}).get("expiresTime") and claim is None:
        return Refused("OutputExpired", EXPIRED)
    if claim is None or is_deleting(claim):
        return Refused("OutputLost", "The output volume is gone: there is nothing to save.")
    if not (draft.status.get("output") or {}).get("path"):
        return Refused("NothingToSave", "The program left nothing in $MODELYARD_OUTPUT/model: there is no result.")
    return None


def _other_form(ctx: Context, draft: Draft) -> Refused | None:
    """A form is made by the run as it ends: one that was chosen later, or that the recipe lacks, is not there."""
    form = ctx.spec.save.form if ctx.spec.save is not None else None
    kind = (draft.status.get("output") or {}).get("kind")
    if form is None or (form == "Adapter") == (kind == "Adapter"):
        return None
    made = "an adapter" if kind == "Adapter" else "the whole model"
    return Refused(
        "FormNotAvailable", f"The result is {made}: spec.save.form {form} is not there; remove it or change it."
    )


def _age(training: Obj) -> tuple[str, str]:
    return training["metadata"].get("creationTimestamp", ""), uid_of(training)


def _model(ctx: Context, name: str) -> dict[str, Any]:
    return {
        "apiVersion": MODEL.api_version,
        "kind": MODEL.kind,
        "metadata": {"namespace": ctx.view.training["metadata"]["namespace"], "name": name},
        "spec": {},
    }


def _hand_over(ctx: Context, draft: Draft, claim: Obj, model: Obj | None, chosen: Chosen | None) -> PatchMetadata:
    wanted = ctx.spec.save
    assert wanted is not None, "asked only for a Training that is to be saved"
    retention = ((model or {"spec": {}})["spec"].get("retention") or {}).get("saved") or "Retain"
    owners = [owner_reference(MODEL, model)] if model is not None and retention == "Delete" else []
    record = json.dumps(_record(ctx, draft, chosen), sort_keys=True, separators=(",", ":"))
    return PatchMetadata(
        ref_to(PVC, claim),
        uid_of(claim),
        claim["metadata"]["resourceVersion"],
        {
            "labels": {LABEL_MODEL: wanted.model, LABEL_VERSION: wanted.version},
            "annotations": {ANNOTATION_SAVED: record},
            "ownerReferences": owners,
        },
    )


def _record(ctx: Context, draft: Draft, chosen: Chosen | None) -> dict[str, Any]:
    """All that the version is known by when the Training is gone."""
    wanted, output = ctx.spec.save, dict(draft.status["output"])
    if chosen is not None and chosen.path != output.get("path"):
        # What the run told of its result is about other weights.
        output = {k: v for k, v in output.items() if k not in ("digest", "bytes", "files", "metrics")}
        output["path"] = chosen.path
    assert wanted is not None, "asked only for a Training that is to be saved"
    metadata = {
        **(output.get("metadata") or {}),
        "metrics": output.get("metrics") or {},
        "step": chosen.step if chosen is not None else None,
        "params": draft.status.get("effectiveParams") or {},
        "inputs": draft.status.get("inputs") or [],
    }
    record = {
        "origin": f"Training/{ctx.view.training['metadata']['name']}",
        "uid": uid_of(ctx.view.training),
        "time": format_time(ctx.now),
        "path": output.get("path"),
        "kind": output.get("kind"),
        "baseRef": output.get("baseRef"),
        "digest": output.get("digest"),
        "bytes": output.get("bytes"),
        "files": output.get("files"),
        "description": wanted.description,
        "tags": list(wanted.tags),
        "metadata": metadata,
    }
    record["metadata"] = {k: v for k, v in metadata.items() if v is not None}
    return {name: value for name, value in record.items() if value not in (None, [], {})}
