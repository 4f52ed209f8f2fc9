"""What is known of each running Training, and the JSON Patch that brings its status up to date. Pure.

A run starts from the status that the API server has, so a restarted collector goes on where it was. Reports are merged
in the order of their numbers, each once. The patch tests the Training's uid and the current Job's: a Training that was
made again, or an attempt that has ended meanwhile, refuses it. It is empty when nothing but the time has changed, for
a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from modelyard.collector.wire import Batch, Report
from modelyard.plan import Obj

EPOCHS_MAX = 50
METRICS_MAX = 64
RETOLD = timedelta(seconds=60)
"""What has not changed is written again this late: so that it is seen that the run still reports, and stands still."""

_NO_TIME = timedelta(0)
_FIELDS = ("progress", "metrics", "epochs", "checkpoint")


@dataclass
class Run:
    """One attempt of one Training. `urgent`: an epoch, the first or the final report waits to be written."""

    uid: str
    attempt: int
    job_uid: str
    wanted: dict[str, Any] = field(default_factory=dict)
    written: dict[str, Any] = field(default_factory=dict)
    urgent: bool = False
    _last_seq: dict[str, int] = field(default_factory=dict)
    _has_checkpoint: bool = False
    _resource_version: str = ""

    @classmethod
    def of(cls, training: Obj) -> Run:
        """The run that a Training's status tells of."""
        status = training.get("status", {})
        run = cls(
            uid=training["metadata"]["uid"],
            attempt=status.get("attempts", {}).get("number", 0),
            job_uid=status.get("placement", {}).get("jobUID", ""),
        )
        run.observe(training)
        run.wanted = deepcopy(run.written)
        return run

    def observe(self, training: Obj) -> None:
        """Takes note of what the API server now has."""
        status = training.get("status", {})
        self.written = {
            "progress": status.get("progress", {}),
            "metrics": status.get("metrics", {}),
            "epochs": list(status.get("epochs", [])),
            "checkpoint": status.get("checkpoint", {}).get("lastReported", {}),
        }
        self._has_checkpoint = "checkpoint" in status
        self._resource_version = training["metadata"]["resourceVersion"]

    def is_about(self, training: Obj) -> bool:
        """Whether the Training still is the one, in the same attempt."""
        status = training.get("status", {})
        return bool(
            training["metadata"]["uid"] == self.uid
            and status.get("placement", {}).get("jobUID") == self.job_uid
            and status.get("attempts", {}).get("number", 0) == self.attempt
        )

    def take(self, pod_uid: str, batch: Batch, now: datetime) -> int:
        """Merges a batch. Returns how many of its reports were new."""
        known = self._last_seq.get(pod_uid, 0)
        fresh = sorted((r for r in batch.reports if r.seq > known), key=lambda r: r.seq)
        if not fresh:
            return 0
        first = not self._last_seq
        advanced = [r.time for r in fresh if self._merge(r)]
        self._last_seq[pod_uid] = fresh[-1].seq
        self.wanted["progress"]["attempt"] = self.attempt
        self.wanted["progress"]["lastReportTime"] = _stamp(now)
        if advanced:
            # By the pod's own clock alone: how long before its newest report that was.
            self.wanted["progress"]["lastAdvanceTime"] = _stamp(now - max(fresh[-1].time - advanced[-1], _NO_TIME))
        ends = any(r.modelyard.epoch_row is not None or r.modelyard.final for r in fresh)
        self.urgent = self.urgent or first or ends
        return len(fresh)

    def differs(self) -> bool:
        """Whether the status is not what is wanted."""
        return bool(self._changed())

    def patch(self) -> list[dict[str, Any]]:
        """The operations that make the status what is wanted; empty if it is already."""
        changed = self._changed()
        if not changed:
            return []
        operations: list[dict[str, Any]] = [
            {"op": "test", "path": "/metadata/uid", "value": self.uid},
            {"op": "test", "path": "/status/placement/jobUID", "value": self.job_uid},
        ]
        for name in changed:
            value = deepcopy(self.wanted[name])
            if name != "checkpoint":
                operations.append({"op": "add", "path": f"/status/{name}", "value": value})
            elif self._has_checkpoint:
                operations.append({"op": "add", "path": "/status/checkpoint/lastReported", "value": value})
            else:
                # The operator writes beside it: only if it has not begun to meanwhile may the whole be put there.
                version = {"op": "test", "path": "/metadata/resourceVersion", "value": self._resource_version}
                operations.insert(0, version)
                operations.append({"op": "add", "path": "/status/checkpoint", "value": {"lastReported": value}})
        return operations

    def _changed(self) -> list[str]:
        changed = [name for name in _FIELDS if _told(self.wanted[name]) != _told(self.written[name])]
        return ["progress"] if not changed and self._is_old() else changed

    def _is_old(self) -> bool:
        """Whether the status says for so long already what has not changed since that it must be told anew."""
        heard, told = (state["progress"].get("lastReportTime") for state in (self.wanted, self.written))
        return bool(heard and told and datetime.fromisoformat(heard) - datetime.fromisoformat(told) >= RETOLD)

    def _merge(self, report: Report) -> bool:
        """Whether it tells of something that was finished."""
        said, status = report.modelyard, report.trainer_status
        progress = {
            "percent": status.progress_percentage,
            "step": said.step,
            "totalSteps": said.total_steps,
            "epoch": said.epoch,
            "totalEpochs": said.total_epochs,
            "etaSeconds": status.estimated_remaining_seconds,
            "throughput": said.throughput,
            "unit": said.unit,
        }
        if self.wanted["progress"].get("attempt", self.attempt) != self.attempt:
            self.wanted["progress"] = {"attempt": self.attempt}
        known = self.wanted["progress"].get("step")
        advanced = said.step is not None and said.step != known
        self.wanted["progress"].update({name: value for name, value in progress.items() if value is not None})
        metrics = {**self.wanted["metrics"], **_short(said.metrics)}
        self.wanted["metrics"] = dict(list(metrics.items())[-METRICS_MAX:])
        if said.epoch_row is not None:
            row: dict[str, Any] = {"epoch": said.epoch_row.epoch, "time": _stamp(report.time)}
            if said.step is not None:
                row["step"] = said.step
            row["metrics"] = _short(said.epoch_row.metrics)
            # A resumed run computes an epoch again: what came after it belongs to the attempt that was lost.
            before = [r for r in self.wanted["epochs"] if r.get("epoch", 0) < row["epoch"]]
            self.wanted["epochs"] = [*before, row][-EPOCHS_MAX:]
        if said.checkpoint is not None:
            saved = said.checkpoint.model_dump(exclude_none=True)
            self.wanted["checkpoint"] = {**saved, "time": _stamp(report.time)}
        return advanced or said.epoch_row is not None or said.checkpoint is not None


def _short(metrics: Mapping[str, float]) -> dict[str, float]:
    """To five digits: status is for reading, and metrics.jsonl has all of them."""
    return {name: float(f"{value:.5g}") for name, value in metrics.items()}


def _told(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: inner for name, inner in value.items() if name != "lastReportTime"}
    return value


def _stamp(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
