"""Sharing Datasets with the real Dataset controller: its REFERENCEs, and its volumes."""

from __future__ import annotations

from typing import Any

from modelyard.resources.meta import DATASET, JOB, MODEL, MODELSOURCE, NAMESPACE, PV, PVC
from modelyard.resources.names import share
from support.build import make_model, make_source, make_version
from support.cluster import Kube, new_namespace, wait_for
from support.downloads import end_download
from support.volumes import provide

World = Any
ACCEPTS = {"modelyard.dev/accept-shares": "true"}
RWX = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}


def test_a_dataset_is_shared_by_reference_and_nothing_is_left_of_it(world: World) -> None:
    kube: Kube = world.kube
    team = {"team": world.namespace}
    there = new_namespace(kube, "there")
    kube.merge(NAMESPACE, "", there, {"metadata": {"labels": team | ACCEPTS}})
    sharing = {"enabled": True, "namespaceSelector": {"matchLabels": team}}
    world.create(make_model("m", make_version(storage=RWX, share=sharing)), MODEL)
    source = world.dataset("mdl-m-v1")
    assert source["spec"]["share"] is True
    assert source["spec"]["shareToNamespaceSelector"]["matchLabels"] == team
    provide(kube, world.namespace, "mdl-m-v1")
    world.end("mdl-m-v1")
    name = share(world.namespace, "m", "v1")
    row = {"namespace": there, "name": name, "phase": "Ready"}
    world.wait_for_entry(phase="Ready", sharedWith=[row])
    reference = kube.get(DATASET, there, name)
    assert reference["spec"]["source"] == {"type": "REFERENCE", "uri": f"dataset://{world.namespace}/mdl-m-v1"}
    claim = wait_for(
        lambda: kube.get(PVC, there, name)["spec"].get("volumeName") and kube.get(PVC, there, name), "a claim"
    )

    world.edit("m", spec={"versions": [make_version(storage=RWX)]})
    wait_for(lambda: not kube.find(DATASET, there, name), "the reference to go")
    wait_for(lambda: not kube.find(PVC, there, name), "its claim to go")
    wait_for(lambda: not kube.find(PV, "", claim["spec"]["volumeName"]), "its volume to go")
    wait_for(lambda: not world.dataset("mdl-m-v1")["spec"].get("share"), "the source to be shared no more")

    world.edit("m", spec={"versions": [make_version(storage=RWX, share=sharing)]})
    world.wait_for_entry(phase="Ready", sharedWith=[row])
    kube.delete(MODEL, world.namespace, "m")
    wait_for(lambda: not kube.find(MODEL, world.namespace, "m"), "the Model to go")
    assert not kube.find(DATASET, there, name)


def test_nfs_is_a_dataset_without_a_job(world: World) -> None:
    world.create(make_source("nas", "NFS", config={"server": "nas.example", "path": "/export"}), MODELSOURCE)
    world.create(make_model("m", make_version("v1", "models/a"), source="nas"), MODEL)
    source = world.dataset("mdl-m-v1")["spec"]["source"]
    assert source == {"type": "NFS", "uri": "nfs://nas.example/export/models/a"}
    entry = world.wait_for_entry(phase="Ready", pvcName="mdl-m-v1", activeDataset="mdl-m-v1")
    assert "path" not in entry
    world.resync("m", "again")
    world.kube.delete(MODEL, world.namespace, "m")
    wait_for(lambda: not world.kube.find(DATASET, world.namespace, "mdl-m-v1"), "the Dataset to go")


def test_a_reference_waits_until_both_sides_agree(world: World) -> None:
    kube: Kube = world.kube
    home = new_namespace(kube, "home")
    theirs = type(world)(kube, home)
    spec = {
        "source": {"type": "HTTP", "uri": "http://files.example/a"},
        "mountOptions": {"path": "/sub", "mode": "0755"},
        "volumeClaimTemplate": {"spec": RWX},
    }
    named = {"name": "theirs", "namespace": home}
    kube.create({"apiVersion": DATASET.api_version, "kind": "Dataset", "metadata": named, "spec": spec}, DATASET)
    provide(kube, home, "theirs")
    job = kube_job(theirs, "theirs")
    world.create(make_source("shared", "REFERENCE"), MODELSOURCE)
    world.create(make_model("m", make_version("v1", f"{home}/theirs"), source="shared"), MODEL)
    world.wait_for_entry(phase="Pending", reason="NotAccepted")
    kube.merge(NAMESPACE, "", world.namespace, {"metadata": {"labels": ACCEPTS}})
    world.wait_for_entry(phase="Pending", reason="NotShared")
    kube.merge(DATASET, home, "theirs", {"spec": {"share": True}})
    world.wait_for_entry(phase="Pending", reason="SourceNotReady")
    end_download(kube, home, job)
    world.wait_for_entry(phase="Ready", activeDataset="mdl-m-v1", path="sub")


def kube_job(world: World, dataset: str) -> str:
    """The first Job of a Dataset, when it is there."""
    name = f"dataset-{dataset}-round-1"
    wait_for(lambda: world.kube.find(JOB, world.namespace, name), name)
    return name
