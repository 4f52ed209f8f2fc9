"""A control plane, the API before it with the rights that the chart gives it, and somebody who may see all."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from localcluster import ControlPlane
from localcluster.ports import free_ports
from modelyard.resources import meta
from support.chart import api_rules
from support.cluster import Kube, control_plane, kube, namespace, new_namespace, wait_for
from support.collector_world import ACCOUNT, NAMESPACE, ROOT, Running, World, tool
from support.statusapi import (
    SPECS,
    ApiProcess,
    account,
    api_process,
    grant,
    install_datasets,
    make,
    rule,
    service_account,
    token_of,
)
from support.tls_sink import certificates

__all__ = ["control_plane", "kube", "namespace"]

SYSTEM = "modelyard-system"
VIEW = ["get", "list", "watch"]


@pytest.fixture(scope="package")
def system(kube: Kube) -> str:
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}, meta.NAMESPACE)
    return SYSTEM


@pytest.fixture(scope="package")
def api_kubeconfig(
    control_plane: ControlPlane, kube: Kube, system: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The API's own account, with exactly the rights that the chart gives it."""
    token = account(kube, system, "modelyard-api")
    grant(kube, "modelyard-api", service_account(system, "modelyard-api"), api_rules(logs=True))
    content = yaml.safe_load(control_plane.kubeconfig.read_text())
    for user in content["users"]:
        user["user"] = {"token": token}
    path = tmp_path_factory.mktemp("api") / "kubeconfig"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="package")
def collector(control_plane: ControlPlane, kube: Kube, system: str, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A collector beside the API; it runs only once a test starts it."""
    folder = tmp_path_factory.mktemp("collector")
    (folder / "tls").mkdir()
    with free_ports(["https", "metrics"]) as ports:
        return World(control_plane, folder, certificates(folder / "tls"), ports["https"], ports["metrics"])


@pytest.fixture(scope="package")
def datasets(kube: Kube) -> None:
    """The cluster serves Datasets."""
    install_datasets(kube)


@pytest.fixture(scope="package")
def api(
    api_kubeconfig: Path, collector: World, kube: Kube, datasets: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApiProcess]:
    folder = tmp_path_factory.mktemp("process")
    (folder / "token").write_text(token_of(kube, SYSTEM, "modelyard-api", audiences=("modelyard.dev/collector",)))
    (folder / "ca.crt").write_text(collector.tls.ca_pem)
    place = {"url": f"https://127.0.0.1:{collector.port}", "tokenFile": "token", "caFile": "ca.crt"}
    place |= {name: str(folder / file) for name, file in place.items() if name != "url"}
    with api_process(folder, api_kubeconfig, api={"logs": True}, collector=place) as process:
        yield process


@pytest.fixture
def reporting(control_plane: ControlPlane, collector: World, kube: Kube, system: str) -> Iterator[Running]:
    """A running collector and a Training that reports to it; it is stopped again behind the test."""
    if collector.process is None:
        account(kube, system, ACCOUNT)
        new = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        kube.create(new, meta.NAMESPACE)
        helm = [str(tool("helm")), "template", "modelyard", str(ROOT / "charts/modelyard"), "-n", system]
        shown = subprocess.run(
            [*helm, "--show-only", "templates/rbac-collector.yaml"], check=True, capture_output=True, text=True
        )
        collector.kubectl("apply", "-f", "-", stdin=shown.stdout)
        wait_for(lambda: "default" in collector.kubectl("-n", NAMESPACE, "get", "serviceaccounts"), "the account")
    collector.start()
    yield collector.training()
    collector.stop()


@pytest.fixture(scope="package")
def admin_token(kube: Kube, system: str) -> str:
    """Somebody who may see all of ours everywhere."""
    token = account(kube, system, "viewer-of-all")
    everything = [
        rule(VIEW, ["*"]),
        rule(VIEW, ["datasets"], group="dataset.baizeai.io"),
        rule(VIEW, ["pods", "pods/log", "events", "namespaces"], group=""),
    ]
    grant(kube, "viewer-of-all", service_account(system, "viewer-of-all"), everything)
    return token


@pytest.fixture
def filled(kube: Kube) -> str:
    """A namespace with one object of each of our kinds."""
    found = new_namespace(kube, "filled")
    for kind in meta.ROOT_KINDS:
        make(kube, kind, found, "one", SPECS[kind.plural])
    return found
