"""A full cluster on this machine: control plane, one node, DNS, storage.

Whatever state a killed session or a reboot left, `up` ends with a node that takes pods: unless everything runs, all
that is left of the last run is swept away first and everything is started again. The data of etcd, the pods' volumes
and the images stay. `down` removes the cluster; only what is costly to make again (images, build cache, binaries)
stays, unless purged.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Self

from localcluster import addons, cgroups, components, controlplane, host, network, node
from localcluster.baseimages import archive_of, node_image
from localcluster.components import ControlPlaneConfig
from localcluster.errors import LauncherError
from localcluster.locks import locked
from localcluster.paths import DEFAULT_NAME, ClusterDir, clusters_root
from localcluster.ports import free_ports
from localcluster.procs import Process, recorded
from localcluster.progress import say, step
from localcluster.state import State, load_state, read_state, save_state
from localcluster.tools import CONTROL_PLANE, NODE, build_tools

# Pods' addresses and kube-proxy's rules are the machine's: there can be one node on it.
_NODE_LOCK = "node"
_PORTS = (*components.PORTS, *node.PORTS)
# What the node needs anew at every start; kubelet's folder and the volumes stay.
_VOLATILE = ("run-containerd", "run-buildkit", "run-netns", "cni")
# No proxy may stand between the components of one machine.
_ENVIRONMENT = {
    "NO_PROXY": ",".join(
        filter(None, [os.environ.get("NO_PROXY"), "localhost", "127.0.0.1", "10.211.0.0/16,10.212.0.0/15"])
    )
}


class Cluster:
    """The full cluster of a name. As a context manager it is up inside and stays up afterwards."""

    def __init__(self, name: str = DEFAULT_NAME) -> None:
        self.cluster = ClusterDir(name)

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """It stays: bringing it up takes seconds, and what runs in it may be of use to look at."""

    @property
    def kubeconfig(self) -> Path:
        return self.cluster.kubeconfig

    def _config(self, state: State) -> ControlPlaneConfig:
        return ControlPlaneConfig(self.cluster, state.ports, network.FULL, audit=state.audit, full=True)

    def running_node(self) -> node.Node:
        """The node, for whoever wants to put images on it."""
        state = read_state(self.cluster)
        if state is None or state.kind != "full":
            raise LauncherError(f"no full cluster {self.cluster.name!r} is up; bring it up first")
        found = node.Node(self._config(state))
        if found.process("containerd").pid() is None:
            raise LauncherError(f"the cluster {self.cluster.name!r} is not running; bring it up first")
        return found

    def up(self, *, audit: bool = False) -> Path:
        """Bring it up, or finish doing so, or find it running; returns the kubeconfig."""
        host.preflight(self.cluster)
        with locked(_NODE_LOCK):
            state = load_state(self.cluster, "full")
            if state is not None and self._running(state):
                return self.kubeconfig
            self._refuse_second()
            tools = build_tools((*CONTROL_PLANE, *NODE))
            archive = archive_of(node_image())
            with step("swept away what an earlier run left"):
                self._sweep()
            if state is None:
                with free_ports(_PORTS) as ports:
                    state = save_state(self.cluster, "full", ports, audit=audit)
            self._start(self._config(state), tools, archive)
            say(f"cluster {self.cluster.name!r} is up: {self.kubeconfig}")
        return self.kubeconfig

    def _running(self, state: State) -> bool:
        config = self._config(state)
        return (
            node.Node(config).running()
            and addons.Addons(config).running()
            and controlplane.Components(config).running()
        )

    def _refuse_second(self) -> None:
        other = running_elsewhere(self.cluster)
        if other is not None:
            raise LauncherError(f"the full cluster {other!r} runs, and there can be one: take it down first")

    def _start(self, config: ControlPlaneConfig, tools: dict[str, Path], archive: Path) -> None:
        cgroups.create()
        with step("network"):
            network.set_up(self.cluster)
        prefix = cgroups.enter()
        plane = controlplane.Components(config, _ENVIRONMENT, prefix)
        fresh = not self.cluster.etcd.exists()
        try:
            plane.start()
        except LauncherError:
            if fresh or plane.process("etcd").pid() is not None:
                raise
            say("etcd can't read its data, which a crash of the machine may have torn: starting with an empty cluster")
            plane.stop()
            shutil.rmtree(self.cluster.etcd)
            fresh = True
            plane.start()
        machine = node.Node(config)
        with step("containerd"):
            self._start_containerd(machine, archive, fresh=fresh)
        extras = addons.Addons(config)
        with step("node ready, with DNS and storage"):
            machine.start_kube_proxy(tools["kube-proxy"])
            machine.start_kubelet(tools["kubelet"])
            extras.apply(tools["kubectl"])
            extras.start_dns(tools["coredns"])
            extras.start_storage(tools["local-path-provisioner"])
            machine.wait_ready()
            extras.process("coredns").wait_ready(extras.dns_ready)

    def _start_containerd(self, machine: node.Node, archive: Path, *, fresh: bool) -> None:
        if fresh:
            for folder in ("kubelet", "volumes", "pod-logs", "container-logs"):
                shutil.rmtree(self.cluster.node / folder, ignore_errors=True)
        machine.start_containerd(node_image())
        if fresh and machine.images.remove_containers():
            # containerd read them when it started.
            machine.process("containerd").stop()
            machine.start_containerd(node_image())
        if not machine.images.has(node_image()):
            machine.images.load(archive)
            machine.images.keep_newest(node_image())

    def _sweep(self) -> None:
        """End every process and undo every setting of the last run, whatever is left of it."""
        order = (*controlplane.PROCESSES, *node.PROCESSES, "buildkitd", *addons.PROCESSES)
        for name in reversed(order):
            Process(name, self.cluster.pids, self.cluster.logs).stop()
        cgroups.remove()
        network.remove(self.cluster)
        for folder in _VOLATILE:
            shutil.rmtree(self.cluster.node / folder, ignore_errors=True)
        host.remove_mount_points()

    def down(self, *, purge: bool = False) -> None:
        """Take it down and leave nothing on the machine but what is costly to make again."""
        if not host.can_run_cluster():
            raise LauncherError("a full cluster runs as root, and only root can take it down")
        with locked(_NODE_LOCK):
            self._sweep()
            for entry in list(self.cluster.root.iterdir()) if self.cluster.root.exists() else []:
                if entry != self.cluster.store:
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            if purge:
                shutil.rmtree(self.cluster.root, ignore_errors=True)


def running_elsewhere(cluster: ClusterDir) -> str | None:
    """The name of another full cluster that has processes on this machine."""
    for config in clusters_root().glob("*/cluster.json"):
        other = ClusterDir(config.parent.name)
        state = read_state(other)
        if other == cluster or state is None or state.kind != "full":
            continue
        if any(p.pid() is not None for p in recorded(other.pids, other.logs)):
            return other.name
    return None
