"""CONDA against a channel made for it and served over HTTP: real packages, rattler as the client, pip in the result."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from rattler.index import index_fs

from support.loading import Loader, Run, Server, tree, until

PLACEHOLDER = "/opt/this_is_where_the_prefix_goes_and_it_is_long_enough_to_be_replaced"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
YML = """
name: ignored
channels: [{channel}]
dependencies:
- tool >=2
"""


def package(
    channel: Path, name: str, version: str, contents: Mapping[str, bytes], *, depends: tuple[str, ...] = ()
) -> None:
    """A package of its kind: the files, and what `info/` says about them."""
    paths = []
    place = channel / "noarch" / f"{name}-{version}-0.tar.bz2"
    place.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(place, "w:bz2", compresslevel=1) as packed:

        def add(path: str, data: bytes) -> None:
            info = tarfile.TarInfo(path)
            if data.startswith(b"-> "):
                info.type, info.linkname = tarfile.SYMTYPE, data[3:].decode()
                packed.addfile(info)
                return
            info.size = len(data)
            info.mode = 0o775 if path.startswith("bin/") else 0o664
            packed.addfile(info, io.BytesIO(data))

        for path, data in contents.items():
            link = data.startswith(b"-> ")
            about: dict[str, object] = {"_path": path, "path_type": "softlink" if link else "hardlink"}
            if not link:
                about |= {"sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data)}
            if PLACEHOLDER.encode() in data:
                about |= {"prefix_placeholder": PLACEHOLDER, "file_mode": "text"}
            paths.append(about)
            add(path, data)
        index = {"name": name, "version": version, "build": "0", "build_number": 0, "depends": list(depends)}
        add("info/index.json", json.dumps({**index, "subdir": "noarch", "noarch": "generic"}).encode())
        add("info/paths.json", json.dumps({"paths": paths, "paths_version": 1}).encode())
        add("info/files", "\n".join(contents).encode())


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("conda")
    place = root / "channel"
    (place / "linux-64").mkdir(parents=True)
    package(place, "liba", "1.0", {"lib/liba.so.1": os.urandom(3 << 20), "lib/liba.so": b"-> liba.so.1"})
    package(place, "tool", "1.0", {"share/tool.txt": b"one\n"})
    content = {"bin/tool": f"#!{PLACEHOLDER}/bin/sh\necho tool\n".encode(), "share/tool.txt": b"two\n"}
    package(place, "tool", "2.0", content, depends=("liba >=1",))
    package(place, "leak", "1.0", {"etc/passwd": b"-> ../../../etc/passwd"})
    asyncio.run(index_fs(place))
    wheel(root / "simple" / "hello")
    server = Server("hub.files", "--root", root)
    yield server
    server.stop()


def wheel(folder: Path) -> None:
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "hello-1.0-py3-none-any.whl", "w") as packed:
        about = "hello-1.0.dist-info"
        packed.writestr("hello.py", "def main():\n    print('hello')\n")
        packed.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: hello\nVersion: 1.0\n")
        packed.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        packed.writestr(f"{about}/entry_points.txt", "[console_scripts]\nhello = hello:main\n")
        packed.writestr(f"{about}/RECORD", "")


def load(loader: Loader, channel: Server, *arguments: str, yml: str = YML, **options: str) -> Run:
    text = yml.replace("{channel}", f"{channel.url}/channel")
    return loader.run("CONDA", "conda://env", *arguments, condaEnvironmentYml=text, **options)


def refused(run: Run, reason: str, *words: str) -> None:
    assert (run.code, run.said.get("reason")) == (64, reason), run.output
    for word in words:
        assert word in run.said["message"]


def test_an_environment(loader: Loader, channel: Server) -> None:
    channel.order()
    run = load(loader, channel, condaPrefixDir="/srv/envs")
    assert run.code == 0, run.output
    place = loader.data / "env"
    assert (place / "share/tool.txt").read_bytes() == b"two\n"
    assert (place / "bin/tool").read_text() == "#!/srv/envs/env/bin/sh\necho tool\n"
    assert (place / "bin/tool").stat().st_mode & 0o777 == 0o755
    assert (place / "share/tool.txt").stat().st_mode & 0o777 == 0o644
    assert os.readlink(place / "lib/liba.so") == "liba.so.1"
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in place.rglob("*"))
    assert sorted(os.listdir(loader.volume / ".modelyard")) == ["lock", "manifest.json"]
    assert run.said["files"] == len([path for path in loader.data.rglob("*") if path.is_symlink() or path.is_file()])
    assert run.peak < 256 << 20
    channel.order()
    again = load(loader, channel, condaPrefixDir="/srv/envs")
    assert again.said == run.said
    assert not any(path.endswith(".tar.bz2") for path in channel.counts())


def test_a_killed_run_fetches_no_package_again(loader: Loader, channel: Server) -> None:
    channel.order({"match": "liba", "bytes_per_second": 256 << 10, "times": None})
    text = YML.replace("{channel}", f"{channel.url}/channel")
    process = loader.start("CONDA", "conda://env", condaEnvironmentYml=text)
    tool = "tool-2.0"
    until(lambda: process.poll() is not None or _unpacked(loader.volume, tool), "the small package")
    process.kill()
    process.wait()
    assert not loader.data.exists()
    channel.order()
    run = load(loader, channel)
    assert run.code == 0, run.output
    assert [path for path in channel.counts() if tool in path] == []
    assert (loader.data / "env/lib/liba.so.1").stat().st_size == 3 << 20


def _unpacked(volume: Path, name: str) -> bool:
    return any((folder / "info/index.json").exists() for folder in volume.glob(f".modelyard/*/work/packages/{name}-*"))


def test_what_can_not_be_had(loader: Loader, channel: Server) -> None:
    refused(load(loader, channel, yml=YML.replace("tool >=2", "tool >=3")), "NotFound", "No set of packages")
    refused(load(loader, channel, yml=YML.replace("tool >=2", "leak")), "BadInput", "leads out", "etc/passwd")
    refused(load(loader, channel, yml=YML.replace("{channel}", "file:///etc")), "BadInput", "channel")
    refused(load(loader, channel, yml="- not a mapping"), "BadInput", "condaEnvironmentYml")
    refused(loader.run("CONDA", "conda://env"), "BadInput", "Nothing is asked for")
    refused(
        load(loader, channel, yml=YML.replace("/channel", "/none").replace("{channel}", channel.url + "/none")),
        "NotFound",
    )
    assert not loader.data.exists()


def test_pip_fills_it(loader: Loader, channel: Server, tmp_path: Path) -> None:
    base = Path(os.path.realpath(sys.executable))
    subprocess.run([base, "-m", "venv", "--copies", tmp_path / "venv"], check=True)
    contents = {}
    for path in sorted((tmp_path / "venv").rglob("*")):
        name = str(path.relative_to(tmp_path / "venv"))
        if path.is_file() and not path.is_symlink() and "__pycache__" not in name and "activate" not in name.lower():
            contents[name] = path.read_bytes()
    mine = tmp_path / "www/channel"
    (mine / "linux-64").mkdir(parents=True)
    package(mine, "python", f"{PYTHON}.1", contents)
    package(mine, "pip", "1.0", {"share/pip.txt": b"comes with this python\n"})
    asyncio.run(index_fs(mine))
    server = Server("hub.files", "--root", tmp_path / "www")
    try:
        yml = f"channels: [{server.url}/channel]\ndependencies:\n- pip\n- pip: [hello==1.0]\n"
        run = loader.run(
            "CONDA", "conda://env", condaEnvironmentYml=yml, pythonVersion=PYTHON, pipIndexUrl=f"{channel.url}/simple/"
        )
        assert run.code == 0, run.output
        site = f"env/lib/python{PYTHON}/site-packages"
        assert f"{site}/hello.py" in tree(loader.data)
        assert (loader.data / "env/bin/hello").read_text().startswith("#!/opt/conda/envs/env/bin/python")
        said = subprocess.run([loader.data / "env/bin/python", "-c", "import hello; hello.main()"], capture_output=True)
        assert said.stdout == b"hello\n"
    finally:
        server.stop()
