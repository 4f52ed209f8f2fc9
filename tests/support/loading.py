"""The loader as the kubelet starts it, a process with its arguments, against real servers on loopback."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.ports import free_port
from support.tls_sink import Certificates
from support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
PATHS = os.pathsep.join(str(ROOT / part) for part in ("operator", "training", "hack", "tests"))
TOKEN = "hf_canary_7f3a9c51"


class Server:
    """A server process of `hub` with its control door open."""

    def __init__(self, module: str, *args: str | Path, tls: Certificates | None = None, **environment: str) -> None:
        self.port = free_port()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._tls = ssl.create_default_context(cadata=tls.ca_pem) if tls else None
        if tls:
            args = (*args, "--cert", tls.cert, "--key", tls.key)
        command = [sys.executable, "-m", module, "--port", str(self.port), "--control", *map(str, args)]
        self._process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": PATHS, **environment})
        until(lambda: self._process.poll() is not None or self._answers(), "the server's first answer")

    def order(self, *rules: Mapping[str, Any]) -> None:
        """Puts these faults in force and starts the counts anew."""
        body = json.dumps(rules).encode()
        request = urllib.request.Request(f"{self.url}/_control", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, context=self._tls).close()

    def counts(self) -> dict[str, dict[str, Any]]:
        """By path: requests by method, bytes, ranges, credentials."""
        with urllib.request.urlopen(f"{self.url}/_control", context=self._tls) as answer:
            counts: dict[str, dict[str, Any]] = json.load(answer)
        return counts

    def sent(self) -> int:
        """Bytes of files that went out since the last `order`."""
        return sum(count["bytes"] for count in self.counts().values())

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/_control", context=self._tls).close()
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False
        return True


@dataclass(frozen=True)
class Run:
    """How a loader ended. `peak` is the most memory that its processes had together, in bytes."""

    code: int
    output: str
    said: dict[str, Any]
    peak: int


class Loader:
    """Runs loaders into one volume, with one Secret."""

    def __init__(self, folder: Path) -> None:
        self.volume = folder / "volume"
        self.data = self.volume / "data"
        self.log = folder / "termination-log"
        self.secrets = folder / "secrets"
        self._output = folder / "output"
        self.volume.mkdir()
        self.secrets.mkdir()
        self.environment: dict[str, str] = {}
        self.prefix: Sequence[str] = ()

    def secret(self, **values: str) -> None:
        """Fills the mounted Secret: one file a key; `_` in a name stands for `-`."""
        for key, value in values.items():
            (self.secrets / key.replace("_", "-")).write_text(value + "\n")

    def start(
        self, kind: str, uri: str, *arguments: str, mount_path: str = "/data", **options: str
    ) -> subprocess.Popen[bytes]:
        """Starts one, its output going to a file."""
        self.log.write_bytes(b"")
        self.log.chmod(0o666)  # the loader may run as another user
        command = [
            *self.prefix,
            *(sys.executable, "-m", "support.killable", kind, uri),
            *(f"--options={key}={value}" for key, value in options.items()),
            *(f"--mount-path={mount_path}", f"--mount-root={self.volume}", "--mount-mode=0755"),
            *(f"--mount-uid={os.getuid()}", f"--mount-gid={os.getgid()}", f"--mount-secrets={self.secrets}"),
            *("--retry-seconds=20", *arguments),
        ]
        environment = {
            **os.environ,
            "PYTHONPATH": PATHS,
            "MODELYARD_TERMINATION_LOG": str(self.log),
            "HOME": str(self.log.parent / "home"),
            **self.environment,
        }
        with open(self._output, "wb") as output:
            return subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)

    def wait(self, process: subprocess.Popen[bytes]) -> Run:
        """Waits for its end."""
        peak = 0
        while (code := process.poll()) is None:
            peak = max(peak, memory(process.pid))
            time.sleep(0.02)
        text = self.log.read_text()
        return Run(code, self._output.read_text(), json.loads(text) if text else {}, peak)

    def run(self, kind: str, uri: str, *arguments: str, mount_path: str = "/data", **options: str) -> Run:
        """Starts one and waits for its end."""
        return self.wait(self.start(kind, uri, *arguments, mount_path=mount_path, **options))

    def kill_at(self, process: subprocess.Popen[bytes], staged_bytes: int) -> None:
        """Kills it as soon as so many bytes are staged."""
        until(lambda: process.poll() is not None or self.staged() >= staged_bytes, f"{staged_bytes} bytes")
        process.send_signal(signal.SIGKILL)
        process.wait()

    def staged(self) -> int:
        """Bytes in the staging folders."""
        return held(self.volume / ".modelyard")


def memory(pid: int) -> int:
    """Bytes that a process and its children have now: their resident sets, with what they share counted once."""
    total = 0
    with contextlib.suppress(OSError):
        for each in (pid, *children(pid)):
            with open(f"/proc/{each}/smaps_rollup") as rollup:
                total += sum(int(line.split()[1]) << 10 for line in rollup if line.startswith("Pss:"))
    return total


def children(pid: int) -> list[int]:
    """The processes that a process's main thread started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def held(folder: Path) -> int:
    """Bytes in the files of a folder, as far as they can be seen while files come and go."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def tree(folder: Path) -> dict[str, str]:
    """The sha256 of each file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and ".modelyard" not in path.parts
    }


def hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    """The same for contents."""
    return {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}


def until(condition: Callable[[], object], what: str, seconds: float = 180) -> None:
    """Waits for a condition; a deadline only keeps a broken test from hanging."""
    wait_for(condition, what, seconds, 0.005)
