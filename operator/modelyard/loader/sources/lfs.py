"""Git LFS: which contents are pointers, and where the objects that they name are fetched from.

The Batch API is asked for a hundred objects at a time; what it answers may hold credentials of its own, which go to the
origin of that answer's address and nowhere else. The bytes are fetched by our engine [the `git-lfs` program keeps what
it has of an object under a random name and forgets it when it is killed].
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

from modelyard.loader.content import Body, RemoteFile
from modelyard.loader.failure import LoadError, bad_input
from modelyard.loader.sources.gitaccess import Access, Address
from modelyard.loader.transport import Transport, refused, shown, small

POINTER_MAX_BYTES = 1024
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]*\n)*oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,15})\n"
)
_BATCH = 100
_MAX_ANSWER_BYTES = 4 << 20
_EARLY_SECONDS = 30.0
_TYPE = "application/vnd.git-lfs+json"


def pointer(data: bytes) -> tuple[str, int] | None:
    """The sha256 and size that a pointer names; None for any other content."""
    match = _POINTER.match(data)
    return (match[1].decode(), int(match[2])) if match else None


@dataclass(frozen=True)
class _Action:
    url: str
    headers: Mapping[str, str]
    asked: float
    until: float


@dataclass
class Lfs:
    """The objects of one repository. `address` is the repository's, `override` what its `.lfsconfig` says."""

    address: Address
    access: Access
    transport: Transport
    environment: Mapping[str, str]
    override: str = ""
    _sizes: dict[str, int] = field(default_factory=dict)
    _actions: dict[str, _Action] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def expect(self, oid: str, size: int) -> None:
        """Names an object that will be wanted."""
        self._sizes[oid] = size

    @contextmanager
    def open(self, oid: str, file: RemoteFile, offset: int, length: int | None) -> Iterator[Body]:
        """Starts to fetch an object."""
        action = self._action(oid)
        try:
            with self.transport.get(action.url, offset, length, file.size, secret=action.headers) as body:
                yield body
        except LoadError as error:
            refused_late = error.reason in ("Unauthorized", "Forbidden", "NotFound")
            if refused_late and time.monotonic() - action.asked > _EARLY_SECONDS:
                with self._lock:
                    self._actions.pop(oid, None)
                message = f"The address of {file.path} has expired."  # a signed one may end before it says so
                raise LoadError("ServerError", message, retryable=True) from None
            raise

    def _action(self, oid: str) -> _Action:
        with self._lock:
            known = self._actions.get(oid)
            if known is None or known.until <= time.monotonic():
                self._ask(oid)
                known = self._actions[oid]
            return known

    def _ask(self, oid: str) -> None:
        now = time.monotonic()
        due = [o for o in self._sizes if o not in self._actions or self._actions[o].until <= now]
        place = due.index(oid)
        batch = due[place : place + _BATCH]
        url, headers = self._endpoint()
        body = {
            "operation": "download",
            "transfers": ["basic"],
            "objects": [{"oid": o, "size": self._sizes[o]} for o in batch],
            "hash_algo": "sha256",
        }
        sent = {"Accept": _TYPE, "Content-Type": _TYPE}
        batch_url = f"{url.rstrip('/')}/objects/batch"
        secret = {**self.access.headers(batch_url), **headers}
        with self.transport.send("POST", batch_url, sent, secret=secret, content=json.dumps(body).encode()) as response:
            answer = small(response, _MAX_ANSWER_BYTES)
        try:
            for item in json.loads(answer)["objects"]:
                self._take(item, batch_url)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise bad_input(f"{shown(batch_url)} does not answer as a Git LFS server does.") from None
        if oid not in self._actions or self._actions[oid].until <= now:
            raise LoadError("NotFound", f"{shown(batch_url)} does not have an object that the repository names.")

    def _take(self, item: Mapping[str, Any], batch_url: str) -> None:
        oid = item["oid"]
        if oid not in self._sizes:
            return
        if "error" in item:
            status = int(item["error"]["code"])
            if status == 404:
                message = f"{shown(batch_url)} does not have an object that the repository names."
                raise LoadError("NotFound", message)
            raise refused(status, {}, shown(batch_url))
        download = item["actions"]["download"]
        url = urljoin(batch_url, str(download["href"]))
        if urlsplit(url).scheme not in ("http", "https"):
            raise bad_input(f"{shown(batch_url)} names an address that is no web address.")
        headers = {str(name): str(value) for name, value in (download.get("header") or {}).items()}
        self._actions[oid] = _Action(url, {**self.access.headers(url), **headers}, time.monotonic(), _until(download))

    def _endpoint(self) -> tuple[str, Mapping[str, str]]:
        """Where the Batch API is, and headers for it."""
        if self.override:
            return self.override, {}
        if not self.address.ssh:
            base = self.address.url
            return f"{base if base.endswith('.git') else base + '.git'}/info/lfs", {}
        command = [
            *self.access.ssh_command(self.address),
            f"git-lfs-authenticate '{self.address.path.replace(chr(39), '')}' download",
        ]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=dict(self.environment))
        try:
            told = json.loads(done.stdout)
            url = str(told["href"])
            headers = {str(name): str(value) for name, value in (told.get("header") or {}).items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            message = f"{self.address.host} does not say where its LFS objects are (git-lfs-authenticate)."
            raise LoadError("ServerError", message, retryable=done.returncode == 255) from None
        if urlsplit(url).scheme not in ("http", "https"):
            raise bad_input(f"{self.address.host} names an LFS address that is no web address.")
        return url, headers


def lfs_override(url: str) -> str:
    """The address in `.lfsconfig`, where it is one that may be used."""
    return url.rstrip("/") if url.startswith(("https://", "http://")) and "@" not in urlsplit(url).netloc else ""


def _until(download: Mapping[str, Any]) -> float:
    """When an action ends, on the monotonic clock."""
    if isinstance(seconds := download.get("expires_in"), int | float) and seconds > 0:
        return time.monotonic() + max(1.0, seconds - _EARLY_SECONDS)
    try:
        at = datetime.fromisoformat(str(download["expires_at"])).timestamp()
    except (KeyError, ValueError):
        return float("inf")
    return time.monotonic() + max(1.0, at - time.time() - _EARLY_SECONDS)
