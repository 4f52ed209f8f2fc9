"""What the program has told about itself so far, and what follows from a new report.

Reports come in the wire format of Kubeflow Trainer (KEP-2779), as a stock Hugging Face `Trainer` sends it, and in our
superset under the key `modelyard`. Both become one normal form here. Percent and time left are computed from steps:
a program says 100 % when it stops half-way too, so its own percentage alone never means that it is finished.
Every number and text is bounded; what has the wrong type is left out, because a report must never break a run.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MAX_METRICS = 64
MAX_NAME = 64
MAX_TEXT = 256
_KEP_STEP, _KEP_TOTAL, _KEP_EPOCH = "current_step", "total_steps", "current_epoch"


@dataclass
class Entry:
    """One report on its way to the collector. `row`: it ends an epoch and is never dropped; `urgent`: send it now."""

    seq: int
    body: dict[str, Any]
    row: bool = False
    urgent: bool = False


@dataclass
class Progress:
    """The run as reported. `take` and the readers are called from several threads."""

    step: int | None = None
    done: bool = False
    result: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    _known: dict[str, Any] = field(default_factory=dict)
    _percent: float | None = None
    _eta: int | None = None
    _start: tuple[int, float] | None = None
    _elapsed: float | None = None
    _seq: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, report: Mapping[str, Any], now: float, stamp: str) -> Entry | None:
        """Merges a report. `now` is a monotonic clock's seconds, `stamp` the time as RFC 3339.

        None: it is no report at all, neither of the two keys holds an object.
        """
        kubeflow, ours = report.get("trainerStatus"), report.get("modelyard")
        if not isinstance(kubeflow, dict) and not isinstance(ours, dict):
            return None
        with self._lock:
            metrics = self._take_kubeflow(kubeflow) if isinstance(kubeflow, dict) else {}
            extra = self._take_ours(ours) if isinstance(ours, dict) else {}
            metrics.update(extra.pop("metrics", {}))
            self.metrics = _bounded({**metrics, **self.metrics, **metrics})
            self._take_steps(now)
            first = self._seq == 0
            row = "epochRow" in extra
            body = self._body(stamp, metrics, extra)
            return Entry(self._seq, body, row=row, urgent=first or row or "checkpoint" in extra or self.done)

    def beat(self, stamp: str) -> Entry:
        """What is known already, said again: the program is silent, and the agent is there."""
        with self._lock:
            body = self._body(stamp, {}, {})
            return Entry(self._seq, body)

    def last_word(self, stamp: str, phase: str) -> Entry:
        """The agent's own closing report: how the run ended."""
        with self._lock:
            extra: dict[str, Any] = {"phase": phase, "final": True}
            if self.done:
                extra["done"] = True
            body = self._body(stamp, {}, extra)
            return Entry(self._seq, body, row=True, urgent=True)

    def resumed_from(self, offered: int | None) -> int | None:
        """The step that the run went on from: the program's own word, for it may have found `offered` damaged."""
        said = self.result.get("resumedFrom", offered)
        return said if isinstance(said, int) and not isinstance(said, bool) else None

    def _body(self, stamp: str, metrics: dict[str, float], extra: dict[str, Any]) -> dict[str, Any]:
        self._seq += 1
        status: dict[str, Any] = {"lastUpdatedTime": stamp}
        percent, eta = self._computed()
        if percent is not None:
            status["progressPercentage"] = percent
        if eta is not None:
            status["estimatedRemainingSeconds"] = eta
        ours = {**self._known, **extra}
        if metrics:
            ours["metrics"] = metrics
        return {"seq": self._seq, "time": stamp, "trainerStatus": status, "modelyard": ours}

    def _computed(self) -> tuple[int | None, int | None]:
        if self.done:
            return 100, 0
        step, total = self._known.get("step"), self._known.get("totalSteps")
        if step is None or not total:
            return (None if self._percent is None else min(99, int(self._percent))), self._eta
        percent = min(100, int(100 * step / total))
        if self._start is None or self._elapsed is None or step <= self._start[0]:
            return percent, self._eta
        return percent, int((max(0, total - step)) * self._elapsed / (step - self._start[0]))

    def _take_steps(self, now: float) -> None:
        step = self._known.get("step")
        if step is None:
            return
        if self._start is None or step < self._start[0]:
            self._start = (step, now)
        if step != self.step:
            self._elapsed = now - self._start[1]
        self.step = step

    def _take_kubeflow(self, status: Mapping[str, Any]) -> dict[str, float]:
        self._percent = _number(status.get("progressPercentage"), self._percent)
        eta = _number(status.get("estimatedRemainingSeconds"), None)
        self._eta = self._eta if eta is None else max(0, int(eta))
        metrics: dict[str, float] = {}
        items = status.get("metrics")
        for item in items[: 4 * MAX_METRICS] if isinstance(items, list) else []:
            value = _number(item.get("value"), None) if isinstance(item, dict) else None
            name = item.get("name") if value is not None else None
            if value is None or not isinstance(name, str):
                continue
            if name == _KEP_STEP:
                self._keep("step", value, whole=True)
            elif name == _KEP_TOTAL:
                self._keep("totalSteps", value, whole=True)
            elif name == _KEP_EPOCH:
                self._keep("epoch", value, whole=False)
            else:
                metrics[name] = value
        return _bounded(metrics)

    def _take_ours(self, report: Mapping[str, Any]) -> dict[str, Any]:
        for name in ("step", "totalSteps"):
            self._keep(name, report.get(name), whole=True)
        for name in ("epoch", "totalEpochs", "throughput"):
            self._keep(name, report.get(name), whole=False)
        if isinstance(report.get("unit"), str):
            self._known["unit"] = report["unit"][:MAX_NAME]
        extra: dict[str, Any] = {"metrics": _bounded(report.get("metrics"))}
        if isinstance(report.get("phase"), str):
            extra["phase"] = report["phase"][:MAX_NAME]
        row = report.get("epochRow")
        if isinstance(row, dict):
            epoch = _number(row.get("epoch"), None)
            if epoch is not None:
                extra["epochRow"] = {"epoch": int(epoch), "metrics": _bounded(row.get("metrics"))}
        checkpoint = report.get("checkpoint")
        if isinstance(checkpoint, dict):
            step = _number(checkpoint.get("step"), None)
            path = checkpoint.get("path")
            if step is not None and isinstance(path, str):
                extra["checkpoint"] = {"step": int(step), "path": path[:MAX_TEXT]}
        # Of several processes one has a cause, and the others stop because it did.
        if isinstance(report.get("result"), dict) and self.result.get("result") != "failed":
            self.result = dict(report["result"])
        if report.get("done") is True:
            self.done = True
            extra["done"] = True
        return extra

    def _keep(self, name: str, value: Any, whole: bool) -> None:
        number = _number(value, None)
        if number is not None and number >= 0:
            self._known[name] = int(number) if whole or number == int(number) else number


def _number(value: Any, default: float | None) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return default
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return default
    return number if math.isfinite(number) and abs(number) < 1e18 else default


def _bounded(metrics: Any) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, value in metrics.items() if isinstance(metrics, dict) else ():
        number = _number(value, None)
        if isinstance(name, str) and name and number is not None and len(found) < MAX_METRICS:
            found[name[:MAX_NAME]] = number
    return found
