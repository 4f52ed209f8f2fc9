"""Debian's PostgreSQL server for the time of a test: loopback, a password, a folder of its own, no root."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from localcluster.host import install_packages
from localcluster.ports import free_ports
from support.cluster import wait_for


class Postgres:
    """One server. `start` and `stop` can be repeated; what it holds stays."""

    def __init__(self, folder: Path, port: int) -> None:
        self._data = folder / "data"
        self._folder = folder
        self._log = folder / "log"
        self._programs = _programs()
        self.port = port
        self.password = secrets.token_urlsafe(12)
        # The server refuses to run as root.
        self._user = (_account(),) if os.geteuid() == 0 else ()
        self._process: subprocess.Popen[bytes] | None = None
        secret = folder / "password"
        secret.write_text(self.password)
        for user in self._user:
            for path in (folder, secret):
                shutil.chown(path, user, pwd.getpwnam(user).pw_gid)
        self._run("initdb", f"--pgdata={self._data}", "--username=modelyard", f"--pwfile={secret}", "--no-sync")

    def url(self, database: str = "postgres") -> str:
        """The URL of a database, with the password."""
        return f"postgresql://modelyard:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """It takes connections on return."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self._folder,
            "fsync": "off",
            "shared_buffers": "16MB",
        }
        words = [f"--{name}={value}" for name, value in settings.items()]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, *words], stdout=log, stderr=log, **self._as_user()
            )
        wait_for(self._answers, "PostgreSQL", 60)

    def stop(self) -> None:
        """Ends it at once; who is connected is cut off."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=30)

    def execute(self, statement: str) -> None:
        """One statement of the administrator."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *words: str) -> None:
        command = [self._programs / program, "--auth=scram-sha-256", *words]
        subprocess.run(command, check=True, capture_output=True, **self._as_user())

    def _as_user(self) -> dict[str, Any]:
        found: dict[str, Any] = {"cwd": "/"}
        for user in self._user:
            found |= {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
        return found


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """A running server; nothing is left of it."""
    with tempfile.TemporaryDirectory(prefix="modelyard-postgres-") as folder:
        with free_ports(["postgres"]) as ports:
            server = Postgres(Path(folder), ports["postgres"])
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _programs() -> Path:
    """Where initdb is; Debian keeps it out of PATH."""
    if not _found():
        with contextlib.suppress(FileExistsError):
            # Only the programs are wanted, and no server that runs by itself.
            folder = Path("/etc/postgresql-common/createcluster.d")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "modelyard.conf").write_text("create_main_cluster = false\n")
        install_packages({"initdb": "postgresql"})
    found = _found()
    assert found is not None, "PostgreSQL's programs are not there after its installation"
    return found


def _found() -> Path | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda f: -int(f.parent.name.partition(".")[0]))
    program = shutil.which("initdb")
    for folder in [*folders, *([Path(program).resolve().parent] if program else [])]:
        if (folder / "postgres").exists():
            return folder
    return None


def _account() -> str:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise AssertionError("there is neither a user postgres nor nobody")
