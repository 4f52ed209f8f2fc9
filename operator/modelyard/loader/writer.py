"""Writes a large file past the page cache, where its file system is on a block device of this node.

In the cache it would take this container's memory, and each byte would be copied into memory that is fresh: of a large
download that is the dearest part. Network file systems get their bytes the common way, as do smaller files, and what is
not a whole block.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from types import TracebackType

from modelyard.loader.disk import BLOCK, begin_writing, write

DIRECT_FROM = 8 << 20
"""Bytes of a file from which on it is written past the cache."""
_BUFFER_BYTES = 1 << 19
_WRITE_OUT_BYTES = 8 << 20


class Writer:
    """Appends to an open file. As a context it writes what it still holds at the end, also when the block failed."""

    def __init__(self, handle: int, offset: int, size: int | None) -> None:
        """`offset` is where the file stands, `size` what it will have, in bytes; None when nobody knows."""
        self._handle = handle
        self._offset = self._begun = offset
        """Up to where it is written, and begun to be written out of the cache."""
        self._held = 0
        direct = size is not None and size >= DIRECT_FROM and os.major(os.fstat(handle).st_dev) != 0
        self._buffer = memoryview(mmap.mmap(-1, _BUFFER_BYTES)) if direct else None
        """In whole pages, as O_DIRECT wants it."""

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._flush()

    def write(self, content: bytes) -> None:
        """Takes these bytes; some of them may be written with those that follow.

        Raises:
            OSError: as the file system has it.
        """
        if self._buffer is None:
            self._write_through(content)
            return
        rest = memoryview(content)
        while rest:
            room = _BUFFER_BYTES - self._offset % BLOCK - self._held  # so that the next begins at a whole block
            piece, rest = rest[:room], rest[room:]
            self._buffer[self._held : self._held + len(piece)] = piece
            self._held += len(piece)
            if len(piece) == room:
                self._flush()

    def _flush(self) -> None:
        if self._buffer is None:
            return
        rest, self._held = self._buffer[: self._held], 0
        if self._offset % BLOCK == 0 and len(rest) % BLOCK == 0:
            rest = rest[self._write_past_cache(rest) :]
        self._write_through(rest)

    def _write_past_cache(self, blocks: memoryview) -> int:
        """Gives how many of these bytes are written: none where the file system can't do it."""
        flags = fcntl.fcntl(self._handle, fcntl.F_GETFL)
        try:
            fcntl.fcntl(self._handle, fcntl.F_SETFL, flags | os.O_DIRECT)
            written = os.write(self._handle, blocks)
        except OSError as refusal:
            if refusal.errno != errno.EINVAL:
                raise
            written = 0
        finally:
            fcntl.fcntl(self._handle, fcntl.F_SETFL, flags)
        self._offset += written
        return written

    def _write_through(self, content: bytes | memoryview) -> None:
        write(self._handle, content)
        self._offset += len(content)
        if self._offset - self._begun >= _WRITE_OUT_BYTES:
            begin_writing(self._handle, self._begun, self._offset - self._begun)
            self._begun = self._offset
