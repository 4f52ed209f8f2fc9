"""The operator as a subprocess, as it runs in its container: settings file, kubeconfig, signals, exit status."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import yaml

from support.cluster import wait_for

ROOT = Path(__file__).resolve().parents[2]

FAST_LEASE = {"durationSeconds": 6, "renewDeadlineSeconds": 5, "retrySeconds": 0.5}
"""Short times, so that a hand-over takes seconds, but not so short that a busy machine loses leases."""


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
            "lease": FAST_LEASE,
            "secrets": {"periodSeconds": 2},
            "training": {"analysis": "WhenAsked"},
            "logLevel": "DEBUG",
        }
        self._settings_file.write_text(yaml.safe_dump({**defaults, **(settings or {})}))
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
            self.kill()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running or ended process."""
        assert self._process is not None, "start it first"
        return self._process

    def start(self) -> None:
        """Starts it (again); its log goes on in the same file."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._env, stdout=log, stderr=log, cwd=ROOT)

    def terminate(self, seconds: float = 30) -> int:
        """SIGTERM; its exit status."""
        self.process.terminate()
        return self.process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL, and gone."""
        self.process.kill()
        self.process.wait()

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
        return httpx2.get(f"http://127.0.0.1:{self.port}/metrics", trust_env=False, timeout=5).text

    def metric(self, series: str) -> float:
        """The value of one series, named as it is in the text; 0 if it is not there."""
        for line in self.metrics().splitlines():
            if line.startswith(series + " "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def wait_until_leading(self, seconds: float = 60) -> None:
        """Until it leads; fails with the end of its log if it ends instead."""

        def look() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the operator ended with {self.process.returncode}:\n{self.tail()}")
            return self.ready() == "leading"

        wait_for(look, "the operator to lead", seconds)

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextlib.contextmanager
def own_operator(kubeconfig: Path, folder: Path, namespace: str) -> Iterator[OperatorProcess]:
    """The operator of one namespace, which leads; it looks at everything again every few seconds."""
    settings = {"namespace": namespace, "watchNamespaces": [namespace], "resyncSeconds": 3, "prices": {"H100": 2}}
    with OperatorProcess(kubeconfig, folder, settings) as process:
        process.wait_until_leading()
        yield process
