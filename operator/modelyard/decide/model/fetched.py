"""Versions that are fetched: which volume holds what is asked for, which one serves meanwhile, and which can go.

What must stay true: a volume that serves is not touched before the one that replaces it is complete, nor while anybody
uses it; a volume is told apart by the content that is written on it, never by its name; a status that vouches for a
volume is taken back before a volume of that name is made again. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from modelyard.decide.common import listed
from modelyard.decide.model import entry as entries
from modelyard.decide.model.entry import FAILED, PENDING, PROCESSING, READY, Outcome, Said, make, served
from modelyard.decide.model.linked import linked_entry, path_of_foreign, reference_problem, shared_here, shared_path
from modelyard.decide.model.saved import set_owner
from modelyard.decide.model.sharing import selector
from modelyard.decide.model.storage import Fit, fit
from modelyard.decide.model.view import ModelView, holds, version_of, volume_name
from modelyard.decide.ports import DataPlane
from modelyard.plan import Action, Apply, Create, Kind, Obj
from modelyard.resources import sources
from modelyard.resources.conditions import find
from modelyard.resources.meta import ANNOTATION_RESYNC, COMPONENT_DATA, DATASET, MODEL, PVC, managed_labels
from modelyard.resources.model import ModelVersion
from modelyard.resources.objects import annotation, generation_of, is_deleting, owner_reference
from modelyard.resources.problems import describe
from modelyard.resources.sources import Content
from modelyard.resources.sourcetypes import LINKED, SOURCES
from modelyard.resources.times import format_time
from modelyard.resources.volumes import (
    ANNOTATION_CONTENT,
    ANNOTATION_RETAINED,
    DATA_PATH,
    Claim,
    Reporter,
    Result,
    Stage,
    Step,
    Want,
    kind_of,
)

Claimed = tuple[str | None, str]
"""A claim and the folder in it."""

_PHASES = {Stage.WAITING: PROCESSING, Stage.WORKING: PROCESSING, Stage.READY: READY, Stage.FAILED: FAILED}


@dataclass(frozen=True, slots=True)
class Wish:
    """One version of the spec, with what the Model's status says about it so far."""

    version: ModelVersion
    at: str
    old: Mapping[str, Any]


def fetched_version(view: ModelView, wish: Wish, plane: DataPlane, now: datetime) -> Outcome:
    """A version with a repo that is to be there."""
    blocked, content = _content(view, wish)
    if content is None:
        return _unchanged(view, wish, plane, blocked, now)
    if content.type == "PVC":
        claim = (view.source or {})["spec"]["config"]["pvcName"], sources.pvc_path(wish.version.repo or "")
        return _taken_as_it_is(view, wish, plane, blocked, content, now, claim)
    if content.type == "REFERENCE":
        shared, unusable = shared_here(view, content)
        if shared is not None or unusable is not None:
            here = (shared["metadata"]["name"], shared_path(shared)) if shared is not None else (None, "")
            return _taken_as_it_is(view, wish, plane, blocked or unusable, content, now, here)
        blocked = blocked or reference_problem(view, content)
    if (adopted := _adopt(view, wish, content, now)) is not None:
        return adopted
    mine = [c for c in view.fetched() if version_of(c) == wish.version.name]
    desired = _desired(view, wish, content, mine)
    want = _want(view, wish, content, desired, mine)
    step = plane.step(want, view.seen(desired), now)
    if blocked is not None and any(isinstance(a, Create | Apply) for a in step.actions):
        attempts = wish.old.get("attempts")
        step = Step(Stage.WAITING, blocked.reason, blocked.message, attempts=attempts, serves=step.serves)
        said = blocked
    else:
        said = Said(_PHASES[step.stage], step.reason, step.message)
    return _outcome(view, wish, plane, mine, desired, content, step, said, now)


def removed_versions(
    view: ModelView, names: frozenset[str], plane: DataPlane, old: Mapping[str, Mapping[str, Any]], now: datetime
) -> list[Outcome]:
    """What was fetched for versions that are no longer wanted: deleted, or shown as long as somebody uses it."""
    outcomes = []
    for name in sorted(names):
        mine = [c for c in view.fetched() if version_of(c) == name]
        actions, users = _discard(view, plane, mine, name)
        said = Said(PROCESSING, "Deleting", "What was fetched for this version is being deleted.")
        if users:
            said = Said(PROCESSING, "InUse", f"What was fetched is deleted when nobody uses it: {listed(users)}.")
        if not mine:
            said = Said(None, "Absent", "Nothing is stored, as the spec asks.")
        before = old.get(name, {})
        kept = served(before) if mine else {}
        entry = make(
            name, said, before, now=now, generation=generation_of(view.model), state="ABSENT", origin="Source", **kept
        )
        outcomes.append(Outcome(entry, actions, wanted=False))
    return outcomes


def _content(view: ModelView, wish: Wish) -> tuple[Said | None, Content | None]:
    """What is asked for, if that is known, and what forbids to begin fetching it now."""
    name = (view.model.get("spec") or {}).get("sourceRef")
    if view.source is None:
        text = (
            f"There is no ModelSource {name!r} in namespace {view.namespace!r}: create it, or correct spec.sourceRef."
        )
        return Said(PENDING, "SourceNotFound", text), None
    spec = view.source.get("spec") or {}
    ready = find((view.source.get("status") or {}).get("conditions") or (), "Ready")
    fresh = ready is not None and ready.get("observedGeneration") == generation_of(view.source)
    blocked = None
    if ready is None or not fresh:
        blocked = Said(PENDING, "SourceNotReady", f"ModelSource {name!r} has not been checked yet.")
    elif ready.get("status") != "True":
        text = f"ModelSource {name!r} cannot be used: {ready.get('message') or ready.get('reason')}"
        blocked = Said(PENDING, "SourceNotReady", text)
    type, config = str(spec.get("type")), spec.get("config") or {}
    usable = type in SOURCES and not sources.check_config(type, config)
    if not usable:
        return blocked or Said(PENDING, "SourceNotReady", f"ModelSource {name!r} cannot be used."), None
    version = wish.version
    chosen: dict[str, Any] = {
        "revision": version.revision,
        "include": version.include,
        "exclude": version.exclude,
    }
    repo = version.repo or ""
    if found := sources.check_content(type, config, repo, at=wish.at, **chosen):
        return Said(FAILED, "InvalidVersion", f"{describe(found)}."), None
    return blocked, sources.content(type, config, repo, **chosen)


def _unchanged(view: ModelView, wish: Wish, plane: DataPlane, blocked: Said | None, now: datetime) -> Outcome:
    """What is asked for is not known: what is served stays, and is as good as before."""
    said = blocked or Said(PENDING, "SourceNotReady", "The source cannot be used.")
    old = wish.old
    mine = [c for c in view.fetched() if version_of(c) == wish.version.name]
    active = _active(view, plane, mine, old)
    same_spec = (view.model.get("status") or {}).get("observedGeneration") == generation_of(view.model)
    if active is not None and old.get("phase") == READY and same_spec and said.phase == PENDING:
        said = Said(READY, "Ready", "All files are there.")
    kept = _serving(view, active, old, None, None, now) if active is not None else {}
    entry = make(wish.version.name, said, old, now=now, generation=generation_of(view.model), origin="Source", **kept)
    # What was begun for an earlier spec is wanted no more; while it is just the source that is unknown, it may be.
    stale = [c for c in mine if c is not active] if said.phase == FAILED else []
    actions, _ = _discard(view, plane, stale, None)
    return Outcome(entry, actions)


def _taken_as_it_is(
    view: ModelView, wish: Wish, plane: DataPlane, said: Said | None, content: Content, now: datetime, claim: Claimed
) -> Outcome:
    """A folder of a volume that others bring: nothing is copied. What was fetched for the version before goes."""
    name, path = claim
    mine = [c for c in view.fetched() if version_of(c) == wish.version.name]
    entry = linked_entry(view, wish.version.name, wish.old, content, said, now, claim=name, path=path)
    if said is not None:
        return Outcome(entry)
    actions, _ = _discard(view, plane, mine, wish.version.name)
    return Outcome(entry, actions)


def _adopt(view: ModelView, wish: Wish, content: Content, now: datetime) -> Outcome | None:
    """A volume that an earlier Model of this name left behind on request is taken back before anything is fetched."""
    for claim in view.retained():
        if version_of(claim) == wish.version.name and holds(claim, content, _resync(view, content)):
            said = Said(PROCESSING, "Adopting", f"Volume {claim['metadata']['name']} was kept and is taken back.")
            entry = make(wish.version.name, said, wish.old, now=now, generation=generation_of(view.model))
            return Outcome({**entry, "origin": "Source"}, (set_owner(claim, view.model, {ANNOTATION_RETAINED: None}),))
    return None


def _desired(view: ModelView, wish: Wish, content: Content, mine: list[Obj]) -> str:
    """The name of the volume for what is asked for: one that holds it, or the next free name."""
    served_by = wish.old.get("pvcName")
    resync = _resync(view, content)
    fitting = [c for c in mine if holds(c, content, resync) and not is_deleting(c)]
    fitting.sort(key=lambda c: (c["metadata"]["name"] != served_by, c["metadata"]["name"]))
    if fitting:
        return str(fitting[0]["metadata"]["name"])
    left_behind = any(version_of(c) == wish.version.name for c in view.retained())
    return volume_name(view.name, wish.version.name, content, resync, first=not mine and not left_behind)


def _resync(view: ModelView, content: Content) -> str | None:
    """The value to fetch anew for; what is not copied is not fetched."""
    return None if content.type in LINKED else view.resync


def _want(view: ModelView, wish: Wish, content: Content, volume: str, mine: list[Obj]) -> Want:
    source = view.source or {}
    credentials = (source.get("status") or {}).get("credentials") or {}
    return Want(
        namespace=view.namespace,
        name=volume,
        owner=owner_reference(MODEL, view.model),
        labels=managed_labels(COMPONENT_DATA, model=view.name, version=wish.version.name),
        content=content,
        claim=Claim.of(wish.version.storage),
        reporter=Reporter("model", view.name, wish.version.name),
        secret=(source.get("spec") or {}).get("secretRef"),
        resync=_resync(view, content),
        secret_version=credentials.get("secretResourceVersion"),
        known=wish.old.get("pvcName") == volume,
        kept_as=_kept_as(wish.old, mine),
        share=selector(wish.version.share, view),
    )


def _fit(view: ModelView, wish: Wish, content: Content, volume: Obj | None) -> Fit:
    """How the volume becomes what `storage` asks for; nothing is made for what lies elsewhere."""
    if volume is None or content.type in LINKED:
        return Fit()
    claim = view.claim_of(volume["metadata"]["name"]) if kind_of(volume) == DATASET else volume
    name = ((claim or {}).get("spec") or {}).get("storageClassName")
    return fit(Claim.of(wish.version.storage), claim, view.classes.get(str(name)))


def _kept_as(old: Mapping[str, Any], mine: list[Obj]) -> Kind | None:
    """What keeps the version so far: it stays with that, whatever else the cluster offers meanwhile."""
    if mine:
        return kind_of(mine[0])
    if old.get("activeDataset") is not None:
        return DATASET
    return PVC if old.get("pvcName") is not None else None


def _active(view: ModelView, plane: DataPlane, mine: list[Obj], old: Mapping[str, Any]) -> Obj | None:
    """The volume that serves: the one that the status names, else the newest that is complete."""
    mine = [c for c in mine if not is_deleting(c)]
    complete = [c for c in mine if plane.is_complete(view.seen(c["metadata"]["name"]))]
    complete.sort(key=lambda c: c["metadata"].get("creationTimestamp", ""))
    named = [c for c in mine if c["metadata"]["name"] == old.get("pvcName")]
    return (*complete, *named)[-1] if complete or named else None


def _outcome(
    view: ModelView,
    wish: Wish,
    plane: DataPlane,
    mine: list[Obj],
    desired: str,
    content: Content,
    step: Step,
    said: Said,
    now: datetime,
) -> Outcome:
    old, name, generation = wish.old, wish.version.name, generation_of(view.model)
    by_name = {c["metadata"]["name"]: c for c in mine}
    if step.stage is Stage.READY or step.serves:
        active: Obj | None = by_name[desired]
    else:
        active = _active(view, plane, [c for c in mine if c["metadata"]["name"] != desired], old)
    serving = active["metadata"]["name"] if active is not None else None
    obsolete = [c for n, c in by_name.items() if n not in (desired, serving)]
    removals, users = _discard(view, plane, obsolete, None)
    fields: dict[str, Any] = {"origin": "Source", "attempts": step.attempts or old.get("attempts")}
    if active is not None:
        fields |= _serving(view, active, old, step if step.stage is Stage.READY else None, content, now)
    elif not mine and "activeDataset" in old:
        fields["activeDataset"] = old["activeDataset"]
    if step.serves:
        fields["resync"] = old.get("resync")
    if step.stage is Stage.READY:
        if users:
            said = replace(said, message=f"{said.message} An older volume is kept while it is used: {listed(users)}.")
    else:
        if active is not None and serving != desired:
            said = replace(said, message=f"{said.message} The files from before are served until then.")
        same_try = step.attempts == old.get("attempts")
        fields["progress"] = entries.progress(
            old.get("progress") if same_try else None, view.downloads.get(desired) if said.phase == PROCESSING else None
        )
    fitting = _fit(view, wish, content, by_name.get(desired))
    if fitting.words and said.phase in (READY, FAILED):
        said = replace(said, message=f"{said.message} {fitting.words}")
    entry = make(name, said, old, now=now, generation=generation, **fields)
    lost = old.get("pvcName") is not None and old["pvcName"] not in by_name
    remade = any(isinstance(a, Create) and a.kind in (PVC, DATASET) for a in step.actions)
    if lost and remade:
        return Outcome(entry, hold=True)
    return Outcome(entry, (*step.actions, *fitting.actions, *removals), step.requeue_after)


def _serving(
    view: ModelView, active: Obj, old: Mapping[str, Any], step: Step | None, content: Content | None, now: datetime
) -> dict[str, Any]:
    """What is said about the volume that serves; `step` if it is the desired one, and complete."""
    name = active["metadata"]["name"]
    dataset = kind_of(active) == DATASET
    known = served(old) if old.get("pvcName") == name else {}
    is_data = content is not None and dict(content.options).get("repoType") == "DATASET"
    fields = {
        **known,
        "pvcName": name,
        "path": _path(view, content) if content is not None else known.get("path") if known else DATA_PATH,
        "kind": known.get("kind") or ("Data" if is_data else "Full"),
        "activeDataset": name if dataset else None,
        "observedVersionHash": annotation(active, ANNOTATION_CONTENT),
        "resync": annotation(active, ANNOTATION_RESYNC),
    }
    if step is None:
        return fields
    result = step.result or Result()
    found = {
        "resolvedRevision": result.revision,
        "bytes": result.bytes,
        "files": result.files,
        "digest": result.digest,
        "lastSyncTime": step.completed or known.get("lastSyncTime") or format_time(now),
    }
    fields |= {key: value for key, value in found.items() if value is not None}
    return fields | {"observedStorage": str(fields["bytes"]) if fields.get("bytes") is not None else None}


def _path(view: ModelView, content: Content) -> str | None:
    """The folder of the volume with the files; None: they are the volume."""
    if content.type == "REFERENCE":
        return path_of_foreign(view, content) or None
    return None if content.type == "NFS" else DATA_PATH


def _discard(
    view: ModelView, plane: DataPlane, claims: list[Obj], version: str | None
) -> tuple[tuple[Action, ...], frozenset[str]]:
    """Deletes the volumes that nobody uses, and says who uses the others."""
    actions: list[Action] = []
    users: frozenset[str] = frozenset()
    for claim in claims:
        name = claim["metadata"]["name"]
        if holders := view.users_of(name, version):
            users |= holders
        else:
            actions.extend(plane.remove(view.seen(name)))
    return tuple(actions), users
