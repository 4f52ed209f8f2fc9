"""What the operator knows about things that it does not watch: Secrets, users' objects, downloads in progress.

Values that pass from `cluster` into views, so that decisions stay pure. Beside `plan`, below every layer.
A Secret's values never get here: only which of its keys are there and which are empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from modelyard.plan import Obj


@dataclass(frozen=True, slots=True)
class SecretFact:
    """What a `get` of a Secret said. `checked_at` moves at every read, and alone is no reason to decide again."""

    exists: bool
    checked_at: datetime
    forbidden: bool = False
    resource_version: str | None = None
    present: frozenset[str] = frozenset()
    """Keys with a value."""
    empty: frozenset[str] = frozenset()
    """Keys whose value is empty or only white space."""

    def same(self, other: object) -> bool:
        """Whether both say the same but for the time."""
        return isinstance(other, SecretFact) and (
            (self.exists, self.forbidden, self.resource_version, self.present, self.empty)
            == (other.exists, other.forbidden, other.resource_version, other.present, other.empty)
        )


@dataclass(frozen=True, slots=True)
class ObjectFact:
    """What a `get` of another object said. `obj` is None if it is not there, or if it may not be read."""

    obj: Obj | None
    checked_at: datetime
    forbidden: bool = False

    def same(self, other: object) -> bool:
        """Whether both say the same but for the time."""
        return isinstance(other, ObjectFact) and (_version(self), self.forbidden) == (_version(other), other.forbidden)


@dataclass(frozen=True, slots=True)
class NodeFact:
    """One node: its labels and taints, whether pods may be placed on it at all, what it has, what of it is taken."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Mapping[str, str], ...]
    schedulable: bool
    allocatable: Mapping[str, Decimal]
    used: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True)
class InventoryFact:
    """All nodes; None if they may not be read."""

    nodes: tuple[NodeFact, ...] | None
    checked_at: datetime

    def same(self, other: object) -> bool:
        """Whether both say the same but for the time."""
        return isinstance(other, InventoryFact) and self.nodes == other.nodes


@dataclass(frozen=True, slots=True)
class RefusalFact:
    """Why the cluster does not take an object, as a word and a sentence of ours; both empty if nothing was said."""

    reason: str
    message: str
    checked_at: datetime

    def same(self, other: object) -> bool:
        """Whether both say the same but for the time."""
        return isinstance(other, RefusalFact) and (self.reason, self.message) == (other.reason, other.message)


@dataclass(frozen=True, slots=True)
class DownloadFact:
    """The latest report of a running download, as the collector passed it on. Bytes, files, bytes per second."""

    pod: str
    bytes: int
    total_bytes: int | None
    files: int | None
    total_files: int | None
    bytes_per_second: float | None
    eta_seconds: float | None
    reported_at: datetime


def _version(fact: ObjectFact) -> tuple[str, str] | None:
    if fact.obj is None:
        return None
    meta = fact.obj["metadata"]
    return meta["uid"], meta["resourceVersion"]
