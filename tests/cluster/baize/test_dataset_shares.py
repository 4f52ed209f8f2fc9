"""Sharing Datasets with the real Dataset controller: its REFERENCEs, and its volumes."""

from __future__ import annotations

from typing import Any

from modelyard.resources.meta import DATASET, MODEL, NAMESPACE, PV, PVC
from modelyard.resources.names import share
from support.build import make_model, make_version
from support.cluster import Kube, new_namespace, wait_for

World = Any
ACCEPTS = {"modelyard.dev/accept-shares": "true"}
RWX = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}


def provide(kube: Kube, namespace: str, claim: str) -> None:
    """What a provisioner does."""
    wait_for(lambda: kube.find(PVC, namespace, claim), claim)
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteMany"],
        "nfs": {"server": "files.example", "path": f"/{namespace}"},
        "claimRef": {"namespace": namespace, "name": claim},
    }
    kube.create(
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"{namespace}-{claim}"}, "spec": spec}, PV
    )


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
