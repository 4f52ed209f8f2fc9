"""The volume's file system: space, durability, the exchange of two folders, owners and modes."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from modelyard.loader.console import size
from modelyard.loader.failure import LoadError

BLOCK = 4096
"""What a file takes on a disk is a multiple of this, in bytes."""
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_BEGIN_WRITING = 2
_KEEP_SIZE = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_READ_WRITE_BITS = 0o666


def free(path: Path) -> int | None:
    """Bytes that this process may still write there; None where the file system doesn't say."""
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize if room.f_blocks else None


def require(path: Path, needed: int) -> None:
    """Checks that `needed` more bytes fit.

    Raises:
        LoadError: DiskFull, with both numbers.
    """
    room = free(path)
    if room is not None and needed > room:
        raise full(path, needed)


def full(path: Path, needed: int | None) -> LoadError:
    """The words for a volume that is too small. `needed` is what is still to be written, in bytes, where known."""
    room = free(path)
    told = "" if needed is None else f"{size(needed)} ({needed} bytes) are still to be written, "
    left = "its free space is unknown" if room is None else f"{size(room)} ({room} bytes) are free"
    return LoadError("DiskFull", f"The volume is full: {told}{left}. Ask for more storage and start again.")


@contextmanager
def writing(path: Path, needed: int | None) -> Iterator[None]:
    """Turns the system's errors of a block that writes to the volume into ours.

    Raises:
        LoadError: DiskFull, or BadInput when this user may not write there.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise full(path, needed) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            message = (
                f"The volume can't be written by user {os.geteuid()}: it is read-only or belongs to someone else."
                " Set fsGroup to a group that owns it."
            )
            raise LoadError("BadInput", message) from None
        raise


def write(handle: int, content: bytes | bytearray | memoryview) -> None:
    """Writes all of it where the file stands."""
    view = memoryview(content)
    while view:
        view = view[os.write(handle, view) :]


def allocate(handle: int, size: int) -> None:
    """Sets blocks aside for a file that will have `size` bytes, where the file system can; its length stays.

    A volume that is too small says so at once then, and writing costs the kernel a good part less.

    Raises:
        OSError: ENOSPC or EDQUOT.
    """
    if (allocate := getattr(_LIBC, "fallocate", None)) is None:
        return
    if allocate(handle, _KEEP_SIZE, ctypes.c_int64(0), ctypes.c_int64(size)) and ctypes.get_errno() in _FULL:
        raise OSError(ctypes.get_errno(), "fallocate")


def begin_writing(handle: int, offset: int, count: int) -> None:
    """Has these bytes of a file written out while more of it arrive: else all would wait for the end. Only a hint."""
    if (begin := getattr(_LIBC, "sync_file_range", None)) is not None:
        begin(handle, ctypes.c_int64(offset), ctypes.c_int64(count), _BEGIN_WRITING)


def sync(path: Path) -> None:
    """Makes everything written to the file system of `path` durable: one call, whatever the number of files."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _LIBC.syncfs(handle) != 0:
            raise OSError(ctypes.get_errno(), "syncfs")
    finally:
        os.close(handle)


def exchange(one: Path, other: Path) -> bool:
    """Swaps two folders in one step; False where the file system can't."""
    if not hasattr(_LIBC, "renameat2"):
        return False
    if _LIBC.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, "renameat2")


@dataclass
class Access:
    """Mode and owner of what a download leaves. `foreign` turns true when an owner could not be set.

    With `programs` a file that its owner may run may be run by whoever `mode` lets in.
    """

    mode: int
    uid: int
    gid: int
    foreign: bool = False
    programs: bool = False

    @property
    def file_mode(self) -> int:
        """Of a file that is no program."""
        return self.mode & _READ_WRITE_BITS

    def apply(self, target: int | str | Path) -> None:
        """Sets mode, and owner where this process may, on a file or folder; changes nothing that is right already."""
        now = os.stat(target)
        if (now.st_uid, now.st_gid) != (self.uid, self.gid):
            self._own(target, now)
            now = os.stat(target)  # a new owner can cost bits of the mode
        if stat.S_ISDIR(now.st_mode):
            mode = self._folder_mode() | (stat.S_IMODE(now.st_mode) & stat.S_ISGID)  # fsGroup sets it on the volume
        else:
            mode = self.file_mode
            if self.programs and now.st_mode & stat.S_IXUSR:
                mode |= (self.mode & 0o444) >> 2
        if stat.S_IMODE(now.st_mode) != mode:
            os.chmod(target, mode)

    def _folder_mode(self) -> int:
        return self.mode | (self.mode & 0o444) >> 2  # who may read a folder may also open what is in it

    def _own(self, target: int | str | Path, now: os.stat_result) -> None:
        try:
            if os.geteuid() == 0:
                os.chown(target, self.uid, self.gid)
                return
            if now.st_gid != self.gid:
                os.chown(target, -1, self.gid)
        except OSError:  # NFS with root squash, or a group that we are not in
            self.foreign = True
            return
        self.foreign = self.foreign or now.st_uid != self.uid
