"""Sharing claims on a real API server: its volume binder binds, its protection controllers protect."""

from __future__ import annotations

from typing import Any

from modelyard.resources.meta import JOB, MODEL, MODELSOURCE, NAMESPACE, PV, PVC, TRAINING
from modelyard.resources.names import share
from support.build import make_model, make_source, make_training, make_version
from support.cluster import Kube, new_namespace, wait_for
from support.downloads import end_download
from support.kubelet import Ending, PretendKubelet
from support.trainings import DONE
from support.volumes import phase, provide

World = Any
ACCEPTS = {"modelyard.dev/accept-shares": "true"}
RWX = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}


def test_a_version_is_shared_followed_and_taken_back(world: World) -> None:
    kube: Kube = world.kube
    team = {"team": world.namespace}
    there, late = (new_namespace(kube, "there") for _ in range(2))
    kube.merge(NAMESPACE, "", there, {"metadata": {"labels": team | ACCEPTS}})
    world.create(make_source(), MODELSOURCE)
    sharing = {"enabled": True, "namespaceSelector": {"matchLabels": team}}
    world.create(make_model("m", make_version(storage=RWX, share=sharing)), MODEL)
    wait_for(lambda: kube.find(JOB, world.namespace, "fetch-mdl-m-v1-1"), "the download")
    provide(kube, world.namespace, "mdl-m-v1")
    end_download(kube, world.namespace, "fetch-mdl-m-v1-1")
    name = share(world.namespace, "m", "v1")
    row = {"namespace": there, "name": name, "phase": "Ready"}
    world.wait_for_entry(sharedWith=[row])
    claim = kube.get(PVC, there, name)
    disk = kube.get(PV, "", claim["spec"]["volumeName"])
    assert claim["status"]["accessModes"] == ["ReadOnlyMany"]
    assert (disk["spec"]["nfs"]["path"], disk["spec"]["mountOptions"]) == (f"/{world.namespace}", ["ro"])
    assert disk["spec"]["persistentVolumeReclaimPolicy"] == "Retain"

    borrower = type(world)(kube, there)
    borrower.create(make_source("shared", "REFERENCE"), MODELSOURCE)
    version = make_version("v1", f"{world.namespace}/m/v1")
    borrower.create(make_model("borrowed", version, source="shared"), MODEL)
    borrower.wait_for_entry(name="borrowed", phase="Ready", pvcName=name, path="data")

    kube.merge(NAMESPACE, "", late, {"metadata": {"labels": team | ACCEPTS}})
    wait_for(lambda: phase(kube, late, name) == "Bound", "the namespace that accepts later to get it")
    kube.merge(NAMESPACE, "", there, {"metadata": {"labels": {"modelyard.dev/accept-shares": None}}})
    wait_for(lambda: not kube.find(PVC, there, name), "the namespace that accepts no more to lose it")
    borrower.wait_for_entry(name="borrowed", phase="Pending", reason="NotShared")
    wait_for(lambda: not kube.find(PV, "", disk["metadata"]["name"]), "its volume to go")
    kube.delete(NAMESPACE, "", late)
    world.wait_for_entry(sharedWith=None)
    wait_for(lambda: not kube.get(MODEL, world.namespace, "m")["metadata"].get("finalizers"), "the guard to let go")

    kube.merge(NAMESPACE, "", there, {"metadata": {"labels": ACCEPTS}})
    world.wait_for_entry(sharedWith=[row])
    kube.delete(MODEL, world.namespace, "m")
    world.gone(MODEL, "m")
    assert not kube.find(PVC, there, name)
    assert kube.find(PV, "", f"{world.namespace}-mdl-m-v1"), "the storage itself is its owner's"


def test_what_a_training_saved_is_shared_too(world: World) -> None:
    kube: Kube = world.kube
    there = new_namespace(kube, "there")
    team = {"team": world.namespace}
    kube.merge(NAMESPACE, "", there, {"metadata": {"labels": team | ACCEPTS}})
    sharing = {"enabled": True, "namespaceSelector": {"matchLabels": team}}
    kept = {"name": "v1", "share": sharing}
    world.create({**make_model("m"), "spec": {"versions": [kept]}}, MODEL)
    world.wait_for_entry(phase="Pending")
    spec = {
        "recipe": {"name": "custom", "custom": {"command": ["true"]}},
        "output": {"storage": RWX},
        "save": {"model": "m", "version": "v1"},
    }
    with PretendKubelet(kube, world.namespace, lambda pod: Ending(0, DONE)):
        world.create(make_training("t", spec=spec), TRAINING)
        provide(kube, world.namespace, "trn-t-output")
        name = share(world.namespace, "m", "v1")
        entry = world.wait_for_entry(sharedWith=[{"namespace": there, "name": name, "phase": "Ready"}])
    assert (entry["origin"], entry["path"]) == ("Training/t", "model")
    assert kube.get(PVC, there, name)["status"]["accessModes"] == ["ReadOnlyMany"]


def test_storage_for_one_node_is_refused_with_what_to_do(world: World) -> None:
    there = new_namespace(world.kube, "there")
    world.kube.merge(NAMESPACE, "", there, {"metadata": {"labels": {"team": world.namespace} | ACCEPTS}})
    sharing = {"enabled": True, "namespaceSelector": {"matchLabels": {"team": world.namespace}}}
    world.create(make_source(), MODELSOURCE)
    world.create(make_model("m", make_version(share=sharing)), MODEL)
    wait_for(lambda: world.kube.find(JOB, world.namespace, "fetch-mdl-m-v1-1"), "the download")
    end_download(world.kube, world.namespace, "fetch-mdl-m-v1-1")
    entry = world.wait_for_entry(phase="Ready")
    assert entry["sharedWith"][0]["reason"] == "AccessModesNotShareable"


def test_an_nfs_folder_is_bound_and_its_volume_goes_with_the_model(world: World) -> None:
    world.create(make_source(type="NFS", config={"server": "nas.example", "path": "/export"}), MODELSOURCE)
    world.create(make_model("m", make_version("v1", "models/a")), MODEL)
    world.wait_for_entry(phase="Ready", pvcName="mdl-m-v1")
    disk = world.kube.get(PV, "", world.kube.get(PVC, world.namespace, "mdl-m-v1")["spec"]["volumeName"])
    assert disk["spec"]["nfs"] == {"server": "nas.example", "path": "/export/models/a"}
    world.kube.delete(MODEL, world.namespace, "m")
    world.gone(PVC, "mdl-m-v1")
    wait_for(lambda: not world.kube.find(PV, "", disk["metadata"]["name"]), "its volume to go")
