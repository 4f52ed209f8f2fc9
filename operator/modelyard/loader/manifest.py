"""The record of what a volume holds: every file with size and sha256, where it came from, at which revision.

It is written after the content is in place and is what makes a second run of the same download a no-op. The digest
covers paths, sizes and hashes alone, so the same content from another source has the same digest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """A file that is whole and verified; `size` in bytes, `sha256` in lower-case hex."""

    path: str
    size: int
    sha256: str


def digest(files: Iterable[Entry]) -> str:
    """`sha256:<hex>` over the sorted files."""
    state = hashlib.sha256()
    for entry in sorted(files):
        state.update(f"{entry.sha256}  {entry.size}  {entry.path}\n".encode())
    return f"sha256:{state.hexdigest()}"


def entries(tree: Path) -> list[Entry]:
    """What a folder holds, read again; a link counts as the text that it is."""
    found = []
    for folder, folders, names in os.walk(tree):
        for name in (*folders, *names):
            path = Path(folder, name)
            told = str(path.relative_to(tree))
            if path.is_symlink():
                text = os.fsencode(os.readlink(path))
                found.append(Entry(told, len(text), hashlib.sha256(text).hexdigest()))
            elif name in names:
                with open(path, "rb") as file:
                    found.append(Entry(told, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()))
    return sorted(found)


@dataclass(frozen=True)
class Manifest:
    """What is in the volume under `target`.

    `options` hold no credentials: those never come by the command line. `inode` is that of the folder that became the
    target: it tells whether that step was taken."""

    key: str
    type: str
    origin: str
    options: Mapping[str, str]
    revision: str
    target: str
    inode: int
    files: Sequence[Entry]

    @property
    def bytes(self) -> int:
        """The sum of the files' sizes."""
        return sum(entry.size for entry in self.files)

    def write(self, path: Path) -> None:
        """Writes it durably, by a rename."""
        document: dict[str, Any] = {
            "schema": 1,
            "key": self.key,
            "source": {"type": self.type, "uri": self.origin, "options": dict(self.options)},
            "resolvedRevision": self.revision,
            "path": self.target,
            "inode": self.inode,
            "bytes": self.bytes,
            "digest": digest(self.files),
        }
        files = ",\n".join(
            f'{{"path": {json.dumps(path)}, "size": {size}, "sha256": "{sha256}"}}'
            for path, size, sha256 in sorted(self.files)
        )
        new = path.with_name(path.name + ".new")
        with open(new, "w", encoding="utf-8") as file:
            file.write(f'{json.dumps(document, indent=1)[:-2]},\n "files": [\n{files}\n]}}\n')
            file.flush()
            os.fsync(file.fileno())
        os.chmod(new, 0o644)
        os.replace(new, path)

    @classmethod
    def read(cls, path: Path) -> Manifest | None:
        """Reads it; None when there is none, or none that this program wrote."""
        try:
            document = json.loads(path.read_bytes())
            return cls(
                key=document["key"],
                type=document["source"]["type"],
                origin=document["source"]["uri"],
                options=document["source"]["options"],
                revision=document["resolvedRevision"],
                target=document["path"],
                inode=document["inode"],
                files=[Entry(file["path"], file["size"], file["sha256"]) for file in document["files"]],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def intact(self, root: Path) -> bool:
        """Whether every file is in place with its size; contents are not read again."""
        folder = root / self.target
        try:
            return all(os.lstat(folder / entry.path).st_size == entry.size for entry in self.files)
        except OSError:
            return False
