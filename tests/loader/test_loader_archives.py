"""Archives in a source, unpacked where that is asked for: good ones, and those that somebody built to do harm."""

from __future__ import annotations

import io
import os
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.loading import Loader, Run, Server, hashes, tree

INSIDE = {"a.txt": b"a\n", "deep/er/b.bin": random.Random(11).randbytes(400_000), "empty": b""}
Pack = Callable[[Path], None]


@pytest.fixture
def www(tmp_path: Path) -> Path:
    (tmp_path / "www").mkdir()
    return tmp_path / "www"


@pytest.fixture
def server(www: Path) -> Iterator[Server]:
    server = Server("hub.files", "--root", www)
    yield server
    server.stop()


def zipped(place: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as packed:
        for path, content in files.items():
            packed.writestr(path, content)


def tarred(place: Path, files: dict[str, bytes], mode: str = "w:gz", extra: tuple[tarfile.TarInfo, ...] = ()) -> None:
    with tarfile.open(place, mode) as packed:  # type: ignore[call-overload]
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
        for info in extra:
            packed.addfile(info)


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def refused(run: Run, *words: str) -> None:
    assert (run.code, run.said.get("reason")) == (64, "BadInput"), run.output
    for word in words:
        assert word in run.said["message"]


def test_archives_become_what_is_in_them(loader: Loader, server: Server, www: Path) -> None:
    (www / "set").mkdir()
    (www / "set/readme.md").write_bytes(b"stays\n")
    zipped(www / "set/one.zip", INSIDE)
    tarred(www / "two.tar.xz", {f"./two/{path}": content for path, content in INSIDE.items()}, "w:xz")
    tarred(www / "three.tar", {f"three/{path}": content for path, content in INSIDE.items()}, "w")
    whole = loader.run("HTTP", f"{server.url}/")
    assert whole.code == 0, whole.output
    assert set(tree(loader.data)) == {"set/readme.md", "set/one.zip", "two.tar.xz", "three.tar"}
    run = loader.run("HTTP", f"{server.url}/", unpack="true")
    assert run.code == 0, run.output
    expected = {"set/readme.md": b"stays\n"}
    for folder in ("set", "two", "three"):
        expected |= {f"{folder}/{path}": content for path, content in INSIDE.items()}
    assert tree(loader.data) == hashes(expected)
    assert (run.said["files"], run.said["bytes"]) == (len(expected), sum(map(len, expected.values())))
    server.order()
    again = loader.run("HTTP", f"{server.url}/", unpack="true")
    assert (again.said, server.sent() < 10_000) == (run.said, True)


def test_links_and_devices_are_left_out(loader: Loader, server: Server, www: Path) -> None:
    extra = (
        special("passwd", tarfile.SYMTYPE, "/etc/passwd"),
        special("same", tarfile.LNKTYPE, "a.txt"),
        special("null", tarfile.CHRTYPE),
        special("pipe", tarfile.FIFOTYPE),
    )
    tarred(www / "x.tgz", INSIDE, extra=extra)
    run = loader.run("HTTP", f"{server.url}/x.tgz", unpack="true")
    assert run.code == 0, run.output
    assert tree(loader.data) == hashes(INSIDE)
    assert sorted(os.listdir(loader.data)) == ["a.txt", "deep", "empty"]
    assert "passwd, same, null, pipe" in run.output
    link = zipfile.ZipInfo("out")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(www / "y.zip", "w") as packed:
        packed.writestr(link, "/etc/passwd")
        packed.writestr("a.txt", b"a\n")
    run = loader.run("HTTP", f"{server.url}/y.zip", unpack="true")
    assert run.code == 0, run.output
    assert tree(loader.data) == hashes({"a.txt": b"a\n"})


@pytest.mark.parametrize("name", ["../out.txt", "/etc/out.txt", "a/../../out.txt", "x\nout.txt", ".modelyard/lock"])
def test_names_that_lead_elsewhere(loader: Loader, server: Server, www: Path, name: str) -> None:
    tarred(www / "x.tar", {name: b"x"}, "w")
    refused(loader.run("HTTP", f"{server.url}/x.tar", unpack="true"), "stored safely")
    if "\n" not in name:
        zipped(www / "y.zip", {name: b"x"})
        refused(loader.run("HTTP", f"{server.url}/y.zip", unpack="true"), "stored safely")
    assert not loader.data.exists()
    assert not (loader.volume.parent / "out.txt").exists()


def test_bombs(loader: Loader, server: Server, www: Path) -> None:
    zeros = bytes(1 << 20)
    with zipfile.ZipFile(www / "big.zip", "w", zipfile.ZIP_DEFLATED) as packed, packed.open("zeros", "w") as inner:
        for _ in range(258):
            inner.write(zeros)
    refused(loader.run("HTTP", f"{server.url}/big.zip", unpack="true"), "far more than its size")
    with tarfile.open(www / "many.tar.gz", "w:gz", compresslevel=1) as tar:
        for number in range(100_001):
            tar.addfile(special(str(number), tarfile.SYMTYPE, "a"))
    run = loader.run("HTTP", f"{server.url}/many.tar.gz", unpack="true")
    refused(run, "too many files")
    assert run.peak < 256 << 20
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    (www / "header.tar").write_bytes(header.tobuf() + bytes(1024))
    refused(loader.run("HTTP", f"{server.url}/header.tar", unpack="true"), "damaged")


def test_what_is_no_archive_or_in_the_way(loader: Loader, server: Server, www: Path) -> None:
    (www / "no.zip").write_bytes(b"not a zip at all")
    refused(loader.run("HTTP", f"{server.url}/no.zip", unpack="true"), "damaged")
    (www / "no.zip").unlink()
    zipped(www / "x.zip", {"a.txt": b"other"})
    (www / "a.txt").write_bytes(b"mine")
    refused(loader.run("HTTP", f"{server.url}/", unpack="true"), "there already")
    refused(loader.run("HTTP", f"{server.url}/", unpack="yes"), "true or false")
