"""What the decisions of all kinds share: hashes, the guard finalizer, conditions, and status writes that happen once.

Pure. A status is compared before it is written, so a decision made twice writes once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from modelyard.plan import Kind, Obj, PatchStatus, SetFinalizers
from modelyard.resources import conditions
from modelyard.resources.meta import FINALIZER
from modelyard.resources.objects import is_deleting, ref_to, uid_of

_NAMES_SHOWN = 5
_EMPTY: tuple[Any, ...] = ({}, [], "")


def canonical_hash(value: Any, length: int = 16) -> str:
    """Hex digits over `value` as canonical JSON: the same for the same content, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def listed(items: Collection[str]) -> str:
    """A list for people: the first few names in order, and how many more there are."""
    shown = sorted(items)[:_NAMES_SHOWN]
    more = len(items) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def guard(kind: Kind, root: Obj, wanted: bool) -> SetFinalizers | None:
    """Puts our finalizer on the root or takes it off, or None if it is as wanted.

    An object that is being deleted gets no new finalizer: the API server refuses that.
    """
    present = tuple(root["metadata"].get("finalizers") or ())
    if (FINALIZER in present) == wanted or (wanted and is_deleting(root)):
        return None
    finalizers = (*present, FINALIZER) if wanted else tuple(f for f in present if f != FINALIZER)
    return SetFinalizers(ref_to(kind, root), uid_of(root), root["metadata"]["resourceVersion"], finalizers)


def has_guard(root: Obj) -> bool:
    """Whether our finalizer is on the object."""
    return FINALIZER in (root["metadata"].get("finalizers") or ())


class ConditionSet:
    """The conditions of one object or entry while a decision is made: starts from what is there, keeps its times."""

    def __init__(self, existing: Any, *, now: datetime, generation: int) -> None:
        self._existing = list(existing or ())
        self._now = now
        self._generation = generation
        self._set: list[dict[str, Any]] = []

    def set(self, type: str, status: conditions.ConditionStatus, reason: str, message: str) -> None:
        """This condition says this now. What is not set in a decision is dropped from the object."""
        one = conditions.set_condition(
            [c for c in self._existing if c.get("type") == type],
            type,
            status,
            reason,
            message,
            now=self._now,
            generation=self._generation,
        )
        self._set = [c for c in self._set if c["type"] != type] + one

    def flag(self, type: str, value: bool, reason: str, message: str) -> None:
        """The same, for a condition that is either true or false."""
        self.set(type, "True" if value else "False", reason, message)

    def result(self) -> list[dict[str, Any]]:
        """The conditions that were set, in the order in which they first were."""
        return list(self._set)


def status_patch(
    kind: Kind, root: Obj, status: Mapping[str, Any], *, foreign: Collection[str] = ()
) -> PatchStatus | None:
    """The write of everything that the operator owns under `status`, or None if the object already says so.

    `foreign` names fields with another writer (`progress`, `checkpoint.lastReported`): neither compared nor sent.
    Empty values are left out on both sides.
    """
    skip = [path.split(".") for path in foreign]
    wanted, found = _meaningful(status, skip), root.get("status") or {}
    if wanted == found or wanted == _meaningful(found, skip):  # the first is quick, and mostly true
        return None
    return PatchStatus(ref_to(kind, root), root["metadata"]["resourceVersion"], wanted)


def _meaningful(value: Mapping[str, Any], skip: Sequence[Sequence[str]] = ()) -> dict[str, Any]:
    """The same without empty values and without the paths to `skip`."""
    result = {}
    for key, inner in value.items():
        if skip and [key] in skip:
            continue
        found = _kept(inner, [path[1:] for path in skip if path[0] == key and len(path) > 1])
        if found is not None and found not in _EMPTY:
            result[key] = found
    return result


def _kept(value: Any, skip: Sequence[Sequence[str]] = ()) -> Any:
    # Most values are words: they are told apart first, since asking what is a Mapping takes long.
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return _meaningful(value, skip)
    if isinstance(value, list | tuple):
        return [_kept(v) for v in value]
    return value
