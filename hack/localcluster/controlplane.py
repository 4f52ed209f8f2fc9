"""A control plane on this machine: etcd, API server, controller manager and scheduler.

Needs no root and no node, so several can run at once; the full cluster builds on the same class. `ControlPlane` is also
what tests use: a context manager that leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from localcluster.components import PORTS, ControlPlaneConfig, Network
from localcluster.locks import locked
from localcluster.paths import ClusterDir
from localcluster.ports import free_ports
from localcluster.procs import Process, wait_for
from localcluster.progress import step
from localcluster.rest import answers, get_json
from localcluster.state import load_state, save_state
from localcluster.tools import CONTROL_PLANE, build_tools

# In the order in which they are started; they are stopped in the opposite one.
PROCESSES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


class Components:
    """The four processes of one control plane. Every method can be repeated."""

    def __init__(
        self, config: ControlPlaneConfig, environment: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
    ) -> None:
        self.config = config
        self.cluster = config.cluster
        self._environment = environment or {}
        # Words before each command, for a cluster whose processes share a cgroup.
        self._prefix = prefix

    def process(self, name: str) -> Process:
        return Process(name, self.cluster.pids, self.cluster.logs)

    def _healthy(self, url: str) -> bool:
        return answers(url, self.config.admin_certificate)

    def running(self) -> bool:
        """All four live and the API server says that it is ready."""
        alive = all(self.process(n).pid() is not None for n in PROCESSES)
        return alive and self._healthy(f"{self.config.url}/readyz")

    def start(self) -> None:
        """Start what doesn't run and wait until pods could be created."""
        tools = build_tools(CONTROL_PLANE)
        config, ports = self.config, self.config.ports
        config.kubeconfig(self.cluster.kubeconfig, "admin", "modelyard-admin", ["system:masters"])
        with step("etcd and API server"):
            if self.process("etcd").pid() is None:
                self.process("etcd").start([*self._prefix, *config.etcd(tools["etcd"])])
            self.process("etcd").wait_ready(lambda: _etcd_healthy(ports["etcd"]))
            self.start_apiserver(tools["kube-apiserver"])
        with step("controller manager and scheduler"):
            managers = {
                "kube-controller-manager": (config.controller_manager, "controller-manager"),
                "kube-scheduler": (config.scheduler, "scheduler"),
            }
            for name, (command, _) in managers.items():
                if self.process(name).pid() is None:
                    self.process(name).start([*self._prefix, *command(tools[name])], self._environment)
            for name, (_, port) in managers.items():
                url = f"https://127.0.0.1:{ports[port]}/healthz"
                self.process(name).wait_ready(lambda u=url: self._healthy(u))  # type: ignore[misc]
            # Until this account exists, every pod in `default` is refused.
            account = f"{config.url}/api/v1/namespaces/default/serviceaccounts/default"
            wait_for(lambda: get_json(account, config.admin_certificate) is not None, 30)

    def start_apiserver(self, program: Path | None = None) -> None:
        process = self.process("kube-apiserver")
        if process.pid() is None:
            argv = self.config.apiserver(program or build_tools(["kube-apiserver"])["kube-apiserver"])
            process.start([*self._prefix, *argv], self._environment)
        process.wait_ready(lambda: self._healthy(f"{self.config.url}/readyz"), 120)

    def stop(self) -> None:
        for name in reversed(PROCESSES):
            self.process(name).stop()


def _etcd_healthy(port: int) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}/readyz", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def start_control_plane(cluster: ClusterDir, *, audit: bool = False) -> Components:
    """Bring a control plane up, or finish doing so, or find it running."""
    with locked(f"cluster-{cluster.name}"):
        state = load_state(cluster, "control-plane")
        if state is None:
            with free_ports(PORTS) as ports:
                state = save_state(cluster, "control-plane", ports, audit=audit)
        config = ControlPlaneConfig(cluster, state.ports, Network(), audit=state.audit, full=False)
        components = Components(config)
        if not components.running():
            components.start()
        return components


def remove_control_plane(cluster: ClusterDir) -> None:
    """Stop it and delete its folder."""
    with locked(f"cluster-{cluster.name}"):
        for name in reversed(PROCESSES):
            Process(name, cluster.pids, cluster.logs).stop()
        shutil.rmtree(cluster.root, ignore_errors=True)


class ControlPlane:
    """A fresh control plane for the time of a `with` block.

    What an interrupted run left under the same name goes first, so a name that is fixed keeps the machine clean.
    """

    def __init__(self, name: str | None = None, *, audit: bool = False) -> None:
        self.cluster = ClusterDir(name or f"test-{os.getpid()}")
        self._audit = audit
        self._components: Components | None = None

    def __enter__(self) -> Self:
        remove_control_plane(self.cluster)
        try:
            self._components = start_control_plane(self.cluster, audit=self._audit)
        except BaseException:
            remove_control_plane(self.cluster)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        remove_control_plane(self.cluster)

    @property
    def components(self) -> Components:
        assert self._components is not None, "use it in a `with` block"
        return self._components

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.cluster.kubeconfig

    @property
    def url(self) -> str:
        return self.components.config.url

    @property
    def audit_log(self) -> Path | None:
        """One JSON line a request, complete as soon as the request is answered; None without `audit=True`."""
        return self.components.config.audit_log

    def stop_apiserver(self) -> None:
        """Take the API server away, as an upgrade of a control plane does; etcd keeps everything."""
        self.components.process("kube-apiserver").stop(timeout=2)

    def start_apiserver(self) -> None:
        """Bring it back on the same port."""
        self.components.start_apiserver()

    def client_kubeconfig(self, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig for any user and groups, by a client certificate that the cluster's CA signs."""
        file = "user-" + hashlib.sha256("\0".join([user, *groups]).encode()).hexdigest()[:16]
        return self.components.config.kubeconfig(self.cluster.conf / f"{file}.kubeconfig", file, user, groups)
