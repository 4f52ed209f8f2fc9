"""What a decision asks for: the only words that pass from `decide` to the one place that writes.

A plan is a sequence of actions that are carried out in order and may stop after any of them: a crash, a lost lease or
a refused write. So every prefix of a plan must leave a state from which the next decision goes on.

Nothing here does I/O, and nothing here knows a resource kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Obj = Mapping[str, Any]
"""A Kubernetes object as the API server sends it. Views share these with the store: never change one in place."""


class Key(NamedTuple):
    """Namespace and name of a root object. Work is locked by it; identity is always the uid."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Kind(NamedTuple):
    """A served resource, in the three names that requests need."""

    api_version: str
    kind: str
    plural: str

    @property
    def group(self) -> str:
        """The API group, empty for the core group."""
        return self.api_version.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class Ref:
    """One object, named."""

    kind: Kind
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Create:
    """POST `obj`. If the name is taken, the object that has it is read and comes back in the next view.

    `irrevocable` marks a create that costs money: root and child are read live, and decided on again, before it.
    `beside` are names that others will give to what they make for it: each is read live before, and if one is taken,
    nothing is created and the object that has it comes back in the same way.
    """

    kind: Kind
    obj: Obj
    irrevocable: bool = False
    beside: tuple[Ref, ...] = ()


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply of an existing object. `obj.metadata.uid` must be set: a recreated object is then refused."""

    kind: Kind
    obj: Obj
    field_manager: str = "modelyard"
    force: bool = True


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete `ref` if its uid still is `uid`. Always decided on live reads: of it, and of all that it `takes` along."""

    ref: Ref
    uid: str
    propagation: Literal["Foreground", "Background", "Orphan"] = "Background"
    takes: tuple[Ref, ...] = ()


@dataclass(frozen=True, slots=True)
class SetFinalizers:
    """Replace the finalizers of an object, refused by the server if uid or resourceVersion have moved on."""

    ref: Ref
    uid: str
    resource_version: str
    finalizers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PatchMetadata:
    """JSON merge patch of labels, annotations and ownerReferences, refused if uid or resourceVersion have moved on.

    For what server-side apply cannot say: an owner that a POST has set can be replaced or taken away only like this.
    `metadata` holds just what changes; a list is replaced whole, a value of None removes its key.
    """

    ref: Ref
    uid: str
    resource_version: str
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PatchStatus:
    """Server-side apply of everything that the operator owns under `status`, with the root's resourceVersion."""

    ref: Ref
    resource_version: str
    status: Mapping[str, Any]
    field_manager: str = "modelyard"


@dataclass(frozen=True, slots=True)
class Event:
    """An Event about the root. Repeats of the same reason and message are counted, not posted again."""

    ref: Ref
    uid: str
    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Normal"


Action = Create | Apply | Delete | SetFinalizers | PatchMetadata | PatchStatus | Event


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions in order, and when to look again although nothing changed (seconds; None: only when something does)."""

    actions: tuple[Action, ...] = field(default=())
    requeue_after: float | None = None

    @property
    def irrevocable(self) -> bool:
        """Whether the plan must be decided again on live reads before it is carried out."""
        return any(isinstance(a, Delete) or (isinstance(a, Create) and a.irrevocable) for a in self.actions)
