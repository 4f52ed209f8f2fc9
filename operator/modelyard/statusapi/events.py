"""Kubernetes Events about an object, asked of the API server when somebody asks here: they are many and short-lived."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from modelyard.cluster import errors
from modelyard.cluster.client import Client
from modelyard.plan import Obj
from modelyard.resources.meta import EVENT
from modelyard.statusapi import problems
from modelyard.statusapi.schemas.answers import EventRow

MOST: Final = 200


async def events_of(client: Client, obj: Obj) -> list[EventRow]:
    """Events of one object, newest first. Raises Problem 503."""
    meta = obj["metadata"]
    found: list[Mapping[str, Any]] = []
    try:
        async for items, _ in client.pages(EVENT, meta["namespace"], fields=f"involvedObject.uid={meta['uid']}"):
            found.extend(items)
    except errors.ApiError:
        raise problems.unavailable() from None
    rows = sorted(map(_row, found), key=lambda row: row.last_time or "", reverse=True)
    return rows[:MOST]


def _row(event: Mapping[str, Any]) -> EventRow:
    series = event.get("series") or {}
    last = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return EventRow(
        type=event.get("type") or "Normal",
        reason=event.get("reason") or "",
        message=event.get("message") or "",
        count=series.get("count") or event.get("count") or 1,
        first_time=event.get("firstTimestamp") or event.get("eventTime"),
        last_time=last,
        source=(event.get("source") or {}).get("component") or event.get("reportingComponent") or None,
    )
