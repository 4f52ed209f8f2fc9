"""Tells the agent, over loopback, and the log how the run goes; writes `metrics.jsonl`.

A report is handed to a thread and never waited for: training is as fast with an agent that does not answer as with
one that does. What can't be delivered is dropped, oldest progress first; epochs, checkpoints and the end are kept.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelyard_training.core import files

_QUEUE = 256
_TIMEOUT = 5.0


class Reporter:
    """Reports of one process. Without a server address (a laptop) they go to the log alone."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token
        self._queue: deque[tuple[bool, dict[str, Any]]] = deque()
        self._wake = threading.Condition()
        self._closed = False
        # Whatever http_proxy says: the agent is on loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._thread = threading.Thread(target=self._deliver, name="report", daemon=True)
        self._thread.start()

    @classmethod
    def from_environment(cls) -> Reporter:
        """The agent that started this process."""
        token_file = os.environ.get("KUBEFLOW_TRAINER_SERVER_TOKEN", "")
        token = ""
        if token_file:
            try:
                token = Path(token_file).read_text().strip()
            except OSError:
                token = ""
        return cls(os.environ.get("KUBEFLOW_TRAINER_SERVER_URL", ""), token)

    def send(self, ours: Mapping[str, Any], status: Mapping[str, Any] | None = None, *, keep: bool = False) -> None:
        """Queues a report: `ours` is our superset, `status` Kubeflow's `trainerStatus`. `keep`: never dropped."""
        body: dict[str, Any] = {"modelyard": dict(ours)}
        if status is not None:
            body["trainerStatus"] = {**status, "lastUpdatedTime": datetime.now(UTC).isoformat(timespec="seconds")}
        print(json.dumps(body["modelyard"], allow_nan=False), file=sys.stdout, flush=True)
        if not self._url:
            return
        with self._wake:
            if len(self._queue) >= _QUEUE:
                self._drop_one()
            self._queue.append((keep, body))
            self._wake.notify()

    def close(self, seconds: float) -> None:
        """Delivers what is queued, for at most `seconds`."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        self._thread.join(seconds)

    def _drop_one(self) -> None:
        for index, (keep, _) in enumerate(self._queue):
            if not keep:
                del self._queue[index]
                return
        self._queue.popleft()

    def _deliver(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._closed:
                    self._wake.wait()
                if not self._queue:
                    return
                keep, body = self._queue.popleft()
            for attempt in range(3 if keep else 1):
                if self._post(body):
                    break
                time.sleep(0.2 * 2**attempt)

    def _post(self, body: dict[str, Any]) -> bool:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        data = json.dumps(body, allow_nan=False).encode()
        request = urllib.request.Request(self._url, data=data, headers=headers, method="POST")
        try:
            with self._opener.open(request, timeout=_TIMEOUT) as answer:
                return bool(answer.status < 300)
        except (OSError, ValueError):
            return False


class MetricsFile:
    """`metrics.jsonl`: one row a logged step and one an epoch, in order, none twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []

    def cut(self, step: int, epochs: int) -> None:
        """Drops rows after `step` or after `epochs`, and a torn last row: what follows will be written again."""
        kept = b"".join(line for line in _whole_lines(self._path) if _is_within(line, step, epochs))
        aside = self._path.with_name(f".{self._path.name}.partial")
        aside.write_bytes(kept)
        aside.replace(self._path)
        files.sync(self._path.parent)

    def add(self, row: Mapping[str, Any]) -> None:
        """Adds a row; it is in the file after `flush`."""
        self._lines.append(json.dumps(row, allow_nan=False) + "\n")

    def flush(self) -> None:
        """Appends what was added. Raises OSError."""
        if self._lines:
            with self._path.open("a") as file:
                file.writelines(self._lines)
            self._lines.clear()


def _whole_lines(path: Path) -> list[bytes]:
    if not path.exists():
        return []
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def _is_within(line: bytes, step: int, epochs: int) -> bool:
    try:
        row = json.loads(line)
        return bool(row["step"] <= step and row.get("epoch", 0) <= epochs)
    except (ValueError, KeyError, TypeError, AttributeError):
        return False
