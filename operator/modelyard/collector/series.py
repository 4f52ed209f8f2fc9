"""From the points of a run to curves that somebody can look at. Pure.

Without an attempt the curve is the run's that counts: a resumed attempt computes some steps again, and from its first
step on it replaces what the attempts before had there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from modelyard.collector.points import Point
from modelyard.collector.thinning import spaced, thinned
from modelyard.collector.wire import POINTS

METRICS_MAX: Final = 128
EPOCHS_MAX: Final = 5000
VALUES_MAX: Final = 50_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a run is asked for. `since` and `until`: seconds since 1970."""

    attempt: int | None = None
    metrics: frozenset[str] = frozenset()
    first_step: int | None = None
    last_step: int | None = None
    since: float | None = None
    until: float | None = None
    most: int = POINTS


def shaped(points: Sequence[Point], asked: Asked) -> dict[str, Any]:
    """`attempts`, `series` by metric, `epochs`; `points` are by attempt and number."""
    chosen = [p for p in points if _within(p.at, asked.since, asked.until)]
    if asked.attempt is None:
        chosen = _counting(chosen)
    values: dict[str, list[tuple[Point, float]]] = defaultdict(list)
    for point in chosen:
        for name, value in point.metrics.items():
            if not asked.metrics or name in asked.metrics:
                values[name].append((point, value))
    names = sorted(values)[:METRICS_MAX]
    most = min(asked.most, VALUES_MAX // max(1, len(names)))
    return {
        "attempts": sorted({point.attempt for point in points}),
        "series": {
            name: [_value(p, v) for p, v in thinned(values[name], most, lambda e: e[0].place, lambda e: e[1])]
            for name in names
        },
        "epochs": _epochs(chosen, asked.metrics),
    }


def _counting(points: Sequence[Point]) -> list[Point]:
    """Without what a later attempt has computed again."""
    found: list[Point] = []
    reached: int | None = None
    for point in reversed(points):
        if found and point.attempt != found[-1].attempt:
            steps = [p.step for p in found if p.step is not None and p.attempt == found[-1].attempt]
            reached = min([*steps, *([reached] if reached is not None else [])], default=None)
        if reached is None or point.step is None or point.step < reached:
            found.append(point)
    return found[::-1]


def _epochs(points: Sequence[Point], metrics: frozenset[str]) -> list[dict[str, Any]]:
    rows: dict[int, dict[str, Any]] = {}
    for point in points:
        if point.row is None or point.row_epoch is None:
            continue
        if rows and next(reversed(rows)) >= point.row_epoch:
            # An epoch that is computed again takes away what came after it.
            rows = {epoch: row for epoch, row in rows.items() if epoch < point.row_epoch}
        told = {name: value for name, value in point.row.items() if not metrics or name in metrics}
        rows[point.row_epoch] = {"epoch": point.row_epoch, **_place(point), "metrics": told}
    return spaced(list(rows.values()), EPOCHS_MAX)


def _value(point: Point, value: float) -> dict[str, Any]:
    epoch: Mapping[str, Any] = {} if point.epoch is None else {"epoch": point.epoch}
    return {"value": value, **_place(point), **epoch}


def _place(point: Point) -> dict[str, Any]:
    time = datetime.fromtimestamp(point.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    step: Mapping[str, Any] = {} if point.step is None else {"step": point.step}
    return {**step, "time": time, "attempt": point.attempt}


def _within(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)
