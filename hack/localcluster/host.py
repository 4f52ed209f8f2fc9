"""What a node needs of this machine: root, Debian packages, and a private view of the file system.

Nothing of the machine is configured for good. The node's processes share one mount namespace of their own, in which the
fixed paths that kubelet, containerd and the CNI plugins insist on are folders of the cluster's state: when the last of
these processes is gone, so are all of its mounts, and the machine's own /var/lib and /run never had an entry.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from localcluster.errors import LauncherError
from localcluster.paths import ClusterDir
from localcluster.progress import say, step
from localcluster.shell import run

THREE_WAYS = (
    "a cluster is needed, and there are three ways to one: set KUBECONFIG and CLUSTER=current to use your own, "
    "start a Docker engine so that kind can make one, or run this as root on Linux"
)

CNI_PLUGINS = Path("/usr/lib/cni")
# What must be there, and the Debian package that brings it.
_PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "mount": "mount",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    f"{CNI_PLUGINS}/bridge": "containernetworking-plugins",
}
# Paths that the node's programs use whatever they are told, each a folder of the cluster's state.
_PRIVATE_PATHS = {
    "/run/containerd": "run-containerd",
    "/run/buildkit": "run-buildkit",
    "/run/netns": "run-netns",
    "/var/lib/kubelet": "kubelet",
    "/var/lib/cni": "cni",
    "/var/log/pods": "pod-logs",
    "/var/log/containers": "container-logs",
}


def can_run_cluster() -> bool:
    """Linux with root."""
    return sys.platform == "linux" and os.geteuid() == 0


def install_packages(programs: dict[str, str] | None = None) -> None:
    """Install the Debian packages of programs that are missing."""
    wanted = programs if programs is not None else _PROGRAMS
    missing = sorted({package for program, package in wanted.items() if shutil.which(program) is None})
    if not missing:
        return
    names = " ".join(missing)
    if shutil.which("apt-get") is None:
        raise LauncherError(f"missing programs: install what your distribution calls {names}")
    say(f"installing {names}")
    with step(f"installed {names}"):
        quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
        try:
            run(*quiet, "install", "-y", "--no-install-recommends", *missing)
        except LauncherError:
            # The package lists are missing or old.
            run(*quiet, "update")
            run(*quiet, "install", "-y", "--no-install-recommends", *missing)


def preflight(cluster: ClusterDir) -> None:
    """Refuse early, in words, what can't work."""
    if not can_run_cluster():
        raise LauncherError(THREE_WAYS)
    # Sockets below this folder have names of up to 60 characters, and the kernel takes 107 in all.
    if len(str(cluster.node)) > 80:
        raise LauncherError(f"{cluster.node} is too long for sockets; set MODELYARD_CACHE to a shorter path")
    install_packages()


def private_mounts(cluster: ClusterDir) -> list[str]:
    """The command prefix that runs a program in a new mount namespace with the private paths in place."""
    script = ["set -e", "mount --make-rshared /"]
    for path, folder in _PRIVATE_PATHS.items():
        source = cluster.node / folder
        source.mkdir(parents=True, exist_ok=True)
        # The mount point itself must exist; an empty folder is all that the machine sees of it.
        Path(path).mkdir(parents=True, exist_ok=True)
        script.append(f"mount --bind '{source}' {path}")
        script.append(f"mount --make-rshared {path}")
    script.append('exec "$@"')
    return ["unshare", "--mount", "--propagation", "slave", "sh", "-c", "; ".join(script), "sh"]


def remove_mount_points() -> None:
    """Remove the mount points that are empty, so that the machine looks as before."""
    for path in _PRIVATE_PATHS:
        if Path(path).is_dir() and not os.path.ismount(path) and not os.listdir(path):
            os.rmdir(path)
