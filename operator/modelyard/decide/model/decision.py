"""The decision about one Model: guard, versions, retention, status, and the way out. Pure.

Writes come in the order intent, children, report; removals come last. A finalizer is changed alone, because it moves
the resourceVersion that the status is bound to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from modelyard.decide.common import guard, has_guard, listed, status_patch
from modelyard.decide.model import sharing
from modelyard.decide.model.entry import FAILED, Outcome, Said, make
from modelyard.decide.model.fetched import Wish, fetched_version, removed_versions
from modelyard.decide.model.saved import awaited_version, owners, saved_version, set_owner
from modelyard.decide.model.status import events, held_status, model_status
from modelyard.decide.model.view import ModelView, version_of
from modelyard.decide.ports import DataPlane, SharingPlane
from modelyard.plan import Action, Delete, Obj, Plan, Ref
from modelyard.resources import problems, support
from modelyard.resources.meta import MODEL, PV, PVC
from modelyard.resources.model import ModelSpec, ModelVersion
from modelyard.resources.objects import generation_of, is_deleting, ref_to, uid_of
from modelyard.resources.times import format_time
from modelyard.resources.volumes import ANNOTATION_RETAINED

Entries = Mapping[str, Mapping[str, Any]]
"""Entries of `status.syncedVersions` by name."""

_DELETING = "Deletion waits until nobody uses the versions: "


def decide(view: ModelView, plane: SharingPlane, now: datetime) -> Plan:
    """What to do next for the Model and all of its versions."""
    if is_deleting(view.model):
        return _leave(view, plane, now)
    try:
        spec = problems.parse(ModelSpec, view.model.get("spec"))
        found = support.unsupported(spec)
    except problems.ManifestError as error:
        return _refuse(view, "InvalidSpec", f"{error}.", now)
    if found:
        return _refuse(view, "NotSupported", f"{problems.describe(found)}.", now)
    needed = _needs_guard(view, _keeps_fetched(view)) or sharing.is_shared(view, spec)
    if (change := guard(MODEL, view.model, needed)) is not None:
        return Plan((change,))
    return _reconcile(view, spec, plane, now)


def _reconcile(view: ModelView, spec: ModelSpec, plane: SharingPlane, now: datetime) -> Plan:
    old = {e["name"]: e for e in (view.model.get("status") or {}).get("syncedVersions") or ()}
    outcomes = [*_of_spec(view, spec, plane, old, now), *_beside_spec(view, spec, plane, old, now)]
    outcomes = sharing.share_all(view, spec, outcomes, plane, now)
    shown = [o for o in outcomes if o.entry]
    status = status_patch(MODEL, view.model, model_status(view.model, shown, now))
    report: tuple[Action, ...] = (status, *events(view.model, shown)) if status is not None else ()
    requeue = min((o.requeue_after for o in outcomes if o.requeue_after is not None), default=None)
    if any(o.hold for o in outcomes):
        return Plan(report, requeue)
    retain = spec.retention is None or spec.retention.saved != "Delete"
    actions = [a for o in outcomes for a in o.actions]
    removals = [a for a in actions if isinstance(a, Delete)]
    others = [a for a in actions if not isinstance(a, Delete)]
    return Plan((*others, *owners(view, retain), *report, *removals), requeue)


def _of_spec(view: ModelView, spec: ModelSpec, plane: DataPlane, old: Entries, now: datetime) -> Iterator[Outcome]:
    """One outcome for each entry of the spec, in its order."""
    saved = _saved(view)
    for index, version in enumerate(spec.versions):
        before, claim = old.get(version.name, {}), saved.get(version.name)
        if version.repo is None and claim is not None:
            yield saved_version(view, version, claim, before, now)
        elif version.repo is None:
            yield awaited_version(view, version, before, now)
        elif claim is not None:
            yield _clash(view, version, before, now)
        elif version.state == "ABSENT":
            yield from removed_versions(view, frozenset({version.name}), plane, old, now)
        else:
            yield fetched_version(view, Wish(version, f"spec.versions[{index}]", before), plane, now)


def _beside_spec(view: ModelView, spec: ModelSpec, plane: DataPlane, old: Entries, now: datetime) -> Iterator[Outcome]:
    """What is stored and not in the spec: fetched volumes on their way out, and what Trainings saved."""
    named = {v.name for v in spec.versions}
    saved = _saved(view)
    if not _keeps_fetched(view):
        gone = {version_of(c) for c in view.fetched()} - {v.name for v in spec.versions if v.repo is not None}
        for outcome in removed_versions(view, frozenset(gone), plane, old, now):
            name = outcome.entry["name"]
            yield outcome if name not in named and name not in saved else replace(outcome, entry={})
    for name, claim in sorted(saved.items()):
        if name not in named:
            yield saved_version(view, None, claim, old.get(name, {}), now)


def _saved(view: ModelView) -> dict[str, Obj]:
    """The volume of each saved version: the oldest, should there be two of one name."""
    found: dict[str, Obj] = {}
    for claim in view.saved():
        found.setdefault(version_of(claim), claim)
    return found


def _clash(view: ModelView, version: ModelVersion, old: Mapping[str, Any], now: datetime) -> Outcome:
    said = Said(
        FAILED,
        "NameTaken",
        f"A Training saved a version {version.name!r} of this Model: give the one that is fetched another name, "
        "or remove its repo.",
    )
    return Outcome(make(version.name, said, old, now=now, generation=generation_of(view.model)))


def _refuse(view: ModelView, reason: str, message: str, now: datetime) -> Plan:
    patch = status_patch(MODEL, view.model, held_status(view.model, reason, message, now, stalled=True))
    return Plan((patch,) if patch is not None else ())


def _leave(view: ModelView, plane: SharingPlane, now: datetime) -> Plan:
    """A Model that is being deleted: nothing new; what is shared is taken back, and it goes when nobody uses it."""
    if not has_guard(view.model):
        return Plan()
    back, namespaces = sharing.take_back_all(view, plane)
    users = _users(view) | _hostages(view) | {f"the share in namespace {n}" for n in namespaces}
    if users:
        message = f"{_DELETING}{listed(users)}."
        patch = status_patch(MODEL, view.model, held_status(view.model, "InUse", message, now, stalled=False))
        return Plan((*((patch,) if patch is not None else ()), *back))
    if back:
        return Plan(back)
    if not _keeps_fetched(view):
        # No owner takes along what belongs to the whole cluster.
        disks = tuple(Delete(ref_to(PV, d), uid_of(d)) for d in view.links if not is_deleting(d))
        if disks:
            return Plan(disks)
    kept = [c for c in view.fetched() if not is_deleting(c)] if _keeps_fetched(view) else []
    freed = [set_owner(c, None, {ANNOTATION_RETAINED: format_time(now)}) for c in kept]
    release = guard(MODEL, view.model, False)
    return Plan((*freed, *((release,) if release is not None else ())))


def _keeps_fetched(view: ModelView) -> bool:
    return (((view.model.get("spec") or {}).get("retention")) or {}).get("fetched") == "Retain"


def _needs_guard(view: ModelView, keeps_fetched: bool) -> bool:
    links = bool(view.links) or ((view.source or {}).get("spec") or {}).get("type") == "NFS"
    return bool(_users(view) or _hostages(view)) or links or (keeps_fetched and bool(view.fetched()))


def _hostages(view: ModelView) -> frozenset[str]:
    """Claims of others that would go with a Dataset of this Model, because they have its name."""
    names = (d["metadata"]["name"] for d in view.datasets if view.owns(d))
    return frozenset(
        f"claim {name}, which is not Modelyard's and would go with Dataset {name}"
        for name in names
        if Ref(PVC, view.namespace, name) in view.strangers
    )


def _users(view: ModelView) -> frozenset[str]:
    """Everybody who uses a volume or version of this Model."""
    claims = {c["metadata"]["name"] for c in (*view.fetched(), *view.saved())}
    entries = (view.model.get("status") or {}).get("syncedVersions") or ()
    claims |= {e["pvcName"] for e in entries if "pvcName" in e}
    versions = {e["name"] for e in entries}
    return frozenset(u.who for u in view.uses if u.claims & claims or u.versions & versions)
