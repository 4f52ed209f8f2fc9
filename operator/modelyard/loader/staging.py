"""The folder beside the target where a download grows, so that a run killed at any byte can be gone on with.

    <volume>/.modelyard/lock                  held while a download runs in this volume
    <volume>/.modelyard/staging-<key>/tree/   files that are whole and verified, under their own paths
    <volume>/.modelyard/staging-<key>/parts/  files that are being fetched, named by path and identity
    <volume>/.modelyard/staging-<key>/journal one line a whole file: path, identity, size, sha256
    <volume>/.modelyard/staging-<key>/journal-<number> the same, of each process that fetches: not everywhere can two
                                              processes write to the end of one file

What must stay true: a journal line is written after the bytes were verified, and a file whose identity changed leaves
the tree before it is fetched again. So a line together with a file of its size in the tree means whole. A part enters
the tree, by a rename, after its line; what is little is written there as a whole, and its line follows. Files large
enough to matter are made durable first; small ones are hashed again, which a power cut can't fool.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path

from modelyard.loader.content import RemoteFile
from modelyard.loader.disk import Access, write, writing
from modelyard.loader.failure import LoadError
from modelyard.loader.manifest import Entry
from modelyard.loader.request import Request
from modelyard.loader.retry import Patience

_DURABLE_FROM_BYTES = 1 << 20


@contextlib.contextmanager
def locked(request: Request) -> Iterator[int]:
    """Holds the volume for one download, its state folder made, and gives the lock, a handle; it goes with the process.

    Raises:
        LoadError: BadInput when the volume isn't there or isn't writable; Interrupted, retryable, when another
            download holds it for longer than the request's patience.
    """
    if not request.root.is_dir():
        raise LoadError("BadInput", f"There is no volume mounted at {request.root}.")
    with writing(request.root, None):
        request.state.mkdir(mode=0o755, exist_ok=True)
        handle = os.open(request.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    Patience(request.patience).keep(lambda: _lock(handle))
    yield handle
    os.close(handle)  # a failure ends the process, and with it what still writes: only then is the volume free


def _lock(handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise LoadError("Interrupted", "Another download is writing into this volume.", retryable=True) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):  # a file system without locks
            raise


class Staging:
    """One download's staging folder. Prepared by one thread, `finish` may be called by several, and in processes, each
    with a `number` of its own.
    """

    def __init__(self, state: Path, key: str, number: int | None = None) -> None:
        self.tree = self.tree_of(state, key)
        self.folder = self.tree.parent
        self._tree = str(self.tree)
        self._parts = self.folder / "parts"
        self._journal = self.folder / ("journal" if number is None else f"journal-{number}")
        self._lock = threading.Lock()
        self._folders: set[str] = set()
        self._handle: int | None = None
        """The journal, once it is written to."""

    @staticmethod
    def tree_of(state: Path, key: str) -> Path:
        """Where the whole files of a request gather."""
        return state / f"staging-{key}" / "tree"

    def begun(self) -> bool:
        """Whether an earlier run, or try, may have left something."""
        return self.folder.is_dir()

    def prepare(self, files: Sequence[RemoteFile], sure: Container[str] = ()) -> dict[str, Entry]:
        """Makes the folders, drops what does not belong to these files, and says what is whole already, by path.

        Those whose paths are `sure` were fetched by this run, and are not read again.
        """
        with writing(self.folder.parent, None):
            discard(self.folder.parent, keep=self.folder)
            self.tree.mkdir(parents=True, exist_ok=True)
            self._parts.mkdir(exist_ok=True)
            whole = self._whole({file.path: file for file in files}, sure)
            for folder, _, names in os.walk(self._tree, topdown=False):
                for name in names:
                    place = f"{folder}/{name}"
                    if place[len(self._tree) + 1 :] not in whole:
                        os.unlink(place)
                if folder != self._tree:
                    with contextlib.suppress(OSError):  # not empty: it holds wanted files
                        os.rmdir(folder)
            current = {self.part(file).name for file in files if file.identity is not None and file.path not in whole}
            for part in list(self._parts.iterdir()):
                if part.name not in current:
                    part.unlink()
            with open(self._journal.with_suffix(".new"), "w", encoding="utf-8") as journal:
                journal.writelines(self._line(file, whole[file.path]) for file in files if file.path in whole)
            os.replace(journal.name, self._journal)
            for path in self._of_processes():
                path.unlink()
        return whole

    def clear(self) -> None:
        """An empty tree."""
        with writing(self.folder.parent, None):
            shutil.rmtree(self.tree, ignore_errors=True)
            self.tree.mkdir(parents=True)

    def _whole(self, files: dict[str, RemoteFile], sure: Container[str]) -> dict[str, Entry]:
        found: dict[str, Entry] = {}
        for path in (self._journal, *self._of_processes()):
            with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as journal:
                self._read(journal, files, found)
        return {path: entry for path, entry in found.items() if path in sure or self._still(entry)}

    def _of_processes(self) -> list[Path]:
        return list(self.folder.glob("journal-*"))

    @staticmethod
    def _read(journal: Iterable[str], files: dict[str, RemoteFile], found: dict[str, Entry]) -> None:
        for line in journal:
            try:
                path, identity, size, sha256 = json.loads(line)
            except ValueError:
                continue  # torn by a kill: the file is still a part then
            file = files.get(path)
            if file is None or file.identity != identity or file.size not in (None, size):
                found.pop(path, None)
            else:
                found[path] = Entry(path, size, sha256)

    def _still(self, entry: Entry) -> bool:
        try:
            if os.lstat(self.tree / entry.path).st_size != entry.size:
                return False
            if entry.size >= _DURABLE_FROM_BYTES:
                return True
            return hashlib.sha256((self.tree / entry.path).read_bytes()).hexdigest() == entry.sha256
        except OSError:
            return False

    def part(self, file: RemoteFile) -> Path:
        """Where a file's bytes gather until they are whole."""
        return self._parts / hashlib.sha256(f"{file.path}\0{file.identity}".encode()).hexdigest()[:40]

    def begin(self, file: RemoteFile, content: bytes) -> None:
        """Makes a part of a file's first bytes."""
        self._parts.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.part(file), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            write(handle, content)
        finally:
            os.close(handle)

    def finish(self, file: RemoteFile, handle: int, entry: Entry, access: Access) -> None:
        """Moves a verified part, open as `handle`, into the tree."""
        access.apply(handle)
        if entry.size >= _DURABLE_FROM_BYTES:
            os.fsync(handle)
        place = self._place(file.path)
        with self._lock:
            self._note(self._line(file, entry))
        os.rename(self.part(file), place)

    def place(self, file: RemoteFile, content: bytes | bytearray, entry: Entry) -> None:
        """Writes a file that is verified already into the tree; who may read it is seen to when all is published."""
        line = self._line(file, entry)
        with self._lock:  # several that make files at once cost the kernel many times as much as one after the other
            handle = os.open(self._place(file.path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                write(handle, content)
            finally:
                os.close(handle)
            self._note(line)

    def written(self) -> None:
        """Closes the journal: nothing follows."""
        with self._lock:
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None

    def _place(self, path: str) -> str:
        place = f"{self._tree}/{path}"
        folder = place.rpartition("/")[0]
        if folder not in self._folders:
            os.makedirs(folder, exist_ok=True)
            self._folders.add(folder)
        return place

    def _note(self, line: str) -> None:
        if self._handle is None:
            self._handle = os.open(self._journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        write(self._handle, line.encode())

    @staticmethod
    def _line(file: RemoteFile, entry: Entry) -> str:
        return json.dumps([file.path, file.identity, entry.size, entry.sha256]) + "\n"


def discard(state: Path, keep: Path | None = None) -> None:
    """Removes the staging folders that finished or abandoned downloads left; the lock says that nobody works there."""
    for folder in state.glob("staging-*"):
        if folder != keep:
            shutil.rmtree(folder, ignore_errors=True)
