"""The downloads that are running, in memory, for the operator to fetch. Pure."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import Any

from modelyard.collector.wire import Download
from modelyard.plan import Key

MOST = 10_000
KEPT = timedelta(minutes=10)


class Downloads:
    """The latest report of each pod. What was not heard of for ten minutes is forgotten."""

    def __init__(self) -> None:
        self._by_pod: OrderedDict[str, tuple[int, datetime, dict[str, Any]]] = OrderedDict()

    def take(self, kind: str, key: Key, pod: str, pod_uid: str, report: Download, now: datetime) -> bool:
        """Keeps a report, unless a newer one of the pod is here; True: it was new. `kind`: Model, Training, Dataset."""
        known = self._by_pod.get(pod_uid)
        if known and report.seq and report.seq <= known[0]:
            return False
        row = {
            "namespace": key.namespace,
            "kind": kind,
            "name": key.name,
            "pod": pod,
            **report.model_dump(by_alias=True, exclude_none=True, exclude={"seq"}),
            "reportedAt": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        self._by_pod[pod_uid] = (report.seq, now, row)
        self._by_pod.move_to_end(pod_uid)
        if len(self._by_pod) > MOST:
            self._by_pod.popitem(last=False)
        return True

    def rows(self, now: datetime) -> list[dict[str, Any]]:
        """All that are current, the longest unheard first."""
        while self._by_pod:
            pod_uid, (_, heard, _) = next(iter(self._by_pod.items()))
            if now - heard <= KEPT:
                break
            del self._by_pod[pod_uid]
        return [row for _, _, row in self._by_pod.values()]

    def __len__(self) -> int:
        return len(self._by_pod)
