"""Versions that Trainings saved: their record is their volume, whatever the Model's spec says. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from modelyard.decide.common import listed
from modelyard.decide.model.entry import FAILED, PENDING, PROCESSING, READY, Outcome, Said, make
from modelyard.decide.model.view import ModelView, version_of
from modelyard.plan import Action, Delete, Obj, PatchMetadata
from modelyard.resources.meta import ANNOTATION_SAVED, MODEL, PVC
from modelyard.resources.model import ModelVersion
from modelyard.resources.objects import (
    annotation,
    controller_uid,
    generation_of,
    is_deleting,
    owner_reference,
    ref_to,
    uid_of,
)
from modelyard.resources.volumes import kind_of

_RECORDED: Final = ("path", "kind", "baseRef", "bytes", "files", "digest", "resolvedRevision")
_TIMES: Final = ("savedAt", "time", "completionTime")


def saved_version(
    view: ModelView, version: ModelVersion | None, claim: Obj, old: Mapping[str, Any], now: datetime
) -> Outcome:
    """A version whose volume is there; `version` is its entry in the spec, if it has one."""
    record, name = record_of(claim), version_of(claim)
    fields: dict[str, Any] = {key: record[key] for key in _RECORDED if key in record}
    fields |= {
        "origin": record.get("origin") or "Training",
        "pvcName": claim["metadata"]["name"],
        "lastSyncTime": next((record[k] for k in _TIMES if k in record), claim["metadata"].get("creationTimestamp")),
        "observedStorage": str(record["bytes"]) if record.get("bytes") is not None else None,
    }
    absent = version is not None and version.state == "ABSENT"
    if absent:
        users = view.users_of(claim["metadata"]["name"], name)
        said = Said(PROCESSING, "Deleting", "The saved files are being deleted.")
        if users:
            said = Said(PROCESSING, "InUse", f"The saved files are deleted when nobody uses them: {listed(users)}.")
        actions: tuple[Action, ...] = ()
        if not users and not is_deleting(claim):
            actions = (Delete(ref_to(PVC, claim), uid_of(claim)),)
    elif is_deleting(claim):
        said = Said(FAILED, "VolumeTerminating", "Somebody deletes the volume of this saved version: it is lost.")
        actions = ()
    else:
        said = Said(READY, "Ready", "The files that a Training saved are there.")
        actions = ()
    state = "ABSENT" if absent else "PRESENT"
    entry = make(name, said, old, now=now, generation=generation_of(view.model), state=state, **fields)
    return Outcome(entry, actions, wanted=not absent)


def awaited_version(view: ModelView, version: ModelVersion, old: Mapping[str, Any], now: datetime) -> Outcome:
    """A version without a repo that nobody has saved, or that was deleted on request."""
    generation = generation_of(view.model)
    if version.state == "ABSENT":
        said = Said(None, "Absent", "Nothing is stored, as the spec asks.")
        entry = make(version.name, said, old, now=now, generation=generation, state="ABSENT")
        return Outcome(entry, wanted=False)
    said = Said(
        PENDING,
        "NotSaved",
        "No Training has saved a version of this name yet: save one, or set repo to have it fetched.",
    )
    return Outcome(make(version.name, said, old, now=now, generation=generation))


def owners(view: ModelView, retain: bool) -> tuple[Action, ...]:
    """Moves saved volumes to the owner that the retention asks for: none, or the Model, with which they then go."""
    changes = []
    for claim in view.saved():
        holder = controller_uid(claim)
        if is_deleting(claim) or holder not in (None, uid_of(view.model)) or (holder is None) == retain:
            continue
        changes.append(set_owner(claim, None if retain else view.model))
    return tuple(changes)


def set_owner(claim: Obj, model: Obj | None, annotations: Mapping[str, str | None] | None = None) -> PatchMetadata:
    """Gives a volume to a Model, or to nobody, so that it outlives its Model."""
    metadata: dict[str, Any] = {"ownerReferences": None if model is None else [owner_reference(MODEL, model)]}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return PatchMetadata(ref_to(kind_of(claim), claim), uid_of(claim), claim["metadata"]["resourceVersion"], metadata)


def record_of(claim: Obj) -> dict[str, Any]:
    """What the annotation of a saved volume says; empty if it cannot be read."""
    try:
        record = json.loads(annotation(claim, ANNOTATION_SAVED) or "")
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
