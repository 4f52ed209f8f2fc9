"""The one place that writes: carries out the actions of a plan, in order, one request each.

Every write says what it believes in: deletes and metadata by uid, finalizers and status by resourceVersion, updates by
the uid in the body. A refusal raises and the rest of the plan is not done; the runtime then decides again on what is
there. What an answer says goes into the store at once, so that the next look needs no watch event.

Nothing is written unless the lease is held at that moment.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from modelyard.cluster import errors
from modelyard.cluster.client import Client
from modelyard.cluster.facts import Facts
from modelyard.cluster.lease import LeaseLostError
from modelyard.cluster.recorder import Recorder
from modelyard.cluster.store import Change, Store, key_of
from modelyard.cluster.watched import Scope
from modelyard.plan import (
    Action,
    Apply,
    Create,
    Delete,
    Event,
    Kind,
    Obj,
    PatchMetadata,
    PatchStatus,
    Plan,
    Ref,
    SetFinalizers,
)

_STATUSES_KEPT = 20_000


class NameTakenError(Exception):
    """A Create met another object. It is in the facts; whose it is, the next decision says."""


class Applier:
    """Writes through one client into one cluster, and what came of it into one store."""

    def __init__(
        self,
        client: Client,
        store: Store,
        facts: Facts,
        recorder: Recorder,
        scope: Scope,
        *,
        may_write: Callable[[], bool],
        on_change: Callable[[Change], None],
    ) -> None:
        self._client = client
        self._store = store
        self._facts = facts
        self._recorder = recorder
        self._scope = scope
        self._may_write = may_write
        self._on_change = on_change
        self._statuses: OrderedDict[tuple[Ref, str], tuple[str, bytes]] = OrderedDict()

    async def carry_out(self, plan: Plan) -> None:
        """All actions of the plan. Raises ApiError, NameTakenError or LeaseLostError at the first that is not done."""
        own: dict[tuple[Ref, str], str] = {}
        for action in plan.actions:
            if not self._may_write():
                raise LeaseLostError("the lease is not held")
            await self._carry_out(action, own)

    async def refresh(self, ref: Ref) -> None:
        """A live read into the store. ApiError if it fails; not being there is no failure."""
        try:
            obj = await self._client.get(ref)
        except errors.NotFoundError:
            for kind in self._scope.stored(ref.kind):
                self._took(self._store.drop(kind, ref.namespace, ref.name))
        else:
            self._keep(ref.kind, obj)

    async def _carry_out(self, action: Action, own: dict[tuple[Ref, str], str]) -> None:
        """`own` maps resourceVersions that this plan was decided on to those that its own earlier writes made."""
        match action:
            case Create():
                await self._create(action)
            case Apply():
                ref = _ref(action.kind, action.obj)
                body = {"apiVersion": ref.kind.api_version, "kind": ref.kind.kind, **action.obj}
                before = self._version(ref)
                obj = await self._client.apply(ref, body, field_manager=action.field_manager, force=action.force)
                self._wrote(ref, before, obj, own)
            case Delete():
                await self._delete(action)
            case SetFinalizers():
                metadata = {"finalizers": list(action.finalizers)}
                await self._merge_metadata(action.ref, action.uid, action.resource_version, metadata, own)
            case PatchMetadata():
                await self._merge_metadata(action.ref, action.uid, action.resource_version, action.metadata, own)
            case PatchStatus():
                await self._patch_status(action, own)
            case Event():
                await self._recorder.record(action)

    async def _create(self, action: Create) -> None:
        ref = _ref(action.kind, action.obj)
        await asyncio.gather(*(self._must_be_free(other) for other in action.beside))
        try:
            obj = await self._client.create(action.kind, action.obj)
        except errors.AlreadyExistsError:
            raise self._met(ref, await self._client.get(ref)) from None
        except errors.RefusedError as error:
            self._facts.learn_refused(ref, *error.why)
            raise
        self._facts.clear_refused(ref)
        for free in (ref, *action.beside):
            self._facts.clear_taken(free)
        self._keep(ref.kind, obj)

    async def _must_be_free(self, ref: Ref) -> None:
        try:
            found = await self._client.get(ref)
        except errors.NotFoundError:
            return
        raise self._met(ref, found)

    def _met(self, ref: Ref, found: Obj) -> NameTakenError:
        self._facts.learn_taken(ref, found)
        self._keep(ref.kind, found)
        return NameTakenError(f"{ref.kind.kind} {ref.namespace}/{ref.name} exists already")

    async def _delete(self, action: Delete) -> None:
        ref = action.ref
        try:
            answer = await self._client.delete(ref, action.uid, action.propagation)
        except errors.NotFoundError:
            self._took(self._store.drop(ref.kind, ref.namespace, ref.name, action.uid))
            return
        if answer.get("kind") == ref.kind.kind and (answer["metadata"].get("deletionTimestamp")):
            self._keep(ref.kind, answer)
        elif answer.get("kind") == "Status":
            self._took(self._store.drop(ref.kind, ref.namespace, ref.name, action.uid))

    async def _merge_metadata(
        self, ref: Ref, uid: str, version: str, metadata: Any, own: dict[tuple[Ref, str], str]
    ) -> None:
        identity = {"uid": uid, "resourceVersion": own.get((ref, version), version)}
        obj = await self._client.merge(ref, {"metadata": {**metadata, **identity}})
        self._wrote(ref, version, obj, own)

    async def _patch_status(self, action: PatchStatus, own: dict[tuple[Ref, str], str]) -> None:
        ref = action.ref
        version = own.get((ref, action.resource_version), action.resource_version)
        wanted = dict(action.status)
        said = hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).digest()
        # What the server made of the same words the last time is what it makes of them now, if nothing has changed.
        if self._statuses.get((ref, action.field_manager)) == (version, said):
            return
        body = {
            "apiVersion": ref.kind.api_version,
            "kind": ref.kind.kind,
            "metadata": {"name": ref.name, "namespace": ref.namespace, "resourceVersion": version},
            "status": wanted,
        }
        try:
            obj = await self._client.apply(
                ref, body, field_manager=action.field_manager, force=True, subresource="status"
            )
        except errors.NotFoundError:
            self._took(self._store.drop(ref.kind, ref.namespace, ref.name))
            raise
        self._statuses[ref, action.field_manager] = (obj["metadata"]["resourceVersion"], said)
        self._statuses.move_to_end((ref, action.field_manager))
        while len(self._statuses) > _STATUSES_KEPT:
            self._statuses.popitem(last=False)
        self._wrote(ref, action.resource_version, obj, own)

    def _wrote(self, ref: Ref, before: str, obj: Obj, own: dict[tuple[Ref, str], str]) -> None:
        """A write that was bound to `before` made `obj`: the rest of the plan goes on from there."""
        own[ref, before] = obj["metadata"]["resourceVersion"]
        self._keep(ref.kind, obj)

    def _version(self, ref: Ref) -> str:
        known = self._store.get(ref.kind, ref.namespace, ref.name)
        return str(known["metadata"]["resourceVersion"]) if known else ""

    def _keep(self, kind: Kind, obj: Obj) -> None:
        if self._scope.covers(kind, obj):
            self._took(self._store.put(*self._scope.filed(kind, obj)))

    def _took(self, change: Change | None) -> None:
        if change is not None:
            self._on_change(change)


def _ref(kind: Kind, obj: Obj) -> Ref:
    return Ref(kind, *key_of(obj))
