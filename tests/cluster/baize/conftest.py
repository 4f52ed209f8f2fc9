"""The real Dataset controller beside the real operator: both on a control plane without nodes.

`MODELYARD_DATASET_CONTROLLER` names the controller's binary, `MODELYARD_DATASET_CRD` the file of its CRD.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster import ControlPlane
from modelyard.plan import Kind
from modelyard.resources.meta import DATASET, JOB, MODEL, MODELSOURCE
from support.build import make_model, make_source
from support.cluster import CRD, Kube, Refused, new_namespace, path_of, wait_for
from support.downloads import end_download
from support.loading import PATHS
from support.operator import OperatorProcess
from support.ports import free_port
from support.tls_sink import certificates

Obj = dict[str, Any]
CONTROLLER = os.environ.get("MODELYARD_DATASET_CONTROLLER", "")
CRD_FILE = os.environ.get("MODELYARD_DATASET_CRD", "")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
JOB_SPEC = """
backoffLimit: 0
template:
  metadata:
    labels: {app.kubernetes.io/managed-by: modelyard, app.kubernetes.io/component: download}
  spec:
    restartPolicy: Never
    containers:
    - name: loader
      image: localhost/modelyard:dev
      command: [modelyard, load]
      env:
      - name: MODELYARD_DATASET_JOB
        valueFrom: {fieldRef: {fieldPath: "metadata.labels['batch.kubernetes.io/job-name']"}}
      volumeMounts: [{name: modelyard, mountPath: /var/run/modelyard, readOnly: true}]
    volumes:
    - name: modelyard
      projected: {sources: [{serviceAccountToken: {audience: modelyard.dev/datasets, path: token}}]}
"""


class World:
    """One namespace, and how its Models and Datasets are."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace

    def create(self, obj: Obj, kind: Any) -> Obj:
        """POST into this namespace."""
        return self.kube.create({**obj, "metadata": {**obj["metadata"], "namespace": self.namespace}}, kind)

    def entry(self, name: str = "m", version: str = "v1") -> Obj:
        """A version's entry; empty if there is none."""
        found = self.kube.find(MODEL, self.namespace, name) or {}
        entries = (found.get("status") or {}).get("syncedVersions") or ()
        return next((e for e in entries if e["name"] == version), {})

    def wait_for_entry(self, name: str = "m", **wanted: Any) -> Obj:
        """Until the entry of version v1 has these values; answers it."""

        def look() -> Obj | None:
            entry = self.entry(name)
            return entry if entry and all(entry.get(k) == v for k, v in wanted.items()) else None

        return wait_for(look, f"{name} to be {wanted}", said=lambda: f"which is {self.entry(name)}")

    def edit(self, name: str, **patch: Any) -> None:
        """A user changes a Model."""
        self.kube.merge(MODEL, self.namespace, name, patch)

    def resync(self, name: str, value: str) -> None:
        """A user asks for everything anew."""
        self.edit(name, metadata={"annotations": {"modelyard.dev/resync": value}})

    def names(self, kind: Any, model: str = "") -> list[str]:
        """Names of all objects of a kind, or of those that were made for a Model."""
        selector = f"modelyard.dev/model={model}" if model else ""
        return sorted(o["metadata"]["name"] for o in self.kube.list(kind, self.namespace, selector))

    def dataset(self, name: str) -> Obj:
        """A Dataset, when it is there."""
        return wait_for(lambda: self.kube.find(DATASET, self.namespace, name), f"Dataset {name}")

    def end(self, dataset: str, round: int = 1, **how: Any) -> None:
        """The Job of that round ends, when it is there."""
        job = f"dataset-{dataset}-round-{round}"
        wait_for(lambda: self.kube.find(JOB, self.namespace, job), job)
        end_download(self.kube, self.namespace, job, **how)


@pytest.fixture(scope="package")
def control_plane() -> Iterator[ControlPlane]:
    """A control plane that has our CRDs and, at first, not that of Datasets."""
    if not CONTROLLER or not CRD_FILE:
        pytest.skip("MODELYARD_DATASET_CONTROLLER and MODELYARD_DATASET_CRD do not name the Dataset controller")
    with ControlPlane(name=f"pytest-baize-{os.getpid()}", audit=True) as plane:
        Kube(plane.kubeconfig).install_crds()
        yield plane


@pytest.fixture(scope="package")
def kube(control_plane: ControlPlane) -> Kube:
    """The administrator's client."""
    return Kube(control_plane.kubeconfig)


@pytest.fixture(scope="package")
def collector(
    control_plane: ControlPlane, kube: Kube, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """The collector, as a process; what the operator's settings say of it."""
    folder = tmp_path_factory.mktemp("collector")
    (folder / "tls").mkdir()
    own = certificates(folder / "tls")
    (folder / "ca.pem").write_text(own.ca_pem)
    accounts = path_of(SERVICE_ACCOUNT, "default")
    kube.request("POST", accounts, {"metadata": {"name": "modelyard-operator"}})
    audience = {"audiences": ["modelyard.dev/collector"], "expirationSeconds": 7200}
    made = kube.request("POST", f"{accounts}/modelyard-operator/token", {"spec": audience})
    (folder / "token").write_text(made["status"]["token"])
    port, metrics_port = free_port(), free_port()
    settings = {
        "port": port,
        "metricsPort": metrics_port,
        "tlsDir": str(folder / "tls"),
        "operatorUser": "system:serviceaccount:default:modelyard-operator",
        "store": {"path": str(folder / "curves.db")},
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump({"namespace": "default", "collector": settings}))
    command = [sys.executable, "-m", "modelyard.collector.main", "--settings", str(folder / "settings.yaml")]
    environment = {**os.environ, "KUBECONFIG": str(control_plane.kubeconfig), "PYTHONPATH": PATHS}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    url = f"https://127.0.0.1:{port}"
    yield {"url": url, "caFile": str(folder / "ca.pem"), "tokenFile": str(folder / "token")}
    process.kill()
    process.wait()


@pytest.fixture(scope="package")
def operator(
    control_plane: ControlPlane, collector: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """The operator, which finds out for itself whether there are Datasets."""
    settings = {
        "collector": {**collector, "pollSeconds": 0.5},
        "dataPlane": "auto",
        "baize": {"loader": "modelyard", "discoverySeconds": 1},
        "download": {"backoffSeconds": 1, "maxBackoffSeconds": 2},
        "storage": {"defaultSize": "1Gi"},
    }
    with OperatorProcess(control_plane.kubeconfig, tmp_path_factory.mktemp("operator"), settings) as process:
        process.wait_until_leading()
        yield process


@pytest.fixture(scope="package")
def before(kube: Kube, operator: OperatorProcess) -> World:
    """A Model `old` whose version was fetched before there were Datasets."""
    world = World(kube, new_namespace(kube))
    world.create(make_source(), MODELSOURCE)
    world.create(make_model("old"), MODEL)
    wait_for(lambda: kube.find(JOB, world.namespace, "fetch-mdl-old-v1-1"), "our own download Job")
    end_download(kube, world.namespace, "fetch-mdl-old-v1-1")
    world.wait_for_entry("old", phase="Ready")
    return world


@pytest.fixture(scope="package")
def datasets(
    before: World, control_plane: ControlPlane, operator: OperatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """The Dataset controller is installed, and the operator has noticed."""
    before.kube.apply(yaml.safe_load(Path(CRD_FILE).read_text()), CRD)
    wait_for(lambda: _served(before.kube), "Datasets to be served")
    folder = tmp_path_factory.mktemp("dataset-controller")
    config = folder / "baize.yaml"
    config.write_text(yaml.safe_dump({"enable_cascading_deletion": False, "dataset_job_spec_yaml": JOB_SPEC}))
    command = [CONTROLLER, "--config", str(config), "--leader-elect=false"]
    command += ["--metrics-bind-address", "0", "--health-probe-bind-address", "0"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env={**os.environ, "KUBECONFIG": str(control_plane.kubeconfig)}, stdout=log, stderr=log
        )
    wait_for(lambda: "Datasets are now served" in operator.log.read_text(), "the operator to notice")
    operator.wait_until_leading()
    yield
    process.kill()
    process.wait()


@pytest.fixture(scope="package")
def ready(kube: Kube, datasets: None) -> World:
    """Models whose versions are all there, one for each test that changes one."""
    world = World(kube, new_namespace(kube))
    world.create(make_source(), MODELSOURCE)
    names = ("resynced", "switched", "absent", "lost", "last", "hostage")
    for name in names:
        world.create(make_model(name), MODEL)
    for name in names:
        world.end(f"mdl-{name}-v1")
    for name in names:
        world.wait_for_entry(name, phase="Ready")
    return world


@pytest.fixture
def world(kube: Kube, datasets: None) -> World:
    """A namespace of the test's own, with a public hub."""
    world = World(kube, new_namespace(kube))
    world.create(make_source(), MODELSOURCE)
    return world


def _served(kube: Kube) -> bool:
    try:
        kube.list(DATASET)
    except Refused:
        return False
    return True
