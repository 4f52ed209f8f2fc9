"""Writing so that a crash at any moment leaves the old content or the new one: aside, flushed, then one rename."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any


def write_json(path: Path, value: Any) -> None:
    """Puts JSON at `path` by one rename, on disk when it returns. Raises OSError."""
    aside = path.with_name(f".{path.name}.partial")
    with aside.open("w") as file:
        json.dump(value, file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync(path.parent)


def sync_tree(folder: Path) -> None:
    """Flushes every file below `folder` and the folders themselves to disk."""
    for path in [*folder.rglob("*"), folder]:
        sync(path)


def sync(path: Path) -> None:
    """Flushes a file to disk, or the names in a folder, which makes renames there last."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(folder: Path) -> None:
    """Removes a folder if it is there, under another name first, so that half a folder is never seen by its name."""
    if folder.exists():
        aside = folder.with_name(f".{folder.name}.gone")
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)


def sha256(path: Path) -> str:
    """`sha256:` and the hex digest of a file."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def listing(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and digest of every file below `folder`, by its relative path, sorted."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in files}


def tree_digest(files: dict[str, dict[str, Any]]) -> str:
    """One digest of a listing: of the lines `<digest>  <path>`, by path."""
    lines = "".join(f"{entry['sha256']}  {name}\n" for name, entry in sorted(files.items()))
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()
