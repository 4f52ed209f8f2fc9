"""The local hub as the stock `huggingface_hub` client meets it, and its content as the stock libraries load it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hub import build
from hub.docstrings import LABELS
from hub.store import Store
from modelyard.loader.credentials import Credentials
from modelyard.loader.disk import Access
from modelyard.loader.fetch import Fetcher
from modelyard.loader.gather import gather
from modelyard.loader.progress import Progress
from modelyard.loader.request import parse
from modelyard.loader.sources.huggingface import HuggingFace
from modelyard.loader.staging import Staging
from support.loading import TOKEN, Server, tree


@pytest.fixture
def api(hub: Server) -> HfApi:
    return HfApi(endpoint=hub.url, token=TOKEN)


def test_the_stock_client_downloads(api: HfApi, hub: Server, repositories: Path, tmp_path: Path) -> None:
    folder = snapshot_download("org/private", endpoint=hub.url, token=TOKEN, cache_dir=tmp_path)
    repo = Store(repositories).get("models", "org/private")
    assert repo is not None
    commit = repo.commits[repo.branches["main"]]
    assert tree(Path(folder)) == {path: blob.sha256 for path, blob in commit.files.items()}
    metadata = get_hf_file_metadata(hf_hub_url("org/private", "model.safetensors", endpoint=hub.url), token=TOKEN)
    weights = commit.files["model.safetensors"]
    assert (metadata.commit_hash, metadata.etag, metadata.size) == (commit.id, weights.sha256, weights.size)


def test_infos_trees_and_refs(api: HfApi) -> None:
    info = api.model_info("org/moving", revision="v1", files_metadata=True)
    assert info.siblings is not None
    assert {file.rfilename: file.size for file in info.siblings} == {"a.txt": 4, "gone.txt": 18}
    refs = api.list_repo_refs("org/moving")
    assert [branch.name for branch in refs.branches] == ["main"]
    assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("v1", info.sha)]
    assert len(api.list_repo_files("org/many")) == 60
    assert [item.path for item in api.list_repo_tree("org/public", "deep")] == ["deep/er"]
    assert api.dataset_info("org/rows").id == "org/rows"
    assert api.whoami()["name"] == "modelyard"


def test_refusals_are_those_of_the_real_one(api: HfApi, hub: Server, tmp_path: Path) -> None:
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("org/none")
    with pytest.raises(RepositoryNotFoundError):
        HfApi(endpoint=hub.url, token=False).model_info("org/private")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("org/public", revision="none")
    with pytest.raises(GatedRepoError):
        api.auth_check("org/gated")
    with pytest.raises(GatedRepoError):
        get_hf_file_metadata(hf_hub_url("org/gated", "config.json", endpoint=hub.url), token=TOKEN)
    with pytest.raises(RemoteEntryNotFoundError):
        get_hf_file_metadata(hf_hub_url("org/public", "none.json", endpoint=hub.url), token=TOKEN)
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi(endpoint=hub.url, token="hf_wrong").model_info("org/public")


def test_long_files_are_asked_for_in_pieces(hub: Server, tmp_path: Path) -> None:
    request = parse(["HUGGING_FACE", "huggingface://org/large", f"--options=endpoint={hub.url}", "--mount-path=/data"])
    source = HuggingFace(request, Credentials(tmp_path))
    staging = Staging(tmp_path, "key")
    files = source.snapshot().files
    progress = Progress()
    fetcher = Fetcher(source, staging, progress, Access(0o755, 0, 0), 5, window=5 << 20)
    entries = gather(files, staging, progress, [fetcher.fetch])
    assert tree(staging.tree) == {entry.path: entry.sha256 for entry in entries}
    (count,) = (count for path, count in hub.counts().items() if path.endswith("model.safetensors"))
    assert count["ranges"][:2] == ["bytes=0-5242879", "bytes=5242880-10485759"]
    assert count["requests"] == {"GET": 5}


def test_the_content_is_real_and_the_same_every_time(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        build.build(tmp_path / folder)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    store = Store(tmp_path / "one")
    model = store.get("models", build.MODEL)
    assert model is not None
    assert model.private
    assert model.commits[model.branches["main"]].files["model.safetensors"].size > 80_000_000
    texts = store.get("datasets", "modelyard/stdlib-docstrings")
    assert texts is not None
    rows = [
        json.loads(line)
        for name in ("train.jsonl", "test.jsonl")
        for line in store.blob(texts.commits[texts.tags["v1"]].files[name].sha256).read_text().splitlines()
    ]
    counts = {label: sum(row["label"] == label for row in rows) for label in {row["label"] for row in rows}}
    assert set(counts) == set(LABELS)
    assert len(set(counts.values())) == 1
    assert min(counts.values()) >= 100
    assert len({row["text"] for row in rows}) == len(rows)
    for name, count in (("breast-cancer", 569), ("wine", 178), ("digits", 1797), ("diabetes", 442)):
        table = store.get("datasets", f"modelyard/{name}")
        assert table is not None
        lines = store.blob(table.commits[table.tags["v1"]].files[f"{name}.csv"].sha256).read_text().splitlines()
        assert (len(lines), lines[0].endswith(",target")) == (count + 1, True)
