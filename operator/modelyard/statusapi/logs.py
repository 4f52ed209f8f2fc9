"""The end of a pod's log, asked of the API server when somebody asks here; nothing of it is kept."""

from __future__ import annotations

from typing import Final

from modelyard.cluster import errors
from modelyard.cluster.client import Client
from modelyard.statusapi import problems
from modelyard.statusapi.schemas.answers import LogTail

CONTAINER: Final = "trainer"
MOST_BYTES: Final = 1024 * 1024


async def tail(client: Client, namespace: str, pod: str, lines: int) -> LogTail:
    """At most `lines` lines. Raises Problem 404 if there is no log yet, and 503."""
    try:
        raw = await client.log_tail(namespace, pod, CONTAINER, lines + 1, MOST_BYTES)
    except (errors.NotFoundError, errors.InvalidError):
        raise problems.Problem(404, "NoLog", "The pod has no log yet, or none any more.") from None
    except errors.ApiError:
        raise problems.unavailable() from None
    found = raw.decode("utf-8", "replace").splitlines()
    return LogTail(pod=pod, container=CONTAINER, lines=found[-lines:], truncated=len(found) > lines)
