"""What the store keeps of a report, and which of it stays when there is too much. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from modelyard.collector.thinning import spaced, thinned
from modelyard.collector.wire import Batch, Report
from modelyard.plan import Key

_TELLING: Final = ("loss", "train_loss", "eval_loss")


@dataclass(frozen=True, slots=True)
class Point:
    """One report's metrics. `at`: seconds since 1970. `row`: the metrics at the end of the epoch `row_epoch`."""

    attempt: int
    seq: int
    at: float
    step: int | None
    epoch: float | None
    metrics: Mapping[str, float]
    row_epoch: int | None = None
    row: Mapping[str, float] | None = None

    @property
    def place(self) -> float:
        """Where it lies on the axis of a curve."""
        return self.at if self.step is None else self.step

    @property
    def height(self) -> float:
        """The value that tells most."""
        name = next((n for n in _TELLING if n in self.metrics), next(iter(self.metrics), ""))
        return self.metrics.get(name, 0.0)


@dataclass(frozen=True, slots=True)
class Ingest:
    """Points of one Training."""

    uid: str
    key: Key
    points: tuple[Point, ...]


def of_batch(key: Key, batch: Batch) -> Ingest:
    """What of a batch is kept: reports that hold a metric."""
    points = tuple(point for report in batch.reports if (point := _of(batch.attempt, report)) is not None)
    return Ingest(batch.uid, key, points)


def kept(points: Sequence[Point], most: int) -> list[Point]:
    """At most `most` of an attempt's points, which are in order. Ends of epochs go last."""
    rows = spaced([point for point in points if point.row is not None], most // 2)
    plain = [point for point in points if point.row is None]
    plain = thinned(plain, most - len(rows), lambda point: point.place, lambda point: point.height)
    return sorted([*rows, *plain], key=lambda point: point.seq)


def packed(metrics: Mapping[str, float] | None) -> str | None:
    """As the store has it: seven digits of each."""
    if metrics is None:
        return None
    return json.dumps({name: float(f"{value:.7g}") for name, value in metrics.items()}, separators=(",", ":"))


def unpacked(text: str | None) -> dict[str, float] | None:
    """The opposite of `packed`."""
    found: dict[str, Any] | None = None if text is None else json.loads(text)
    return found


def _of(attempt: int, report: Report) -> Point | None:
    said = report.modelyard
    if not said.metrics and said.epoch_row is None:
        return None
    row = said.epoch_row
    return Point(
        attempt,
        report.seq,
        report.time.timestamp(),
        said.step,
        said.epoch,
        said.metrics,
        row.epoch if row else None,
        row.metrics if row else None,
    )
