"""One repository's objects at one commit, in a bare store beside the staging tree; only the `git` program touches it.

The commit comes without history and, where the server can, without contents; those come in packs of some hundred
files, so that a killed run keeps what arrived. A pack can't be gone on with: git has no way to ask for the rest of one.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import shutil
import subprocess
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelyard.loader import disk
from modelyard.loader.content import MAX_FILES
from modelyard.loader.failure import LoadError, bad_input
from modelyard.loader.transport import refused

_BATCH = 256
_CHUNK_BYTES = 1 << 18
_STATUS = re.compile(r"returned error: (\d{3})|HTTP (\d{3})\b")
_NOT_THERE = ("not our ref", "unadvertised object", "couldn't find remote ref", "not found in upstream")
_NO_REPOSITORY = ("not appear to be a git repository", "repository not found", "does not exist", "no such project")


@dataclass(frozen=True)
class TreeEntry:
    """A path of the commit. `mode` is git's own: 120000 a link, 160000 a submodule."""

    mode: str
    oid: str
    path: str


class GitStore:
    """A bare repository in `folder`; `environment` holds what reaches `url`, which is named `where` to people."""

    def __init__(self, folder: Path, url: str, environment: Mapping[str, str], where: str) -> None:
        self._folder = folder
        self._url = url
        self._environment = dict(environment)
        self._where = where
        self._commit = ""
        self._depth: int | None = None
        self._readers: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()

    def resolve(self, name: str) -> str:
        """The commit of a branch or tag of the server, of HEAD for an empty name.

        Raises:
            LoadError: NotFound, or why the server can't be asked.
        """
        wanted = [f"refs/heads/{name}", f"refs/tags/{name}^{{}}", f"refs/tags/{name}", name] if name else ["HEAD"]
        listed = self._run("ls-remote", "--", self._url, *([name] if name else ["HEAD"]), f"refs/tags/{name}^{{}}")
        found = {ref: oid for oid, _, ref in (line.partition("\t") for line in listed.decode().splitlines())}
        for ref in wanted:
            if ref in found:
                return found[ref]
        if not name:
            raise LoadError("NotFound", f"{self._where} has no commit yet.")
        raise LoadError("NotFound", f"{self._where} has no branch or tag {name}.")

    def fetch(self, commit: str, depth: int | None) -> None:
        """Brings the commit and its trees into the store, unless they are there.

        Raises:
            LoadError: as `resolve`.
        """
        with disk.writing(self._folder.parent, None):
            self._folder.mkdir(parents=True, exist_ok=True)
            for left in (*self._folder.glob("*.lock"), *self._folder.glob("objects/pack/tmp_*")):
                left.unlink(missing_ok=True)  # of a run that was killed
        self._commit, self._depth = commit, depth
        if not (self._folder / "HEAD").exists():
            self._git("init", "--quiet", "--bare", f"--object-format={'sha1' if len(commit) == 40 else 'sha256'}")
            self._git("config", "remote.origin.url", self._url)
        if not (self._folder / self._ref).exists():
            self._bring("--filter=blob:none")

    @property
    def _ref(self) -> str:
        return f"refs/modelyard/{self._commit}"

    def _bring(self, *how: str) -> None:
        asked = ["fetch", "--quiet", "--no-tags", "--recurse-submodules=no", *how]
        try:
            self._git(*asked, f"--depth={self._depth or 1}", "origin", f"+{self._commit}:{self._ref}")
        except LoadError as error:
            if error.reason != "NotFound":
                raise
            # Some servers give a commit only together with a branch that holds it.
            shallow = (self._folder / "shallow").exists()
            deepened = [f"--depth={self._depth}"] if self._depth else ["--unshallow"] if shallow else []
            self._git(*asked, *deepened, "origin", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
            try:
                self._git("update-ref", self._ref, self._commit)
            except LoadError:
                within = f" within the last {self._depth} commits of its branches" if self._depth else ""
                raise LoadError("NotFound", f"{self._where} has no commit {self._commit}{within}.") from None

    def tree(self, commit: str) -> list[TreeEntry]:
        """All paths of the commit.

        Raises:
            LoadError: BadInput when there are too many.
        """
        listed = self._git("ls-tree", "-r", "-z", "--full-tree", commit).split(b"\0")
        if len(listed) > MAX_FILES + 1:
            raise bad_input(f"{self._where} has more than {MAX_FILES} files.")
        entries = []
        for line in filter(None, listed):
            about, _, path = line.partition(b"\t")
            mode, _, oid = about.decode().split(" ")
            entries.append(TreeEntry(mode, oid, path.decode("utf-8", "surrogateescape")))
        return entries

    def fill(self, oids: Sequence[str]) -> Iterator[int]:
        """Brings those contents into the store that are not in it; gives after each pack how many are there.

        Raises:
            LoadError: as `resolve`.
        """
        there = self.sizes()
        missing = [oid for oid in dict.fromkeys(oids) if oid not in there]
        for start in range(0, len(missing), _BATCH):
            batch = missing[start : start + _BATCH]
            try:
                self._git(
                    *(
                        "-c",
                        "fetch.negotiationAlgorithm=noop",
                        "fetch",
                        "--quiet",
                        "--no-tags",
                        "--no-write-fetch-head",
                    ),
                    *("--recurse-submodules=no", "--filter=blob:none", "--stdin", "origin"),
                    given="\n".join(batch).encode() + b"\n",
                )
            except LoadError as error:
                if error.reason != "NotFound":
                    raise
                # A server that leaves contents out but gives none by its name [protocol version 0, over SSH].
                self._bring("--refetch", "--no-filter")
                yield len(oids)
                return
            yield len(oids) - len(missing) + start + len(batch)

    def sizes(self) -> dict[str, int]:
        """The contents that are in the store, with their sizes in bytes."""
        listed = self._git("cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype) %(objectsize)")
        lines = (line.split() for line in listed.decode().splitlines())
        return {oid: int(size) for oid, kind, size in lines if kind == "blob"}

    def content(self, oid: str, offset: int = 0) -> Generator[bytes]:
        """The bytes of one content from an offset. To be read to its end, or closed.

        Raises:
            LoadError: Unexpected when it isn't in the store.
        """
        reader = self._reader()
        try:
            assert reader.stdin is not None
            assert reader.stdout is not None
            reader.stdin.write(oid.encode() + b"\n")
            reader.stdin.flush()
            header = reader.stdout.readline().split()
            if len(header) != 3:
                raise LoadError("Unexpected", f"git has lost a file of {self._where}.", retryable=True)
            left = int(header[2])
            while left:
                chunk = reader.stdout.read(min(left, _CHUNK_BYTES))
                if not chunk:
                    raise LoadError("Unexpected", f"git ended while reading a file of {self._where}.", retryable=True)
                left -= len(chunk)
                if offset < len(chunk):
                    yield chunk[offset:]
                offset = max(0, offset - len(chunk))
            reader.stdout.read(1)
        except BaseException:  # its place in the stream is unknown
            reader.kill()
            reader.wait()
            raise
        self._readers.put(reader)

    def option(self, blob: str, name: str) -> dict[str, str]:
        """The entries of a file in git's configuration format whose names match, by name."""
        try:
            listed = self._git("config", "--blob", blob, "-z", "--get-regexp", name)
        except LoadError:
            return {}
        pairs = (item.decode("utf-8", "replace").partition("\n") for item in listed.split(b"\0") if item)
        return {key: value for key, _, value in pairs}

    def _reader(self) -> subprocess.Popen[bytes]:
        with contextlib.suppress(queue.Empty):
            return self._readers.get_nowait()
        return subprocess.Popen(
            ["git", f"--git-dir={self._folder}", "cat-file", "--batch"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._environment,
        )

    def _git(self, *arguments: str, given: bytes = b"") -> bytes:
        return self._run(f"--git-dir={self._folder}", *arguments, given=given)

    def _run(self, *arguments: str, given: bytes = b"") -> bytes:
        if shutil.which("git", path=self._environment.get("PATH", os.defpath)) is None:
            raise LoadError("Unexpected", "This image has no git program.")
        done = subprocess.run(["git", *arguments], input=given, capture_output=True, env=self._environment)
        if done.returncode:
            raise self._explain(done.stderr.decode("utf-8", "replace"))
        return done.stdout

    def _explain(self, words: str) -> LoadError:
        """Our words for what git or ssh said."""
        lower = words.lower()
        status = _STATUS.search(words)
        if "no space left" in lower or "quota exceeded" in lower:
            return disk.full(self._folder.parent, None)
        if status is not None:
            return refused(int(status[1] or status[2]), {}, self._where)
        if any(said in lower for said in _NOT_THERE):
            return LoadError("NotFound", f"{self._where} does not have the commit that is asked for.")
        if "host key verification failed" in lower:
            message = f"{self._where}: the host's key is not the one in the Secret's known_hosts."
            return LoadError("Unauthorized", message)
        if "permission denied" in lower or "incorrect passphrase" in lower or "error in libcrypto" in lower:
            message = f"{self._where} does not accept the key. Check the Secret's ssh-privatekey and its passphrase."
            return LoadError("Unauthorized", message)
        if "could not read username" in lower or "authentication failed" in lower:
            return refused(401, {}, self._where)
        if any(said in lower for said in _NO_REPOSITORY):
            return LoadError("NotFound", f"{self._where} is no repository, or these credentials may not see it.")
        if "could not resolve" in lower:
            return LoadError(
                "Unreachable", f"{self._where} can't be reached: its name does not resolve.", retryable=True
            )
        if "certificate" in lower:
            told = "its certificate is not signed by an authority that this container trusts"
            return LoadError("Unreachable", f"{self._where} can't be reached: {told}.", retryable=True)
        return LoadError("Unreachable", f"{self._where}: the connection broke.", retryable=True)
