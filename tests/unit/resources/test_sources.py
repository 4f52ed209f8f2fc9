"""What each source type takes, and what a user is told who gets it wrong."""

from __future__ import annotations

from typing import get_args

import pytest

from modelyard.resources.modelsource import SourceType
from modelyard.resources.sources import (
    Content,
    check_config,
    check_content,
    check_secret,
    check_secret_ref,
    content,
    pvc_path,
    secret_keys,
)
from modelyard.resources.sourcetypes import SOURCES


def words(type: str, **config: str) -> list[str]:
    return [str(p) for p in check_config(type, config)]


def test_every_type_is_in_the_table() -> None:
    assert set(SOURCES) == set(get_args(SourceType))


def test_config_that_is_right() -> None:
    assert words("HUGGING_FACE", endpoint="https://hub.example:8443", repoType="DATASET", include="*.json,*.bin") == []
    assert words("HTTP", url="http://files.example/models") == []
    assert words("PVC", pvcName="data") == []
    assert words("S3", region="eu-west-1") == words("S3", provider="MINIO", endpoint="http://minio:9000") == []


def test_an_unknown_key_names_the_allowed_ones() -> None:
    [problem] = words("HUGGING_FACE", endpiont="https://x")
    assert problem == (
        "spec.config.endpiont: is not a key of type HUGGING_FACE; allowed: `endpoint`, `exclude`, `include`, `repoType`"
    )
    assert words("REFERENCE", a="b") == ["spec.config.a: is not a key of type REFERENCE; allowed: `uri`"]


@pytest.mark.parametrize("type", SOURCES)
def test_every_type_refuses_an_unknown_key_with_the_allowed_ones(type: str) -> None:
    [problem] = [p for p in words(type, bogus="hunter2") if "bogus" in p]
    assert "hunter2" not in problem
    for key in SOURCES[type].config:
        assert f"`{key}`" in problem
    if not SOURCES[type].config:
        assert "takes no config" in problem


def test_a_required_key_is_named() -> None:
    assert words("PVC") == [
        "spec.config.pvcName: is required for type PVC: PersistentVolumeClaim in this namespace that holds the files"
    ]
    assert words("S3") == ["spec.config.region: is required for provider AWS: region of the bucket"]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x",
        "hub.example",
        "https://",
        "https://me:hunter2@x",
        "https://x/?token=hunter2",
        "https://x/$(id)",
        "http://[",
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    [problem] = words("HUGGING_FACE", endpoint=url)
    assert problem.startswith("spec.config.endpoint: ")
    assert "hunter2" not in problem


def secret(type: str, present: str, empty: str = "") -> str | None:
    problem = check_secret(type, present.split(), empty.split(), "cred")
    return None if problem is None else problem.message


def test_secrets() -> None:
    assert secret("HUGGING_FACE", "token") is None
    assert secret("HUGGING_FACE", "token other", "other") is None
    assert secret("HUGGING_FACE", "") == (
        "Secret 'cred' has not the keys that type HUGGING_FACE needs: `token`; it is empty"
    )
    assert secret("HUGGING_FACE", "TOKEN") == (
        "Secret 'cred' has not the keys that type HUGGING_FACE needs: `token`; it has only `TOKEN`"
    )
    assert secret("HUGGING_FACE", "token", "token") == "Secret 'cred': `token` is empty; put the value there"
    assert secret("HTTP", "username") == "Secret 'cred' has `username` but lacks `password`; add it"
    assert secret("GIT", "token username") == "Secret 'cred' has `username` but lacks `password`; add it"
    assert secret("GIT", "ssh-privatekey ssh-privatekey-passphrase") is None
    assert secret("GIT", "x") is not None
    assert "`token`, or `username` and `password`, or `ssh-privatekey`" in str(secret("GIT", "x"))
    assert secret("PVC", "") is None


def test_a_secret_that_nobody_reads_is_refused() -> None:
    assert check_secret_ref("HTTP", "s") is None
    assert check_secret_ref("PVC", None) is None
    assert str(check_secret_ref("PVC", "s")) == ("spec.secretRef: a source of type PVC uses no credentials: remove it")
    assert secret_keys("GIT") >= {"token", "ssh-privatekey-passphrase"}
    assert secret_keys("PVC") == frozenset()


def test_contents() -> None:
    assert content(
        "HUGGING_FACE", {"endpoint": "http://hub"}, "org/name", revision="v1", include=["*.json", "*.bin"]
    ) == (
        Content(
            "HUGGING_FACE",
            "huggingface://org/name",
            (("endpoint", "http://hub"), ("include", "*.json,*.bin"), ("revision", "v1")),
        )
    )
    assert content("HTTP", {"url": "http://files/a/"}, "/b/c.bin").uri == "http://files/a/b/c.bin"
    assert content("HTTP", {}, "https://files/c.bin").uri == "https://files/c.bin"
    assert content("PVC", {"pvcName": "claim"}, "/a//b/").uri == "pvc://claim/a/b"
    assert content("S3", {"region": "r"}, "bucket/dir").uri == "s3://bucket/dir"
    assert dict(content("S3", {"region": "r"}, "b", include=["*.json"]).options)["include"] == "*.json"
    assert content("NFS", {"server": "nas", "path": "/export"}, "m").uri == "nfs://nas/export/m"
    assert content("GIT", {}, "https://git/x", revision="main").options == (("branch", "main"),)
    assert content("GIT", {}, "https://git/x", revision="a" * 40).options == (("commit", "a" * 40),)
    assert dict(content("GIT", {"include": "*.json"}, "https://git/x").options) == {"include": "*.json"}
    assert content("KAGGLE", {}, "a/b/py_torch/c", revision="3") == Content(
        "KAGGLE", "kaggle://a/b/py_torch/c", (("revision", "3"),)
    )
    assert dict(content("CONDA", {"pythonVersion": "3.12"}, "env").options) == {"name": "env", "pythonVersion": "3.12"}
    named = content("CONDA", {"pythonVersion": "3.12", "name": "env", "uri": "conda://team/env"}, "a repo")
    assert (named.uri, dict(named.options)) == ("conda://team/env", {"name": "env", "pythonVersion": "3.12"})
    assert content("REFERENCE", {"uri": "dataset://team/weights"}, "weights").uri == "dataset://team/weights"
    assert pvc_path("") == pvc_path("/") == pvc_path(".") == ""


@pytest.mark.parametrize(
    ("repo", "right"),
    [
        ("https://git.example/a.git", True),
        ("ssh://git@git.example:2222/a.git", True),
        ("git@git.example:a/b.git", True),
        ("https://me:hunter2@git.example/a", False),
        ("ssh://me:hunter2@git.example/a", False),
        ("file:///etc", False),
        ("git://git.example/a", False),
        ("-o@git.example:a", False),
        ("a/b", False),
    ],
)
def test_addresses_of_repositories(repo: str, right: bool) -> None:
    problems = check_content("GIT", {}, repo, at="spec.versions[0]")
    assert (problems == []) == right
    assert "hunter2" not in str(problems)


@pytest.mark.parametrize(
    ("type", "repo", "revision", "right"),
    [
        ("KAGGLE", "a/b", None, True),
        ("KAGGLE", "a/b", "3", True),
        ("KAGGLE", "a/b", "main", False),
        ("KAGGLE", "a/b/c", None, False),
        ("KAGGLE", "a/b/c/d", None, True),
        ("MODEL_SCOPE", "a/b", "v1", True),
        ("MODEL_SCOPE", "b", None, False),
    ],
)
def test_names_of_other_hubs(type: str, repo: str, revision: str | None, right: bool) -> None:
    assert (check_content(type, {}, repo, revision=revision, at="spec.versions[0]") == []) == right


def test_a_version_overrides_the_patterns_of_its_source() -> None:
    config = {"include": "*.json", "exclude": "*.bin"}
    assert dict(content("HUGGING_FACE", config, "a").options) == config
    assert dict(content("HUGGING_FACE", config, "a", include=["*.md"]).options) == {
        "include": "*.md",
        "exclude": "*.bin",
    }


def test_data_of_a_training_is_a_data_set() -> None:
    assert dict(content("HUGGING_FACE", {"repoType": "MODEL"}, "a", repo_type="DATASET").options) == {
        "repoType": "DATASET"
    }


def test_the_hash_follows_the_content() -> None:
    base = content("HUGGING_FACE", {}, "a", revision="1")
    assert base.hash == content("HUGGING_FACE", {}, "a", revision="1").hash
    others = [
        content("HUGGING_FACE", {}, "a", revision="2"),
        content("HUGGING_FACE", {}, "b", revision="1"),
        content("HUGGING_FACE", {"endpoint": "http://x"}, "a", revision="1"),
        content("MODEL_SCOPE", {}, "a", revision="1"),
    ]
    assert len({base.hash, *(o.hash for o in others)}) == 5


def wrong(type: str, repo: str, config: dict[str, str] | None = None, **more: object) -> list[str]:
    return [str(p) for p in check_content(type, config or {}, repo, at="spec.versions[0]", **more)]  # type: ignore[arg-type]


def test_contents_that_are_refused() -> None:
    assert wrong("HUGGING_FACE", "org/name", revision="main", include=["*.json"]) == []
    assert wrong("HUGGING_FACE", "") == [
        "spec.versions[0].repo: is not the name of a repository; type HUGGING_FACE takes `org/name` of a repository"
    ]
    for repo in ("a b", "a/b/c", "a;id", "../x", "$(id)", "https://x/y"):
        assert wrong("HUGGING_FACE", repo), repo
    assert wrong("PVC", "a/../../b")
    assert wrong("PVC", "") == []
    assert wrong("HTTP", "x.bin") == [
        "spec.versions[0].repo: is a path, but the source has no config.url; "
        "type HTTP takes a path below `config.url`, or a whole URL"
    ]
    assert wrong("HTTP", "https://me:pw@x/y")
    assert wrong("HTTP", "x.bin", {"url": "http://f"}, revision="v1") == [
        "spec.versions[0].revision: a source of type HTTP has no revisions: remove it"
    ]
    assert wrong("PVC", "", include=["*"]) == [
        "spec.versions[0].include: a source of type PVC cannot choose files: remove it"
    ]
    assert wrong("HUGGING_FACE", "a", include=["*.a,*.b"]) == [
        "spec.versions[0].include: patterns cannot hold commas, blanks or quotes; write one each"
    ]
    assert wrong("HUGGING_FACE", "a", revision="a b")
