"""HTTP: one file, or everything below a directory index (a URL that ends, or is redirected to end, in /).

A file's identity is its strong ETag, else date and length; only with one can an interrupted file be gone on with. Its
bytes are checked against option `sha256`, the digest headers that servers send, and an ETag that is a sha256.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

from modelyard.loader.content import LITTLE, MAX_FILES, Algorithm, Body, Probes, RemoteFile, Snapshot, checked
from modelyard.loader.credentials import Credentials
from modelyard.loader.failure import LoadError, bad_input
from modelyard.loader.patterns import Patterns
from modelyard.loader.request import Request, allow
from modelyard.loader.sources.index import children
from modelyard.loader.transport import Transport, shown

_OPTIONS = ("exclude", "include", "sha256", "syncMode", "unpack")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_PAGE_BYTES = 16 << 20
_MAX_DEPTH = 32


class Http:
    """One URL."""

    def __init__(self, request: Request, credentials: Credentials) -> None:
        allow(request, _OPTIONS)
        parts = urlsplit(request.uri)
        if parts.scheme.lower() not in ("http", "https") or not parts.hostname or parts.fragment:
            raise bad_input("The URI of an HTTP source must be an http or https URL.")
        if "@" in parts.netloc:
            raise bad_input(
                "The URI must not hold credentials: they belong into the Secret, keys username and password."
            )
        if request.options.get("syncMode", "sync") != "sync":
            raise bad_input("Option syncMode must be sync: what is fetched is always exactly what the source has.")
        self._sha256 = request.options.get("sha256", "").lower()
        if self._sha256 and _SHA256.fullmatch(self._sha256) is None:
            raise bad_input("Option sha256 must be 64 hexadecimal digits.")
        self._url = parts._replace(path=parts.path or "/").geturl()
        self._patterns = Patterns.of(request.options)
        self._transport = Transport(credentials=_authorization(credentials), trusted=self._url)
        self._probes: Probes = lambda files: [self.probe(file) for file in files]

    def pinned(self) -> str | None:
        """None: a URL's content may change at any time, unless its hash is given."""
        return f"sha256:{self._sha256}" if self._sha256 else None

    def snapshot(self, held: str | None = None) -> Snapshot:
        """Looks at the URL and, for a directory, at everything below it."""
        probe, final = self._probe(RemoteFile("", self._url, None, None))
        if not urlsplit(final).path.endswith("/"):
            return self._single(probe)
        if self._sha256:
            raise bad_input("Option sha256 is for a single file, and this URL is a directory.")
        listed = itertools.islice(self._walk(final, "", 0), MAX_FILES + 1)
        found = checked(file for file in listed if self._patterns.wants(file.path))
        files = self._probes(found)
        if not files:
            raise LoadError("NoMatch", f"No file below {shown(self._url)} matches {self._patterns.describe()}.")
        told = hashlib.sha256("".join(f"{file.path}\0{file.identity}\n" for file in files).encode())
        return Snapshot(origin=shown(self._url), revision=f"sha256:{told.hexdigest()}", files=files)

    def _single(self, probe: RemoteFile) -> Snapshot:
        name = unquote(urlsplit(self._url).path.rpartition("/")[2])
        if not self._patterns.wants(name):
            raise LoadError("NoMatch", f"{name} does not match {self._patterns.describe()}.")
        digests: tuple[tuple[Algorithm, str], ...] = (("sha256", self._sha256),) if self._sha256 else probe.digests
        file = probe._replace(path=name, digests=digests)
        revision = self.pinned() or file.identity or ""
        return Snapshot(origin=shown(self._url), revision=revision, files=checked([file]))

    @contextmanager
    def open(self, file: RemoteFile, offset: int, length: int | None) -> Iterator[Body]:
        """Starts to fetch a file, and makes sure that it is still the one that was listed."""
        validator = _validator(file.identity)
        headers = {"If-Range": validator} if validator and offset else {}
        with self._transport.get(file.url, offset, length, file.size, headers) as body:
            if file.identity is not None and _identity(body.headers, file.size) not in (file.identity, None):
                message = f"{shown(file.url)} changed while it was being fetched."
                raise LoadError("ServerError", message, retryable=True, here=False)
            yield body

    def probe(self, file: RemoteFile) -> RemoteFile:
        """A file as the server tells it."""
        return self._probe(file)[0]

    @contextmanager
    def begin(self, file: RemoteFile) -> Iterator[tuple[RemoteFile, Body]]:
        """A file as the server tells it together with its first bytes."""
        with self._transport.get(file.url, 0, LITTLE, None) as body:
            yield _told(file, body.headers, body.total), body

    def probe_by(self, probes: Probes) -> None:
        """Has `snapshot` ask about many files by these."""
        self._probes = probes

    def _probe(self, file: RemoteFile) -> tuple[RemoteFile, str]:
        """A file with size, identity and digests as the server tells them, and its URL after redirects."""
        try:
            with self._transport.send("HEAD", file.url) as response:
                headers, final = response.headers, str(response.url)
        except LoadError as error:
            if error.reason not in ("BadInput", "Forbidden", "ServerError"):
                raise
            with self._transport.send("GET", file.url) as response:  # a server, or a signed URL, that knows no HEAD
                headers, final = response.headers, str(response.url)
        size = None
        if "content-encoding" not in headers and headers.get("content-length", "").isdigit():
            size = int(headers["content-length"])
        return _told(file, headers, size), final

    def _walk(self, url: str, below: str, depth: int) -> Iterator[RemoteFile]:
        if depth > _MAX_DEPTH:
            raise bad_input(f"The directory index is deeper than {_MAX_DEPTH} folders.")
        for name, child in children(url, self._page(url)):
            if name.endswith("/"):
                yield from self._walk(child, below + name, depth + 1)
            else:
                yield RemoteFile(below + name, child, None, None)

    def _page(self, url: str) -> str:
        with self._transport.get(url, 0, None, None) as body:
            if not body.headers.get("content-type", "").lower().startswith("text/html"):
                raise bad_input(f"{shown(url)} is no directory index: it is not an HTML page.")
            page = bytearray()
            for chunk in body.chunks():
                page += chunk
                if len(page) > _MAX_PAGE_BYTES:
                    raise bad_input(f"The directory index at {shown(url)} is larger than {_MAX_PAGE_BYTES} bytes.")
        return page.decode("utf-8", "replace")


def _authorization(credentials: Credentials) -> dict[str, str]:
    username, password, token = (credentials.get(key) for key in ("username", "password", "token"))
    if username and password:
        pair = base64.b64encode(f"{username}:{password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}
    if username or password:
        missing = "password" if username else "username"
        raise bad_input(f"The Secret lacks the key {missing}: an HTTP source needs both username and password.")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _told(file: RemoteFile, headers: Mapping[str, str], size: int | None) -> RemoteFile:
    return file._replace(size=size, identity=_identity(headers, size), digests=_digests(headers))


def _identity(headers: Mapping[str, str], size: int | None) -> str | None:
    etag = headers.get("etag", "")
    if etag.startswith('"'):
        return etag
    modified = headers.get("last-modified", "")
    return f"{modified} {size}" if modified and size is not None else None


def _validator(identity: str | None) -> str | None:
    if identity is None or identity.startswith('"'):
        return identity
    return identity.rpartition(" ")[0]


def _digests(headers: Mapping[str, str]) -> tuple[tuple[Algorithm, str], ...]:
    told: set[str] = set()
    for field, separator in (("repr-digest", "sha-256=:"), ("digest", "sha-256=")):
        for item in headers.get(field, "").split(","):
            if item.strip().lower().startswith(separator):
                value = item.strip()[len(separator) :].rstrip(":")
                try:
                    told.add(base64.b64decode(value, validate=True).hex())
                except (binascii.Error, ValueError):
                    continue
    for value in (headers.get("x-checksum-sha256", ""), headers.get("etag", "").strip('"')):
        if _SHA256.fullmatch(value.lower()):
            told.add(value.lower())
    return tuple(("sha256", digest) for digest in sorted(told))
