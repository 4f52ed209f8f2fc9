"""The operator as a subprocess, as it runs in its container: settings file, kubeconfig, signals, exit status."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import yaml

from support.cluster import wait_for
from support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]

LEASE = {"durationSeconds": 300, "renewDeadlineSeconds": 280, "retrySeconds": 0.5}
"""So long that a machine that stands still for a while loses none."""
FAST_LEASE = {"durationSeconds": 15, "renewDeadlineSeconds": 12, "retrySeconds": 0.5}
"""For what is about a hand-over by time."""


TIME_WAIT = "06"


class OperatorProcess:
    """One `modelyard operator`; a context manager that ends it.

    `settings` are laid over ones that suit tests. `command` replaces `-m modelyard.cli operator`.
    """

    def __init__(
        self,
        kubeconfig: Path,
        folder: Path,
        settings: Mapping[str, Any] | None = None,
        *,
        name: str = "operator",
        command: Sequence[str] = ("-m", "modelyard.cli", "operator"),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        self.log = folder / f"{name}.log"
        self._settings_file = folder / f"{name}.yaml"
        defaults = {
            "namespace": "default",
            "metricsPort": self.port,
            "lease": LEASE,
            "secrets": {"periodSeconds": 2},
            "training": {"analysis": "WhenAsked"},
            "logLevel": "DEBUG",
        }
        self._settings = {**defaults, **(settings or {})}
        self._kills = 0
        self._command = [sys.executable, *command, "--settings", str(self._settings_file)]
        paths = [str(ROOT / part) for part in ("operator", "training", "hack", "tests")]
        self._env = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig),
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            **(env or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.process.kill()
            self.process.wait()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running or ended process."""
        assert self._process is not None, "start it first"
        return self._process

    def start(self) -> None:
        """Starts it (again); its log goes on in the same file.

        After it was killed it takes a lease of another name, and so need not wait until its old one has run out.
        """
        lease = self._settings["lease"]
        if self._kills:
            lease = {**lease, "name": f"modelyard-operator-{self._kills}"}
        self._settings_file.write_text(yaml.safe_dump({**self._settings, "lease": lease}))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._env, stdout=log, stderr=log, cwd=ROOT)

    def terminate(self, seconds: float = 120) -> int:
        """SIGTERM; its exit status."""
        self.process.terminate()
        return self.process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL, and gone, with what it had asked for: all servers have let go of its connections."""
        own = connections_of(self.process.pid)
        self.process.kill()
        self.process.wait()
        self._kills += 1
        wait_for(lambda: own.isdisjoint((other, mine) for mine, other, _ in connections()), "its requests to be over")

    def signal(self, number: signal.Signals) -> None:
        """Any signal."""
        self.process.send_signal(number)

    def ready(self) -> str:
        """What /readyz says if it answers 200, else an empty string."""
        try:
            answer = httpx2.get(f"http://127.0.0.1:{self.port}/readyz", trust_env=False, timeout=2)
        except httpx2.TransportError:
            return ""
        return answer.text.strip() if answer.status_code == 200 else ""

    def metrics(self) -> str:
        """The text of /metrics."""
        return httpx2.get(f"http://127.0.0.1:{self.port}/metrics", trust_env=False, timeout=60).text

    def metric(self, series: str) -> float:
        """The value of one series, named as it is in the text; 0 if it is not there."""
        for line in self.metrics().splitlines():
            if line.startswith(series + " "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def wait_until_leading(self, seconds: float = 180) -> None:
        """Until it leads; fails with the end of its log if it ends instead."""

        def look() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the operator ended with {self.process.returncode}:\n{self.tail()}")
            return self.ready() == "leading"

        wait_for(look, "the operator to lead", seconds)

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def connections() -> list[tuple[str, str, str]]:
    """This machine's TCP connections: own address, the other's, and the inode of the socket; no closed ones."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [(row[1], row[2], row[9]) for row in rows if row[3] != TIME_WAIT]


def connections_of(pid: int) -> set[tuple[str, str]]:
    """A process's connections, by its own address and the other's; none if it is gone."""
    sockets = set()
    with contextlib.suppress(FileNotFoundError, PermissionError):
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                sockets.add(os.readlink(file))
    return {(own, other) for own, other, inode in connections() if f"socket:[{inode}]" in sockets}


@contextlib.contextmanager
def own_operator(kubeconfig: Path, folder: Path, namespace: str) -> Iterator[OperatorProcess]:
    """The operator of one namespace, which leads; it looks at everything again every few seconds."""
    settings = {"namespace": namespace, "watchNamespaces": [namespace], "resyncSeconds": 3, "prices": {"H100": 2}}
    with OperatorProcess(kubeconfig, folder, settings) as process:
        process.wait_until_leading()
        yield process
