"""A modelfs user's manifests, with apiVersion alone changed, give the same Datasets: modelfs itself runs beside.

`MODELYARD_MODELFS` names its manager's binary; its CRDs, `modelfs-crds.yaml`, lie beside it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from localcluster import ControlPlane
from modelyard.plan import Kind
from modelyard.resources.meta import DATASET, MODEL, MODELSOURCE, NAMESPACE, SECRET
from support.build import make_secret
from support.cluster import CRD, Kube, new_namespace, wait_for

Obj = dict[str, Any]
MODELFS = os.environ.get("MODELYARD_MODELFS", "")
THEIR_API = "model.samzong.dev/v1"
THEIRS = {
    "ModelSource": Kind(THEIR_API, "ModelSource", "modelsources"),
    "Model": Kind(THEIR_API, "Model", "models"),
}
OURS = {"ModelSource": MODELSOURCE, "Model": MODEL}
ACCEPTS = {"modelyard.dev/accept-shares": "true"}
STORAGE = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "2Gi"}}}

SOURCES: dict[str, Obj] = {
    "hub": {"type": "HUGGING_FACE", "config": {"endpoint": "https://hub.example"}},
    "private": {"type": "HUGGING_FACE", "secretRef": "token"},
    "scope": {"type": "MODEL_SCOPE"},
    "bucket": {"type": "S3", "config": {"provider": "MINIO", "endpoint": "http://minio.example:9000", "region": "r"}},
    "git": {"type": "GIT", "config": {"depth": "1"}},
    "files": {"type": "HTTP"},
    "nfs": {"type": "NFS", "config": {"server": "nas.example"}},
    "env": {"type": "CONDA", "config": {"uri": "conda://env", "name": "env", "pythonVersion": "3.12"}},
    "lent": {"type": "REFERENCE"},
}
REPOS = {
    "hub": "org/repo",
    "private": "org/repo",
    "scope": "org/repo",
    "bucket": "s3://bucket/folder",
    "git": "https://git.example/org/repo.git",
    "files": "https://files.example/models/a",
    "nfs": "/models/a",
    "env": "environment",
    "lent": "weights",
}
"""HTTP and NFS as modelfs needs them: below `config.url`, or without a slash, it makes URIs that no loader takes.

A claim is used as it is here, without a Dataset. Of CONDA and REFERENCE modelfs makes one only of `config.uri`.
"""


def manifests(api: str, namespace: str, lender: str) -> Iterator[Obj]:
    lent = {"lent": {**SOURCES["lent"], "config": {"uri": f"dataset://{lender}/weights"}}}
    for name, spec in (SOURCES | lent).items():
        meta = {"name": name, "namespace": namespace}
        yield {"apiVersion": api, "kind": "ModelSource", "metadata": meta, "spec": spec}
        version = {"name": "v1", "repo": REPOS[name], "precision": "FP16", "state": "PRESENT", "storage": STORAGE}
        yield {"apiVersion": api, "kind": "Model", "metadata": meta, "spec": {"sourceRef": name, "versions": [version]}}


@pytest.fixture
def modelfs(control_plane: ControlPlane, kube: Kube, datasets: None, tmp_path: Path) -> Iterator[None]:
    """The manager of modelfs."""
    if not MODELFS:
        pytest.skip("MODELYARD_MODELFS does not name modelfs-manager")
    for crd in yaml.safe_load_all((Path(MODELFS).parent / "modelfs-crds.yaml").read_text()):
        if crd:
            kube.apply(crd, CRD)
    for kind in THEIRS.values():
        kube.wait_until_served(kind)
    command = [MODELFS, "--metrics-bind-address", "0", "--health-probe-bind-address", "0"]
    environment = {**os.environ, "KUBECONFIG": str(control_plane.kubeconfig)}
    with (tmp_path / "modelfs.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    yield
    process.kill()
    process.wait()


def test_the_same_manifests_give_the_same_datasets(kube: Kube, modelfs: None) -> None:
    lender = new_namespace(kube)
    weights: Obj = {"source": {"type": "PVC", "uri": "pvc://weights"}, "share": True}
    meta = {"name": "weights", "namespace": lender}
    kube.create({"apiVersion": DATASET.api_version, "kind": "Dataset", "metadata": meta, "spec": weights}, DATASET)
    made: dict[str, dict[str, Obj]] = {}
    for api, kinds in ((THEIR_API, THEIRS), (MODEL.api_version, OURS)):
        namespace = new_namespace(kube)
        kube.merge(NAMESPACE, "", namespace, {"metadata": {"labels": ACCEPTS}})
        secret = make_secret("token", {"token": "hf_x"})
        kube.create({**secret, "metadata": {"name": "token", "namespace": namespace}}, SECRET)
        for obj in manifests(api, namespace, lender):
            kube.create(obj, kinds[obj["kind"]])
        found = wait_for(lambda ns=namespace: _all_datasets(kube, ns), f"the Datasets of {api}")  # type: ignore[misc]
        made[api] = {d["metadata"]["name"]: d["spec"] for d in found}
    theirs, ours = made[THEIR_API], made[MODEL.api_version]
    assert ours.keys() == theirs.keys()
    for name, spec in ours.items():
        their = theirs[name]
        assert (name, spec["source"]["type"]) == (name, their["source"]["type"])
        assert (name, spec["source"]["uri"]) == (name, their["source"]["uri"])
        # modelfs copies the Secret's values into the options, where everybody reads them, and sets no secretRef; and
        # the server and the URI, which the URI says.
        known = ("token", "server", "uri")
        options = {k: v for k, v in (their["source"].get("options") or {}).items() if k not in known}
        assert (name, spec["source"].get("options") or {}) == (name, options)
        if their["source"]["type"] == "REFERENCE":
            continue  # its volume is the one that it refers to, whatever a template says
        claim, their_claim = spec["volumeClaimTemplate"]["spec"], their["volumeClaimTemplate"]["spec"]
        assert {k: claim[k] for k in ("accessModes", "resources")} == {
            k: their_claim[k] for k in ("accessModes", "resources")
        }
    assert ours["mdl-private-v1"]["secretRef"] == "token"


def _all_datasets(kube: Kube, namespace: str) -> list[Obj] | None:
    found = kube.list(DATASET, namespace)
    return found if len(found) == len(SOURCES) else None
