"""KAGGLE against a server of its protocol, which Kaggle's own client finds right too."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.store import Store
from support.loading import Loader, Run, Server, hashes, tree

KEY = "kaggle_canary_51c0"
FIRST = {"train/rows.csv": b"a,b\n1,2\n", "notes.md": b"first\n"}
SECOND = {
    "train/rows.csv": b"a,b\n1,2\n3,4\n",
    "test/x y&z.csv": b"a\n5\n",
    "empty.csv": b"",
    "images.bin": random.Random(9).randbytes(9 << 20),
}
MODEL = {"model.pt": random.Random(10).randbytes(200_000), "config.json": b"{}"}
REAL = (
    # Kaggle's client needs `six` and gets it only where something else happens to bring it.
    "import sys; from botocore.vendored import six; sys.modules['six'] = six;"
    " import kagglesdk.kaggle_env as env; env._env_to_endpoint[env.KaggleEnv.PROD] = sys.argv.pop(1);"
    " from kaggle.cli import main; sys.exit(main())"
)


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kaggle")
    store = Store(root)
    store.commit("datasets", "org/rows", FIRST)
    store.commit("datasets", "org/rows", SECOND)
    store.commit("datasets", "org/private", FIRST, private=True)
    store.commit("datasets", "org/consent", FIRST, gated=True)
    store.commit("datasets", "org/many", {f"{number:03}.txt": b"%d" % number for number in range(450)})
    store.commit("models", "org/net/py_torch/small", MODEL)
    return root


@pytest.fixture
def kaggle(repositories: Path) -> Iterator[Server]:
    pair = base64.b64encode(f"me:{KEY}".encode()).decode()
    server = Server("hub", "--root", repositories, HUB_KAGGLE=f"Basic {pair}")
    yield server
    server.stop()


def load(loader: Loader, server: Server, repo: str, *arguments: str, **options: str) -> Run:
    return loader.run("KAGGLE", f"kaggle://{repo}", *arguments, endpoint=server.url, **options)


def refused(run: Run, reason: str, *words: str) -> None:
    assert (run.code, run.said.get("reason")) == (64, reason), run.output
    for word in words:
        assert word in run.said["message"]


def test_the_real_client_finds_the_same(kaggle: Server, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "KAGGLE_USERNAME": "me",
        "KAGGLE_KEY": KEY,
    }

    def run(*arguments: str) -> str:
        command = [sys.executable, "-c", REAL, kaggle.url, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("datasets", "download", "org/rows", "-p", str(tmp_path / "rows"), "--unzip")
    assert tree(tmp_path / "rows") == hashes(SECOND)
    assert "train/rows.csv" in run("datasets", "files", "org/private")
    run("models", "instances", "versions", "download", "org/net/pyTorch/small/1", "-p", str(tmp_path / "net"))
    [archive] = (tmp_path / "net").iterdir()
    with tarfile.open(archive) as packed:
        assert set(packed.getnames()) == set(MODEL)


def test_a_data_set_and_its_versions(loader: Loader, kaggle: Server) -> None:
    run = load(loader, kaggle, "org/rows")
    assert (run.code, run.said.get("resolvedRevision")) == (0, "2"), run.output
    assert tree(loader.data) == hashes(SECOND)
    kaggle.order()
    again = load(loader, kaggle, "org/rows")
    assert (again.said, kaggle.sent()) == (run.said, 0)
    old = load(loader, kaggle, "org/rows", revision="1")
    assert (old.code, old.said["resolvedRevision"]) == (0, "1"), old.output
    assert tree(loader.data) == hashes(FIRST)
    refused(load(loader, kaggle, "org/rows", revision="7"), "NotFound", "version 7")
    refused(load(loader, kaggle, "org/rows", revision="main"), "BadInput", "number of a version")


def test_patterns_and_many_pages(loader: Loader, kaggle: Server) -> None:
    assert load(loader, kaggle, "org/rows", include="*.csv", exclude="test/").code == 0
    assert set(tree(loader.data)) == {"train/rows.csv", "empty.csv"}
    run = load(loader, kaggle, "org/many")
    assert run.code == 0, run.output
    assert len(tree(loader.data)) == 450


def test_a_model(loader: Loader, kaggle: Server) -> None:
    run = load(loader, kaggle, "org/net/pyTorch/small")
    assert (run.code, run.said.get("resolvedRevision")) == (0, "1"), run.output
    assert tree(loader.data) == hashes(MODEL)
    refused(load(loader, kaggle, "org/net/abacus/small"), "BadInput", "framework")


def test_credentials(loader: Loader, kaggle: Server) -> None:
    refused(load(loader, kaggle, "org/private"), "Unauthorized", "username and key")
    loader.secret(username="me")
    refused(load(loader, kaggle, "org/private"), "BadInput", "lacks the key key")
    loader.secret(key="wrong")
    refused(load(loader, kaggle, "org/private"), "Unauthorized", "wrong or was revoked")
    loader.secret(key=KEY)
    run = load(loader, kaggle, "org/private")
    assert run.code == 0, run.output
    assert KEY not in run.output + json.dumps(run.said)
    storage = [count for path, count in kaggle.counts().items() if path.startswith("/storage/")]
    assert [count["credentials"] for count in storage] == [0] * len(FIRST)
    refused(load(loader, kaggle, "org/consent"), "Forbidden", "consent")


def test_killed_and_gone_on_with(loader: Loader, kaggle: Server) -> None:
    kaggle.order({"match": "/storage/", "bytes_per_second": 6 << 20, "times": None})
    for point in (3 << 20, 6 << 20):
        loader.kill_at(loader.start("KAGGLE", "kaggle://org/rows", endpoint=kaggle.url), point)
    run = load(loader, kaggle, "org/rows")
    assert run.code == 0, run.output
    assert tree(loader.data) == hashes(SECOND)
    assert kaggle.sent() - sum(map(len, SECOND.values())) <= 2 * 4 * (64 << 10)


def test_wrong_bytes_are_seen_by_the_storage_s_hash(loader: Loader, kaggle: Server) -> None:
    images = hashlib.sha256(SECOND["images.bin"]).hexdigest()
    kaggle.order({"match": f"/storage/{images}", "flip_at": 5})
    run = load(loader, kaggle, "org/rows")
    assert run.code == 0, run.output
    assert "arrived damaged" in run.output
    assert tree(loader.data) == hashes(SECOND)
    subprocess.run(["rm", "-rf", loader.data, loader.volume / ".modelyard"], check=True)
    kaggle.order({"match": f"/storage/{images}", "flip_at": 5, "times": None})
    refused(load(loader, kaggle, "org/rows"), "HashMismatch", "images.bin")
