"""The node: containerd, kubelet and kube-proxy, with their configuration files.

All of them live in the node's cgroup; containerd makes the private mount namespace and kubelet joins it.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from localcluster import cgroups
from localcluster.components import ControlPlaneConfig
from localcluster.host import CNI_PLUGINS, private_mounts
from localcluster.locks import locked
from localcluster.paths import ClusterDir
from localcluster.procs import Process
from localcluster.rest import answers, get_json
from localcluster.shell import attempt, run

NODE_NAME = "modelyard"
PORTS = ("kubelet-health", "kube-proxy-health", "kube-proxy-metrics", "dns-health")
# In the order in which they are started; kube-proxy before kubelet, so that the first pod finds its Services.
PROCESSES = ("containerd", "kube-proxy", "kubelet")
# As the node's own processes see it.
_SOCKET = "/run/containerd/containerd.sock"


class ImageStore:
    """containerd's images, as kubelet sees them (namespace `k8s.io`)."""

    def __init__(self, cluster: ClusterDir) -> None:
        self.socket = cluster.node / "run-containerd" / "containerd.sock"
        self._record = cluster.store / "images.json"

    def _ctr(self, *argv: str | Path) -> list[str | Path]:
        return ["ctr", "--address", self.socket, "--namespace", "k8s.io", *argv]

    def answers(self) -> bool:
        return attempt(*self._ctr("version")).returncode == 0

    def has(self, reference: str) -> bool:
        return reference in run(*self._ctr("images", "list", "-q")).split()

    def load(self, archive: Path) -> str:
        return run(*self._ctr("images", "import", archive))

    def keep_newest(self, reference: str, number: int = 2) -> None:
        """Note an image as the newest of its repository, and drop those before the newest few.

        A trainer's image takes gigabytes; the ones before the last are kept for pods that still run them.
        """
        repository = reference.rpartition(":")[0]
        with locked("images"):
            record: dict[str, list[str]] = json.loads(self._record.read_text()) if self._record.exists() else {}
            references = [r for r in record.get(repository, []) if r != reference] + [reference]
            for old in references[:-number]:
                attempt(*self._ctr("images", "delete", old))
            record[repository] = references[-number:]
            self._record.write_text(json.dumps(record, indent=1))
            self._delete_nameless()

    def _delete_nameless(self) -> None:
        """Delete images that only their id names [kubelet's side names each so, which keeps the layers]."""
        rows = [line.split() for line in run(*self._ctr("images", "list")).splitlines()[1:]]
        named = {row[2] for row in rows if not row[0].startswith("sha256:")}
        nameless = [row[0] for row in rows if row[0].startswith("sha256:") and row[2] not in named]
        if nameless:
            attempt(*self._ctr("images", "delete", "--sync", *nameless))

    def remove_containers(self) -> bool:
        """Forget the containers of an earlier cluster, none of which runs; whether there were any."""
        found = run(*self._ctr("containers", "list", "-q")).split()
        if found:
            attempt(*self._ctr("containers", "delete", *found))
        return bool(found)


class Node:
    """The one node of a full cluster."""

    def __init__(self, config: ControlPlaneConfig) -> None:
        self.config = config
        self.cluster = config.cluster
        self.images = ImageStore(self.cluster)

    def process(self, name: str) -> Process:
        return Process(name, self.cluster.pids, self.cluster.logs)

    def start_containerd(self, sandbox_image: str) -> None:
        path = self._write("containerd.toml", _containerd_toml(self.cluster, sandbox_image))
        argv = ["containerd", "--config", str(path)]
        process = self.process("containerd")
        process.start([*cgroups.enter(), *private_mounts(self.cluster), *argv])
        process.wait_ready(self.images.answers)

    def inside(self) -> list[str]:
        """The command prefix that joins the node's mount namespace and cgroup."""
        pid = self.process("containerd").pid()
        return [*cgroups.enter(), "nsenter", f"--target={pid}", "--mount"]

    def start_kube_proxy(self, program: Path) -> None:
        path = self._write("kube-proxy.yaml", yaml.safe_dump(self._kube_proxy_config()))
        process = self.process("kube-proxy")
        process.start([*cgroups.enter(), program, f"--config={path}"])

    def start_kubelet(self, program: Path) -> None:
        path = self._write("kubelet.yaml", yaml.safe_dump(self._kubelet_config()))
        kubeconfig = self.config.component_kubeconfig(f"system:node:{NODE_NAME}", ["system:nodes"])
        process = self.process("kubelet")
        process.start(
            [
                *self.inside(),
                program,
                f"--config={path}",
                f"--kubeconfig={kubeconfig}",
                f"--hostname-override={NODE_NAME}",
                f"--node-ip={self.config.network.address}",
            ]
        )

    def wait_ready(self) -> None:
        """The node takes pods, and Services have their addresses."""
        self.process("kubelet").wait_ready(self.is_ready, 120)
        service = f"https://{self.config.network.first_service}/readyz"
        self.process("kube-proxy").wait_ready(lambda: answers(service, self.config.admin_certificate))

    def is_ready(self) -> bool:
        node = get_json(f"{self.config.url}/api/v1/nodes/{NODE_NAME}", self.config.admin_certificate)
        return node is not None and _takes_pods(node, self._kubelet_started())

    def _kubelet_started(self) -> datetime.datetime:
        try:
            written = self.process("kubelet").record.stat().st_mtime
        except FileNotFoundError:
            return datetime.datetime.max.replace(tzinfo=datetime.UTC)
        return datetime.datetime.fromtimestamp(int(written), datetime.UTC)

    def running(self) -> bool:
        return all(self.process(n).pid() is not None for n in PROCESSES) and self.is_ready()

    def _write(self, name: str, text: str) -> Path:
        path = self.cluster.conf / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def _kubelet_config(self) -> dict[str, Any]:
        config = self.config
        serving = config.authority.server("kubelet", f"system:node:{NODE_NAME}", [NODE_NAME, config.network.address])
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": config.network.address,
            "healthzBindAddress": "127.0.0.1",
            "healthzPort": config.ports["kubelet-health"],
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(config.authority.certificate_path)},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(serving),
            "tlsPrivateKeyFile": str(serving.with_suffix(".key")),
            "containerRuntimeEndpoint": f"unix://{_SOCKET}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{cgroups.ROOT}",
            # 1.35 and newer refuse cgroup v1 otherwise.
            "failCgroupV1": False,
            "failSwapOn": False,
            "enforceNodeAllocatable": [],
            # kube-proxy needs none of them, and nobody would take them away again.
            "makeIPTablesUtilChains": False,
            # A container without CAP_SYS_RESOURCE may not lower it.
            "oomScoreAdj": 0,
            "clusterDomain": "cluster.local",
            "clusterDNS": [config.network.dns_service],
            "resolvConf": "/etc/resolv.conf",
            # Images come from nowhere else: none is ever deleted to make room.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "1%",
                "nodefs.inodesFree": "1%",
                "imagefs.available": "1%",
            },
            "nodeStatusUpdateFrequency": "2s",
            "nodeStatusReportFrequency": "30s",
            "syncFrequency": "10s",
            "serializeImagePulls": False,
            "kubeAPIQPS": 100,
            "kubeAPIBurst": 200,
        }

    def _kube_proxy_config(self) -> dict[str, Any]:
        ports = self.config.ports
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clientConnection": {"kubeconfig": str(self.config.component_kubeconfig("system:kube-proxy"))},
            "clusterCIDR": self.config.network.pod_cidr,
            "hostnameOverride": NODE_NAME,
            "healthzBindAddress": f"127.0.0.1:{ports['kube-proxy-health']}",
            "metricsBindAddress": f"127.0.0.1:{ports['kube-proxy-metrics']}",
            # The machine's connection tracking stays as it is.
            "conntrack": {
                "maxPerCore": 0,
                "min": 0,
                "tcpEstablishedTimeout": "0s",
                "tcpCloseWaitTimeout": "0s",
            },
        }


def _takes_pods(node: Mapping[str, Any], since: datetime.datetime) -> bool:
    """Ready by the word of a kubelet that runs since then: after a crash the last run's word is still there."""
    ready = [
        c
        for c in node["status"].get("conditions", [])
        if c["type"] == "Ready" and datetime.datetime.fromisoformat(c["lastHeartbeatTime"]) >= since
    ]
    taints = {t["key"] for t in node["spec"].get("taints", [])}
    untainted = taints.isdisjoint({"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"})
    return bool(ready) and ready[0]["status"] == "True" and untainted


def _containerd_toml(cluster: ClusterDir, sandbox_image: str) -> str:
    # JSON strings are TOML strings.
    text = {name: json.dumps(str(value)) for name, value in {
        "root": cluster.store / "containerd",
        "opt": cluster.node / "opt",
        "conf": cluster.conf / "cni",
        "plugins": CNI_PLUGINS,
        "sandbox": sandbox_image,
        "socket": _SOCKET,
    }.items()}  # fmt: skip
    return f"""
version = 2
root = {text["root"]}
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = {text["socket"]}

[plugins."io.containerd.internal.v1.opt"]
path = {text["opt"]}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = {text["sandbox"]}
# Lowering it further takes CAP_SYS_RESOURCE, which a container that plays a machine may lack.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = {text["plugins"]}
conf_dir = {text["conf"]}

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"""
