"""MODEL_SCOPE against a server of its protocol, which ModelScope's own client finds right too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hub.store import Store
from support.loading import TOKEN, Loader, Run, Server, hashes, tree


def load(loader: Loader, hub: Server, repo: str, *arguments: str, **options: str) -> Run:
    return loader.run("MODEL_SCOPE", f"modelscope://{repo}", *arguments, endpoint=hub.url, **options)


def expected(repositories: Path, name: str) -> dict[str, str]:
    repo = Store(repositories).get("models", name)
    assert repo is not None
    return {path: blob.sha256 for path, blob in repo.commits[repo.branches["main"]].files.items()}


def refused(run: Run, reason: str, *words: str) -> None:
    assert (run.code, run.said.get("reason")) == (64, reason), run.output
    for word in words:
        assert word in run.said["message"]


def test_the_real_client_finds_the_same(hub: Server, repositories: Path, tmp_path: Path) -> None:
    for repo, secret in (("org/public", ""), ("org/private", TOKEN)):
        folder = tmp_path / repo
        script = (
            "import sys; from modelscope_hub import HubApi;"
            " HubApi(endpoint=sys.argv[1], token=sys.argv[4])"
            ".download_repo(sys.argv[2], 'model', local_dir=sys.argv[3])"
        )
        subprocess.run(
            [sys.executable, "-c", script, hub.url, repo, folder, secret],
            check=True,
            capture_output=True,
            env={**os.environ, "HOME": str(tmp_path), "MODELSCOPE_CACHE": str(tmp_path / "cache")},
        )
        found = {path: digest for path, digest in tree(folder).items() if not path.startswith(".")}
        assert found == expected(repositories, repo)


def test_a_repository_and_a_second_run(loader: Loader, hub: Server, repositories: Path) -> None:
    run = load(loader, hub, "org/public")
    assert run.code == 0, run.output
    assert tree(loader.data) == expected(repositories, "org/public")
    hub.order()
    again = load(loader, hub, "org/public")
    assert (again.said, hub.sent()) == (run.said, 0)
    assert run.peak < 160 << 20


def test_revisions_kinds_and_patterns(loader: Loader, hub: Server, repositories: Path) -> None:
    assert load(loader, hub, "org/moving", revision="v1").code == 0
    assert tree(loader.data) == hashes({"a.txt": b"old\n", "gone.txt": b"only in the first\n"})
    repo = Store(repositories).get("models", "org/moving")
    assert repo is not None
    pinned = load(loader, hub, "org/moving", revision=repo.branches["main"])
    assert pinned.said["resolvedRevision"] == repo.branches["main"], pinned.output
    assert tree(loader.data) == hashes({"a.txt": b"new\n"})
    assert load(loader, hub, "org/rows", repoType="DATASET").code == 0
    assert set(tree(loader.data)) == {"rows.csv"}
    assert load(loader, hub, "org/public", include="*.json,deep/", exclude="config*").code == 0
    assert set(tree(loader.data)) == {"deep/er/notes.txt"}
    refused(load(loader, hub, "org/public", include="*.gguf"), "NoMatch", "5 files", "*.gguf")
    refused(load(loader, hub, "org/public", revision="none"), "NotFound", "none")


def test_a_private_repository_takes_the_token(loader: Loader, repositories: Path) -> None:
    network = Server("hub", "--root", repositories)
    hub = Server(
        "hub", "--root", repositories, "--cdn-url", network.url.replace("127.0.0.1", "localhost"), HUB_TOKEN=TOKEN
    )
    try:
        refused(load(loader, hub, "org/private"), "NotFound", "is private", "key token")
        loader.secret(token=TOKEN + "x")
        refused(load(loader, hub, "org/private"), "Unauthorized", "wrong or expired")
        loader.secret(token=TOKEN)
        run = load(loader, hub, "org/private")
        assert run.code == 0, run.output
        assert tree(loader.data) == expected(repositories, "org/private")
        assert TOKEN not in run.output + json.dumps(run.said)
        content = [count for path, count in network.counts().items() if path.startswith("/cdn/")]
        assert [count["credentials"] for count in content] == [0]
    finally:
        hub.stop()
        network.stop()


def test_killed_and_gone_on_with(loader: Loader, hub: Server, repositories: Path) -> None:
    hub.order({"match": "/repo$", "bytes_per_second": 6 << 20, "times": None})
    command = ("MODEL_SCOPE", "modelscope://org/large")
    for point in (6 << 20, 15 << 20):
        loader.kill_at(loader.start(*command, endpoint=hub.url), point)
    run = loader.run(*command, endpoint=hub.url)
    assert run.code == 0, run.output
    assert tree(loader.data) == expected(repositories, "org/large")
    total = sum(Store(repositories).blob(sha256).stat().st_size for sha256 in tree(loader.data).values())
    assert hub.sent() - total <= 2 * 7 * (64 << 10)


@pytest.mark.parametrize("uri", ["modelscope://one", "modelscope://a/b@main", "modelscope://a/b;id", "kaggle://a/b"])
def test_bad_input(loader: Loader, uri: str) -> None:
    refused(loader.run("MODEL_SCOPE", uri), "BadInput", "modelscope://namespace/name")
