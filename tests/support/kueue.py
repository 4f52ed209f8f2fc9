"""The real Kueue on a control plane without nodes: its manager as a process, installed from its own manifests.

They are those of `config/default`, but that the webhooks' Service is a name for this machine, and that nobody mounts
the Secret with the certificate: `Kueue` writes it to files, as a kubelet would.
"""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import yaml

from localcluster import ControlPlane
from localcluster.tools import build_tools, sources_of
from modelyard.plan import Kind
from modelyard.resources.meta import JOB, NAMESPACE, SECRET, SERVICE, WORKLOAD
from modelyard.resources.names import queue_workload
from support.cluster import CRD, Kube, wait_for
from support.ports import free_port

Obj = dict[str, Any]
API = "kueue.x-k8s.io/v1beta2"
FLAVOR = Kind(API, "ResourceFlavor", "resourceflavors")
CLUSTER_QUEUE = Kind(API, "ClusterQueue", "clusterqueues")
LOCAL_QUEUE = Kind(API, "LocalQueue", "localqueues")
WEBHOOKS = (
    Kind("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations"),
    Kind("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations"),
)
HOME = "kueue-system"
SERVICE_NAME = "kueue-webhook-service"
CERTIFICATE = "kueue-webhook-server-cert"
CONVERTED = ("localqueues", "clusterqueues", "cohorts", "workloads", "multikueueclusters")


class Kueue:
    """One Kueue that looks after the Jobs with a queue's name; a context manager that ends its process."""

    def __init__(self, plane: ControlPlane, kube: Kube, folder: Path) -> None:
        self._kube = kube
        self._log = folder / "kueue.log"
        self._certificates = folder / "certificates"
        self._health, self._port = free_port(), free_port()
        self._config = folder / "kueue.yaml"
        self._config.write_text(yaml.safe_dump(self._configuration()))
        self._kubeconfig = plane.client_kubeconfig("kueue", ["system:masters"])
        self._process: subprocess.Popen[bytes] | None = None

    def _configuration(self) -> Obj:
        return {
            "apiVersion": "config.kueue.x-k8s.io/v1beta2",
            "kind": "Configuration",
            "namespace": HOME,
            "health": {"healthProbeBindAddress": f"127.0.0.1:{self._health}"},
            "metrics": {"bindAddress": "0"},
            "webhook": {"host": "127.0.0.1", "port": self._port, "certDir": str(self._certificates)},
            "leaderElection": {"leaderElect": False},
            "integrations": {"frameworks": ["batch/job"]},
            # Served through an aggregated API that nobody here asks.
            "featureGates": {"VisibilityOnDemand": False},
        }

    def __enter__(self) -> Self:
        program = build_tools(["kueue"])["kueue"]
        self._install(sources_of("kueue") / "config" / "components")
        environment = {**os.environ, "KUBECONFIG": str(self._kubeconfig)}
        with self._log.open("wb") as log:
            command = [program, "--config", self._config]
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            self._mount()
            wait_for(self._ready, "Kueue to be ready", 120, said=self.tail)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """It is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def tail(self, lines: int = 20) -> str:
        """The end of its log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])

    def _install(self, manifests: Path) -> None:
        self._kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}}, NAMESPACE)
        here = {"type": "ExternalName", "externalName": "localhost"}
        self._kube.create(_object(SERVICE, SERVICE_NAME, spec=here), SERVICE)
        self._kube.create(_object(SECRET, CERTIFICATE), SECRET)
        for file in sorted((manifests / "crd" / "bases").glob("*.yaml")):
            crd = yaml.safe_load(file.read_text())
            if crd["spec"]["names"]["plural"] in CONVERTED:
                webhook = {"clientConfig": {"service": self._service("/convert")}, "conversionReviewVersions": ["v1"]}
                crd["spec"]["conversion"] = {"strategy": "Webhook", "webhook": webhook}
            self._kube.apply(crd, CRD)
        configurations = yaml.safe_load_all((manifests / "webhook" / "manifests.yaml").read_text())
        for kind, configuration in zip(WEBHOOKS, configurations, strict=True):
            configuration["metadata"]["name"] = f"kueue-{configuration['metadata']['name']}"
            for webhook in configuration["webhooks"]:
                webhook["clientConfig"]["service"] = self._service(webhook["clientConfig"]["service"]["path"])
            self._kube.create(configuration, kind)

    def _service(self, path: str) -> Obj:
        return {"namespace": HOME, "name": SERVICE_NAME, "path": path, "port": self._port}

    def _mount(self) -> None:
        """What the kubelet does for Kueue's pod."""
        data = wait_for(
            lambda: self._kube.get(SECRET, HOME, CERTIFICATE).get("data"), "Kueue to make its certificate", 60
        )
        self._certificates.mkdir()
        for name in sorted(data, key=lambda n: n == "tls.crt"):  # it looks for that one
            (self._certificates / name).write_bytes(base64.b64decode(data[name]))

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"Kueue has ended:\n{self.tail()}"
        try:
            answer = httpx2.get(f"http://127.0.0.1:{self._health}/readyz", trust_env=False, timeout=2)
        except httpx2.TransportError:
            return False
        return answer.status_code == 200

    # ---- what an administrator makes

    def queue(self, namespace: str, gpus: int, *, preemption: bool = False, labels: Obj | None = None) -> None:
        """A LocalQueue `team` in that namespace, with a quota of its own on nodes with these labels."""
        flavor = _object(FLAVOR, namespace, "", spec={"nodeLabels": labels or {"example.org/pool": "spot"}})
        quotas = {"cpu": "1k", "memory": "1Pi", "nvidia.com/gpu": str(gpus)}
        resources = [{"name": name, "nominalQuota": amount} for name, amount in quotas.items()]
        spec = {
            "namespaceSelector": {},
            "resourceGroups": [
                {"coveredResources": list(quotas), "flavors": [{"name": namespace, "resources": resources}]}
            ],
            "preemption": {"withinClusterQueue": "LowerPriority" if preemption else "Never"},
        }
        self._kube.create(flavor, FLAVOR)
        self._kube.create(_object(CLUSTER_QUEUE, namespace, "", spec=spec), CLUSTER_QUEUE)
        self._kube.create(_object(LOCAL_QUEUE, "team", namespace, spec={"clusterQueue": namespace}), LOCAL_QUEUE)

    def workload(self, namespace: str, job: str) -> Obj:
        """What Kueue keeps of that Job."""
        name = queue_workload(job, self._kube.get(JOB, namespace, job)["metadata"]["uid"])
        return wait_for(lambda: self._kube.find(WORKLOAD, namespace, name), f"Workload {name}")

    def switch(self, namespace: str, job: str, *, active: bool) -> None:
        """An administrator takes the Job out of the queue, or lets it in again."""
        name = self.workload(namespace, job)["metadata"]["name"]
        self._kube.merge(WORKLOAD, namespace, name, {"spec": {"active": active}})


def _object(kind: Kind, name: str, namespace: str = HOME, **content: Any) -> Obj:
    place = {"namespace": namespace} if namespace else {}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": name, **place}, **content}
