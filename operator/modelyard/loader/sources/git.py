"""GIT: the files of a repository at one commit, with their LFS objects and, where asked for, submodules.

What arrives are the commit's files, without the `.git` folder: history is no data, and its address would be kept where
others can read it. A symbolic link to a file of the repository becomes that file; any other link is left out and named.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from modelyard.loader.console import files as counted
from modelyard.loader.console import say
from modelyard.loader.content import Algorithm, Body, RemoteFile, Snapshot, checked
from modelyard.loader.credentials import Credentials
from modelyard.loader.failure import LoadError, bad_input
from modelyard.loader.patterns import Patterns
from modelyard.loader.request import Request, allow
from modelyard.loader.sources.gitaccess import Access, Address, parse
from modelyard.loader.sources.gitstore import GitStore, TreeEntry
from modelyard.loader.sources.lfs import POINTER_MAX_BYTES, Lfs, lfs_override, pointer
from modelyard.loader.transport import Transport, shown

_OPTIONS = ("branch", "commit", "depth", "exclude", "include", "submodules")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9_][\w./+@-]{0,199}", re.ASCII)
_DEPTH = re.compile(r"[1-9][0-9]{0,6}")
_LINK, _SUBMODULE = "120000", "160000"
_MAX_REPOSITORIES = 64
_MAX_DEPTH = 8
_MAX_LINK_BYTES = 4096
_ADVERTISEMENT = "/info/refs?service=git-upload-pack"


class _StoreBody:
    """A content out of the store, from an offset."""

    digests: tuple[tuple[Algorithm, str], ...] = ()

    def __init__(self, store: GitStore, oid: str, offset: int) -> None:
        self.offset = offset
        self._chunks = store.content(oid, offset)

    def chunks(self) -> Iterator[bytes]:
        with closing(self._chunks):
            yield from self._chunks


@dataclass(frozen=True)
class _Repository:
    """One of the source's repositories: the wanted one, or a submodule of it below `prefix`."""

    store: GitStore
    lfs: Lfs
    prefix: str


class Git:
    """One repository."""

    def __init__(self, request: Request, credentials: Credentials) -> None:
        allow(request, _OPTIONS)
        options = request.options
        self._address = parse(request.uri)
        self._commit, self._branch = options.get("commit", ""), options.get("branch", "")
        if self._commit and _COMMIT.fullmatch(self._commit) is None:
            raise bad_input("Option commit must be a whole commit id of 40 or 64 hexadecimal digits.")
        if self._branch and (_NAME.fullmatch(self._branch) is None or ".." in self._branch):
            raise bad_input("Option branch must be the name of a branch or tag.")
        if options.get("depth") and _DEPTH.fullmatch(options["depth"]) is None:
            raise bad_input("Option depth must be a number above 0.")
        if options.get("submodules", "false") not in ("true", "false"):
            raise bad_input("Option submodules must be true or false.")
        self._depth = int(options["depth"]) if options.get("depth") else None
        self._submodules = options.get("submodules") == "true"
        self._patterns = Patterns.of(options)
        self._work = request.work
        self._access = Access(credentials, self._address)
        trusted = "https://invalid" if self._address.ssh else self._address.url
        headers = {} if self._address.ssh else self._access.headers(self._address.url)
        self._transport = Transport(credentials=headers, trusted=trusted, explain=self._explain)
        self._repositories: dict[str, _Repository] = {}

    def pinned(self) -> str | None:
        """The commit, when the request names one."""
        return self._commit or None

    def snapshot(self, held: str | None = None) -> Snapshot:
        """Resolves the branch, brings the commit into the store and reads its tree."""
        self._repositories = {}
        store, address = self._reach(self._address)
        commit = self._commit or store.resolve(self._branch)
        if commit == held:
            return Snapshot(origin=self._address.shown, revision=commit)
        found = list(self._listed(store, address, commit, "", 0))
        wanted = checked(file for file in found if self._patterns.wants(file.path))
        if not wanted:
            message = f"None of the {counted(len(found))} of {self._address.shown} matches {self._patterns.describe()}."
            raise LoadError("NoMatch", message if found else f"{self._address.shown} has no files at that commit.")
        return Snapshot(origin=self._address.shown, revision=commit, files=self._measured(wanted))

    @contextmanager
    def open(self, file: RemoteFile, offset: int, length: int | None) -> Iterator[Body]:
        """Starts to read a file: out of the store, or from the LFS server."""
        kind, name, oid = file.url.split(" ")
        repository = self._repositories[name]
        if kind == "lfs":
            with repository.lfs.open(oid, file, offset, length) as body:
                yield body
        else:
            yield _StoreBody(repository.store, oid, offset)

    def _reach(self, address: Address) -> tuple[GitStore, Address]:
        """The store of a repository, and its address after redirects: git itself follows none."""
        if not address.ssh:
            with self._transport.send("GET", address.url + _ADVERTISEMENT, {"Git-Protocol": "version=2"}) as response:
                if "git-upload-pack" not in response.headers.get("content-type", ""):
                    raise bad_input(f"{shown(address.url)} does not answer as a git server does.")
                final = str(response.url)
            if final.endswith(_ADVERTISEMENT):
                address = replace(address, url=final.removesuffix(_ADVERTISEMENT))
        name = hashlib.sha256(address.url.encode()).hexdigest()[:16]
        return GitStore(
            self._work / f"{name}.git", address.url, self._access.environment(address), address.shown
        ), address

    def _listed(self, store: GitStore, address: Address, commit: str, prefix: str, depth: int) -> Iterator[RemoteFile]:
        """The files of a repository and its submodules, without sizes."""
        if depth > _MAX_DEPTH or len(self._repositories) >= _MAX_REPOSITORIES:
            raise bad_input(
                f"The repository has more than {_MAX_REPOSITORIES} submodules, or they are nested too deep."
            )
        store.fetch(commit, self._depth)
        override = lfs_override(store.option(f"{commit}:.lfsconfig", r"^lfs\.url$").get("lfs.url", ""))
        lfs = Lfs(address, self._access, self._transport, self._access.environment(address), override)
        name = str(len(self._repositories))
        self._repositories[name] = _Repository(store, lfs, prefix)
        entries = store.tree(commit)
        files = {entry.path: entry for entry in entries if entry.mode not in (_LINK, _SUBMODULE)}
        for entry in files.values():
            yield RemoteFile(prefix + entry.path, f"blob {name} {entry.oid}", None, entry.oid)
        yield from self._links(store, name, prefix, entries, files)
        modules = [entry for entry in entries if entry.mode == _SUBMODULE]
        if modules and self._submodules:
            places = _places(store.option(f"{commit}:.gitmodules", r"^submodule\..*\.(path|url)$"))
            for entry in modules:
                if entry.path not in places:
                    raise bad_input(f"The submodule at {prefix}{entry.path} has no address in .gitmodules.")
                inner, inner_address = self._reach(address.beside(places[entry.path]))
                yield from self._listed(inner, inner_address, entry.oid, f"{prefix}{entry.path}/", depth + 1)

    def _links(
        self, store: GitStore, name: str, prefix: str, entries: list[TreeEntry], files: Mapping[str, TreeEntry]
    ) -> Iterator[RemoteFile]:
        links = [e for e in entries if e.mode == _LINK and self._patterns.wants(prefix + e.path)]
        for _ in store.fill([link.oid for link in links]):
            pass
        lost = []
        for link in links:
            data = b"".join(store.content(link.oid))[:_MAX_LINK_BYTES]
            to = posixpath.normpath(posixpath.join(posixpath.dirname(link.path), data.decode("utf-8", "replace")))
            if to in files:
                yield RemoteFile(prefix + link.path, f"blob {name} {files[to].oid}", None, files[to].oid)
            else:
                lost.append(prefix + link.path)
        if lost:
            shortly = ", ".join(lost[:5]) + (" and others" if len(lost) > 5 else "")
            say(f"Left out, being links to what is no file of the repository: {shortly}.")

    def _measured(self, files: list[RemoteFile]) -> list[RemoteFile]:
        """The files with sizes and hashes, their contents in the stores, pointers taken for what they point at."""
        measured: dict[str, RemoteFile] = {}
        for name, repository in self._repositories.items():
            mine = {file.path: file.url.split(" ")[2] for file in files if file.url.split(" ")[1] == name}
            oids = list(dict.fromkeys(mine.values()))
            for there in repository.store.fill(oids):
                say(f"{there} of {counted(len(oids))} of the repository came over.")
            sizes = repository.store.sizes()
            pointers: dict[str, tuple[str, int] | None] = {}
            for path, oid in mine.items():
                if oid not in pointers:
                    small = sizes[oid] <= POINTER_MAX_BYTES
                    pointers[oid] = pointer(b"".join(repository.store.content(oid))) if small else None
                measured[path] = self._file(repository, name, path, oid, sizes[oid], pointers[oid])
        return [measured[file.path] for file in files]

    @staticmethod
    def _file(
        repository: _Repository, name: str, path: str, oid: str, size: int, pointed: tuple[str, int] | None
    ) -> RemoteFile:
        if pointed is not None:
            sha256, size = pointed
            repository.lfs.expect(sha256, size)
            return RemoteFile(path, f"lfs {name} {sha256}", size, f"sha256:{sha256}", (("sha256", sha256),))
        digests: tuple[tuple[Algorithm, str], ...] = (("git-sha1", oid),) if len(oid) == 40 else ()
        return RemoteFile(path, f"blob {name} {oid}", size, oid, digests)

    def _explain(self, status: int, headers: Mapping[str, str]) -> LoadError | None:
        if status in (401, 404) and not self._address.ssh and not self._access.headers(self._address.url):
            message = (
                f"{self._address.shown} is private or not there: name a Secret with the key token, or username and"
            )
            return LoadError("Unauthorized" if status == 401 else "NotFound", f"{message} password, or check the URL.")
        return None


def _places(options: Mapping[str, str]) -> dict[str, str]:
    """The URL of each submodule, by its path."""
    found = {}
    for key, path in options.items():
        if key.endswith(".path"):
            url = options.get(key.removesuffix("path") + "url", "")
            if url and urlsplit(url).query == "":
                found[path] = url
    return found
