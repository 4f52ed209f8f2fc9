"""How a git repository is reached: its address, and credentials that nobody else ever gets.

git and ssh are given what they need by their environment and by files in a folder of this process that goes with it.
A header is bound to the origin of the repository's own address, so that neither a redirect nor a submodule elsewhere
gets it.
"""

from __future__ import annotations

import atexit
import base64
import os
import pwd
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from modelyard.loader.console import say
from modelyard.loader.credentials import Credentials
from modelyard.loader.failure import bad_input
from modelyard.loader.transport import origin

_SCP = re.compile(r"(?P<user>[A-Za-z0-9._][A-Za-z0-9._-]*)@(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?P<path>[^:].*)")
_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
_USER = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]*")
_PASS_ON = ("PATH", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "all_proxy")
_CONFIG = {
    "core.bigFileThreshold": "8m",  # larger ones are streamed and never held in memory
    "core.packedGitLimit": "64m",
    "core.packedGitWindowSize": "8m",
    "core.deltaBaseCacheLimit": "16m",
    "core.fsync": "none",  # what is published is made durable by us
    "fetch.unpackLimit": "1",
    "fetch.writeCommitGraph": "false",
    "gc.auto": "0",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "60",
    "maintenance.auto": "false",
    "pack.threads": "1",
    "protocol.version": "2",
    "safe.directory": "*",  # a volume may belong to another user
}


@dataclass(frozen=True)
class Address:
    """Where a repository is. `url` is as git wants it; for SSH `host` has the user and port apart."""

    url: str
    ssh: bool
    user: str = ""
    host: str = ""
    port: int | None = None
    path: str = ""

    @property
    def place(self) -> tuple[str, str, int]:
        """What a credential is good for."""
        return ("ssh", self.host, self.port or 22) if self.ssh else origin(self.url)

    @property
    def shown(self) -> str:
        """For people."""
        return self.url

    def beside(self, url: str) -> Address:
        """The address of a submodule, which may be relative to this one.

        Raises:
            LoadError: BadInput for what may not be fetched from.
        """
        if not url.startswith(("./", "../")):
            return parse(url)
        if not self.ssh:
            return parse(urljoin(self.url.rstrip("/") + "/", url).rstrip("/"))
        base = f"ssh://{self.user + '@' if self.user else ''}{self.host}{f':{self.port}' if self.port else ''}"
        return parse(base + urljoin("/" + self.path.strip("/") + "/", url).rstrip("/"))


def parse(uri: str) -> Address:
    """Reads `https://…`, `http://…`, `ssh://…` or `user@host:path`.

    Raises:
        LoadError: BadInput for another scheme, credentials in the URL, or characters that a URL has not.
    """
    wrong = "The URI of a GIT source must be an https, http or ssh URL, or user@host:path."
    if _UNSAFE.search(uri):
        raise bad_input(wrong)
    if "://" not in uri:
        match = _SCP.fullmatch(uri)
        if match is None:
            raise bad_input(wrong)
        return Address(uri, True, match["user"], match["host"], None, match["path"])
    parts = urlsplit(uri)
    try:
        port = parts.port
    except ValueError:
        raise bad_input(wrong) from None
    if parts.scheme not in ("http", "https", "ssh") or not parts.hostname or parts.query or parts.fragment:
        raise bad_input(wrong)
    if parts.password is not None or (parts.username is not None and parts.scheme != "ssh"):
        raise bad_input("The URI must not hold credentials: they belong into the Secret.")
    if parts.scheme != "ssh":
        return Address(uri.rstrip("/"), False)
    user = parts.username or ""
    if parts.hostname.startswith("-") or (user and _USER.fullmatch(user) is None) or not parts.path.strip("/"):
        raise bad_input(wrong)
    return Address(uri, True, user, parts.hostname, port, parts.path)


class Access:
    """The credentials of one source. Files that ssh needs live in a folder of their own until the process ends."""

    def __init__(self, credentials: Credentials, address: Address) -> None:
        """Raises LoadError, BadInput, when the Secret has not what the address needs."""
        self.address = address
        self._header: str | None = None
        self._ssh: list[str] = []
        self._passphrase: str | None = None
        self._folder: Path | None = None
        if address.ssh:
            self._prepare_ssh(credentials)
        else:
            self._header = _basic(credentials)

    def headers(self, url: str) -> dict[str, str]:
        """What goes with a request to a URL: nothing, unless it is the repository's own origin."""
        if self._header is None or origin(url) != self.address.place:
            return {}
        return {"Authorization": self._header}

    def environment(self, address: Address) -> dict[str, str]:
        """What git and ssh run with, to reach this address and nothing but it."""
        config = dict(_CONFIG)
        found = {name: os.environ[name] for name in _PASS_ON if name in os.environ}
        found |= {
            "LC_ALL": "C",
            "HOME": str(self._made()),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",
            "GIT_ALLOW_PROTOCOL": "http:https:ssh",
            "GIT_NO_REPLACE_OBJECTS": "1",
        }
        if bundle := os.environ.get("SSL_CERT_FILE"):
            found["GIT_SSL_CAINFO"] = bundle
        if address.ssh:
            found |= self._ssh_environment(address)
        elif self._header is not None and address.place == self.address.place:
            parts = urlsplit(address.url)
            config[f"http.{parts.scheme}://{parts.netloc}/.extraHeader"] = f"Authorization: {self._header}"
        found["GIT_CONFIG_COUNT"] = str(len(config))
        for number, (key, value) in enumerate(config.items()):
            found |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        return found

    def ssh_command(self, address: Address) -> list[str]:
        """ssh to the address's host, without a command yet."""
        port = ["-p", str(address.port)] if address.port else []
        user = ["-l", address.user] if address.user else []
        return [*self._ssh_program(address), *port, *user, "--", address.host]

    def _ssh_environment(self, address: Address) -> dict[str, str]:
        found = {"GIT_SSH_COMMAND": " ".join(self._ssh_program(address)), "GIT_SSH_VARIANT": "ssh"}
        if self._passphrase is not None and address.place == self.address.place:
            found |= {
                "SSH_ASKPASS": str(self._made() / "passphrase"),
                "SSH_ASKPASS_REQUIRE": "force",
                "MODELYARD_PASSPHRASE": self._passphrase,
            }
        return found

    def _ssh_program(self, address: Address) -> list[str]:
        own = address.place == self.address.place
        return ["ssh", "-F", "none", *_SSH_OPTIONS, *(self._ssh if own else _UNCHECKED)]

    def _prepare_ssh(self, credentials: Credentials) -> None:
        try:
            pwd.getpwuid(os.geteuid())
        except KeyError:
            raise bad_input(
                f"SSH refuses to run as user {os.geteuid()}, who has no name in this image."
                " Use an https address, or the operator's default podSecurity.runAsUser."
            ) from None
        key = credentials.lines("ssh-privatekey")
        if key is None:
            raise bad_input("An SSH address needs a Secret with the key ssh-privatekey.")
        self._passphrase = credentials.get("ssh-privatekey-passphrase")
        folder = self._made()
        self._write(folder / "key", key + "\n", 0o600)
        self._write(folder / "passphrase", '#!/bin/sh\nprintf "%s\\n" "$MODELYARD_PASSPHRASE"\n', 0o700)
        self._ssh = ["-i", str(folder / "key")]
        known = credentials.lines("known_hosts")
        if known is None:
            say("The host's key is not checked: put it into the Secret as known_hosts to have it checked.")
            self._ssh += _UNCHECKED
        else:
            self._write(folder / "known_hosts", known + "\n", 0o600)
            self._ssh += ["-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={folder / 'known_hosts'}"]

    def _made(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="git-"))
            atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder

    @staticmethod
    def _write(path: Path, text: str, mode: int) -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)


_SSH_OPTIONS = (
    *("-o", "IdentitiesOnly=yes", "-o", "PasswordAuthentication=no", "-o", "KbdInteractiveAuthentication=no"),
    *("-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"),
    *("-o", "ForwardAgent=no", "-o", "PermitLocalCommand=no", "-o", "LogLevel=ERROR"),
)
_UNCHECKED = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]


def _basic(credentials: Credentials) -> str | None:
    username, password, token = (credentials.get(key) for key in ("username", "password", "token"))
    if username and not (password or token):
        raise bad_input("The Secret has username but neither password nor token.")
    if password and not username:
        raise bad_input("The Secret lacks the key username.")
    if not (password or token):
        return None
    pair = f"{username or 'oauth2'}:{password or token}"
    return "Basic " + base64.b64encode(pair.encode()).decode()
