"""Where everything lies: the cache that outlives clusters, and the state of each cluster.

Nothing is ever written into the checkout. Binaries and images are keyed by version or content, so a path that exists
is complete and right, and is never rebuilt.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from localcluster.errors import LauncherError

HACK = Path(__file__).resolve().parent.parent
DEFAULT_NAME = "modelyard"


def cache_root() -> Path:
    """The cache: `MODELYARD_CACHE`, or `~/.cache/modelyard`."""
    return Path(os.environ.get("MODELYARD_CACHE") or Path.home() / ".cache" / "modelyard").absolute()


def bin_root() -> Path:
    return cache_root() / "bin"


def images_root() -> Path:
    return cache_root() / "images"


def clusters_root() -> Path:
    return cache_root() / "clusters"


@dataclass(frozen=True)
class ClusterDir:
    """The folder of one cluster: `clusters/<name>/` in the cache."""

    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", self.name):
            raise LauncherError(f"cluster name {self.name!r}: use 1 to 40 lower-case letters, digits and inner dashes")

    @property
    def root(self) -> Path:
        return clusters_root() / self.name

    @property
    def config(self) -> Path:
        """What the launcher chose for this cluster (kind, ports). It exists from `up` to `down`."""
        return self.root / "cluster.json"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def pids(self) -> Path:
        return self.root / "pids"

    @property
    def etcd(self) -> Path:
        return self.root / "etcd"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.root / "kubeconfig"

    @property
    def conf(self) -> Path:
        """Generated configuration files of the components."""
        return self.root / "conf"

    @property
    def node(self) -> Path:
        """What the node writes at run time (sockets, kubelet, pod logs, volumes); `down` deletes it."""
        return self.root / "node"

    @property
    def store(self) -> Path:
        """containerd's images and BuildKit's cache; kept by `down`, deleted by `down --purge`."""
        return self.root / "store"
