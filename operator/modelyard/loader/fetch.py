"""Brings files into the staging folder, one after the other: each gone on with, verified, tried again.

Knows no protocol (that is the source's part) and no target (that is `publish`'s). Memory does not depend on sizes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from collections.abc import Sequence
from typing import Protocol

from modelyard.loader.console import say
from modelyard.loader.content import LITTLE, Algorithm, Body, Prober, RemoteFile, Source
from modelyard.loader.disk import BLOCK, Access, allocate, require, writing
from modelyard.loader.failure import LoadError
from modelyard.loader.manifest import Entry
from modelyard.loader.progress import Counter
from modelyard.loader.retry import Patience
from modelyard.loader.staging import Staging
from modelyard.loader.writer import Writer

WINDOW = 8 << 30
"""The longest range asked for at once, in bytes: some content networks refuse to send more than 50 GB in one answer."""
_READ_BYTES = 1 << 18
_SECTOR = 512
"""What `stat` counts blocks in, in bytes."""


class _Hash(Protocol):
    def update(self, data: bytes | bytearray, /) -> None: ...
    def hexdigest(self) -> str: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes | bytearray, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


class _Digests:
    """The hashes of one file's bytes so far: sha256 for the manifest, and whatever the source announced."""

    def __init__(self, file: RemoteFile) -> None:
        self._wanted = dict(file.digests)
        self._states: dict[str, _Hash] = {"sha256": hashlib.sha256()}
        if "git-sha1" in self._wanted:
            blob = hashlib.sha1(usedforsecurity=False)
            blob.update(f"blob {file.size}\0".encode())
            self._states["git-sha1"] = blob
        if "md5" in self._wanted or "md5" in file.announced:
            self._states["md5"] = hashlib.md5(usedforsecurity=False)
        if "crc32" in self._wanted:
            self._states["crc32"] = _Crc32()

    def update(self, chunk: bytes | bytearray) -> None:
        for state in self._states.values():
            state.update(chunk)

    def told(self, digests: Sequence[tuple[Algorithm, str]]) -> None:
        """What the server says together with the bytes."""
        self._wanted.update({algorithm: digest for algorithm, digest in digests if algorithm in self._states})

    def match(self) -> bool:
        return all(self._states[algorithm].hexdigest() == wanted for algorithm, wanted in self._wanted.items())

    def sha256(self) -> str:
        return self._states["sha256"].hexdigest()


class _Work:
    """One file on its way: how many of its bytes the progress counts already."""

    def __init__(self, file: RemoteFile, patience: Patience) -> None:
        self.file = file
        self.patience = patience
        self.counted = 0


class Fetcher:
    """Fetches files into a staging folder. Its methods may be called by several threads."""

    def __init__(
        self,
        source: Source,
        staging: Staging,
        progress: Counter,
        access: Access,
        patience: float,
        window: int = WINDOW,
    ) -> None:
        self._source = source
        self._staging = staging
        self._progress = progress
        self._access = access
        self._patience = patience
        self._window = window

    def fetch(self, files: Sequence[RemoteFile]) -> list[Entry]:
        """Makes these files whole.

        Raises:
            LoadError: the first failure; everything fetched is kept.
        """
        return [self._whole(file) for file in files]

    def _whole(self, file: RemoteFile) -> Entry:
        work = _Work(file, Patience(self._patience))
        once = self._at_once if little(file) else self._once
        for last in (False, True):
            entry = work.patience.keep(lambda: once(work))
            if entry is not None:
                self._progress.whole()
                return entry
            if not last:
                say(f"{file.path} arrived damaged and is fetched again.")
        message = f"{file.path} arrived damaged twice: its content is not what the source announces."
        raise LoadError("HashMismatch", f"{message} Ask whoever keeps the source, or pin another revision.")

    def _at_once(self, work: _Work) -> Entry | None:
        """Fetches a little file; None when it is not what it should be."""
        file, digests, content = work.file, _Digests(work.file), bytearray()
        self._count(work, 0)
        with self._source.open(file, 0, None) as body:
            digests.told(body.digests)
            for chunk in body.chunks():
                self._received(work, len(chunk))
                content += chunk
                if len(content) > LITTLE:
                    break  # more than announced
        entry = _place(self._staging, file, content, digests)
        if entry is None:
            self._count(work, 0)
        return entry

    def _once(self, work: _Work) -> Entry | None:
        """Fetches the rest of a file; None when the whole of it is not what it should be."""
        file, part = work.file, self._staging.part(work.file)
        with writing(self._staging.tree, left(self._staging, file)):
            handle = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with writing(self._staging.tree, left(self._staging, file)):
                digests, offset = self._begin(work, handle)
                if file.size is not None:
                    allocate(handle, file.size)
            offset, digests = self._receive(work, handle, offset, digests)
            if (file.size is not None and offset != file.size) or not digests.match():
                self._count(work, 0)
                part.unlink()
                return None
            entry = Entry(file.path, offset, digests.sha256())
            with writing(self._staging.tree, None):
                self._staging.finish(file, handle, entry, self._access)
            return entry
        finally:
            os.close(handle)

    def _begin(self, work: _Work, handle: int) -> tuple[_Digests, int]:
        file, digests = work.file, _Digests(work.file)
        there = os.fstat(handle).st_size
        if file.identity is None or file.size is None or there > file.size:
            os.ftruncate(handle, 0)
            there = 0
        while chunk := os.read(handle, _READ_BYTES):
            digests.update(chunk)
        self._count(work, there)
        return digests, there

    def _receive(self, work: _Work, handle: int, offset: int, digests: _Digests) -> tuple[int, _Digests]:
        file = work.file
        while file.size is None or offset < file.size:
            rest = None if file.size is None else file.size - offset
            require(self._staging.tree, left(self._staging, file))
            before = offset
            with self._source.open(
                file, offset, self._window if rest is not None and rest > self._window else None
            ) as body:
                if body.offset != offset:  # the server sends the whole file instead
                    os.ftruncate(handle, 0)
                    os.lseek(handle, 0, os.SEEK_SET)
                    offset, before, digests = 0, 0, _Digests(file)
                    self._count(work, 0)
                digests.told(body.digests)
                offset = self._copy(work, body, handle, offset, digests)
            if file.size is None:
                break
            if offset > file.size:
                break
            if offset == before:
                message = f"The source sends no more bytes of {file.path}."
                raise LoadError("ServerError", message, retryable=True)
        return offset, digests

    def _copy(self, work: _Work, body: Body, handle: int, offset: int, digests: _Digests) -> int:
        size = work.file.size
        with writing(self._staging.tree, None), Writer(handle, offset, size) as writer:
            for chunk in body.chunks():
                with writing(self._staging.tree, None if size is None else size - offset):
                    writer.write(chunk)
                digests.update(chunk)
                offset += len(chunk)
                self._received(work, len(chunk))
                if size is not None and offset > size:
                    break  # more than announced: no need to take it all to know that it is wrong
        return offset

    def _received(self, work: _Work, count: int) -> None:
        work.counted += count
        self._progress.fetched(count)
        work.patience.further()

    def _count(self, work: _Work, there: int) -> None:
        self._progress.kept(there - work.counted)
        work.counted = there


def begin(
    source: Prober, staging: Staging, progress: Counter, files: Sequence[RemoteFile]
) -> list[tuple[RemoteFile, bool]]:
    """Asks what files are by fetching the beginning of each, and tells of each whether it is whole with that.

    Into a staging folder that holds nothing yet: of what it holds more would be fetched than has to be.

    Raises:
        LoadError: the first failure; everything fetched is kept.
    """
    return [_begin(source, staging, progress, file) for file in files]


def _begin(source: Prober, staging: Staging, progress: Counter, file: RemoteFile) -> tuple[RemoteFile, bool]:
    try:
        with source.begin(file) as (known, body):
            content = b"".join(body.chunks())
    except LoadError:
        return source.probe(file), False
    progress.fetched(len(content))
    if known.identity is None or known.size is None:
        return known, False
    if not little(known):
        with writing(staging.tree, known.size):
            staging.begin(known, content)
        return known, False
    whole = _place(staging, known, content, _Digests(known)) is not None
    if whole:
        progress.whole()
    return known, whole


def _place(staging: Staging, file: RemoteFile, content: bytes | bytearray, digests: _Digests) -> Entry | None:
    """Puts a little file into the tree; None when it is not what it should be."""
    digests.update(content)
    if len(content) != file.size or not digests.match():
        return None
    entry = Entry(file.path, len(content), digests.sha256())
    with writing(staging.tree, len(content)):
        staging.place(file, content, entry)
    return entry


def little(file: RemoteFile) -> bool:
    """Whether it is fetched at once."""
    return file.size is not None and file.size <= LITTLE


def left(staging: Staging, file: RemoteFile) -> int:
    """Bytes of the disk that the rest of a file needs; 0 when its size is unknown."""
    there = 0
    if not little(file):
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(staging.part(file))
            there = max(found.st_size, found.st_blocks * _SECTOR)
    return max(0, -(-(file.size or 0) // BLOCK) * BLOCK - there)
