"""Loopback ports for control planes, several of them at once.

They come from below the kernel's ephemeral range, so that no outgoing connection takes the port of an API server that
is being restarted, and ports that another cluster has recorded are left alone even while nothing listens on them.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
from collections.abc import Iterator, Sequence

from localcluster.errors import LauncherError
from localcluster.locks import locked
from localcluster.paths import clusters_root

_FIRST, _LAST = 20000, 29999


def _reserved() -> set[int]:
    taken: set[int] = set()
    for config in clusters_root().glob("*/cluster.json"):
        try:
            taken.update(json.loads(config.read_text())["ports"].values())
        except (OSError, ValueError, KeyError):
            continue
    return taken


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def free_ports(names: Sequence[str]) -> Iterator[dict[str, int]]:
    """Choose a free port for each name. The caller records them as a cluster's before it leaves the block."""
    with locked("ports"):
        taken = _reserved()
        candidates = (p for p in random.sample(range(_FIRST, _LAST), 2000) if p not in taken and _free(p))
        ports = dict(zip(names, candidates, strict=False))
        if len(ports) < len(names):
            raise LauncherError(f"no free ports between {_FIRST} and {_LAST}")
        yield ports
