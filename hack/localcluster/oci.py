"""Image archives made from a folder, without any image tool: one layer, a config, an index, in one tar file.

The same folder gives the same bytes, so an image's digest changes only with its content.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from localcluster.shell import run

_TYPES = "application/vnd.oci.image"


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_archive(archive: Path, reference: str, tree: Path, config: Mapping[str, Any]) -> None:
    """Write the image `reference` with the contents of `tree` (owned by root) into an archive that `ctr` imports."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".image-", dir=archive.parent) as folder:
        layer = Path(folder) / "layer.tar"
        run(
            "tar",
            *("--create", f"--file={layer}", f"--directory={tree}", "--sort=name", "--mtime=@0"),
            *("--numeric-owner", "--xattrs", "--one-file-system"),
            # Only in the header are there any other times than the one above.
            *("--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime", "."),
        )
        layer_digest = _digest(layer)
        blobs: list[bytes] = []

        def blob(document: Mapping[str, Any], kind: str) -> dict[str, Any]:
            data = json.dumps(document, sort_keys=True).encode()
            blobs.append(data)
            digest = hashlib.sha256(data).hexdigest()
            return {"mediaType": f"{_TYPES}.{kind}+json", "digest": f"sha256:{digest}", "size": len(data)}

        configured = blob(
            {
                "architecture": _architecture(),
                "os": "linux",
                "config": dict(config),
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
            },
            "config.v1",
        )
        layers = [
            {
                "mediaType": f"{_TYPES}.layer.v1.tar",
                "digest": f"sha256:{layer_digest}",
                "size": layer.stat().st_size,
            }
        ]
        manifest = blob(
            {
                "schemaVersion": 2,
                "mediaType": f"{_TYPES}.manifest.v1+json",
                "config": configured,
                "layers": layers,
            },
            "manifest.v1",
        )
        manifest["annotations"] = {"io.containerd.image.name": reference}
        index = json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode()
        whole = Path(folder) / "image.tar"
        with tarfile.open(whole, "w") as out:
            _add(out, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            _add(out, "index.json", index)
            for data in blobs:
                _add(out, f"blobs/sha256/{hashlib.sha256(data).hexdigest()}", data)
            out.add(layer, f"blobs/sha256/{layer_digest}")
        whole.replace(archive)


def _add(out: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    out.addfile(entry, io.BytesIO(data))


def _architecture() -> str:
    """This machine's architecture in Go's and OCI's words."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
