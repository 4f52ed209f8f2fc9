"""The cgroup that holds everything a node runs, on cgroup v1 and v2.

Daemons are in `modelyard/runtime`, and so are the shims that they start; pods are in `modelyard/kubepods`, build steps
in `modelyard/build`. Whatever happened to pid files, killing what is in this tree ends all of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from localcluster.errors import LauncherError
from localcluster.procs import wait_for

ROOT = "modelyard"
_FS = Path("/sys/fs/cgroup")


def _unified() -> bool:
    return (_FS / "cgroup.controllers").exists()


def _trees() -> list[Path]:
    """Our folder in each hierarchy."""
    if _unified():
        return [_FS / ROOT]
    mounts = [line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    points = {m[0].split()[4] for m in mounts if m[1].startswith(("cgroup ", "cgroup2 "))}
    return [Path(p) / ROOT for p in sorted(points)]


def _tracker() -> Path:
    """The hierarchy in which the daemons are tracked: any one will do."""
    return (_FS if _unified() else _FS / "pids") / ROOT / "runtime"


def create() -> None:
    """Make the tree, with every controller available in it."""
    for tree in _trees():
        tree.mkdir(exist_ok=True)
        if tree.parent.name == "cpuset" or (tree.parent / "cpuset.cpus").exists():
            # On v1 a new cpuset is empty, and an empty one takes no process.
            for name in ("cpuset.cpus", "cpuset.mems"):
                with contextlib.suppress(OSError):
                    (tree / name).write_text((tree.parent / name).read_text())
    if _unified():
        for folder in (_FS, _FS / ROOT):
            for controller in (folder / "cgroup.controllers").read_text().split():
                with contextlib.suppress(OSError):
                    (folder / "cgroup.subtree_control").write_text(f"+{controller}")
    _tracker().mkdir(exist_ok=True)


def enter() -> list[str]:
    """The command prefix that puts itself into the daemons' cgroup before it becomes the program."""
    return ["sh", "-c", f'echo $$ > {_tracker()}/cgroup.procs; exec "$@"', "sh"]


def members() -> set[int]:
    """Every process in the tree."""
    found: set[int] = set()
    for tree in _trees():
        for procs in tree.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found.update(int(p) for p in procs.read_text().split())
    return found


def exists() -> bool:
    """Whether anything of the tree is there."""
    return any(tree.exists() for tree in _trees())


def remove() -> None:
    """Kill what is left in the tree and remove it."""

    def emptied() -> bool:
        left = members()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not left

    if not wait_for(emptied, 20, 0.1):
        raise LauncherError(f"processes that can't be killed: {sorted(members())}")

    def removed() -> bool:
        for tree in _trees():
            # Bottom up: a cgroup goes when it has neither children nor processes.
            for folder in sorted((p for p in tree.rglob("*") if p.is_dir()), reverse=True):
                with contextlib.suppress(OSError):
                    folder.rmdir()
            with contextlib.suppress(OSError):
                tree.rmdir()
        return not exists()

    if not wait_for(removed, 10, 0.1):
        raise LauncherError(f"cgroups that can't be removed: {[str(t) for t in _trees() if t.exists()]}")
