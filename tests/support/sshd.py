"""A real sshd on loopback that serves git repositories to keys made for it."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from support.loading import until
from support.ports import free_port

_LFS = """#!/bin/sh
exec cat {answer}
"""


class Sshd:
    """One server, run as whoever runs the tests; logins are that user's."""

    def __init__(self, folder: Path, repositories: Path) -> None:
        self._folder = folder
        self._repositories = repositories
        self.port = free_port()
        self._keys = folder / "authorized_keys"
        self._keys.touch(mode=0o600)
        self._answer = folder / "lfs.json"
        program = folder / "bin/git-lfs-authenticate"
        program.parent.mkdir()
        program.write_text(_LFS.format(answer=self._answer))
        program.chmod(0o755)
        host = self._key("host", "")
        self.known_hosts = f"[127.0.0.1]:{self.port} {host.with_suffix('.pub').read_text()}"
        self.other_host_key = self._key("other", "").with_suffix(".pub").read_text().split()[1]
        config = {
            "Port": str(self.port),
            "ListenAddress": "127.0.0.1",
            "HostKey": str(host),
            "AuthorizedKeysFile": str(self._keys),
            "PidFile": "none",
            "UsePAM": "no",
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "SetEnv": f"PATH={program.parent}:{os.environ['PATH']} GIT_CONFIG_COUNT=1 "
            "GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=*",
            "LogLevel": "ERROR",
        }
        (folder / "config").write_text("".join(f"{key} {value}\n" for key, value in config.items()))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it separates its privileges
        sshd = subprocess.run(["which", "sshd"], check=True, capture_output=True, text=True).stdout.strip()
        with open(folder / "log", "wb") as log:
            self._process = subprocess.Popen([sshd, "-D", "-e", "-f", folder / "config"], stderr=log)
        until(lambda: self._process.poll() is not None or self._listens(), "sshd")

    def url(self, repository: str) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{self._repositories / repository}"

    def authorize(self, passphrase: str) -> str:
        """A private key that is let in."""
        key = self._key(f"user-{len(list(self._folder.iterdir()))}", passphrase)
        with open(self._keys, "a") as file:
            file.write(key.with_suffix(".pub").read_text())
        return key.read_text()

    def stranger(self) -> str:
        """A private key that nobody knows."""
        return self._key(f"user-{len(list(self._folder.iterdir()))}", "").read_text()

    def lfs_url(self, href: str, header: Mapping[str, str]) -> None:
        """What `git-lfs-authenticate` answers."""
        self._answer.write_text(json.dumps({"href": href, "header": dict(header), "expires_in": 600}))

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()

    def _key(self, name: str, passphrase: str) -> Path:
        path = self._folder / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path], check=True)
        return path

    def _listens(self) -> bool:
        return subprocess.run(["ssh-keyscan", "-p", str(self.port), "127.0.0.1"], capture_output=True).stdout != b""
