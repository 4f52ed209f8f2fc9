"""GIT against `git http-backend` over HTTPS and against sshd, with LFS objects, submodules and kills."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.loading import TOKEN, Loader, Run, Server, hashes, tree
from support.programs import need
from support.sshd import Sshd
from support.tls_sink import Certificates, certificates

WEIGHTS = random.Random(6).randbytes(6 << 20)
FIRST = {"README.md": b"# First\n", "config.json": b'{"a": 1}\n'}
SECOND = {
    "README.md": b"# Second\n",
    "config.json": b'{"a": 2}\n',
    "empty": b"",
    "deep/er/notes \xc3\xbc.txt".encode("latin-1").decode(): b"below\n",
    "plain.dat": random.Random(7).randbytes(300_000),
    "weights.bin": WEIGHTS,
}
BASIC = "Basic " + base64.b64encode(f"oauth2:{TOKEN}".encode()).decode()
Serve = Callable[..., Server]


@dataclass(frozen=True)
class Repositories:
    """`root` holds model.git with two commits, and parent.git, which has it as a submodule at `lib`."""

    root: Path
    first: str
    second: str
    parent: str


def git(*arguments: str | Path, at: Path) -> str:
    settings = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"]
    settings += ["-c", "protocol.file.allow=always", "-c", "safe.directory=*"]
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_LFS_SKIP_SMUDGE": "1"}
    done = subprocess.run(
        ["git", *settings, *map(str, arguments)], cwd=at, check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Repositories:
    need("git", "git-lfs")
    root, work = tmp_path_factory.mktemp("git"), tmp_path_factory.mktemp("work")
    model = work / "model"
    model.mkdir()
    git("init", "--quiet", at=model)
    git("lfs", "install", "--local", at=model)
    first = commit(model, FIRST, "v1")
    git("lfs", "track", "*.bin", at=model)
    (model / "link.json").symlink_to("config.json")
    (model / "out").symlink_to("/etc/passwd")
    second = commit(model, SECOND)
    serve(model, root / "model.git")
    parent = work / "parent"
    parent.mkdir()
    git("init", "--quiet", at=parent)
    git("submodule", "add", "--quiet", root / "model.git", "lib", at=parent)
    git("config", "--file", ".gitmodules", "submodule.lib.url", "../model.git", at=parent)
    top = commit(parent, {"top.txt": b"top\n"})
    serve(parent, root / "parent.git")
    return Repositories(root, first, second, top)


def commit(folder: Path, files: dict[str, bytes], tag: str = "") -> str:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    git("add", "--all", at=folder)
    git("commit", "--quiet", "-m", "A commit", at=folder)
    if tag:
        git("tag", "-a", tag, "-m", tag, at=folder)
    return git("rev-parse", "HEAD", at=folder)


def serve(folder: Path, place: Path) -> None:
    git("clone", "--quiet", "--bare", folder, place, at=place.parent)
    git("config", "uploadpack.allowFilter", "true", at=place)
    if (folder / ".git/lfs/objects").is_dir():
        subprocess.run(["cp", "-a", folder / ".git/lfs", place / "lfs"], check=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def ca(made: Certificates, tmp_path: Path, loader: Loader) -> Path:
    """The loader trusts the server."""
    (tmp_path / "ca.pem").write_text(made.ca_pem)
    loader.environment = {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
    return tmp_path / "ca.pem"


@pytest.fixture
def https(repositories: Repositories, made: Certificates, ca: Path) -> Iterator[Serve]:
    servers: list[Server] = []

    def start(*arguments: str, expected: str = "") -> Server:
        servers.append(
            Server(
                *("hub.git", "--root", repositories.root, "--credential-env", "EXPECTED", *arguments),
                tls=made,
                EXPECTED=expected,
            )
        )
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def files() -> dict[str, str]:
    attributes = b"*.bin filter=lfs diff=lfs merge=lfs -text\n"
    return hashes({**SECOND, ".gitattributes": attributes, "link.json": SECOND["config.json"]})


def refused(run: Run, reason: str, *words: str, code: int = 64) -> None:
    assert (run.code, run.said.get("reason")) == (code, reason), run.output
    for word in words:
        assert word in run.said["message"]


def test_a_branch_with_lfs_objects(loader: Loader, https: Serve, repositories: Repositories, ca: Path) -> None:
    server = https()
    run = loader.run("GIT", f"{server.url}/model.git")
    assert run.code == 0, run.output
    assert run.said["resolvedRevision"] == repositories.second
    assert tree(loader.data) == files()
    assert not any(path.is_symlink() for path in loader.data.rglob("*"))
    assert "Left out" in run.output
    assert sorted(path.name for path in (loader.volume / ".modelyard").iterdir()) == ["lock", "manifest.json"]
    # The same from the real client, which also says that the server speaks the real protocol.
    environment = {**os.environ, "GIT_SSL_CAINFO": str(ca), "GIT_CONFIG_GLOBAL": os.devnull, "HOME": str(loader.volume)}
    clone = loader.volume / "clone"
    subprocess.run(["git", "clone", "--quiet", f"{server.url}/model.git", clone], check=True, env=environment)
    lfs = subprocess.run(["git", "-C", clone, "lfs", "pull"], env=environment, capture_output=True, text=True)
    assert lfs.returncode == 0, lfs.stderr
    assert hashlib.sha256((clone / "weights.bin").read_bytes()).hexdigest() == tree(loader.data)["weights.bin"]


def test_revisions_and_a_second_run(loader: Loader, https: Serve, repositories: Repositories) -> None:
    server = https()
    tagged = loader.run("GIT", f"{server.url}/model.git", branch="v1")
    assert tagged.said["resolvedRevision"] == repositories.first, tagged.output
    assert tree(loader.data) == hashes(FIRST)
    pinned = loader.run("GIT", f"{server.url}/model.git", commit=repositories.second)
    assert pinned.code == 0, pinned.output
    assert tree(loader.data) == files()
    server.order()
    again = loader.run("GIT", f"{server.url}/model.git", commit=repositories.second)
    assert (again.said, server.counts()) == (pinned.said, {})
    refused(loader.run("GIT", f"{server.url}/model.git", branch="none"), "NotFound", "no branch or tag none")
    refused(loader.run("GIT", f"{server.url}/model.git", commit="1" * 40), "NotFound", "1" * 40)
    refused(loader.run("GIT", f"{server.url}/none.git"), "NotFound")


def test_only_what_is_wanted_comes_over(loader: Loader, https: Serve) -> None:
    server = https()
    run = loader.run("GIT", f"{server.url}/model.git", include="*.json,deep/", exclude="link*")
    assert run.code == 0, run.output
    assert set(tree(loader.data)) == {"config.json", "deep/er/notes ü.txt"}
    assert server.sent() < 100_000
    refused(loader.run("GIT", f"{server.url}/model.git", include="*.gguf"), "NoMatch", "*.gguf")


def test_submodules(loader: Loader, https: Serve) -> None:
    server = https()
    assert loader.run("GIT", f"{server.url}/parent.git").code == 0
    assert set(tree(loader.data)) == {"top.txt", ".gitmodules"}
    run = loader.run("GIT", f"{server.url}/parent.git", submodules="true")
    assert run.code == 0, run.output
    below = {path.removeprefix("lib/"): digest for path, digest in tree(loader.data).items() if path.startswith("lib/")}
    assert below == files()


@pytest.mark.parametrize(
    ("expected", "secret"),
    [
        (BASIC, {"token": TOKEN}),
        ("Basic bWU6c8O2c2FtZQ==", {"username": "me", "password": "sösame"}),
        ("Basic bWU6" + base64.b64encode(TOKEN.encode()).decode(), {"username": "me", "token": TOKEN}),
    ],
)
def test_credentials(loader: Loader, https: Serve, expected: str, secret: dict[str, str]) -> None:
    server = https(expected=expected)
    refused(loader.run("GIT", f"{server.url}/model.git"), "Unauthorized", "name a Secret")
    loader.secret(**{key: value + "x" for key, value in secret.items()})
    refused(loader.run("GIT", f"{server.url}/model.git"), "Unauthorized", "Check the Secret")
    loader.secret(**secret)
    run = loader.run("GIT", f"{server.url}/model.git")
    assert run.code == 0, run.output
    assert tree(loader.data) == files()
    kept = (loader.volume / ".modelyard/manifest.json").read_text()
    for value in (secret.get("password", TOKEN), expected):
        assert value not in run.output + json.dumps(run.said) + kept


def test_killed_while_large_objects_come_over(loader: Loader, https: Serve) -> None:
    server = https()
    server.order({"match": "^/lfs/", "bytes_per_second": 4 << 20, "times": None})
    for point in (2 << 20, 4 << 20):
        loader.kill_at(loader.start("GIT", f"{server.url}/model.git"), point)
    run = loader.run("GIT", f"{server.url}/model.git")
    assert run.code == 0, run.output
    assert tree(loader.data) == files()
    objects = [count for path, count in server.counts().items() if path.startswith("/lfs/")]
    assert sum(count["bytes"] for count in objects) < len(WEIGHTS) + 3 * (128 << 10)
    packs = sum(count["bytes"] for path, count in server.counts().items() if path.endswith("git-upload-pack"))
    assert packs < 2 * 330_000, "contents that arrived are kept over a kill"


def test_passing_trouble_is_waited_for(loader: Loader, https: Serve) -> None:
    server = https()
    server.order(
        {"match": "info/refs", "status": 503},
        {"match": "git-upload-pack$", "status": 502, "times": 1},
        {"match": "objects/batch", "status": 429, "headers": {"Retry-After": "1"}},
        {"match": "^/lfs/", "cut_after": 1 << 20, "times": 2},
    )
    run = loader.run("GIT", f"{server.url}/model.git")
    assert run.code == 0, run.output
    assert tree(loader.data) == files()


def test_a_damaged_object_is_refused(loader: Loader, https: Serve) -> None:
    server = https()
    server.order({"match": "^/lfs/", "flip_at": 3, "times": None})
    refused(loader.run("GIT", f"{server.url}/model.git"), "HashMismatch", "weights.bin")


def test_an_untrusted_certificate(loader: Loader, https: Serve) -> None:
    server = https()
    loader.environment = {}
    run = loader.run("GIT", f"{server.url}/model.git", "--retry-seconds=1")
    refused(run, "Unreachable", "certificate", code=75)


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc",
        "ext::sh -c id",
        "-oProxyCommand=id@host:x",
        f"https://me:{TOKEN}@host/x",
        "/etc",
        "ssh://-oProxyCommand=id/x",
    ],
)
def test_addresses_that_are_refused(loader: Loader, uri: str) -> None:
    run = loader.run("GIT", uri)
    refused(run, "BadInput")
    assert TOKEN not in run.output


@pytest.fixture(scope="module")
def sshd(repositories: Repositories, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    need("ssh", "sshd")
    server = Sshd(tmp_path_factory.mktemp("ssh"), repositories.root)
    yield server
    server.stop()


@pytest.mark.parametrize("passphrase", ["", "open sesame"])
def test_ssh(loader: Loader, sshd: Sshd, https: Serve, repositories: Repositories, passphrase: str) -> None:
    # Large objects come over HTTPS also here, as the server's git-lfs-authenticate says.
    sshd.lfs_url(f"{https(expected='Bearer from-ssh').url}/model.git/info/lfs", {"Authorization": "Bearer from-ssh"})
    loader.secret(ssh_privatekey=sshd.authorize(passphrase))
    (loader.secrets / "known_hosts").write_text(sshd.known_hosts)
    if passphrase:
        refused(loader.run("GIT", sshd.url("model.git")), "Unauthorized", "passphrase")
        loader.secret(ssh_privatekey_passphrase=passphrase)
    run = loader.run("GIT", sshd.url("model.git"))
    assert run.code == 0, run.output
    assert run.said["resolvedRevision"] == repositories.second
    assert tree(loader.data) == files()
    assert "not checked" not in run.output


def test_ssh_refusals(loader: Loader, sshd: Sshd) -> None:
    refused(loader.run("GIT", sshd.url("model.git")), "BadInput", "ssh-privatekey")
    loader.secret(ssh_privatekey=sshd.stranger())
    refused(loader.run("GIT", sshd.url("model.git")), "Unauthorized", "ssh-privatekey")
    loader.secret(ssh_privatekey=sshd.authorize(""))
    refused(loader.run("GIT", sshd.url("none.git")), "NotFound")
    wrong = sshd.known_hosts.replace(sshd.known_hosts.split()[2], sshd.other_host_key)
    (loader.secrets / "known_hosts").write_text(wrong)
    refused(loader.run("GIT", sshd.url("model.git")), "Unauthorized", "known_hosts")
