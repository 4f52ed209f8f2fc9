"""The command lines of etcd, API server, controller manager and scheduler: data only, nothing is started here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcluster.kubeconfig import write_kubeconfig
from localcluster.paths import ClusterDir
from localcluster.pki import Authority, service_account_keys

PORTS = ("etcd", "etcd-peer", "apiserver", "controller-manager", "scheduler")

# Everything is logged at Metadata level [tests count the operator's writes]; not the stage at which a request
# has no answer yet, so each request is one line.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}

# Who may log in besides certificates and service accounts: nobody, until somebody writes an OIDC issuer into the file.
# The API server reads it again when it changes.
AUTHENTICATION = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": []}


@dataclass(frozen=True)
class Network:
    """The addresses of a cluster. Only a full cluster has a node address; a control plane alone lives on loopback."""

    address: str = "127.0.0.1"
    service_cidr: str = "10.213.0.0/16"
    first_service: str = "10.213.0.1"
    dns_service: str = "10.213.0.10"
    pod_cidr: str = "10.212.0.0/16"


@dataclass(frozen=True)
class ControlPlaneConfig:
    """What the command lines are made from."""

    cluster: ClusterDir
    ports: Mapping[str, int]
    network: Network
    audit: bool
    # A full cluster reaches its kubelet and publishes the API server as the `kubernetes` Service.
    full: bool

    @property
    def url(self) -> str:
        return f"https://{self.network.address}:{self.ports['apiserver']}"

    @property
    def authority(self) -> Authority:
        return Authority(self.cluster.pki)

    @property
    def admin_certificate(self) -> Path:
        return self.authority.client("admin", "modelyard-admin", ["system:masters"])

    @property
    def audit_log(self) -> Path | None:
        return self.cluster.logs / "audit.log" if self.audit else None

    @property
    def authentication(self) -> Path:
        """The API server's AuthenticationConfiguration."""
        return self.cluster.conf / "authentication.json"

    def kubeconfig(self, path: Path, file: str, user: str, groups: Sequence[str] = ()) -> Path:
        """Write a kubeconfig for a client certificate of this cluster's CA."""
        authority = self.authority
        return write_kubeconfig(
            path,
            name=self.cluster.name,
            url=self.url,
            ca=authority.certificate_path,
            certificate=authority.client(file, user, groups),
            user=user,
        )

    def component_kubeconfig(self, user: str, groups: Sequence[str] = ()) -> Path:
        """The kubeconfig of a component, among the generated configuration files."""
        file = user.replace(":", "-")
        return self.kubeconfig(self.cluster.conf / f"{file}.kubeconfig", file, user, groups)

    def etcd(self, program: Path) -> list[str]:
        client, peer = (f"http://127.0.0.1:{self.ports[p]}" for p in ("etcd", "etcd-peer"))
        return [
            f"{program}",
            f"--data-dir={self.cluster.etcd}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--log-level=warn",
            "--quota-backend-bytes=4294967296",
            # A cluster for development and tests: losing it in a power cut costs one `cluster-up`.
            "--unsafe-no-fsync",
        ]

    def apiserver(self, program: Path) -> list[str]:
        authority, pki, net = self.authority, self.cluster.pki, self.network
        names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
        serving = authority.server(
            "apiserver", "kube-apiserver", [*names, "localhost", "127.0.0.1", net.first_service, net.address]
        )
        private, public = service_account_keys(pki)
        # A CA of its own: whoever holds a certificate of the cluster's CA must not be able to act as a front proxy.
        front = Authority(pki / "front-proxy")
        proxy = front.client("front-proxy-client", "front-proxy-client")
        kubelet = authority.client("apiserver-kubelet", "kube-apiserver-kubelet-client", ["system:masters"])
        if not self.authentication.exists():
            self.authentication.parent.mkdir(parents=True, exist_ok=True)
            self.authentication.write_text(json.dumps(AUTHENTICATION))
        argv = [
            f"{program}",
            f"--etcd-servers=http://127.0.0.1:{self.ports['etcd']}",
            f"--bind-address={net.address}",
            f"--secure-port={self.ports['apiserver']}",
            f"--advertise-address={net.address}",
            f"--service-cluster-ip-range={net.service_cidr}",
            f"--tls-cert-file={serving}",
            f"--tls-private-key-file={serving.with_suffix('.key')}",
            f"--client-ca-file={authority.certificate_path}",
            f"--kubelet-client-certificate={kubelet}",
            f"--kubelet-client-key={kubelet.with_suffix('.key')}",
            f"--kubelet-certificate-authority={authority.certificate_path}",
            "--kubelet-preferred-address-types=InternalIP,Hostname",
            f"--authentication-config={self.authentication}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={public}",
            f"--service-account-signing-key-file={private}",
            f"--requestheader-client-ca-file={front.certificate_path}",
            "--requestheader-allowed-names=front-proxy-client",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={proxy}",
            f"--proxy-client-key-file={proxy.with_suffix('.key')}",
            "--profiling=false",
        ]
        if not self.full:
            # A loopback address can't be published as the Service's endpoint, and no pod is there to use it.
            argv.append("--endpoint-reconciler-type=none")
        if self.audit_log is not None:
            policy = self.cluster.conf / "audit-policy.json"
            policy.parent.mkdir(parents=True, exist_ok=True)
            policy.write_text(json.dumps(AUDIT_POLICY))
            # Blocking: when a request is answered, its line is in the file.
            argv += [
                f"--audit-policy-file={policy}",
                f"--audit-log-path={self.audit_log}",
                "--audit-log-mode=blocking",
                "--audit-log-maxsize=100000",  # MiB; rotated, a reader would lose what it has not read
            ]
        return argv

    def controller_manager(self, program: Path) -> list[str]:
        config = self.component_kubeconfig("system:kube-controller-manager")
        authority = self.authority
        private, _ = service_account_keys(self.cluster.pki)
        return [
            f"{program}",
            *self._served(config, "controller-manager"),
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={private}",
            f"--root-ca-file={authority.certificate_path}",
            f"--cluster-signing-cert-file={authority.certificate_path}",
            f"--cluster-signing-key-file={authority.key_path}",
            f"--cluster-name={self.cluster.name}",
            f"--cluster-cidr={self.network.pod_cidr}",
            f"--service-cluster-ip-range={self.network.service_cidr}",
            "--allocate-node-cidrs=true",
            # Namespaces and owners' dependents go as fast as on an idle machine, also when a test deletes hundreds.
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ]

    def scheduler(self, program: Path) -> list[str]:
        config = self.component_kubeconfig("system:kube-scheduler")
        return [f"{program}", *self._served(config, "scheduler"), "--kube-api-qps=200", "--kube-api-burst=400"]

    def _served(self, config: Path, port: str) -> list[str]:
        return [
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.ports[port]}",
            "--leader-elect=false",
        ]
