"""Conditions as lists of plain objects, the way they are in a status: find one, ask for one, set one.

Pure. A transition time changes only when the status of its condition does, so that a decision made twice writes once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

from modelyard.resources.times import format_time

ConditionStatus = Literal["True", "False", "Unknown"]

MESSAGE_MAX = 1024
"""Longest message that a condition takes, in characters; `set_condition` cuts longer ones."""


def find(conditions: Iterable[Mapping[str, Any]], type: str) -> Mapping[str, Any] | None:
    """The condition of that type, or None."""
    return next((c for c in conditions if c.get("type") == type), None)


def is_true(conditions: Iterable[Mapping[str, Any]], type: str) -> bool:
    """Whether that condition is there and `True`."""
    found = find(conditions, type)
    return found is not None and found.get("status") == "True"


def set_condition(
    existing: Iterable[Mapping[str, Any]],
    type: str,
    status: ConditionStatus,
    reason: str,
    message: str,
    *,
    now: datetime,
    generation: int,
) -> list[dict[str, Any]]:
    """A new list in which that condition says this; others and the order are kept, a new one comes last."""
    result = [dict(c) for c in existing]
    old = next((c for c in result if c.get("type") == type), None)
    since = old.get("lastTransitionTime") if old is not None and old.get("status") == status else None
    new = {
        "type": type,
        "status": status,
        "reason": reason,
        "message": cut(message, MESSAGE_MAX),
        "lastTransitionTime": since or format_time(now),
        "observedGeneration": generation,
    }
    if old is None:
        result.append(new)
    else:
        result[result.index(old)] = new
    return result


def cut(text: str, limit: int) -> str:
    """`text` in at most `limit` characters, with an ellipsis where something is missing."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
