"""Background processes known by a record on disk, so that any later invocation can find and stop them.

A pid alone is not an identity [pids are reused, at once after a reboot]: the record also holds the process's start
time and the boot it belongs to, and nothing is ever signalled unless all three match.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster.errors import LauncherError


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """The start time of a living process in clock ticks since boot; None when it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rsplit(")", 1)[1].split()
    return None if fields[0] in "ZX" else int(fields[19])


def wait_for(check: Callable[[], bool], timeout: float, interval: float = 0.05) -> bool:
    """Poll until `check` holds; False when it didn't within the timeout."""
    deadline = time.monotonic() + timeout
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True


@dataclass(frozen=True)
class Process:
    """One named background process of a cluster."""

    name: str
    pids: Path
    logs: Path

    @property
    def log(self) -> Path:
        return self.logs / f"{self.name}.log"

    @property
    def record(self) -> Path:
        return self.pids / f"{self.name}.json"

    def pid(self) -> int | None:
        """The pid of the living process, or None. A stale record names nobody."""
        try:
            record = json.loads(self.record.read_text())
        except (OSError, ValueError):
            return None
        if record.get("boot") != _boot_id() or start_time(record["pid"]) != record["start"]:
            return None
        return int(record["pid"])

    def start(self, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> int:
        """Start it in its own session with its output in its log. The caller makes sure that it isn't running."""
        for folder in (self.pids, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                [str(a) for a in argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **(env or {})},
                cwd="/",
            )
        # The process outlives this object on purpose: without this, Python warns that nobody waits for it.
        child.returncode = 0
        temporary = self.record.with_suffix(".tmp")
        temporary.write_text(json.dumps({"pid": child.pid, "start": start_time(child.pid), "boot": _boot_id()}))
        temporary.replace(self.record)
        return child.pid

    def wait_ready(self, check: Callable[[], bool], timeout: float = 60) -> None:
        """Wait until it works; fail with the end of its log when it dies or takes too long."""
        died = False

        def ready_or_dead() -> bool:
            nonlocal died
            died = self.pid() is None
            return died or check()

        in_time = wait_for(ready_or_dead, timeout)
        if died or not in_time:
            problem = "ended at once" if died else f"was not ready within {timeout:.0f} s"
            raise LauncherError(f"{self.name} {problem}; its log {self.log} ends with:\n{self.tail()}")

    def tail(self, lines: int = 15) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"

    def stop(self, timeout: float = 10) -> None:
        """SIGTERM, then SIGKILL; returns when the process is gone."""
        pid = self.pid()
        if pid is not None:
            started = start_time(pid)
            for number, patience in ((signal.SIGTERM, timeout), (signal.SIGKILL, 10.0)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
                if wait_for(lambda: start_time(pid) != started, patience, 0.02):
                    break
            else:
                raise LauncherError(f"{self.name} (pid {pid}) does not end")
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self.record.unlink(missing_ok=True)


def recorded(pids: Path, logs: Path) -> list[Process]:
    """Every process that has a record in this folder."""
    return [Process(p.stem, pids, logs) for p in sorted(pids.glob("*.json"))]
