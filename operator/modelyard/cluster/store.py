"""The cache of everything that is watched: what views are made from.

Fed by the watch (`observe`), by our own re-lists (`replace`) and by live reads (`put`, `drop`); these overtake each
other, so an older state never replaces a newer one, and what is gone stays gone. No I/O and no await: every call is
atomic on the event loop. Objects are shared with views and are never changed in place.

What must stay true: after `replace` with a list, the store holds no object that was gone when the list was made.
The watch alone cannot promise that: after a re-list kopf never reports what was deleted meanwhile.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from modelyard.plan import Key, Kind, Obj
from modelyard.resources.meta import JOB, POD
from modelyard.resources.objects import controller_uid

EventType = Literal["ADDED", "MODIFIED", "DELETED"] | None
IndexFn = Callable[[Obj], Iterable[str]]
Objects = list[Obj]

_TOMBSTONES = 20_000
_DEPARTED_OWNERS, _DEPARTED_EACH = 1_000, 64
_SHARED_LENGTH = 40
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Change:
    """An object that came, changed or went. `old` and `new` differ in content; at most one of them is None."""

    kind: Kind
    old: Obj | None
    new: Obj | None


Changes = list[Change]


@dataclass(slots=True)
class _Entry:
    obj: Obj
    seen: int


class Store:
    """Objects by kind, namespace and name, with owners and own indexes."""

    def __init__(self) -> None:
        self._objects: dict[Kind, dict[Key, _Entry]] = defaultdict(dict)
        self._owned: dict[str, set[tuple[Kind, Key]]] = defaultdict(set)
        self._index_fns: dict[str, tuple[Kind, IndexFn]] = {}
        self._indexes: dict[str, dict[str, set[Key]]] = {}
        self._gone: OrderedDict[str, int] = OrderedDict()
        self._departed: OrderedDict[str, Objects] = OrderedDict()
        self._behind: set[tuple[Kind, str | None]] = set()
        """Where the last list was older than what was known."""
        self._clock = 0

    # ---- reading

    def get(self, kind: Kind, namespace: str, name: str) -> Obj | None:
        """The object of that name, or None."""
        entry = self._objects[kind].get(Key(namespace, name))
        return entry.obj if entry else None

    def list(self, kind: Kind, namespace: str | None = None) -> Objects:
        """All objects of a kind, or those of one namespace, by name."""
        entries = self._objects[kind]
        return [entries[key].obj for key in sorted(entries) if namespace is None or key.namespace == namespace]

    def owned(self, uid: str, kind: Kind | None = None) -> Objects:
        """The objects with an ownerReference to `uid`, of one kind or of all."""
        found = sorted(self._owned.get(uid, ()), key=lambda item: (item[0], item[1]))
        return [self._objects[k][key].obj for k, key in found if kind is None or k == kind]

    def departed(self, owner: str) -> Objects:
        """The last pods of that controller that are gone, as they were last seen.

        For what a pod says as it ends: it may be gone a moment later. Nothing must depend on it, a restart forgets it.
        """
        return self._departed.get(owner, [])

    def add_index(self, name: str, kind: Kind, fn: IndexFn) -> None:
        """Makes `indexed(name, value)` answer with the objects of `kind` for which `fn` yields `value`.

        `fn` must not raise for an object that the API server accepts. ValueError if the name is in use.
        """
        if name in self._index_fns:
            raise ValueError(f"the index {name!r} exists already")
        self._index_fns[name] = (kind, fn)
        self._indexes[name] = defaultdict(set)
        for key, entry in self._objects[kind].items():
            self._index(name, key, entry.obj)

    def indexed(self, name: str, value: str) -> Objects:
        """The objects under `value` in an index, by namespace and name. KeyError if there is no such index."""
        kind, _ = self._index_fns[name]
        return [self._objects[kind][key].obj for key in sorted(self._indexes[name].get(value, ()))]

    def keys(self, kind: Kind) -> Iterator[Key]:
        """The names of all objects of a kind."""
        return iter(list(self._objects[kind]))

    def count(self, kind: Kind) -> int:
        """How many objects of a kind there are."""
        return len(self._objects[kind])

    def now(self) -> int:
        """A mark for `replace`: everything observed so far is older."""
        return self._clock

    # ---- writing

    def observe(self, kind: Kind, event: EventType, obj: Obj) -> Change | None:
        """Takes in a watch event; None if it says nothing new or is older than what is known."""
        if event == "DELETED":
            return self._remove_if_same(kind, obj)
        return self._set(kind, obj)

    def put(self, kind: Kind, obj: Obj) -> Change | None:
        """Takes in an object as just read or written; None if the store knows it as it is, or newer."""
        return self._set(kind, obj)

    def drop(self, kind: Kind, namespace: str, name: str, uid: str | None = None) -> Change | None:
        """A live read did not find it: forgets the object, if it still is that uid."""
        entry = self._objects[kind].get(Key(namespace, name))
        if entry is None or (uid is not None and entry.obj["metadata"]["uid"] != uid):
            return None
        return self._remove(kind, Key(namespace, name), version_of(entry.obj))

    def replace(
        self, kind: Kind, namespace: str | None, listed: Iterable[Obj], list_version: int, began: int
    ) -> Changes:
        """Takes in a complete consistent list of a kind, in one namespace or in all; returns what it changed.

        The objects are as `slim` made them: a list of tens of thousands is not kept whole until it is complete.

        `began` is `now()` from before the list was asked for. What is absent is gone if it had been seen before then
        or is older than the list; a watch event may have overtaken the list, and that one stays.

        A list that is older than what was known before it was asked for changes nothing: a cache in between is behind.
        A second one in a row counts: the cluster was restored from a backup.
        """
        if self._is_behind(kind, namespace, list_version, began):
            return []
        changes: list[Change | None] = []
        present: set[Key] = set()
        for obj in listed:
            key, uid = key_of(obj), obj["metadata"]["uid"]
            present.add(key)
            entry = self._objects[kind].get(key)
            known_before = entry is not None and entry.seen <= began
            if self._gone.get(uid, list_version + 1) <= list_version:
                del self._gone[uid]  # it is there, later than at its supposed end
            changes.append(self._set(kind, obj, force=known_before, slim=True))
        for key, entry in list(self._objects[kind].items()):
            if key in present or (namespace is not None and key.namespace != namespace):
                continue
            if entry.seen <= began or version_of(entry.obj) <= list_version:
                changes.append(self._remove(kind, key, max(list_version, version_of(entry.obj))))
        return [change for change in changes if change is not None]

    def slim(self, kind: Kind, obj: Obj) -> Obj:
        """An object as it would be kept: the very one that is kept, if it is the same."""
        entry = self._objects[kind].get(key_of(obj))
        if entry is not None and _identity(entry.obj) == _identity(obj):
            return entry.obj
        return _slim(kind, obj)

    # ---- inside

    def _is_behind(self, kind: Kind, namespace: str | None, list_version: int, began: int) -> bool:
        place = kind, namespace
        known = (e for key, e in self._objects[kind].items() if namespace is None or key.namespace == namespace)
        newest = max((version_of(e.obj) for e in known if e.seen <= began), default=0)
        if list_version >= newest or place in self._behind:
            self._behind.discard(place)
            return False
        self._behind.add(place)
        return True

    def _set(self, kind: Kind, obj: Obj, force: bool = False, slim: bool = False) -> Change | None:
        key, meta = key_of(obj), obj["metadata"]
        if version_of(obj) <= self._gone.get(meta["uid"], -1):
            return None
        entry = self._objects[kind].get(key)
        if entry is not None:
            known, new = version_of(entry.obj), version_of(obj)
            if known == new and entry.obj["metadata"]["uid"] == meta["uid"]:
                self._clock += 1
                entry.seen = self._clock
                return None
            if new <= known and not force:
                return None
            self._unindex(kind, key, entry.obj)
        self._clock += 1
        kept = obj if slim else _slim(kind, obj)
        self._objects[kind][key] = _Entry(kept, self._clock)
        for owner in meta.get("ownerReferences") or ():
            self._owned[owner["uid"]].add((kind, key))
        for name, (indexed_kind, _) in self._index_fns.items():
            if indexed_kind == kind:
                self._index(name, key, kept)
        return Change(kind, entry.obj if entry else None, kept)

    def _remove_if_same(self, kind: Kind, obj: Obj) -> Change | None:
        key = key_of(obj)
        entry = self._objects[kind].get(key)
        if entry is None or entry.obj["metadata"]["uid"] != obj["metadata"]["uid"]:
            self._bury(obj["metadata"]["uid"], version_of(obj))
            return None
        if version_of(entry.obj) > version_of(obj):
            return None
        return self._remove(kind, key, version_of(obj), obj)

    def _remove(self, kind: Kind, key: Key, at_version: int, last: Obj | None = None) -> Change:
        entry = self._objects[kind].pop(key)
        self._unindex(kind, key, entry.obj)
        self._bury(entry.obj["metadata"]["uid"], at_version)
        if kind == POD:
            self._remember(entry.obj if last is None else _slim(kind, last))
        return Change(kind, entry.obj, None)

    def _bury(self, uid: str, version: int) -> None:
        """Remembers a deletion, so that a late event or a live read from before it does not bring the object back."""
        self._gone[uid] = max(version, self._gone.pop(uid, -1))
        while len(self._gone) > _TOMBSTONES:
            self._gone.popitem(last=False)

    def _remember(self, pod: Obj) -> None:
        if owner := controller_uid(pod):
            self._departed[owner] = [*self._departed.pop(owner, ()), pod][-_DEPARTED_EACH:]
            while len(self._departed) > _DEPARTED_OWNERS:
                self._departed.popitem(last=False)

    def _index(self, name: str, key: Key, obj: Obj) -> None:
        _, fn = self._index_fns[name]
        for value in fn(obj):
            self._indexes[name][value].add(key)

    def _unindex(self, kind: Kind, key: Key, obj: Obj) -> None:
        for owner in obj["metadata"].get("ownerReferences") or ():
            _discard(self._owned, owner["uid"], (kind, key))
        for name, (indexed_kind, fn) in self._index_fns.items():
            if indexed_kind == kind:
                for value in fn(obj):
                    _discard(self._indexes[name], value, key)


def key_of(obj: Obj) -> Key:
    """Namespace (empty for a cluster-scoped object) and name."""
    meta = obj["metadata"]
    return Key(meta.get("namespace", ""), meta["name"])


def version_of(obj: Obj) -> int:
    """The resourceVersion as a number: they can be compared within a kind."""
    return int(obj["metadata"]["resourceVersion"])


def _identity(obj: Obj) -> tuple[str, str]:
    return obj["metadata"]["uid"], obj["metadata"]["resourceVersion"]


def _discard(index: dict[str, set[_T]], value: str, item: _T) -> None:
    members = index.get(value)
    if members is not None:
        members.discard(item)
        if not members:
            del index[value]


def _slim(kind: Kind, obj: Obj) -> Obj:
    """An object as it is kept: in less than half of the memory that it takes as it was parsed.

    Without managedFields and the pod template of a Job, by which nobody decides; and what many objects say is there
    once: a parser makes the names of all fields anew for each object.
    """
    slim = {k: v for k, v in obj.items() if k not in ("metadata", "spec")}
    slim["metadata"] = {k: v for k, v in obj["metadata"].items() if k != "managedFields"}
    if "spec" in obj:
        spec = obj["spec"]
        slim["spec"] = {k: v for k, v in spec.items() if k != "template"} if kind == JOB else spec
    return cast(Obj, _shared(slim))


def _shared(value: Any) -> Any:
    if isinstance(value, str):
        return sys.intern(value) if len(value) <= _SHARED_LENGTH else value
    if isinstance(value, dict):
        return {sys.intern(k): _shared(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_shared(v) for v in value]
    return value
