"""Archives among the fetched files, replaced by what is in them: zip and tar, by their names.

What comes out are files and folders alone: links and devices are left out and named, a name that leads out of the
folder or is there already refuses the whole, and so does content far larger than its archive. Memory does not depend
on sizes. Runs in the staging tree, before that becomes valid; an interrupted run is done again from the archives.
"""

from __future__ import annotations

import hashlib
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from modelyard.loader import disk
from modelyard.loader.console import say
from modelyard.loader.content import MAX_FILES, RemoteFile, checked
from modelyard.loader.failure import LoadError, bad_input
from modelyard.loader.manifest import Entry
from modelyard.loader.request import Request

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_MAX_RATIO = 100
_FREE_BYTES = 256 << 20
"""What an archive may always hold, however small it is; beyond it, a hundred times its own size."""
_MAX_DIRECTORY_BYTES = 32 << 20
_MAX_HEADER_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 18
_END = b"PK\x05\x06"
_END_64 = b"PK\x06\x06"


def wanted(request: Request) -> bool:
    """Whether option `unpack` is set.

    Raises:
        LoadError: BadInput for another value than true and false.
    """
    value = request.options.get("unpack", "false")
    if value not in ("true", "false"):
        raise bad_input("Option unpack must be true or false.")
    return value == "true"


def unpack(tree: Path, files: list[Entry]) -> list[Entry]:
    """Replaces the archives in the tree by their content, each in its own folder.

    Raises:
        LoadError: BadInput for an archive that can't or must not be unpacked, DiskFull.
    """
    archives = [entry for entry in files if _is_archive(entry.path)]
    kept = [entry for entry in files if not _is_archive(entry.path)]
    for archive in archives:
        say(f"Unpacking {archive.path}.")
        with disk.writing(tree, None):
            kept += _Unpacking(tree, archive, MAX_FILES - len(kept)).run()
    listed = [RemoteFile(entry.path, "", entry.size, None) for entry in kept]
    if len(checked(listed)) == 0:
        raise LoadError("NoMatch", "There is no file in the archives.")
    for archive in archives:
        (tree / archive.path).unlink()
    return sorted(kept)


def _is_archive(path: str) -> bool:
    return path.lower().endswith((".zip", *_TARS))


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Unpacking:
    """One archive."""

    def __init__(self, tree: Path, archive: Entry, most: int) -> None:
        self._tree = tree
        self._path = tree / archive.path
        self._shown = archive.path
        self._folder = archive.path.rpartition("/")[0]
        self._most = most
        self._bytes_left = max(_FREE_BYTES, _MAX_RATIO * archive.size)
        self._found: list[Entry] = []
        self._left_out: list[str] = []

    def run(self) -> list[Entry]:
        try:
            if self._path.name.lower().endswith(".zip"):
                self._zip()
            else:
                self._tar()
        except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, struct.error, UnicodeDecodeError):
            raise bad_input(f"{self._shown} is damaged, or no archive of the kind that its name says.") from None
        except (NotImplementedError, RuntimeError):  # a method that Python does not know; a password
            raise bad_input(
                f"{self._shown} is packed in a way that can't be unpacked here, or has a password."
            ) from None
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise bad_input(f"{self._shown} holds a file that is there already.") from None
        if self._left_out:
            shortly = ", ".join(self._left_out[:5]) + (" and others" if len(self._left_out) > 5 else "")
            say(f"Left out of {self._shown}, being no plain files: {shortly}.")
        return self._found

    def _zip(self) -> None:
        if _directory_bytes(self._path) > _MAX_DIRECTORY_BYTES:
            raise self._too_many()
        with zipfile.ZipFile(self._path) as packed:
            listed = packed.infolist()
            if len(listed) > self._most:
                raise self._too_many()
            disk.require(self._tree, sum(item.file_size for item in listed))
            for item in listed:
                kind = item.external_attr >> 28
                if item.is_dir():
                    continue
                if kind not in (0, 0o10):
                    self._left_out.append(item.filename)
                    continue
                with packed.open(item) as content:
                    self._write(item.filename, content)

    def _tar(self) -> None:
        with tarfile.open(self._path, "r|*", tarinfo=_Header) as packed:
            for item in packed:
                packed.members = []  # type: ignore[attr-defined]  # it would remember them all
                if item.isfile():
                    content = packed.extractfile(item)
                    assert content is not None
                    self._write(item.name, content)
                elif not item.isdir():
                    self._left_out.append(item.name)
                if len(self._left_out) > self._most:
                    raise self._too_many()

    def _write(self, name: str, content: _Readable | IO[bytes]) -> None:
        if len(self._found) >= self._most:
            raise self._too_many()
        name = name.removeprefix("./")
        inner = f"{self._folder}/{name}" if self._folder else name
        checked([RemoteFile(inner, "", None, None)])
        place = self._tree / inner
        place.parent.mkdir(parents=True, exist_ok=True)
        state, size = hashlib.sha256(), 0
        with _new(place) as file:
            while chunk := content.read(_CHUNK_BYTES):
                size += len(chunk)
                self._bytes_left -= len(chunk)
                if self._bytes_left < 0:
                    raise bad_input(f"{self._shown} holds far more than its size allows for: it is not unpacked.")
                file.write(chunk)
                state.update(chunk)
        self._found.append(Entry(inner, size, state.hexdigest()))

    def _too_many(self) -> LoadError:
        return bad_input(f"{self._shown} holds too many files: more than {MAX_FILES} in all are refused.")


class _Header(tarfile.TarInfo):
    """A tar header that can't ask for much memory: the extended ones are read whole."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        made = super().frombuf(buf, encoding, errors)
        if not made.isreg() and made.size > _MAX_HEADER_BYTES:
            raise tarfile.ReadError("header too large")
        return made


@contextmanager
def _new(place: Path) -> Iterator[IO[bytes]]:
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(handle, "wb") as file:
        yield file


def _directory_bytes(path: Path) -> int:
    """The size that a zip says its directory has, which Python reads as a whole."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - (1 << 16) - 128))
        tail = file.read()
    at = tail.rfind(_END)
    if at < 0:
        raise zipfile.BadZipFile
    size = int(struct.unpack_from("<L", tail, at + 12)[0])
    if size == 0xFFFFFFFF and (at := tail.rfind(_END_64)) >= 0:
        size = int(struct.unpack_from("<Q", tail, at + 40)[0])
    return size
