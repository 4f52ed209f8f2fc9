"""Our own re-list: makes the store equal to the cluster, ghosts included, now and then and whenever in doubt.

kopf's watch never reports what was deleted while it had no stream. So every kind is listed in pages at start (nothing
is decided before), every `resyncSeconds` with jitter, and soon after a sign that kopf listed again. Errors are retried;
an incomplete list changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from modelyard.cluster import errors
from modelyard.cluster.client import Client
from modelyard.cluster.store import Change, Store
from modelyard.cluster.watched import Scope
from modelyard.plan import Kind, Obj

logger = logging.getLogger(__name__)

SETTLE_SECONDS = 1.0
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
        """`jitter` gives 0 to 1. `after` is told of each complete re-list, and whether it was a regular one."""
        self._client = client
        self._store = store
        self._scope = scope
        self._period = period
        self._jitter = jitter
        self._on_changes = on_changes
        self._after = after
        self._suspected = asyncio.Event()

    def suspect(self) -> None:
        """Something may have been missed: list again soon."""
        self._suspected.set()

    async def run_once(self) -> None:
        """Lists everything once and takes in the differences. Raises `errors.ApiError` if a list fails."""
        for watched in self._scope.kinds:
            for namespace in self._scope.places(watched.kind):
                began = self._store.now()
                listed: dict[Kind, list[Obj]] = {kind: [] for kind in self._scope.stored(watched.kind)}
                version = 0
                async for items, at in self._client.pages(watched.kind, namespace, watched.asked):
                    for item in items:
                        kind, kept = self._scope.filed(watched.kind, item)
                        listed[kind].append(kept)
                    version = at
                for kind, found in listed.items():
                    self._on_changes(self._store.replace(kind, namespace, found, version, began))

    async def until_done(self) -> None:
        """Lists everything, trying until it works."""
        while True:
            try:
                return await self.run_once()
            except errors.ApiError as error:
                logger.warning("The cluster's objects could not be listed (%s); trying again.", error)
                await asyncio.sleep(RETRY_SECONDS * (1 + self._jitter()))

    async def run(self) -> None:
        """Regular and suspected re-lists, for ever."""
        while True:
            regular = not await self._wait(self._period * (1 - self._jitter() / 5))
            if not regular:
                # A re-list of kopf brings many objects: one of ours, when they are through, answers for all.
                await asyncio.sleep(SETTLE_SECONDS)
            self._suspected.clear()
            await self.until_done()
            self._after(regular)

    async def _wait(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._suspected.wait()
        except TimeoutError:
            return False
        return True
