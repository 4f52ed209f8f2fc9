"""Objects of others under the names that a version needs, on a real API server: they stay as they are, byte by byte."""

from __future__ import annotations

from typing import Any

from modelyard.resources.meta import CONFIGMAP, JOB, MODEL, MODELSOURCE, NAMESPACE, PVC
from modelyard.resources.names import share
from support.build import make_claim, make_model, make_object, make_source, make_version
from support.cluster import new_namespace, wait_for
from support.downloads import claims, end_download, jobs
from support.strangers import make_job, orphan, settled
from support.volumes import provide

World = Any
RWX = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}


def test_a_strangers_job_is_left_alone_until_it_goes(world: World) -> None:
    owner = world.create(make_object("v1", "ConfigMap", "nightly"), CONFIGMAP)["metadata"]
    theirs = settled(world.kube, JOB, world.create(make_job("fetch-mdl-m-v1-1", owner), JOB))
    world.create(make_source(), MODELSOURCE)
    world.create(make_model("m"), MODEL)
    entry = world.wait_for_entry(phase="Failed", reason="NameTaken")
    said = (
        f"Job fetch-mdl-m-v1-1 is there already and belongs to ConfigMap nightly (uid {owner['uid']}); it is left alone"
    )
    assert said in entry["message"]
    world.kube.delete(MODEL, world.namespace, "m")
    world.gone(MODEL, "m")
    wait_for(lambda: not claims(world.kube, world.namespace), "the volume to go")
    assert world.kube.get(JOB, world.namespace, "fetch-mdl-m-v1-1") == theirs
    world.create(make_model("m"), MODEL)
    world.wait_for_entry(phase="Failed", reason="NameTaken")
    world.kube.delete(JOB, world.namespace, "fetch-mdl-m-v1-1")
    world.wait_for_entry(phase="Processing")
    end_download(world.kube, world.namespace, "fetch-mdl-m-v1-1")
    world.wait_for_entry(phase="Ready")


def test_what_a_model_left_orphaned_is_a_strangers_to_the_next_of_its_name(world: World) -> None:
    world.create(make_source(), MODELSOURCE)
    world.create(make_model("m"), MODEL)
    wait_for(lambda: jobs(world.kube, world.namespace), "a download")
    end_download(world.kube, world.namespace, "fetch-mdl-m-v1-1")
    world.wait_for_entry(phase="Ready")
    orphan(world.kube, MODEL, world.namespace, "m")
    left = [
        settled(world.kube, kind, world.kube.get(kind, world.namespace, name))
        for kind, name in ((PVC, "mdl-m-v1"), (JOB, "fetch-mdl-m-v1-1"))
    ]
    assert not any("ownerReferences" in obj["metadata"] for obj in left)
    world.create(make_model("m"), MODEL)
    entry = world.wait_for_entry(phase="Failed", reason="NameTaken")
    for named in ("Volume claim mdl-m-v1", "Job fetch-mdl-m-v1-1"):
        assert f"{named} is there already and was not made by Modelyard for this object" in entry["message"]
    world.kube.delete(MODEL, world.namespace, "m")
    world.gone(MODEL, "m")
    for kind, obj in zip((PVC, JOB), left, strict=True):
        assert world.kube.get(kind, world.namespace, obj["metadata"]["name"]) == obj
    world.create(make_model("m"), MODEL)
    for kind, obj in zip((PVC, JOB), left, strict=True):
        world.kube.delete(kind, world.namespace, obj["metadata"]["name"])
    world.wait_for_entry(phase="Processing")
    end_download(world.kube, world.namespace, "fetch-mdl-m-v1-1")
    world.wait_for_entry(phase="Ready")


def test_a_strangers_claim_under_the_name_of_a_share_is_left_alone(world: World) -> None:
    there = new_namespace(world.kube, "there")
    labels = {"team": world.namespace, "modelyard.dev/accept-shares": "true"}
    world.kube.merge(NAMESPACE, "", there, {"metadata": {"labels": labels}})
    name = share(world.namespace, "m", "v1")
    claim = make_claim(name, namespace=there)
    del claim["status"]
    theirs = settled(world.kube, PVC, world.kube.create(claim, PVC))
    world.create(make_source(), MODELSOURCE)
    sharing = {"enabled": True, "namespaceSelector": {"matchLabels": {"team": world.namespace}}}
    world.create(make_model("m", make_version(storage=RWX, share=sharing)), MODEL)
    provide(world.kube, world.namespace, "mdl-m-v1")
    end_download(world.kube, world.namespace, "fetch-mdl-m-v1-1")

    def told() -> Any:
        return next((c for c in world.entry().get("conditions") or () if c["reason"] == "NameTaken"), None)

    found = wait_for(told, "the stranger to be told of")
    assert f"PersistentVolumeClaim {name} is there already and was not made by Modelyard" in found["message"]
    world.kube.delete(MODEL, world.namespace, "m")
    world.gone(MODEL, "m")
    assert world.kube.get(PVC, there, name) == theirs
