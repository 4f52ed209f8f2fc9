"""Fewer points of a curve, so that it still looks the same. Pure.

The range of steps is cut into equal parts, and of each part the lowest and the highest value stay: peaks are what
people look for. The first and the last point always stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def thinned(points: Sequence[_T], most: int, x: Callable[[_T], float], y: Callable[[_T], float]) -> list[_T]:
    """At most `most` of the points, which are in the order of `x`; all of them where they are no more than that."""
    if len(points) <= most:
        return list(points)
    if most < 4:
        return [points[0], *points[-1:]][-most:] if most else []
    first, last, inner = points[0], points[-1], points[1:-1]
    parts = (most - 2) // 2
    low, width = x(first), (x(last) - x(first)) / parts
    kept = [first]
    for part in _parts(inner, lambda point: int((x(point) - low) / width) if width > 0 else 0, parts):
        ends = sorted({min(part, key=lambda at: (y(inner[at]), at)), max(part, key=lambda at: (y(inner[at]), at))})
        kept += [inner[at] for at in ends]
    return [*kept, last]


def spaced(points: Sequence[_T], most: int) -> list[_T]:
    """At most `most` of the points, evenly, the last one among them."""
    if len(points) <= most:
        return list(points)
    return [points[(at + 1) * len(points) // most - 1] for at in range(most)]


def _parts(points: Sequence[_T], part_of: Callable[[_T], int], parts: int) -> Iterable[Sequence[int]]:
    """Places of the points in each part that has any; the last part takes what is at its very end."""
    found: dict[int, list[int]] = {}
    for at, point in enumerate(points):
        found.setdefault(max(0, min(parts - 1, part_of(point))), []).append(at)
    return found.values()
