"""HTTP and hub files from nginx: a password, ranges, an index as it writes one, a kill."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.loading import TOKEN, Loader, hashes, tree
from support.nginx import Nginx
from support.programs import need

CONTENT = {
    "large.bin": random.Random(12).randbytes(16 << 20),
    "deep/ü b&c;d.txt": b"umlauts, blanks, signs\n",
    "deep/empty": b"",
}


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    need("nginx")
    www = tmp_path / "www"
    for path, content in CONTENT.items():
        (www / path).parent.mkdir(parents=True, exist_ok=True)
        (www / path).write_bytes(content)
    server = Nginx(tmp_path, www, password=TOKEN, rate=6 << 20)
    yield server
    server.stop()


def test_a_folder_behind_a_password(loader: Loader, nginx: Nginx) -> None:
    refusal = loader.run("HTTP", f"{nginx.url}/")
    assert (refusal.code, refusal.said.get("reason")) == (64, "Unauthorized"), refusal.output
    loader.secret(username="me", password=TOKEN)
    run = loader.run("HTTP", f"{nginx.url}/")
    assert run.code == 0, run.output
    assert tree(loader.data) == hashes(CONTENT)
    assert TOKEN not in run.output + json.dumps(run.said)


def test_killed_twice_and_gone_on_with_by_ranges(loader: Loader, nginx: Nginx) -> None:
    loader.secret(username="me", password=TOKEN)
    command = ("HTTP", f"{nginx.url}/large.bin")
    for point in (4 << 20, 9 << 20):
        loader.kill_at(loader.start(*command), point)
    run = loader.run(*command)
    assert run.code == 0, run.output
    assert tree(loader.data) == hashes({"large.bin": CONTENT["large.bin"]})
    nginx.sent()
    starts = [int(str(item["range"])[6:].rstrip("-")) for item in nginx.requests() if item["range"]]
    assert [item["status"] for item in nginx.requests() if item["range"]] == [206, 206]
    assert starts == sorted(starts)
    assert starts[0] >= 4 << 20
    assert starts[1] >= 9 << 20


def test_a_file_larger_than_the_memory_that_it_may_take(loader: Loader, tmp_path: Path) -> None:
    root = tmp_path / "huge"
    root.mkdir()
    with open(root / "huge.bin", "wb") as file:
        file.truncate(320 << 20)
    server = Nginx(tmp_path, root)
    try:
        run = loader.run("HTTP", f"{server.url}/huge.bin")
    finally:
        server.stop()
    assert (run.code, run.said["bytes"]) == (0, 320 << 20), run.output
    assert 20 << 20 < run.peak < 96 << 20
    (loader.data / "huge.bin").unlink()
