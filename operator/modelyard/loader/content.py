"""What a source offers: a list of files at one resolved revision, and their bytes from any offset."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from modelyard.loader.failure import bad_input
from modelyard.loader.progress import Progress
from modelyard.loader.request import STATE_FOLDER

MAX_FILES = 100_000
"""More than this is refused: the list is held in memory."""
LITTLE = 1 << 16
"""Up to so many bytes a file is fetched into memory and written once: what a kill costs of it is less than its part."""

_UNSAFE = re.compile(r"[\x00-\x1f\ud800-\udfff]|(?:^|/)\.{0,2}(?:/|$)")
"""What is no character of a file's name, and names that are empty, `.` or `..`."""

Algorithm = Literal["sha256", "git-sha1", "md5", "crc32"]


class RemoteFile(NamedTuple):
    """A file to fetch. A tuple, as there are many, which go from process to process.

    `path` is relative to the target, with / between its parts. `size` is in bytes, None when the server doesn't say.
    `identity` changes whenever the bytes may have changed; None means that an interrupted file can't be gone on with.
    `digests` maps an algorithm to the lower-case hex digest that the bytes must have; `announced` are those whose
    digest the server tells together with the bytes, if at all.
    """

    path: str
    url: str
    size: int | None
    identity: str | None
    digests: tuple[tuple[Algorithm, str], ...] = ()
    announced: tuple[Algorithm, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """All wanted files at one revision. `revision` is a commit or an entity tag; `origin` holds no credential."""

    origin: str
    revision: str
    files: Sequence[RemoteFile] = field(default_factory=list)


class Body(Protocol):
    """The bytes of one answer.

    `offset` is where they really start: 0 when the server ignored the offset asked for. `digests` are those of the
    whole file that came with the answer, of the algorithms that the file has as `announced`.
    """

    offset: int
    digests: tuple[tuple[Algorithm, str], ...]

    def chunks(self) -> Iterator[bytes]:
        """Bytes as they arrive.

        Raises:
            LoadError: when the connection breaks.
        """
        ...


class Origin(Protocol):
    """One type of source, as far as all have it in common."""

    def pinned(self) -> str | None:
        """The resolved revision when the request itself names it, so that no question to the server is needed."""
        ...

    def snapshot(self, held: str | None = None) -> Snapshot:
        """Resolves the revision and lists the wanted files; need not list them when the revision is `held`.

        Raises:
            LoadError: Unauthorized, Forbidden, NotFound, NoMatch, BadInput, or a retryable reason.
        """
        ...


class Source(Origin, Protocol):
    """A type whose files are fetched. Only this part knows its protocol; staging, resuming, verifying are common."""

    def open(self, file: RemoteFile, offset: int, length: int | None) -> AbstractContextManager[Body]:
        """Starts to fetch a file from an offset; at most `length` bytes when that is given.

        Raises:
            LoadError: as `snapshot`.
        """
        ...


Probes = Callable[[Sequence[RemoteFile]], Sequence[RemoteFile]]
"""What a `Prober` finds of each file, in the same order; raises LoadError."""


@runtime_checkable
class Prober(Source, Protocol):
    """A type whose list holds names alone: of each file the server must be asked what it is."""

    def probe(self, file: RemoteFile) -> RemoteFile:
        """The file with its size, identity and digests.

        Raises:
            LoadError: as `snapshot`.
        """
        ...

    def begin(self, file: RemoteFile) -> AbstractContextManager[tuple[RemoteFile, Body]]:
        """As `probe`, and the first bytes: LITTLE of them, more only from a server that sends no less than all.

        Raises:
            LoadError: as `snapshot`; `probe` may still be answered.
        """
        ...

    def probe_by(self, probes: Probes) -> None:
        """Has `snapshot` ask about many files by these."""
        ...


@runtime_checkable
class Builder(Origin, Protocol):
    """A type whose content is made rather than fetched file by file: its snapshot lists none."""

    def build(self, tree: Path, progress: Progress) -> None:
        """Makes the content in an empty folder, links and programs included.

        Raises:
            LoadError: the reason why not; what can be used again is kept for the next run.
        """
        ...


def checked(files: Iterable[RemoteFile]) -> list[RemoteFile]:
    """Sorts the files by path and refuses what could leave the target folder or can't be stored.

    Raises:
        LoadError: BadInput with the reason.
    """
    ordered = sorted(files, key=lambda file: file.path)
    if len(ordered) > MAX_FILES:
        raise bad_input(
            f"The source has {len(ordered)} files, more than {MAX_FILES}. Narrow them by include or exclude."
        )
    seen: set[str] = set()
    for file in ordered:
        parts = file.path.split("/")
        if (
            _UNSAFE.search(file.path)
            or parts[0] == STATE_FOLDER
            or any(len(part) > 63 and len(part.encode("utf-8")) > 255 for part in parts)
        ):
            raise bad_input("The source has a file whose name can't be stored safely. Exclude it by a pattern.")
        if file.path in seen:
            raise bad_input(f"The source lists {file.path} twice.")
        seen.add(file.path)
    folders = {path.rpartition("/")[0] for path in seen} - {""}
    for folder in folders:
        parts = folder.split("/")
        if any("/".join(parts[:depth]) in seen for depth in range(1, len(parts) + 1)):
            raise bad_input(
                f"The source has both a file and a folder on the way to {folder}. Exclude one by a pattern."
            )
    return ordered
