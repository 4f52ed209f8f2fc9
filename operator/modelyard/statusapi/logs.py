"""The end of a pod's log, asked of the API server when somebody asks here; nothing of it is kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from modelyard.cluster import errors
from modelyard.cluster.client import Client
from modelyard.statusapi import problems
from modelyard.statusapi.schemas.answers import LogTail

CONTAINER: Final = "trainer"
MOST_BYTES: Final = 1024 * 1024


async def tail(client: Client, namespace: str, pod: str, lines: int, since: datetime | None = None) -> LogTail:
    """At most `lines` lines, of those from `since` on. Raises Problem 404 if there is no log yet, and 503."""
    start = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if since else ""
    try:
        raw = await client.log_tail(namespace, pod, CONTAINER, lines + 1, MOST_BYTES, start)
    except (errors.NotFoundError, errors.InvalidError):
        raise problems.Problem(404, "NoLog", "The pod has no log yet, or none any more.") from None
    except errors.ApiError:
        raise problems.unavailable() from None
    found, cut = parted(raw)
    times, texts = [time for time, _ in found[-lines:]], [text for _, text in found[-lines:]]
    return LogTail(pod=pod, container=CONTAINER, lines=texts, times=times, truncated=cut or len(found) > lines)


def parted(raw: bytes) -> tuple[list[tuple[str, str]], bool]:
    """Time and text of each line, and whether the answer was cut: then what may be half a line is left out."""
    cut = len(raw) == MOST_BYTES
    lines = raw.decode("utf-8", "replace").split("\n")
    # What stands behind the last end of a line is a line only at the end of a whole answer.
    if cut or not lines[-1]:
        lines.pop()
    parts = [line.rstrip("\r").partition(" ") for line in lines]
    return [(time, text) for time, _, text in parts], cut
