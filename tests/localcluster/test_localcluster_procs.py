"""Background processes: found again by their record, and never mistaken for another process of the same pid."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from localcluster.errors import LauncherError
from localcluster.procs import Process


@pytest.fixture
def process(tmp_path: Path) -> Process:
    return Process("sleeper", tmp_path / "pids", tmp_path / "logs")


def test_is_found_by_its_record_and_stopped(process: Process) -> None:
    pid = process.start(["sleep", "60"])
    again = Process(process.name, process.pids, process.logs)
    assert again.pid() == pid
    again.stop()
    assert process.pid() is None
    assert not process.record.exists()


def test_a_process_that_ignores_sigterm_is_killed(process: Process) -> None:
    process.start(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"])
    process.wait_ready(lambda: "ready" in process.log.read_text())
    process.stop(timeout=0.3)
    assert process.pid() is None


@pytest.mark.parametrize("change", [{"start": 1}, {"boot": "another boot"}])
def test_a_reused_pid_names_nobody_and_is_not_killed(process: Process, change: dict[str, object]) -> None:
    pid = process.start(["sleep", "60"])
    record = process.record.read_text()
    process.record.write_text(json.dumps({**json.loads(record), **change}))
    assert process.pid() is None
    process.stop()
    os.kill(pid, 0)
    process.record.write_text(record)
    process.stop()


def test_a_process_that_dies_is_reported_with_its_log(process: Process) -> None:
    process.start(["sh", "-c", "echo no such luck >&2; exit 3"])
    with pytest.raises(LauncherError, match="no such luck"):
        process.wait_ready(lambda: False)
