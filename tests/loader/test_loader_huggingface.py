"""HUGGING_FACE against a server of the Hub's protocol: what is fetched, what is refused and in which words."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from hub.store import Store
from support.loading import TOKEN, Loader, Run, Server, hashes, tree

SMALL = ("config.json", "README.md", "deep/er/notes.txt", "empty.txt", "model.safetensors")


def load(loader: Loader, hub: Server, repo: str, *arguments: str, **options: str) -> Run:
    return loader.run("HUGGING_FACE", f"huggingface://{repo}", *arguments, endpoint=hub.url, **options)


def refused(run: Run, reason: str, *words: str, code: int = 64) -> None:
    assert (run.code, run.said.get("reason")) == (code, reason), run.output
    assert run.said["result"] == "failed"
    assert run.said["retryable"] == (code == 75)
    for word in words:
        assert word in run.said["message"]


def commit_of(repositories: Path, name: str, revision: str = "main", kind: Any = "models") -> str:
    repo = Store(repositories).get(kind, name)
    assert repo is not None
    commit = repo.resolve(revision)
    assert commit is not None
    return commit.id


def test_a_repository_arrives_whole_and_is_recorded(loader: Loader, hub: Server, repositories: Path) -> None:
    run = load(loader, hub, "org/public")
    assert run.code == 0, run.output
    repo = Store(repositories).get("models", "org/public")
    assert repo is not None
    files = repo.commits[repo.branches["main"]].files
    assert tree(loader.data) == {path: blob.sha256 for path, blob in files.items()}
    manifest = json.loads((loader.volume / ".modelyard/manifest.json").read_text())
    assert {file["path"]: (file["size"], file["sha256"]) for file in manifest["files"]} == {
        path: (blob.size, blob.sha256) for path, blob in files.items()
    }
    assert manifest["resolvedRevision"] == repo.branches["main"]
    assert run.said == {
        "result": "done",
        "resolvedRevision": repo.branches["main"],
        "bytes": sum(blob.size for blob in files.values()),
        "files": len(files),
        "digest": manifest["digest"],
    }
    assert sorted(path.name for path in (loader.volume / ".modelyard").iterdir()) == ["lock", "manifest.json"]


def test_everybody_may_read_and_folders_can_be_entered(loader: Loader, hub: Server) -> None:
    assert load(loader, hub, "org/public", "--mount-mode=0754").code == 0
    for path in [loader.data, *loader.data.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o755 if path.is_dir() else 0o644), path


def test_a_second_run_fetches_nothing(loader: Loader, hub: Server, repositories: Path) -> None:
    first = load(loader, hub, "org/public")
    hub.order()
    again = load(loader, hub, "org/public")
    assert (again.code, again.said) == (0, first.said)
    assert hub.sent() == 0
    assert load(loader, hub, "org/public", revision=commit_of(repositories, "org/public")).code == 0
    hub.order()
    assert load(loader, hub, "org/public", revision=commit_of(repositories, "org/public")).code == 0
    assert hub.counts() == {}, "a pinned commit that is there needs no question"


def test_the_hub_s_root_option_is_the_volume_itself(loader: Loader, hub: Server) -> None:
    (loader.volume / "lost+found").mkdir()
    run = loader.run("HUGGING_FACE", "huggingface://org/public", mount_path="/", endpoint=hub.url)
    assert run.code == 0, run.output
    assert set(tree(loader.volume)) == set(SMALL)
    assert (loader.volume / "lost+found").is_dir()


def test_revisions_are_what_they_say(loader: Loader, hub: Server, repositories: Path) -> None:
    old = load(loader, hub, "org/moving", revision="v1")
    assert old.said["resolvedRevision"] == commit_of(repositories, "org/moving", "v1")
    assert tree(loader.data) == hashes({"a.txt": b"old\n", "gone.txt": b"only in the first\n"})
    new = load(loader, hub, "org/moving")
    assert new.said["resolvedRevision"] == commit_of(repositories, "org/moving")
    assert tree(loader.data) == hashes({"a.txt": b"new\n"})


def test_a_data_set_repository(loader: Loader, hub: Server) -> None:
    run = load(loader, hub, "org/rows", repoType="DATASET")
    assert run.code == 0, run.output
    assert set(tree(loader.data)) == {"rows.csv"}
    refused(
        load(loader, hub, "org/rows"), "NotFound" if (loader.secrets / "token").exists() else "Unauthorized", "org/rows"
    )


def test_a_tree_of_several_pages(loader: Loader, hub: Server) -> None:
    assert load(loader, hub, "org/many").code == 0
    assert len(tree(loader.data)) == 60


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"include": "*.json,*.safetensors"}, {"config.json", "model.safetensors"}),
        ({"include": "deep/"}, {"deep/er/notes.txt"}),
        ({"exclude": "*.safetensors, deep/*"}, {"config.json", "README.md", "empty.txt"}),
    ],
)
def test_patterns(loader: Loader, hub: Server, options: dict[str, str], expected: set[str]) -> None:
    assert load(loader, hub, "org/public", **options).code == 0
    assert set(tree(loader.data)) == expected


def test_no_match_is_said(loader: Loader, hub: Server) -> None:
    refused(load(loader, hub, "org/public", include="*.gguf"), "NoMatch", "5 files", "*.gguf")
    assert not loader.data.exists()


def test_a_private_repository_takes_the_token(loader: Loader, hub: Server) -> None:
    refused(load(loader, hub, "org/private"), "Unauthorized", "private, gated or not there", "key token")
    loader.secret(token="hf_wrong")
    refused(load(loader, hub, "org/private"), "Unauthorized", "wrong or expired")
    loader.secret(token=TOKEN)
    run = load(loader, hub, "org/private")
    assert run.code == 0, run.output
    assert set(tree(loader.data)) == set(SMALL)


def test_a_gated_repository_lists_its_files_and_still_refuses(loader: Loader, hub: Server) -> None:
    loader.secret(token=TOKEN)
    refused(load(loader, hub, "org/gated"), "Forbidden", "gated", "terms")


def test_what_is_not_there(loader: Loader, hub: Server) -> None:
    loader.secret(token=TOKEN)
    refused(load(loader, hub, "org/none"), "NotFound", "model repository org/none")
    refused(load(loader, hub, "org/public", revision="no-such"), "NotFound", "no revision no-such")
    hub.order({"match": "resolve/.*config.json", "status": 404, "headers": {"X-Error-Code": "EntryNotFound"}})
    refused(load(loader, hub, "org/public"), "NotFound", "not there any more")


def test_bad_input_is_refused_before_anything_is_asked(loader: Loader, hub: Server) -> None:
    refused(load(loader, hub, "org/public@main"), "BadInput", "option revision")
    refused(load(loader, hub, "org/public;rm"), "BadInput", "huggingface://org/repo")
    refused(load(loader, hub, "org/public", revison="x"), "BadInput", "revison", "Allowed: endpoint, exclude, include")
    refused(load(loader, hub, "org/public", repoType="SPACE"), "BadInput", "MODEL or DATASET")
    refused(load(loader, hub, "org/public", "--mount-uid=x"), "BadInput", "--mount-uid")
    refused(
        loader.run("HUGGING_FACE", "huggingface://a/b", mount_path="/a/../..", endpoint=hub.url), "BadInput", "within"
    )
    refused(loader.run("SMOKE_SIGNAL", "x://y"), "BadInput", "SMOKE_SIGNAL", "HUGGING_FACE")
    assert hub.counts() == {}


def test_both_ways_to_write_an_option(loader: Loader, hub: Server) -> None:
    run = loader.run(
        "HUGGING_FACE", "huggingface://org/public", "--options", f"endpoint={hub.url}", "--options", "include=*.md"
    )
    assert run.code == 0, run.output
    assert set(tree(loader.data)) == {"README.md"}


def test_what_needs_no_copy(loader: Loader) -> None:
    for kind, uri in (("PVC", "pvc://claim"), ("NFS", "nfs://host/path"), ("REFERENCE", "dataset://ns/name")):
        run = loader.run(kind, uri)
        assert (run.code, run.said["result"], run.said["files"]) == (0, "done", 0)
        assert not loader.data.exists()


def test_large_files_from_a_content_network_without_the_token(loader: Loader, repositories: Path) -> None:
    network = Server("hub", "--root", repositories)
    hub = Server(
        "hub", "--root", repositories, "--cdn-url", network.url.replace("127.0.0.1", "localhost"), HUB_TOKEN=TOKEN
    )
    try:
        loader.secret(token=TOKEN)
        run = load(loader, hub, "org/private")
        assert run.code == 0, run.output
        content = [count for path, count in network.counts().items() if path.startswith("/cdn/")]
        assert [(count["requests"], count["credentials"]) for count in content] == [({"GET": 1}, 0)]
        assert all(count["credentials"] for count in hub.counts().values())
    finally:
        hub.stop()
        network.stop()


def test_the_token_is_nowhere(loader: Loader, hub: Server) -> None:
    loader.secret(token=TOKEN)
    body = {"match": ".*", "status": 500, "times": None, "body": f"upstream says {TOKEN}"}
    runs = [load(loader, hub, "org/private")]
    hub.order({**body, "status": 400})
    runs.append(load(loader, hub, "org/public"))
    hub.order(body)
    runs.append(load(loader, hub, "org/private", "--retry-seconds=1", revision="main"))
    for run in runs:
        assert TOKEN not in run.output
        assert "upstream says" not in run.output
        assert TOKEN not in json.dumps(run.said)
    for folder, _, names in os.walk(loader.volume):
        for name in names:
            assert TOKEN.encode() not in Path(folder, name).read_bytes()


def test_memory_stays_small(loader: Loader, hub: Server) -> None:
    run = load(loader, hub, "org/large")
    assert run.code == 0, run.output
    assert 20 << 20 < run.peak < 128 << 20
