"""Where a page ends: an opaque token that names the last object and what it was sorted by.

It names a place in the order and no snapshot, so it survives changes: what comes and goes meanwhile moves nothing else.
It carries a mark of filters and order, and is refused with others.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from modelyard.statusapi import problems

_VERSION: Final = 1
_LONGEST: Final = 2048
Scalar = str | int | float | bool | None


class Place(NamedTuple):
    """The last object of a page: value of the sort field, namespace, name."""

    value: Scalar
    namespace: str
    name: str


def mark(parts: Sequence[Any]) -> str:
    """A short mark of filters and order."""
    return hashlib.sha256(json.dumps(parts, default=sorted).encode()).hexdigest()[:12]


def encode(place: Place, query_mark: str) -> str:
    """The cursor after that place."""
    raw = json.dumps([_VERSION, query_mark, *place], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode(text: str, query_mark: str) -> Place:
    """The place that a cursor names. Raises Problem 400."""
    wrong = problems.invalid("cursor", "is not a cursor of this list; leave it out to begin again")
    if len(text) > _LONGEST:
        raise wrong
    try:
        raw = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        raise wrong from None
    if not (isinstance(raw, list) and len(raw) == 5 and raw[0] == _VERSION):
        raise wrong
    _, found, value, namespace, name = raw
    if not (isinstance(namespace, str) and isinstance(name, str)):
        raise wrong
    if not (value is None or isinstance(value, str | int | float)):
        raise wrong
    if found != query_mark:
        raise problems.invalid("cursor", "belongs to other filters or another order; leave it out to begin again")
    return Place(value, namespace, name)
