"""Large files go past the page cache, byte for byte, from wherever a file stands."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.loader.writer import DIRECT_FROM, Writer

PAGE = mmap.PAGESIZE


@contextmanager
def opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)


def pieces(content: bytes, seed: int) -> Iterator[bytes]:
    chance, start = random.Random(seed), 0
    while start < len(content):
        count = chance.choice((1, 511, 4096, 16384, 131072, 1_000_003))
        yield content[start : start + count]
        start += count


def cached(path: Path) -> int:
    """Pages of a file that are in memory."""
    size = path.stat().st_size
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), size) as view:
        seen = (ctypes.c_ubyte * -(-size // PAGE))()
        first = ctypes.addressof(ctypes.c_char.from_buffer(view))
        assert ctypes.CDLL(None).mincore(ctypes.c_void_p(first), ctypes.c_size_t(size), seen) == 0
        return sum(page & 1 for page in seen)


def on_a_disk(folder: Path) -> None:
    if not os.major(folder.stat().st_dev):
        pytest.skip("the temporary folder is on no block device")


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 3 * PAGE), more=st.integers(0, 2 * PAGE), seed=st.integers(0, 1000))
def test_every_byte_is_written(tmp_path: Path, start: int, more: int, seed: int) -> None:
    content = random.Random(seed).randbytes(DIRECT_FROM + more)
    path = tmp_path / "part"
    path.write_bytes(content[:start])
    with opened(path) as handle:
        os.lseek(handle, start, os.SEEK_SET)
        with Writer(handle, start, len(content)) as writer:
            for piece in pieces(content[start:], seed):
                writer.write(piece)
    assert path.read_bytes() == content


def test_an_attempt_that_fails_leaves_all_that_came(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(3_000_001)
    path = tmp_path / "part"

    def attempt() -> None:
        with opened(path) as handle, Writer(handle, 0, DIRECT_FROM) as writer:
            for piece in pieces(content, 1):
                writer.write(piece)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        attempt()
    assert path.read_bytes() == content


def test_a_large_file_stays_out_of_the_cache(tmp_path: Path) -> None:
    on_a_disk(tmp_path)
    content = random.Random(2).randbytes(2 * DIRECT_FROM + 5)
    found = {}
    for name, size in (("large", len(content)), ("of unknown size", None)):
        with opened(tmp_path / name) as handle, Writer(handle, 0, size) as writer:
            for piece in pieces(content, 2):
                writer.write(piece)
        found[name] = cached(tmp_path / name)
    assert found["large"] <= 1  # the last one, which is no whole block
    assert found["of unknown size"] > len(content) // PAGE // 2


def test_a_file_system_that_can_not_do_it_gets_the_bytes_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_disk(tmp_path)
    refused = []
    real = fcntl.fcntl

    def control(handle: int, order: int, flags: int = 0) -> int:
        if order == fcntl.F_SETFL and flags & os.O_DIRECT:
            refused.append(flags)
            raise OSError(errno.EINVAL, "no O_DIRECT here")
        return real(handle, order, flags)

    monkeypatch.setattr(fcntl, "fcntl", control)
    content = random.Random(3).randbytes(DIRECT_FROM + 5)
    with opened(tmp_path / "part") as handle, Writer(handle, 0, len(content)) as writer:
        for piece in pieces(content, 3):
            writer.write(piece)
    assert refused
    assert (tmp_path / "part").read_bytes() == content
