"""What an analysis says, checked before it goes into a status. Pure.

It comes from a pod: what does not fit the schema is left out, and no text, number or list is larger than a status can
bear.
"""

from __future__ import annotations

import math
from typing import Any, Final

from pydantic import ValidationError

from modelyard.resources.conditions import cut
from modelyard.resources.training.status import WARNINGS_MAX, Analysis
from modelyard_training.params.analysis import unpack

_OPEN: Final = ("profile", "model", "suggested")
_TEXT_MAX: Final = 512
_ITEMS_MAX: Final = 256
_DEPTH_MAX: Final = 8
_EXACT: Final = 2**53
"""Above it, a number that went through JSON may come back as another one, and would be written again and again."""


def read_findings(text: object) -> dict[str, Any] | None:
    """The part of `status.analysis` that the analysis itself tells; None if it tells nothing that can be read."""
    said = unpack(text)
    if said is None or not isinstance(said.get("profile"), dict):
        return None
    found: dict[str, Any] = {name: _plain(said[name]) for name in _OPEN if isinstance(said.get(name), dict)}
    if isinstance(said.get("message"), str):
        found["message"] = cut(said["message"], _TEXT_MAX)
    warnings = [cut(w, _TEXT_MAX) for w in said.get("warnings") or () if isinstance(w, str) and w]
    if warnings:
        found["warnings"] = warnings[:WARNINGS_MAX]
    try:
        Analysis.model_validate(found)
    except ValidationError:
        return None
    return found


def _plain(value: Any, depth: int = 0) -> Any:
    if isinstance(value, dict):
        items = list(value.items())[:_ITEMS_MAX] if depth < _DEPTH_MAX else []
        return {str(k)[:_TEXT_MAX]: _plain(v, depth + 1) for k, v in items if v is not None}
    if isinstance(value, list):
        return [_plain(v, depth + 1) for v in value[:_ITEMS_MAX] if v is not None] if depth < _DEPTH_MAX else []
    if isinstance(value, str):
        return value[:_TEXT_MAX]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _EXACT:
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
