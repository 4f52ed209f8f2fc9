"""What runs, where, and what the caches hold, as text for a person."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from localcluster import addons, controlplane, network, node
from localcluster.host import can_run_cluster
from localcluster.paths import ClusterDir, bin_root, cache_root, clusters_root, images_root
from localcluster.procs import Process
from localcluster.shell import attempt
from localcluster.state import KINDS, State, read_state

_FULL = (*controlplane.PROCESSES, *node.PROCESSES, *addons.PROCESSES)


def _size(path: Path) -> str:
    # What is mounted below is not counted twice; a file that goes away meanwhile is no error.
    words = attempt("du", "-sxk", path).stdout.split()
    return f"{int(words[0]) / 1024 / 1024:7.2f} GiB" if words else "      0 GiB"


def _cluster(cluster: ClusterDir, state: State) -> Iterator[str]:
    names = _FULL if state.kind == "full" else controlplane.PROCESSES
    pids = {n: Process(n, cluster.pids, cluster.logs).pid() for n in (*names, "buildkitd")}
    dead = [n for n in names if pids[n] is None]
    address = network.FULL.address if state.kind == "full" else "127.0.0.1"
    yield f"{cluster.name}: {KINDS[state.kind]}, " + (f"NOT RUNNING: {', '.join(dead)}" if dead else "running")
    yield f"  API server  https://{address}:{state.ports['apiserver']}"
    yield f"  kubeconfig  {cluster.kubeconfig}"
    yield f"  logs        {cluster.logs}"
    yield "  processes   " + ", ".join(f"{n} {pid}" for n, pid in pids.items() if pid)
    yield "  ports       " + ", ".join(f"{n} {port}" for n, port in state.ports.items())


def lines() -> Iterator[str]:
    """The whole report."""
    found = False
    stores: list[Path] = []
    for folder in sorted(clusters_root().glob("*")):
        cluster = ClusterDir(folder.name)
        state = read_state(cluster)
        if state is not None:
            found = True
            yield from _cluster(cluster, state)
        if cluster.store.exists():
            stores += [cluster.store / "containerd", cluster.store / "buildkit"]
        if cluster.node.exists():
            stores.append(cluster.node / "volumes")
    if not found:
        yield "no cluster is up"
        if can_run_cluster():
            yield from (f"left behind: {what}" for what in network.leftovers())
    yield f"caches in {cache_root()}:"
    for path in (bin_root(), images_root(), *stores):
        if path.exists():
            yield f"  {_size(path)}  {path.relative_to(cache_root())}"
