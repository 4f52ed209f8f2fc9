"""Our own lists and their diff: make the store equal to the cluster, ghosts included.

A watch never reports what was deleted while it had no stream. So every list is ours, also the one that a watch begins
with, the first time (nothing is decided before all are in) and whenever its stream was lost; and everything is listed
every `resyncSeconds`, with jitter. Errors are retried; an incomplete list changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from modelyard.cluster import errors
from modelyard.cluster.client import Client
from modelyard.cluster.store import Change, Store
from modelyard.cluster.watched import Scope, Watched
from modelyard.plan import Kind, Obj

logger = logging.getLogger(__name__)

RETRY_SECONDS = 2.0


class Resync:
    """Re-lists one scope into one store."""

    def __init__(
        self,
        client: Client,
        store: Store,
        scope: Scope,
        *,
        period: float,
        jitter: Callable[[], float],
        on_changes: Callable[[list[Change]], None],
        after: Callable[[bool], None],
    ) -> None:
        """`jitter` gives 0 to 1. `after` is told of each list but the first ones, and whether it was of all."""
        self._client = client
        self._store = store
        self._scope = scope
        self._period = period
        self._jitter = jitter
        self._on_changes = on_changes
        self._after = after
        self._begun: set[tuple[Kind, str | None]] = set()
        self._complete = asyncio.Event()

    async def begin(self, kind: Kind, namespace: str | None) -> int:
        """Lists what a watch begins with, trying until it works; the version from which to watch on.

        Raises NotFoundError if the kind is not served.
        """
        watched = next(w for w in self._scope.kinds if w.kind == kind)
        version = await self._until_listed(watched, namespace, errors.NotFoundError)
        if (kind, namespace) in self._begun:
            self._after(False)
        self._begun.add((kind, namespace))
        if all((w.kind, place) in self._begun for w in self._scope.kinds for place in self._scope.places(w.kind)):
            self._complete.set()
        return version

    @property
    def complete(self) -> bool:
        """Whether every watch has begun."""
        return self._complete.is_set()

    async def until_complete(self) -> None:
        """Until every watch has begun."""
        await self._complete.wait()

    async def run(self) -> None:
        """Lists everything now and then, for ever."""
        while True:
            await asyncio.sleep(self._period * (1 - self._jitter() / 5))
            for watched in self._scope.kinds:
                for namespace in self._scope.places(watched.kind):
                    await self._until_listed(watched, namespace)
            self._after(True)

    async def _list(self, watched: Watched, namespace: str | None) -> int:
        """Takes in the differences; the list's version. Raises `errors.ApiError` if it fails."""
        began = self._store.now()
        listed: dict[Kind, list[Obj]] = {kind: [] for kind in self._scope.stored(watched.kind)}
        version = 0
        async for items, at in self._client.pages(watched.kind, namespace, watched.asked):
            for item in items:
                kind, kept = self._scope.filed(watched.kind, item)
                listed[kind].append(self._store.slim(kind, kept))
            version = at
        for kind, found in listed.items():
            self._on_changes(self._store.replace(kind, namespace, found, version, began))
        return version

    async def _until_listed(self, watched: Watched, namespace: str | None, *final: type[errors.ApiError]) -> int:
        """Tries until it works, or fails in a way that is final; the list's version."""
        while True:
            try:
                return await self._list(watched, namespace)
            except final:
                raise
            except errors.ApiError as error:
                logger.warning("The cluster's objects could not be listed (%s); trying again.", error)
                await asyncio.sleep(RETRY_SECONDS * (1 + self._jitter()))
