"""Runs the program: starts it, passes one stop request on, kills what does not stop in time, reaps every process.

As process 1 the agent inherits every orphan in the container, so it waits for any child, not only for its own. The
waiting is done in the main thread on a pipe that signals write to: no signal is lost between a look and a sleep.
The stop goes to the program alone and not to its process group [a group-wide SIGTERM kills a data loader's workers,
and the program then fails instead of saving]; the final SIGKILL goes to the whole group.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import IO, NamedTuple

from .codes import BadInputError
from .tail import Tail

_DRAIN_SECONDS = 2.0


class Exit(NamedTuple):
    """How the program ended. `signal`: 0 if it exited by itself; `asked`: it got our SIGTERM; `killed`: our SIGKILL."""

    code: int
    signal: int
    asked: bool
    killed: bool


class Stop:
    """Whether Kubernetes (or a person at a terminal) asked us to stop, and a pipe that wakes the main thread."""

    def __init__(self) -> None:
        self.requested = False
        self._reader, writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        # Without a handler of its own SIGCHLD would not write to the pipe.
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _on_stop(self, number: int, frame: object) -> None:
        self.requested = True

    def sleep(self, seconds: float | None) -> None:
        """Until a signal came, or that long."""
        select.select([self._reader], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._reader, 4096)


def run(command: Sequence[str], env: Mapping[str, str], stop: Stop, kill_after: float, tail: Tail) -> Exit:
    """Runs `command` to its end. `kill_after`: seconds from the stop request to SIGKILL.

    Raises `BadInputError` if the command can't be started.
    """
    process = _start(command, env)
    assert process.stderr is not None
    pump = threading.Thread(target=_pump, args=(process.stderr, tail), daemon=True)
    pump.start()
    asked_at: float | None = None
    killed = False
    while True:
        status = _reap(process.pid)
        if status is not None:
            break
        if stop.requested and asked_at is None:
            asked_at = time.monotonic()
            _signal(process.pid, signal.SIGTERM)
        left = None if asked_at is None or killed else asked_at + kill_after - time.monotonic()
        if left is not None and left <= 0:
            killed = True
            _signal_group(process.pid, signal.SIGKILL)
            left = None
        stop.sleep(left)
    # What the program left running in its group would outlive it where the agent is not process 1.
    _signal_group(process.pid, signal.SIGKILL)
    pump.join(_DRAIN_SECONDS)
    by_signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + by_signal
    process.returncode = code
    return Exit(code, by_signal, asked_at is not None, killed)


def _start(command: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(command), env=dict(env), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
        )
    except FileNotFoundError:
        raise BadInputError(f"The command {command[0][:200]} was not found in the image.") from None
    except PermissionError:
        raise BadInputError(f"The command {command[0][:200]} may not be executed by user {os.getuid()}.") from None
    except (OSError, ValueError):
        raise BadInputError(
            f"The command {command[0][:200]} can't be started: it is no program for this image."
        ) from None


def _reap(pid: int) -> int | None:
    found: int | None = None
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if ended == 0:
            return found
        if ended == pid:
            found = status


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _pump(stream: IO[bytes], tail: Tail) -> None:
    sink = sys.stderr.fileno()
    while True:
        chunk = os.read(stream.fileno(), 65536)
        if not chunk:
            return
        tail.feed(chunk)
        try:
            while chunk:
                chunk = chunk[os.write(sink, chunk) :]
        except OSError:
            continue
