"""A control plane, the API before it with the rights that the chart gives it, and somebody who may see all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from localcluster import ControlPlane
from modelyard.resources import meta
from support.chart import api_rules
from support.cluster import Kube, control_plane, kube, namespace, new_namespace
from support.statusapi import SPECS, ApiProcess, account, api_process, grant, make, rule, service_account

__all__ = ["control_plane", "kube", "namespace"]

SYSTEM = "modelyard-system"
VIEW = ["get", "list", "watch"]


@pytest.fixture(scope="session")
def system(kube: Kube) -> str:
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}, meta.NAMESPACE)
    return SYSTEM


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def api(api_kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    with api_process(tmp_path_factory.mktemp("process"), api_kubeconfig, api={"logs": True}) as process:
        yield process


@pytest.fixture(scope="session")
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
