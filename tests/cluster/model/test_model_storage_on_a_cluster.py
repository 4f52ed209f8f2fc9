"""Storage that changes on a real API server, which itself has a say in what a claim may become."""

from __future__ import annotations

from typing import Any

from modelyard.resources.meta import MODEL, MODELSOURCE, POD, PVC, STORAGECLASS
from support.build import make_model, make_pod, make_source, make_version
from support.cluster import path_of, wait_for
from support.downloads import end_download, jobs
from support.volumes import provide

World = Any


def sized(size: str, storage_class: str, **more: Any) -> Any:
    return {"resources": {"requests": {"storage": size}}, "storageClassName": storage_class, **more}


def message(world: World, version: str) -> str:
    return next((str(c["message"]) for c in world.entry(version).get("conditions") or () if c["type"] == "Ready"), "")


def test_a_volume_grows_where_its_class_can_and_says_so_where_it_cannot(world: World) -> None:
    kube, fixed, grows = world.kube, f"fixed-{world.namespace}", f"grows-{world.namespace}"
    for name, expands in ((fixed, False), (grows, True)):
        made = {"apiVersion": STORAGECLASS.api_version, "kind": "StorageClass", "metadata": {"name": name}}
        kube.create(made | {"provisioner": "example.org/none", "allowVolumeExpansion": expands}, STORAGECLASS)
    world.create(make_source(), MODELSOURCE)
    old = [make_version("v1", storage=sized("1Gi", grows)), make_version("v2", storage=sized("1Gi", fixed))]
    world.create(make_model("m", *old), MODEL)
    provide(kube, world.namespace, "mdl-m-v1", ["ReadWriteOnce"], grows)
    provide(kube, world.namespace, "mdl-m-v2", ["ReadWriteOnce"], fixed)
    for job in jobs(kube, world.namespace):
        end_download(kube, world.namespace, job)
    world.wait_for_reason("Ready", "Ready")
    new = [make_version("v1", storage=sized("2Gi", grows)), make_version("v2", storage=sized("2Gi", fixed))]
    kube.merge(MODEL, world.namespace, "m", {"spec": {"versions": new}})

    def asked(version: str) -> str:
        return str(kube.get(PVC, world.namespace, f"mdl-m-{version}")["spec"]["resources"]["requests"]["storage"])

    wait_for(lambda: asked("v1") == "2Gi", "the claim to ask for more")
    wait_for(lambda: "being expanded from 1Gi to 2Gi" in message(world, "v1"), "it to be said")
    wait_for(lambda: "has no allowVolumeExpansion" in message(world, "v2"), "the refusal")
    assert asked("v2") == "1Gi"
    assert world.entry("v2")["phase"] == "Ready"
    kube.merge(STORAGECLASS, "", fixed, {"allowVolumeExpansion": True})
    wait_for(lambda: asked("v2") == "2Gi", "the class that can now to be noticed")


def test_a_users_own_pod_holds_a_deleted_model_and_it_is_said(world: World) -> None:
    kube = world.kube
    world.create(make_source(), MODELSOURCE)
    world.create(make_model("m"), MODEL)
    provide(kube, world.namespace, "mdl-m-v1", ["ReadWriteOnce"])
    (job,) = jobs(kube, world.namespace)
    end_download(kube, world.namespace, job)
    world.wait_for_reason("Ready", "Ready")
    pod = make_pod("mine", claims=("mdl-m-v1",))
    del pod["status"]
    world.create(pod, POD)

    def guarded() -> bool:
        return bool(kube.get(MODEL, world.namespace, "m")["metadata"].get("finalizers"))

    wait_for(guarded, "the pod to be noticed")
    kube.delete(MODEL, world.namespace, "m")
    held = world.wait_for_reason("Ready", "InUse")
    assert held["message"] == "Deletion waits until nobody uses the versions: Pod mine."
    assert kube.find(PVC, world.namespace, "mdl-m-v1")
    kube.request("DELETE", path_of(POD, world.namespace, "mine"), {"gracePeriodSeconds": 0})
    world.gone(MODEL, "m")
    world.gone(PVC, "mdl-m-v1")
