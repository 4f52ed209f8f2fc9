"""Times as Kubernetes writes them: RFC 3339, UTC, whole seconds."""

from __future__ import annotations

from datetime import UTC, datetime


def format_time(moment: datetime) -> str:
    """`2026-11-21T01:31:00Z` for an aware datetime; fractions of a second are cut off. ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone cannot be written into an object")
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def parse_time(text: str) -> datetime:
    """The aware datetime (UTC) that `text` names, with or without fractions. ValueError if it is no RFC 3339 time."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return moment.astimezone(UTC)
