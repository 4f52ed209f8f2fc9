"""HTTP against real web servers: ours with credentials, ranges and faults, and Python's own, which knows no ranges."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.loading import TOKEN, Loader, Run, Server, hashes, tree, until

CONTENT = {
    "large.bin": random.Random(4).randbytes(6 << 20),
    "deep/er/ü b&c.txt": b"umlauts, blanks, signs\n",
    "deep/data.csv": b"a,b\n1,2\n",
    "empty": b"",
}
Serve = Callable[..., Server]


@pytest.fixture
def www(tmp_path: Path) -> Path:
    folder = tmp_path / "www"
    for path, content in CONTENT.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


@pytest.fixture
def serve(www: Path) -> Iterator[Serve]:
    servers: list[Server] = []

    def start(*arguments: str, expected: str = "") -> Server:
        servers.append(
            Server("hub.files", "--root", www, "--credential-env", "EXPECTED", *arguments, EXPECTED=expected)
        )
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def refused(run: Run, reason: str, *words: str) -> None:
    assert (run.code, run.said.get("reason")) == (64, reason), run.output
    for word in words:
        assert word in run.said["message"]


def test_one_file(loader: Loader, serve: Serve) -> None:
    server = serve()
    run = loader.run("HTTP", f"{server.url}/large.bin")
    assert run.code == 0, run.output
    assert tree(loader.data) == hashes({"large.bin": CONTENT["large.bin"]})
    server.order()
    again = loader.run("HTTP", f"{server.url}/large.bin")
    assert (again.said, server.sent()) == (run.said, 0)


@pytest.mark.parametrize("path", ["/", "", "/deep", "/deep/"])
def test_a_directory_index(loader: Loader, serve: Serve, path: str) -> None:
    run = loader.run("HTTP", serve().url + path)
    assert run.code == 0, run.output
    below = "deep/" if "deep" in path else ""
    assert tree(loader.data) == hashes(
        {name[len(below) :]: data for name, data in CONTENT.items() if name.startswith(below)}
    )


def test_what_a_file_is_comes_with_its_first_bytes(loader: Loader, serve: Serve) -> None:
    server = serve()
    server.order()
    run = loader.run("HTTP", f"{server.url}/")
    assert run.code == 0, run.output
    asked = {path: count["requests"] for path, count in server.counts().items()}
    assert [asked[path] for path in ("/deep/data.csv", "/large.bin")] == [{"GET": 1}, {"GET": 2}]
    assert server.sent() == sum(len(content) for content in CONTENT.values())


def test_little_files_that_a_killed_run_has_are_asked_about_alone(loader: Loader, serve: Serve, www: Path) -> None:
    for number in range(400):
        (www / "deep" / f"{number:03}.bin").write_bytes(random.Random(number).randbytes(32 << 10))
    server = serve()
    server.order()
    loader.kill_at(loader.start("HTTP", f"{server.url}/"), 6 << 20)
    staged, before = loader.staged(), server.sent()
    run = loader.run("HTTP", f"{server.url}/")
    assert run.code == 0, run.output
    assert tree(loader.data) == tree(www)
    whole = sum(path.stat().st_size for path in www.rglob("*") if path.is_file())
    assert server.sent() - before <= whole - staged + (1 << 20)


def test_patterns_in_a_directory(loader: Loader, serve: Serve) -> None:
    server = serve()
    assert loader.run("HTTP", server.url, include="*.csv,*.txt", exclude="*ü*").code == 0
    assert set(tree(loader.data)) == {"deep/data.csv"}
    refused(loader.run("HTTP", server.url, include="*.gguf"), "NoMatch", "*.gguf")


def test_a_directory_that_changed_is_taken_as_it_is_now(loader: Loader, serve: Serve, www: Path) -> None:
    server = serve()
    before = loader.run("HTTP", server.url)
    (www / "empty").unlink()
    (www / "deep/data.csv").write_bytes(b"a,b\n3,4,5\n")
    after = loader.run("HTTP", server.url)
    assert after.code == 0, after.output
    assert after.said["resolvedRevision"] != before.said["resolvedRevision"]
    assert tree(loader.data) == tree(www)


@pytest.mark.parametrize(
    ("expected", "secret"),
    [("Basic bWU6c8O2c2FtZQ==", {"username": "me", "password": "sösame"}), (f"Bearer {TOKEN}", {"token": TOKEN})],
)
def test_credentials(loader: Loader, serve: Serve, expected: str, secret: dict[str, str]) -> None:
    server = serve(expected=expected)
    refused(loader.run("HTTP", f"{server.url}/large.bin"), "Unauthorized", "/large.bin")
    loader.secret(**{key: value + "x" for key, value in secret.items()})
    refused(loader.run("HTTP", f"{server.url}/large.bin"), "Unauthorized", "Check the Secret")
    loader.secret(**secret)
    run = loader.run("HTTP", server.url)
    assert run.code == 0, run.output
    assert len(tree(loader.data)) == len(CONTENT)
    for value in secret.values():
        assert value not in run.output + json.dumps(run.said)


def test_half_a_credential_is_refused(loader: Loader, serve: Serve) -> None:
    loader.secret(username="me")
    refused(loader.run("HTTP", f"{serve().url}/large.bin"), "BadInput", "lacks the key password")


def test_a_url_never_shows_what_is_secret_in_it(loader: Loader, serve: Serve) -> None:
    server = serve()
    refused(loader.run("HTTP", server.url.replace("//", f"//me:{TOKEN}@")), "BadInput", "belong into the Secret")
    missing = loader.run("HTTP", f"{server.url}/none?signature={TOKEN}")
    refused(missing, "NotFound", "/none")
    good = loader.run("HTTP", f"{server.url}/large.bin?signature={TOKEN}")
    assert good.code == 0, good.output
    kept = (loader.volume / ".modelyard/manifest.json").read_text()
    assert TOKEN not in missing.output + good.output + kept + json.dumps([missing.said, good.said])


@pytest.mark.parametrize("arguments", [[], ["--no-etags"]], ids=["etag", "date"])
def test_a_killed_run_is_gone_on_with(loader: Loader, serve: Serve, arguments: list[str]) -> None:
    server = serve(*arguments)
    server.order({"match": "large", "bytes_per_second": 4 << 20, "times": None})
    loader.kill_at(loader.start("HTTP", f"{server.url}/large.bin"), 3 << 20)
    server.order()
    run = loader.run("HTTP", f"{server.url}/large.bin")
    assert run.code == 0, run.output
    assert tree(loader.data) == hashes({"large.bin": CONTENT["large.bin"]})
    assert server.sent() < 4 << 20
    assert server.counts()["/large.bin"]["ranges"]


def test_a_file_that_changed_in_between_is_not_patched_together(loader: Loader, serve: Serve, www: Path) -> None:
    server = serve()
    server.order({"match": "large", "bytes_per_second": 4 << 20, "times": None})
    loader.kill_at(loader.start("HTTP", f"{server.url}/large.bin"), 3 << 20)
    server.order()
    new = random.Random(5).randbytes(6 << 20)
    (www / "large.bin").write_bytes(new)
    assert loader.run("HTTP", f"{server.url}/large.bin").code == 0
    assert tree(loader.data) == hashes({"large.bin": new})


def test_a_file_that_changes_meanwhile_asks_for_another_run(loader: Loader, serve: Serve, www: Path) -> None:
    server = serve()
    server.order({"match": "large", "method": "GET", "bytes_per_second": 256 << 10, "cut_after": 2 << 20})
    process = loader.start("HTTP", f"{server.url}/large.bin")
    until(lambda: loader.staged() > 128 << 10, "some bytes")
    (www / "large.bin").write_bytes(b"short now")
    run = loader.wait(process)
    assert (run.code, run.said["retryable"]) == (75, True), run.output
    assert loader.run("HTTP", f"{server.url}/large.bin").code == 0
    assert tree(loader.data) == hashes({"large.bin": b"short now"})


def test_the_given_hash_is_kept_to(loader: Loader, serve: Serve) -> None:
    server = serve()
    right = hashlib.sha256(CONTENT["large.bin"]).hexdigest()
    refused(loader.run("HTTP", f"{server.url}/large.bin", sha256="0" * 64), "HashMismatch", "large.bin")
    run = loader.run("HTTP", f"{server.url}/large.bin", sha256=right)
    assert (run.code, run.said["resolvedRevision"]) == (0, f"sha256:{right}")
    refused(loader.run("HTTP", server.url, sha256=right), "BadInput", "single file")


def test_a_server_that_knows_neither_ranges_nor_etags(loader: Loader, www: Path, tmp_path: Path) -> None:
    announced = tmp_path / "announced"
    with open(announced, "w") as output:
        command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(www), "0"]
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL)
    try:
        until(lambda: "port" in announced.read_text(), "the server's port")
        port = announced.read_text().split("port ")[1].split()[0]
        run = loader.run("HTTP", f"http://127.0.0.1:{port}/")
        assert run.code == 0, run.output
        assert tree(loader.data) == hashes(CONTENT)
    finally:
        server.kill()
        server.wait()


def test_a_length_that_nobody_tells(loader: Loader, serve: Serve) -> None:
    server = serve()
    server.order({"match": "large", "no_length": True, "times": None})
    run = loader.run("HTTP", f"{server.url}/large.bin")
    assert run.code == 0, run.output
    assert tree(loader.data) == hashes({"large.bin": CONTENT["large.bin"]})


def test_killed_at_every_step_on_the_file_system(loader: Loader, serve: Serve, www: Path) -> None:
    """Before each change of the file system in turn: the volume shows the old content or the new, never a mixture."""
    server = serve()
    new = {"a.txt": b"new a", "b.txt": b"new b", "deep/d.txt": b"new d"}
    old = {"a.txt": b"old a", "c.txt": b"old c"}
    _publish(www, old)
    assert loader.run("HTTP", server.url).code == 0
    _publish(www, new)
    before = loader.volume
    step = 0
    while True:
        step += 1
        loader.volume = before.with_name(f"volume-{step}")
        loader.data = loader.volume / "data"
        subprocess.run(["cp", "-a", before, loader.volume], check=True)
        loader.environment = {"KILL_AT_CHANGE": str(step)}
        killed = loader.run("HTTP", server.url)
        loader.environment = {}
        if loader.data.exists():
            assert tree(loader.data) in (hashes(old), hashes(new)), step
        run = loader.run("HTTP", server.url)
        assert run.code == 0, (step, run.output)
        assert tree(loader.data) == hashes(new), step
        assert sorted(os.listdir(loader.volume / ".modelyard")) == ["lock", "manifest.json"], step
        if killed.code == 0:
            break
    assert step > 20


def _publish(folder: Path, files: dict[str, bytes]) -> None:
    subprocess.run(["rm", "-rf", *folder.iterdir()], check=True)
    for path, content in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(content)
