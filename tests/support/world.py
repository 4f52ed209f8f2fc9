"""A small world in memory that takes plans the way the API server does, for property tests of decisions.

It is no API server for tests of I/O: it exists so that thousands of plans, and every prefix of each, can be carried
out in milliseconds. What it keeps is what decisions rely on: names are taken, deletes and patches are bound to uid and
resourceVersion, finalizers and volumes in use hold an object, owners take their dependents with them, and a write that
changes nothing is no write.

It answers like the operator's store and facts too (`get`, `list`, `owned`, `indexed`), so that controllers can be
asked for their views of it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from modelyard.plan import (
    Action,
    Apply,
    Create,
    Delete,
    Event,
    Key,
    Kind,
    PatchMetadata,
    PatchStatus,
    Plan,
    Ref,
    SetFinalizers,
)
from modelyard.resources.meta import JOB, POD, PVC, ROOT_KINDS
from modelyard.resources.objects import controller_uid, ref_to
from modelyard.resources.times import format_time

Obj = dict[str, Any]
Events = list[Event]
START = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


class WriteRefusedError(Exception):
    """The server said no: the rest of the plan is not carried out, and the next decision starts from fresh state."""


@dataclass
class World:
    """Objects by reference, a clock that only `wait` moves, and what was written."""

    objects: dict[Ref, Obj] = field(default_factory=dict)
    now: datetime = START
    writes: int = 0
    events: Events = field(default_factory=list)
    taken: dict[Ref, Obj] = field(default_factory=dict)
    """Objects that a create met, as the operator's facts keep them."""
    last_seen: list[Obj] = field(default_factory=list)
    """Pods that are gone, as the operator's store remembers them until it starts again."""
    _counter: int = 0
    _applied: dict[tuple[Ref, str], Obj] = field(default_factory=dict)
    _indexes: dict[str, tuple[Kind, Callable[[Obj], Iterable[str]]]] = field(default_factory=dict)

    # What a test does: users, kubelets and Job controllers.

    def put(self, kind: Kind, obj: Obj) -> Obj:
        """A user creates the object; answers it as stored."""
        ref = ref_to(kind, obj)
        if ref in self.objects:
            raise WriteRefusedError(f"{ref} exists")
        stored = copy.deepcopy(obj)
        stored["metadata"] |= {
            "uid": f"uid-{self._tick()}",
            "resourceVersion": str(self._tick()),
            "creationTimestamp": format_time(self.now),
        }
        if kind in ROOT_KINDS:
            stored["metadata"]["generation"] = 1
        if kind == PVC:
            stored.setdefault("status", {"phase": "Pending"})
        self.objects[ref] = stored
        return stored

    def edit(self, ref: Ref, change: Callable[[Obj], None]) -> None:
        """Anybody changes the object; its generation moves when its spec does."""
        old = self.objects[ref]
        new = copy.deepcopy(old)
        change(new)
        self._store(ref, old, new)

    def remove(self, ref: Ref) -> None:
        """Anybody deletes the object: at once, or when its finalizers and users let it go."""
        if (obj := self.objects.get(ref)) is not None and not obj["metadata"].get("deletionTimestamp"):
            self.edit(ref, lambda o: o["metadata"].update(deletionTimestamp=format_time(self.now)))

    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.now += timedelta(seconds=seconds)

    def settle(self) -> None:
        """The cluster's own controllers finish: deleted objects go, and take with them what they own."""
        while gone := [ref for ref, obj in self.objects.items() if self._can_go(ref, obj)]:
            for ref in gone:
                del self.objects[ref]
            self.taken = {r: o for r, o in self.taken.items() if r in self.objects}
            self._collect()

    def copy(self) -> World:
        """The same world, apart."""
        clone = copy.copy(self)
        clone.objects = dict(self.objects)
        clone.events = list(self.events)
        clone.taken = dict(self.taken)
        clone.last_seen = list(self.last_seen)
        clone._applied = dict(self._applied)
        clone._indexes = dict(self._indexes)
        return clone

    # What the operator's one place of writing does.

    def apply(self, plan: Plan, upto: int | None = None) -> bool:
        """Carries out the plan, or its first `upto` actions; False if the server refused one."""
        for action in plan.actions[:upto]:
            try:
                self._act(action)
            except WriteRefusedError:
                return False
        return True

    def _act(self, action: Action) -> None:
        match action:
            case Create(kind, obj):
                for ref in action.beside:
                    if ref in self.objects:
                        self.taken[ref] = self.objects[ref]
                        raise WriteRefusedError(f"{ref} exists")
                self._create(kind, obj)
            case Delete(ref, uid):
                if self._live(ref, uid)["metadata"].get("deletionTimestamp") is None:
                    self.writes += 1
                    self.remove(ref)
            case SetFinalizers(ref, uid, version, finalizers):
                live = self._live(ref, uid, version)
                added = set(finalizers) - set(live["metadata"].get("finalizers") or ())
                if added and live["metadata"].get("deletionTimestamp"):
                    raise WriteRefusedError("no new finalizers on an object that is being deleted")
                self._write(ref, live, lambda o: o["metadata"].update(finalizers=list(finalizers)))
            case PatchMetadata(ref, uid, version, metadata):
                live = self._live(ref, uid, version)
                self._write(ref, live, lambda o: o.update(metadata=_merge_patch(o["metadata"], metadata)))
            case PatchStatus(ref, version, status, manager):
                live = self._live(ref, None, version)
                before = self._applied.get((ref, manager), {})
                merged = _apply_owned(live.get("status") or {}, before, status)
                self._applied[(ref, manager)] = copy.deepcopy(dict(status))
                self._write(ref, live, lambda o: o.update(status=merged))
            case Apply(kind, obj, manager):
                meta = obj["metadata"]
                ref = Ref(kind, meta["namespace"], meta["name"])
                live = self._live(ref, meta["uid"])
                merged = _apply_owned(live, self._applied.get((ref, manager), {}), obj)
                self._applied[(ref, manager)] = copy.deepcopy(dict(obj))
                self._write(ref, live, lambda o: (o.clear(), o.update(merged)))
            case Event():
                self.events.append(action)

    def _create(self, kind: Kind, obj: Any) -> None:
        ref = ref_to(kind, obj)
        if ref in self.objects:
            self.taken[ref] = self.objects[ref]
            raise WriteRefusedError(f"{ref} exists")
        self.writes += 1
        self.put(kind, obj)

    def _live(self, ref: Ref, uid: str | None, version: str | None = None) -> Obj:
        obj = self.objects.get(ref)
        if obj is None or (uid is not None and obj["metadata"]["uid"] != uid):
            raise WriteRefusedError(f"{ref} is gone or another")
        if version is not None and obj["metadata"]["resourceVersion"] != version:
            raise WriteRefusedError(f"{ref} has moved on")
        return obj

    def _write(self, ref: Ref, live: Obj, change: Callable[[Obj], Any]) -> None:
        new = copy.deepcopy(live)
        change(new)
        self.writes += 1
        self._store(ref, live, new)

    def _store(self, ref: Ref, old: Obj, new: Obj) -> None:
        if new == old:
            return
        new["metadata"]["resourceVersion"] = str(self._tick())
        if "generation" in old["metadata"] and new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] = old["metadata"]["generation"] + 1
        self.objects[ref] = new

    def _tick(self) -> int:
        self._counter += 1
        return self._counter

    def _can_go(self, ref: Ref, obj: Obj) -> bool:
        meta = obj["metadata"]
        if not meta.get("deletionTimestamp") or meta.get("finalizers"):
            return False
        return ref.kind != PVC or not any(
            (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed") and ref.name in claims_of(pod)
            for pod in self.list(POD, ref.namespace)
        )

    def _collect(self) -> None:
        uids = {obj["metadata"]["uid"] for obj in self.objects.values()}
        for ref, obj in list(self.objects.items()):
            owners = obj["metadata"].get("ownerReferences") or ()
            if owners and not any(o["uid"] in uids for o in owners):
                self.remove(ref)

    # What the operator's store answers.

    def get(self, kind: Kind, namespace: str, name: str) -> Obj | None:
        """The object, or None."""
        return self.objects.get(Ref(kind, namespace, name))

    def list(self, kind: Kind, namespace: str | None = None) -> Sequence[Obj]:
        """All objects of a kind."""
        return [o for r, o in self.objects.items() if r.kind == kind and namespace in (None, r.namespace)]

    def departed(self, owner: str) -> list[Obj]:
        """The pods of that controller that are gone."""
        return [pod for pod in self.last_seen if controller_uid(pod) == owner]

    def owned(self, uid: str, kind: Kind | None = None) -> Sequence[Obj]:
        """What has an owner reference to that uid, of one kind or of all."""
        return [
            o
            for r, o in self.objects.items()
            if kind in (None, r.kind) and any(x["uid"] == uid for x in o["metadata"].get("ownerReferences") or ())
        ]

    def add_index(self, name: str, kind: Kind, fn: Callable[[Obj], Iterable[str]]) -> None:
        """A lookup by what `fn` answers for an object."""
        self._indexes[name] = (kind, fn)

    def indexed(self, name: str, value: str) -> Sequence[Obj]:
        """The objects for which the index has that value."""
        kind, fn = self._indexes[name]
        return [o for o in self.list(kind) if value in set(fn(o))]


def claims_of(pod: Obj) -> set[str]:
    """Names of the claims that a pod mounts."""
    volumes = (pod.get("spec") or {}).get("volumes") or ()
    return {v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v}


def finish_job(
    world: World,
    job: Ref,
    *,
    failed: bool = False,
    exit_code: int | None = None,
    message: str = "",
    with_pod: bool = True,
) -> None:
    """The Job's pod ends and the Job controller says so; without `with_pod` nothing is left that tells why."""
    live = world.objects[job]
    code = exit_code if exit_code is not None else int(failed)
    pod_ref = Ref(POD, job.namespace, f"{job.name}-pod")
    if with_pod and pod_ref not in world.objects:
        template = live["spec"]["template"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job.name, "controller": True}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": pod_ref.name,
                "namespace": job.namespace,
                "labels": {**template["metadata"].get("labels", {}), "batch.kubernetes.io/job-name": job.name},
                "ownerReferences": [{**owner, "uid": live["metadata"]["uid"]}],
            },
            "spec": copy.deepcopy(template["spec"]),
        }
        name = template["spec"]["containers"][0]["name"]
        ended = {"exitCode": code, "message": message, "reason": "Error" if code else "Completed"}
        pod["status"] = {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [{"name": name, "state": {"terminated": ended}}],
        }
        world.put(POD, pod)
    when = format_time(world.now)
    kind = "Failed" if failed else "Complete"
    status: Obj = {"conditions": [{"type": kind, "status": "True", "lastTransitionTime": when}]}
    status |= {"failed": 1} if failed else {"succeeded": 1, "completionTime": when}
    world.edit(job, lambda o: o.update(status=status))


def converge(world: World, keys: Iterable[Key], decide: Callable[[World, Key], Plan | None], rounds: int = 40) -> int:
    """Decides and applies until nobody asks for anything; answers the writes. AssertionError if it does not end."""
    keys = list(keys)
    before = world.writes
    for _ in range(rounds):
        world.settle()
        plans = [decide(world, key) for key in keys]
        busy = [plan for plan in plans if plan is not None and plan.actions]
        if not busy:
            return world.writes - before
        for key in keys:
            if (plan := decide(world, key)) is not None:
                world.apply(plan)
    raise AssertionError(f"still writing after {rounds} rounds: {[p.actions for p in busy]}")


def prefixes(world: World, key: Key, decide: Callable[[World, Key], Plan | None]) -> list[World]:
    """The worlds in which the operator died after each action of its plan, before the first included."""
    plan = decide(world, key)
    result = []
    for upto in range(len(plan.actions) + 1 if plan is not None else 1):
        clone = world.copy()
        if plan is not None:
            clone.apply(plan, upto)
        result.append(clone)
    return result


def jobs_of(world: World) -> list[Ref]:
    """All Jobs that are neither finished nor on their way out."""
    return [
        ref
        for ref, obj in world.objects.items()
        if ref.kind == JOB
        and not obj["metadata"].get("deletionTimestamp")
        and not (obj.get("status") or {}).get("conditions")
    ]


def _merge_patch(live: Any, patch: Any) -> Any:
    if not isinstance(patch, dict) and not hasattr(patch, "items"):
        return copy.deepcopy(patch)
    result = dict(live) if isinstance(live, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge_patch(result.get(key), value)
    return result


def _apply_owned(live: Any, before: Any, wanted: Any) -> Any:
    """Server-side apply by one manager: sets what is wanted, drops what it had set before and no longer wants."""
    if not hasattr(wanted, "items"):
        return copy.deepcopy(wanted)
    result = dict(live) if isinstance(live, dict) else {}
    for key, old in (before or {}).items():
        if key not in wanted:
            rest = _apply_owned(result.get(key), old, {}) if isinstance(old, dict) else None
            if rest:
                result[key] = rest
            else:
                result.pop(key, None)
    for key, value in wanted.items():
        result[key] = _apply_owned(result.get(key), (before or {}).get(key), value)
    return result
