"""What a run reads: from the names in its spec to claims, folders and revisions. Pure.

Resolved until the run is committed, and kept from then on: a later edit of a Model does not disturb a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelyard.decide.training import data, origin
from modelyard.decide.training.validate import assistant_ref, version_entry, version_ref
from modelyard.decide.training.view import Context
from modelyard.plan import Action

Entry = dict[str, Any]
_COPIED = ("pvcName", "path", "kind", "resolvedRevision", "digest", "bytes")


@dataclass(frozen=True, slots=True)
class Inputs:
    """`entries` go into the status. `waiting` names what is not there yet, in words; None: all of it is."""

    entries: tuple[Entry, ...]
    waiting: tuple[str, str] | None = None
    failed: bool = False
    actions: tuple[Action, ...] = ()
    requeue_after: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def resolve(ctx: Context) -> Inputs:
    """All that the run reads as it is now. Expects a spec that `validate` has nothing against."""
    entries: list[Entry] = []
    actions: tuple[Action, ...] = ()
    requeue = None
    if (base := version_ref(ctx)) is not None:
        entries += _models(ctx, base.name, base.version)
    if (assistant := assistant_ref(ctx)) is not None:
        entries.append(_version(ctx, "assistant", assistant.name, assistant.version))
    dataset = ctx.spec.dataset
    if dataset is not None and dataset.ref is not None:
        entries.append(_version(ctx, "dataset", dataset.ref.model, dataset.ref.version))
    elif dataset is not None and dataset.pvc is not None:
        entries.append({"name": "dataset", "phase": "Ready", "pvcName": dataset.pvc.claim_name, "kind": "Data"})
    elif dataset is not None:
        entry, actions, requeue = data.step(ctx)
        entries.append(entry)
    if (checkpoint := origin.entry(ctx)) is not None:
        entries.append(checkpoint)
    late = next((e for e in entries if e["phase"] != "Ready"), None)
    if late is None:
        return Inputs(tuple(entries), actions=actions, requeue_after=requeue)
    failed = any(e["phase"] == "Failed" for e in entries)
    if failed:
        late = next(e for e in entries if e["phase"] == "Failed")
    return Inputs(tuple(entries), (late["reason"], late["message"]), failed, actions, requeue)


def mounts(entries: Any) -> dict[str, tuple[str, str]]:
    """Of each input, by its name: the claim and the folder in it, as a pod mounts them."""
    return {entry["name"]: (entry["pvcName"], entry.get("path") or "") for entry in entries or ()}


def _models(ctx: Context, model: str, version: str) -> list[Entry]:
    """The base model; where an adapter is named, the adapter and the very base that it was trained on."""
    named = _version(ctx, "model", model, version)
    if named.get("kind") != "Adapter":
        return [named]
    wanted = (version_entry(ctx.view.models[model], version) or {}).get("baseRef") or {}
    base = _version(ctx, "model", wanted["name"], wanted["version"])
    revision, found = wanted.get("resolvedRevision"), base.get("resolvedRevision")
    if base["phase"] == "Ready" and revision and found and revision != found:
        words = (
            f"Adapter {version} of Model {model} was trained on revision {revision} of version {wanted['version']} of "
            f"Model {wanted['name']}, which is now {found}: pin that revision in the Model, or name another base."
        )
        base |= {"phase": "Failed", "reason": "BaseChanged", "message": words}
    return [base, named | {"name": "adapter"}]


def _version(ctx: Context, name: str, model: str, version: str) -> Entry:
    entry: Entry = {"name": name, "model": model, "version": version}
    seen = version_entry(ctx.view.models[model], version) or {}
    phase = seen.get("phase") or "Pending"
    if phase == "Ready" and seen.get("pvcName"):
        return entry | {"phase": "Ready"} | {k: seen[k] for k in _COPIED if seen.get(k) is not None}
    what = f"version {version} of Model {model}"
    if phase == "Failed":
        why = seen.get("message") or "see the Model's status."
        return entry | {"phase": "Failed", "reason": "ModelVersionFailed", "message": f"{what} failed: {why}"}
    waiting = "Processing" if phase == "Ready" else phase
    return entry | {
        "phase": waiting,
        "reason": "WaitingForModel",
        "message": f"Waiting for {what}, which is {waiting}.",
    }
