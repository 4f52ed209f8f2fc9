"""Events for people: one object per root, reason and message, counted when it happens again.

Names are deterministic, so a repeat after a restart finds the Event that is there. An Event that cannot be written is
dropped: nothing depends on one.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime

from modelyard.cluster import errors
from modelyard.cluster.client import Client
from modelyard.plan import Event, Ref
from modelyard.resources.meta import EVENT
from modelyard.resources.times import format_time

logger = logging.getLogger(__name__)

_COUNTS_KEPT = 5_000
_MESSAGE_MAX = 1024


class Recorder:
    """Writes Events in the name of one process (`instance`)."""

    def __init__(self, client: Client, instance: str, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._instance = instance
        self._clock = clock
        self._counts: OrderedDict[Ref, int] = OrderedDict()

    async def record(self, event: Event) -> None:
        """Posts the Event, or counts it."""
        ref = Ref(EVENT, event.ref.namespace, event_name(event))
        now = format_time(self._clock())
        try:
            if ref in self._counts:
                await self._count(ref, now)
            else:
                await self._post(ref, event, now)
        except errors.ApiError as error:
            logger.info("An Event was not recorded (%s).", error)

    async def _post(self, ref: Ref, event: Event, now: str) -> None:
        kind = event.ref.kind
        body = {
            "metadata": {"name": ref.name, "namespace": ref.namespace},
            "involvedObject": {
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                "namespace": event.ref.namespace,
                "name": event.ref.name,
                "uid": event.uid,
            },
            "reason": event.reason,
            "message": event.message[:_MESSAGE_MAX],
            "type": event.type,
            "source": {"component": "modelyard-operator"},
            "reportingComponent": "modelyard.dev/operator",
            "reportingInstance": self._instance,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._client.create(EVENT, body)
            self._remember(ref, 1)
        except errors.AlreadyExistsError:
            # Made by an earlier process: its count comes back with the patch of its time.
            found = await self._client.merge(ref, {"lastTimestamp": now})
            self._remember(ref, int(found.get("count") or 1))
            await self._count(ref, now)

    async def _count(self, ref: Ref, now: str) -> None:
        count = self._counts[ref] + 1
        try:
            await self._client.merge(ref, {"count": count, "lastTimestamp": now})
            self._remember(ref, count)
        except errors.NotFoundError:  # Events expire
            del self._counts[ref]

    def _remember(self, ref: Ref, count: int) -> None:
        self._counts[ref] = count
        self._counts.move_to_end(ref)
        while len(self._counts) > _COUNTS_KEPT:
            self._counts.popitem(last=False)


def event_name(event: Event) -> str:
    """The name that the same Event about the same object always has."""
    content = "\0".join((event.uid, event.type, event.reason, event.message))
    return f"{event.ref.name[:230]}.{hashlib.sha256(content.encode()).hexdigest()[:16]}"
