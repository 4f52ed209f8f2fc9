"""Repositories on disk: commits with their files, branches, tags, who may read them. Content-addressed, immutable.

    ROOT/blobs/<sha256>                       the bytes of every file of every commit
    ROOT/models|datasets/<repo>/repo.json     access, branches, tags, commits

Hashes are git's own: a small file is known by its blob's sha1, a large one (LFS) by its sha256 and by the sha1 of its
pointer. A commit's id is a sha1 over what it holds, so the same content built again has the same ids.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["models", "datasets"]
LFS_FROM_BYTES = 10 << 20
LFS_SUFFIXES = (".safetensors", ".bin", ".parquet", ".onnx", ".gguf", ".pt", ".h5")
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Blob:
    """A file of a commit: its size in bytes, its sha256, and its git object id (the pointer's for an LFS file)."""

    size: int
    sha256: str
    oid: str
    lfs: bool

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclass
class Commit:
    id: str
    title: str
    files: dict[str, Blob]


@dataclass
class Repository:
    kind: Kind
    name: str
    private: bool = False
    gated: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)

    def resolve(self, revision: str) -> Commit | None:
        """The commit that a branch, tag or full commit id names."""
        commit = self.branches.get(revision) or self.tags.get(revision) or revision
        return self.commits.get(commit)


def git_oid(kind: str, data: bytes) -> str:
    """The id that git gives to an object."""
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()


def pointer(sha256: str, size: int) -> bytes:
    """What git keeps in place of an LFS file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


class Store:
    """All repositories below one folder. Reads are cached by the time of the last write."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._cache: dict[Path, tuple[int, Repository]] = {}

    def blob(self, sha256: str) -> Path:
        return self.root / "blobs" / sha256

    def get(self, kind: Kind, name: str) -> Repository | None:
        path = self._path(kind, name)
        try:
            changed = path.stat().st_mtime_ns
        except OSError:
            return None
        cached = self._cache.get(path)
        if cached is None or cached[0] != changed:
            cached = (changed, self._read(kind, name, path))
            self._cache[path] = cached
        return cached[1]

    def commit(
        self,
        kind: Kind,
        name: str,
        files: Mapping[str, bytes | Path],
        *,
        title: str = "Upload files",
        branch: str = "main",
        tag: str | None = None,
        private: bool = False,
        gated: bool = False,
    ) -> str:
        """Adds a commit that holds exactly these files, moves the branch to it, and gives its id."""
        repo = self.get(kind, name) or Repository(kind, name)
        blobs = {path: self._keep(path, content) for path, content in sorted(files.items())}
        told = json.dumps([name, title, repo.branches.get(branch), {path: blob.oid for path, blob in blobs.items()}])
        identity = git_oid("commit", told.encode())
        repo.commits[identity] = Commit(identity, title, blobs)
        repo.branches[branch] = identity
        repo.private, repo.gated = private, gated
        if tag is not None:
            repo.tags[tag] = identity
        path = self._path(kind, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".new").write_text(json.dumps(asdict(repo), indent=1))
        path.with_suffix(".new").replace(path)
        return identity

    def _keep(self, path: str, content: bytes | Path) -> Blob:
        data = content if isinstance(content, bytes) else content.read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        kept = self.blob(sha256)
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.with_suffix(".new").write_bytes(data)
            kept.with_suffix(".new").replace(kept)
        lfs = len(data) >= LFS_FROM_BYTES or path.endswith(LFS_SUFFIXES)
        oid = git_oid("blob", pointer(sha256, len(data)) if lfs else data)
        return Blob(len(data), sha256, oid, lfs)

    def _path(self, kind: Kind, name: str) -> Path:
        return self.root / kind / name / "repo.json"

    @staticmethod
    def _read(kind: Kind, name: str, path: Path) -> Repository:
        document = json.loads(path.read_text())
        commits = {
            identity: Commit(identity, told["title"], {name: Blob(**blob) for name, blob in told["files"].items()})
            for identity, told in document["commits"].items()
        }
        return Repository(
            kind,
            name,
            private=document["private"],
            gated=document["gated"],
            branches=document["branches"],
            tags=document["tags"],
            commits=commits,
        )
