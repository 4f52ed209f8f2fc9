"""Starts the agent as a process of its own, with a Python script as the program that trains."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
PRELUDE = """\
import json, os, signal, sys, time, urllib.request

def post(**report):
    request = urllib.request.Request(
        os.environ["KUBEFLOW_TRAINER_SERVER_URL"], json.dumps({"modelyard": report}).encode(), method="POST")
    with urllib.request.urlopen(request) as answer:
        assert answer.status == 200
"""
_SET_CHILD_SUBREAPER = 36


@dataclass
class Ended:
    """What is left of a run of the agent."""

    code: int
    stdout: str
    stderr: str
    message: dict[str, Any]
    size: int


@dataclass
class AgentRun:
    """One agent in `folder`. `env` comes on top of what an operator would set."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    launcher: list[str] = field(default_factory=lambda: [sys.executable, "-m", "modelyard_training.agent"])
    process: subprocess.Popen[str] | None = None

    @property
    def output(self) -> Path:
        """The run's output folder."""
        return self.folder / "output"

    def start(self, script: str, *, subreaper: bool = False) -> AgentRun:
        """Starts the agent on a program of this text. `subreaper`: it inherits orphans, as process 1 does."""
        program = self.folder / "program.py"
        program.write_text(PRELUDE + script)
        return self.start_command(["--", sys.executable, str(program)], subreaper=subreaper)

    def start_command(self, arguments: list[str], *, subreaper: bool = False) -> AgentRun:
        """Starts the agent with these arguments."""
        self.output.mkdir(exist_ok=True)
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "training"),
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
            "MODELYARD_NAMESPACE": "team-a",
            "MODELYARD_TRAINING": "run",
            "MODELYARD_TRAINING_UID": "uid-1",
            "MODELYARD_ATTEMPT": "2",
            "MODELYARD_OUTPUT": str(self.output),
            "MODELYARD_TERMINATION_LOG": str(self.folder / "termination-log"),
            "MODELYARD_GRACE_SECONDS": "20",
            **self.env,
        }
        # Output goes to files: a pipe that nobody reads would be one more thing that could hold the program up.
        with (self.folder / "stdout").open("w") as out, (self.folder / "stderr").open("w") as err:
            self.process = subprocess.Popen(
                [*self.launcher, *arguments],
                env=env,
                cwd=self.folder,
                stdout=out,
                stderr=err,
                text=True,
                preexec_fn=_become_subreaper if subreaper else None,
            )
        return self

    def until(self, what: str, condition: Callable[[], Any]) -> Any:
        """Waits until `condition` is true; fails, naming `what`, if it never is."""
        return wait_for(condition, what, every=0.02, said=lambda: f"; stderr: {self.stderr()}")

    def until_file(self, name: str) -> None:
        """Waits until the program has made this file in the output folder."""
        self.until(f"the file {name}", (self.output / name).exists)

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Sends a signal to the agent."""
        assert self.process is not None
        self.process.send_signal(number)

    def stderr(self) -> str:
        """What agent and program wrote to stderr so far."""
        return (self.folder / "stderr").read_text()

    def stdout(self) -> str:
        """What agent and program wrote to stdout so far."""
        return (self.folder / "stdout").read_text()

    def end(self) -> Ended:
        """Waits for the end."""
        assert self.process is not None
        code = self.process.wait(timeout=300)
        raw = (self.folder / "termination-log").read_bytes()
        return Ended(code, self.stdout(), self.stderr(), json.loads(raw), len(raw))

    def run(self, script: str) -> Ended:
        """Runs a program of this text to its end."""
        return self.start(script).end()


def _become_subreaper() -> None:
    ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def own_reports(stdout: str) -> list[Mapping[str, Any]]:
    """The agent's report lines in a run's stdout."""
    return [json.loads(line) for line in stdout.splitlines() if line.startswith('{"seq":')]
