"""What a program of the user's own leaves as its result: the folder `model` of the output volume, as it is described.

The digest is made as our own trainer makes it: over the lines `<digest>  <path>` of all files, sorted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = "model"
METADATA = "metadata.json"
_ADAPTER = "adapter_config.json"
_CHUNK = 1 << 20


def describe(output: Path, metrics: Mapping[str, float]) -> dict[str, Any]:
    """Path, kind, size and digest of what the program has left; without these if it has left nothing."""
    folder = output / FOLDER
    found: dict[str, Any] = {"recipe": "custom", "metrics": dict(metrics)}
    try:
        listing = _listing(folder)
    except OSError:
        return found
    if not listing:
        return found
    lines = "".join(f"{entry['sha256']}  {name}\n" for name, entry in sorted(listing.items()))
    found.update(
        path=FOLDER,
        kind="Adapter" if _ADAPTER in listing else "Full",
        bytes=sum(entry["bytes"] for entry in listing.values()),
        files=len(listing),
        digest="sha256:" + hashlib.sha256(lines.encode()).hexdigest(),
    )
    _write_metadata(output / METADATA, {**found, "listing": listing})
    return found


def _listing(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink())
    return {p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": _sha256(p)} for p in files}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return "sha256:" + digest.hexdigest()


def _write_metadata(path: Path, content: Mapping[str, Any]) -> None:
    """The program's own file is left as it is; without one, ours says what is known."""
    try:
        if "listing" not in json.loads(path.read_bytes()):
            return
    except (OSError, ValueError, TypeError):
        if path.exists():
            return
    aside = path.with_name(f".{path.name}.partial")
    with contextlib.suppress(OSError, ValueError):
        with aside.open("w") as file:
            json.dump(content, file, indent=1, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
