"""One entry of `status.syncedVersions`, the writes that belong to it, and how a version is said to be. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from modelyard.decide.common import ConditionSet
from modelyard.observed import DownloadFact
from modelyard.plan import Action
from modelyard.resources.times import format_time, parse_time

PENDING: Final = "Pending"
PROCESSING: Final = "Processing"
READY: Final = "Ready"
FAILED: Final = "Failed"

_SERVED: Final = (
    "pvcName",
    "activeDataset",
    "path",
    "kind",
    "lastSyncTime",
    "observedStorage",
    "observedVersionHash",
    "resolvedRevision",
    "bytes",
    "files",
    "digest",
    "resync",
)
"""What of an entry is about the files that are served now."""

_PROGRESS_SECONDS: Final = 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was decided about one version. `wanted` entries count in the Model's phase and numbers.

    `hold` keeps all writes but the status back this time: what the status says of the version must be taken back first.
    """

    entry: dict[str, Any]
    actions: tuple[Action, ...] = ()
    requeue_after: float | None = None
    wanted: bool = True
    hold: bool = False

    @property
    def phase(self) -> str | None:
        """The version's phase; None for one that is not there and not to be."""
        return self.entry.get("phase")


@dataclass(frozen=True, slots=True)
class Said:
    """How a version is: phase, CamelCase reason, our words."""

    phase: str | None
    reason: str
    message: str


def make(
    name: str,
    said: Said,
    old: Mapping[str, Any],
    *,
    now: datetime,
    generation: int,
    state: str = "PRESENT",
    **fields: Any,
) -> dict[str, Any]:
    """An entry. Reason and message stand in it while it is not ready, and in its condition always."""
    conditions = ConditionSet(old.get("conditions"), now=now, generation=generation)
    conditions.flag("Ready", said.phase == READY, said.reason, said.message)
    entry: dict[str, Any] = {"name": name, "phase": said.phase, "observedState": state, **fields}
    if said.phase != READY:
        entry |= {"reason": said.reason, "message": said.message}
    entry["conditions"] = conditions.result()
    return {key: value for key, value in entry.items() if value is not None}


def served(old: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry says about the files that are served, to be said again."""
    return {key: old[key] for key in _SERVED if key in old}


def progress(old: Mapping[str, Any] | None, download: DownloadFact | None) -> dict[str, Any] | None:
    """The progress to show: the old one, until a report is 2 s and 1 % further on."""
    if download is None:
        return dict(old) if old else None
    total = download.total_bytes or 0
    percent = min(100 * download.bytes // total, 100) if total else None
    new = {
        "percent": percent,
        "bytes": download.bytes,
        "totalBytes": download.total_bytes,
        "files": download.files,
        "totalFiles": download.total_files,
        "bytesPerSecond": _whole(download.bytes_per_second),
        "etaSeconds": _whole(download.eta_seconds),
        "lastReportTime": format_time(download.reported_at),
    }
    new = {key: value for key, value in new.items() if value is not None}
    if not old or "lastReportTime" not in old:
        return new
    apart = (download.reported_at - parse_time(old["lastReportTime"])).total_seconds()
    moved = percent != old.get("percent") if percent is not None else download.bytes != old.get("bytes")
    return new if moved and (apart >= _PROGRESS_SECONDS or apart < 0) else dict(old)


def _whole(value: float | None) -> int | None:
    return None if value is None else max(0, round(value))
