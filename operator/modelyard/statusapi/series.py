"""Metrics of running trainings as this process has seen them reported: bounded, in memory, thinned evenly.

The object holds the latest values and the last epochs; what lies between is only here, and gone with the process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from modelyard.cluster.store import Change
from modelyard.plan import Obj
from modelyard.resources.meta import TRAINING

POINTS: Final = 1000
TRAININGS: Final = 2000

Sample = tuple[int | None, str | None, Mapping[str, float]]


class Series:
    """Samples by the Training's uid."""

    def __init__(self) -> None:
        self._samples: dict[str, list[Sample]] = {}
        self._every: dict[str, int] = {}
        self._skipped: dict[str, int] = {}

    def observe(self, change: Change) -> None:
        """Takes a sample if the change brought a new report."""
        if change.kind != TRAINING:
            return
        if change.new is None:
            if change.old is not None:
                self._forget(change.old["metadata"]["uid"])
            return
        sample = _sample(change.new)
        if sample is None or (change.old is not None and _sample(change.old) == sample):
            return
        self._add(change.new["metadata"]["uid"], sample)

    def of(self, uid: str) -> Sequence[Sample]:
        """The samples of one Training, oldest first."""
        return self._samples.get(uid, ())

    def _add(self, uid: str, sample: Sample) -> None:
        samples = self._samples.setdefault(uid, [])
        skipped = self._skipped.get(uid, 0) + 1
        if skipped < self._every.get(uid, 1):
            self._skipped[uid] = skipped
            return
        self._skipped[uid] = 0
        samples.append(sample)
        if len(samples) > POINTS:
            self._samples[uid] = samples[::2]
            self._every[uid] = 2 * self._every.get(uid, 1)
        while len(self._samples) > TRAININGS:
            self._forget(next(iter(self._samples)))

    def _forget(self, uid: str) -> None:
        self._samples.pop(uid, None)
        self._every.pop(uid, None)
        self._skipped.pop(uid, None)


def _sample(obj: Obj) -> Sample | None:
    status: Mapping[str, Any] = obj.get("status") or {}
    metrics = status.get("metrics") or {}
    if not metrics:
        return None
    progress = status.get("progress") or {}
    return progress.get("step"), progress.get("lastReportTime"), dict(metrics)
