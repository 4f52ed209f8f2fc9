"""Data that is fetched for Trainings: one volume for each distinct content in a namespace, shared by all that read it.

The volume is owned by every Training that uses it, by none of them as its controller, so it goes with the last one.
Each download Job belongs to the Training that made it; if that one is deleted halfway, another's Job goes on where it
stopped. When the files are complete, that is written on the volume itself, since Jobs go before it does. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from modelyard.decide.training.view import Context
from modelyard.plan import Action, Create, Obj, PatchMetadata
from modelyard.resources import sources
from modelyard.resources.conditions import find
from modelyard.resources.meta import (
    COMPONENT_DATA,
    GROUP,
    LABEL_MANAGED_BY,
    MANAGED_BY,
    PVC,
    TRAINING,
    managed_labels,
)
from modelyard.resources.modelsource import ModelSourceSpec
from modelyard.resources.names import data_volume
from modelyard.resources.objects import annotation, is_deleting, label, owner_reference, ref_to, uid_of, whose
from modelyard.resources.problems import ManifestError, parse
from modelyard.resources.sourcetypes import LINKED
from modelyard.resources.training.data import DatasetSource
from modelyard.resources.volumes import (
    ANNOTATION_CONTENT,
    DATA_PATH,
    Claim,
    Reporter,
    Result,
    Stage,
    Want,
    claim_for,
    claim_spec,
)

ANNOTATION_FETCHED: Final = f"{GROUP}/fetched"
"""On a shared data volume: what its download found, as JSON. Written once the files are complete."""

TAKEN_RECHECK_SECONDS: Final = 30
Found = tuple[dict[str, Any], tuple[Action, ...], float | None]
_PHASES: Final = {Stage.WAITING: "Pending", Stage.WORKING: "Processing", Stage.FAILED: "Failed", Stage.READY: "Ready"}


def volume_name(wanted: Mapping[str, Any], source: Obj | None) -> str | None:
    """The volume for `spec.dataset.source` as written, or None while its ModelSource is missing or not valid."""
    try:
        parsed = parse(DatasetSource, wanted)
        return None if source is None else _name(parsed, source)
    except (ManifestError, KeyError):
        return None


def step(ctx: Context) -> Found:
    """The status entry of the data, what is to be written for it, and when to look again."""
    wanted, source = ctx.spec.dataset.source if ctx.spec.dataset else None, ctx.view.source
    if wanted is None or source is None:
        raise ValueError("a Training without dataset.source, or whose ModelSource is missing, fetches nothing")
    entry: dict[str, Any] = {
        "name": "dataset",
        "source": wanted.source_ref,
        "repo": wanted.repo,
        "kind": "Data",
    }
    if (unready := _source_problem(wanted.source_ref, source)) is not None:
        return entry | unready, (), None
    if source["spec"]["type"] == "PVC":
        claim, path = source["spec"]["config"]["pvcName"], sources.pvc_path(wanted.repo)
        return entry | {"phase": "Ready", "pvcName": claim, **({"path": path} if path else {})}, (), None
    if source["spec"]["type"] in LINKED:
        message = f"ModelSource {wanted.source_ref} is used in place: make a Model of it, and name that in dataset.ref."
        return entry | _words("Failed", "SourceNotCopied", message), (), None
    want, seen = _want(ctx, wanted, source), ctx.view.data
    entry["pvcName"] = want.name
    volume = seen.volume
    if volume is None:
        shared = replace(want, owner=_user(ctx.view.training))
        made = Create(PVC, claim_for(shared, claim_spec(want.claim, ctx.settings.storage)))
        return entry | _words("Pending", "Downloading", "The download is starting."), (made,), None
    if label(volume, LABEL_MANAGED_BY) != MANAGED_BY or annotation(volume, ANNOTATION_CONTENT) != want.content.hash:
        message = f"Volume claim {want.name} is there already and {whose(volume)}; it is left alone. Remove it."
        return entry | _words("Failed", "NameTaken", message), (), TAKEN_RECHECK_SECONDS
    if is_deleting(volume):
        message = f"Volume {want.name} is being deleted; it is made anew when it is gone."
        return entry | _words("Pending", "VolumeTerminating", message), (), None
    if (join := _join(ctx, volume)) is not None:
        return entry | _words("Pending", "Downloading", "The download is starting."), (join,), None
    return _fill(ctx, entry, want, volume)


def _fill(ctx: Context, entry: dict[str, Any], want: Want, volume: Obj) -> Found:
    fetched = annotation(volume, ANNOTATION_FETCHED)
    if fetched is not None:
        return entry | {"phase": "Ready", "path": DATA_PATH} | json.loads(fetched), (), None
    # The data plane asks whose the volume is, and leaves those of others alone. This one is everybody's.
    ours = {**volume, "metadata": {**volume["metadata"], "ownerReferences": [dict(want.owner)]}}
    done = ctx.plane.step(want, replace(ctx.view.data, volume=ours), ctx.now)
    if done.stage is Stage.READY:
        record = PatchMetadata(
            ref_to(PVC, volume),
            uid_of(volume),
            volume["metadata"]["resourceVersion"],
            {"annotations": {ANNOTATION_FETCHED: _found(done.result)}},
        )
        return entry | _words("Processing", "Downloading", "The files are complete."), (record,), None
    words = _words(_PHASES[done.stage], done.reason, done.message)
    tries = {"attempts": done.attempts} if done.attempts is not None else {}
    return entry | words | tries, done.actions, done.requeue_after


def _name(wanted: DatasetSource, source: Obj) -> str:
    return data_volume(wanted.source_ref, wanted.repo, _content(wanted, source).hash)


def _content(wanted: DatasetSource, source: Obj) -> sources.Content:
    spec = parse(ModelSourceSpec, source.get("spec"))
    return sources.content(
        spec.type,
        spec.config,
        wanted.repo,
        revision=wanted.revision,
        include=wanted.wanted,
        exclude=wanted.exclude,
        repo_type="DATASET",
    )


def _want(ctx: Context, wanted: DatasetSource, source: Obj) -> Want:
    content = _content(wanted, source)
    name, namespace = ctx.view.training["metadata"]["name"], ctx.view.training["metadata"]["namespace"]
    credentials = (source.get("status") or {}).get("credentials") or {}
    return Want(
        namespace=namespace,
        name=_name(wanted, source),
        owner=owner_reference(TRAINING, ctx.view.training),
        labels=managed_labels(COMPONENT_DATA, source=wanted.source_ref),
        content=content,
        claim=Claim.of(wanted.storage),
        reporter=Reporter("training", name, "dataset"),
        secret=source["spec"].get("secretRef"),
        secret_version=credentials.get("secretResourceVersion"),
    )


def _join(ctx: Context, volume: Obj) -> PatchMetadata | None:
    """Makes the Training one of the volume's owners, unless it is."""
    owners = volume["metadata"].get("ownerReferences") or []
    if any(o["uid"] == uid_of(ctx.view.training) for o in owners):
        return None
    return PatchMetadata(
        ref_to(PVC, volume),
        uid_of(volume),
        volume["metadata"]["resourceVersion"],
        {"ownerReferences": [*owners, _user(ctx.view.training)]},
    )


def _user(training: Obj) -> dict[str, Any]:
    shared = owner_reference(TRAINING, training)
    return {k: v for k, v in shared.items() if k not in ("controller", "blockOwnerDeletion")}


def _source_problem(name: str, source: Obj) -> dict[str, Any] | None:
    conditions = (source.get("status") or {}).get("conditions") or ()
    ready = find(conditions, "Ready") or {}
    if ready.get("status") == "True":
        return None
    if ready.get("status") != "False":
        return _words("Pending", "WaitingForSource", f"Waiting for ModelSource {name} to be checked.")
    return _words("Failed", "SourceNotReady", f"ModelSource {name} is not ready: {ready.get('message', '')}")


def _found(result: Result | None) -> str:
    known = result or Result()
    found = {"resolvedRevision": known.revision, "bytes": known.bytes, "digest": known.digest}
    return json.dumps({k: v for k, v in found.items() if v is not None}, sort_keys=True, separators=(",", ":"))


def _words(phase: str, reason: str, message: str) -> dict[str, Any]:
    return {"phase": phase, "reason": reason, "message": message}
