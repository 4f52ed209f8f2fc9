"""Cluster DNS and the default StorageClass. Both programs run beside the cluster, not in it: no image is needed."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from localcluster import cgroups
from localcluster.baseimages import node_image
from localcluster.components import ControlPlaneConfig
from localcluster.procs import Process
from localcluster.shell import run

PROCESSES = ("coredns", "local-path-provisioner")
STORAGE_CLASS = "standard"
_PROVISIONER = "modelyard.dev/local-path"
_NAMESPACE = "local-path-storage"
_ACCOUNT = "local-path-provisioner-service-account"
_CONFIG_MAP = "local-path-config"
_SETUP = '#!/bin/sh\nset -eu\nmkdir -m 0777 -p "$VOL_DIR"\n'
_TEARDOWN = '#!/bin/sh\nset -eu\nrm -rf "$VOL_DIR"\n'


class Addons:
    """The two programs, the objects that go with them, and their configuration files."""

    def __init__(self, config: ControlPlaneConfig) -> None:
        self.config = config
        self.cluster = config.cluster

    def process(self, name: str) -> Process:
        return Process(name, self.cluster.pids, self.cluster.logs)

    def running(self) -> bool:
        return all(self.process(n).pid() is not None for n in PROCESSES)

    def apply(self, kubectl: Path) -> None:
        """Create or update the objects; may be repeated."""
        documents = {"apiVersion": "v1", "kind": "List", "items": [*self._dns_objects(), *self._storage_objects()]}
        run(
            kubectl,
            f"--kubeconfig={self.cluster.kubeconfig}",
            *("apply", "--server-side", "--force-conflicts", "--field-manager=localcluster", "-f", "-"),
            stdin=json.dumps(documents),
        )

    def _kubeconfig(self) -> Path:
        return self.config.component_kubeconfig("modelyard-addons", ["system:masters"])

    # DNS

    def start_dns(self, program: Path) -> None:
        path = self.cluster.conf / "Corefile"
        path.write_text(self._corefile())
        self.process("coredns").start([*cgroups.enter(), program, "-conf", path])

    def dns_ready(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self.config.ports['dns-health']}/ready", timeout=2) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def _corefile(self) -> str:
        resolvers = [
            line.split()[1]
            for line in Path("/etc/resolv.conf").read_text().splitlines()
            if line.startswith("nameserver ")
        ]
        # Without one the machine has no names beyond its own, and neither has the cluster.
        forward = f"forward . {' '.join(resolvers)}" if resolvers else ""
        return f"""
.:53 {{
    bind {self.config.network.address}
    errors
    ready 127.0.0.1:{self.config.ports["dns-health"]}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {self._kubeconfig()}
        pods insecure
        ttl 5
    }}
    cache 5
    {forward}
}}
"""

    def _dns_objects(self) -> list[dict[str, Any]]:
        names = ("dns", "UDP"), ("dns-tcp", "TCP")
        ports = [{"name": n, "protocol": p, "port": 53} for n, p in names]
        metadata = {"name": "kube-dns", "namespace": "kube-system"}
        return [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {**metadata, "labels": {"k8s-app": "kube-dns"}},
                "spec": {"clusterIP": self.config.network.dns_service, "ports": ports},
            },
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "kube-dns"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": [self.config.network.address], "conditions": {"ready": True}}],
                "ports": ports,
            },
        ]

    # Storage

    def start_storage(self, program: Path) -> None:
        volumes = self.cluster.node / "volumes"
        volumes.mkdir(parents=True, exist_ok=True)
        paths = {"nodePathMap": [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [str(volumes)]}]}
        settings = self.cluster.conf / "local-path.json"
        settings.write_text(json.dumps(paths))
        helper = self.cluster.conf / "local-path-helper.json"
        helper.write_text(json.dumps(_helper_pod()))
        argv = [
            *cgroups.enter(),
            f"{program}",
            "start",
            f"--kubeconfig={self._kubeconfig()}",
            f"--config={settings}",
            f"--helper-pod-file={helper}",
            f"--helper-image={node_image()}",
            f"--namespace={_NAMESPACE}",
            f"--configmap-name={_CONFIG_MAP}",
            f"--service-account-name={_ACCOUNT}",
            f"--provisioner-name={_PROVISIONER}",
        ]
        self.process("local-path-provisioner").start(argv, {"POD_NAMESPACE": _NAMESPACE})

    def _storage_objects(self) -> list[dict[str, Any]]:
        return [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}},
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": _ACCOUNT, "namespace": _NAMESPACE},
            },
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": _CONFIG_MAP, "namespace": _NAMESPACE},
                "data": {"setup": _SETUP, "teardown": _TEARDOWN},
            },
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {
                    "name": STORAGE_CLASS,
                    "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
                },
                "provisioner": _PROVISIONER,
                "reclaimPolicy": "Delete",
                "volumeBindingMode": "WaitForFirstConsumer",
                "allowVolumeExpansion": False,
            },
        ]


def _helper_pod() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "helper-pod"},
        "spec": {
            # It only makes and removes a folder; nothing is to be flushed when it ends.
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "helper-pod", "image": node_image(), "imagePullPolicy": "IfNotPresent"}],
        },
    }
