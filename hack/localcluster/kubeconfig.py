"""Kubeconfig files with the certificates inside, so that each file can be copied and used alone."""

from __future__ import annotations

import base64
from pathlib import Path

import yaml

from localcluster.pki import write_private


def _inline(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def write_kubeconfig(path: Path, *, name: str, url: str, ca: Path, certificate: Path, user: str) -> Path:
    """Write a kubeconfig for one client certificate (its key lies beside it)."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": url, "certificate-authority-data": _inline(ca)}}],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": _inline(certificate),
                    "client-key-data": _inline(certificate.with_suffix(".key")),
                },
            }
        ],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
    }
    write_private(path, yaml.safe_dump(document, sort_keys=False).encode())
    return path
