"""What a Training saved stays, whatever people and their tools do to the Model, until somebody asks for its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from modelyard.resources.meta import JOB, MODEL, PVC, TRAINING
from support.build import make_claim, make_object, make_training
from support.cluster import Kube, path_of, wait_for
from support.kubelet import Ending, PretendKubelet
from support.trainings import SUMMARY

Obj = dict[str, Any]
API = "modelyard.dev/v1alpha1"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
VOLUME = "trn-t-output"
WHOLE = json.dumps({"result": "done", "message": "Trained.", "summary": {**SUMMARY, "kind": "Full"}})


def manifest(namespace: str, description: str, **spec: Any) -> Obj:
    """The Model as it is in Git: it knows nothing of the version that is saved."""
    return make_object(
        API, "Model", "kept", namespace=namespace, spec={"display": {"description": description}, **spec}
    )


def train(kube: Kube, namespace: str, **spec: Any) -> None:
    """A Training that is saved as version v1 of Model kept."""
    claim = make_claim("rows", namespace=namespace)
    del claim["status"]
    kube.create(claim, PVC)
    told = {
        "dataset": {"pvc": {"claimName": "rows"}, "path": "iris.csv"},
        "recipe": {"name": "tabular-classification"},
        "save": {"model": "kept", "version": "v1", "description": "Good.", "tags": ["iris"]},
        **spec,
    }
    with PretendKubelet(kube, namespace, lambda pod: Ending(0, WHOLE)):
        kube.create(make_training("t", namespace=namespace, spec=told), TRAINING)
        wait_for(lambda: is_ready(kube, namespace), "the version to be saved")


def entry(kube: Kube, namespace: str) -> Obj:
    model = kube.find(MODEL, namespace, "kept") or {}
    found = (model.get("status") or {}).get("syncedVersions") or ()
    return next((e for e in found if e["name"] == "v1"), {})


def is_ready(kube: Kube, namespace: str) -> bool:
    return entry(kube, namespace).get("phase") == "Ready"


def client_side(kube: Kube, namespace: str, wanted: Obj, manager: str) -> None:
    """`kubectl apply`: a three-way merge patch, here of a Model that had less in it before."""
    note = {"metadata": {"annotations": {LAST_APPLIED: json.dumps(wanted)}}}
    path = path_of(MODEL, namespace, "kept") + f"?fieldManager={manager}"
    # What the last one had and this one has not is null: a list that somebody added to is replaced whole.
    patch = {**note, "spec": {**wanted["spec"], "versions": wanted["spec"].get("versions")}}
    kube.request("PATCH", path, patch, "application/merge-patch+json")


def argo(kube: Kube, namespace: str, wanted: Obj) -> None:
    """A sync of Argo CD with client-side apply and its tracking annotation."""
    tracked = {
        **wanted["metadata"],
        "annotations": {"argocd.argoproj.io/tracking-id": "app:modelyard.dev/Model:x/kept"},
    }
    client_side(kube, namespace, {**wanted, "metadata": tracked}, "argocd-controller")


def argo_server_side(kube: Kube, namespace: str, wanted: Obj) -> None:
    """The same with ServerSideApply=true."""
    kube.apply(wanted, MODEL, "argocd-controller")


def flux(kube: Kube, namespace: str, wanted: Obj) -> None:
    """kustomize-controller: takes the fields of kubectl over, then applies on the server with force."""
    live = kube.get(MODEL, namespace, "kept")
    managers = [m for m in live["metadata"]["managedFields"] if not m["manager"].startswith("kubectl")]
    if managers != live["metadata"]["managedFields"]:
        patch = [
            {"op": "test", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
            {"op": "replace", "path": "/metadata/managedFields", "value": managers},
        ]
        kube.request("PATCH", path_of(MODEL, namespace, "kept"), patch, "application/json-patch+json")
    kube.apply(wanted, MODEL, "kustomize-controller")


def replace(kube: Kube, namespace: str, wanted: Obj) -> None:
    """`kubectl replace`: all of it, but for the status."""
    version = kube.get(MODEL, namespace, "kept")["metadata"]["resourceVersion"]
    replaced = {**wanted, "metadata": {**wanted["metadata"], "resourceVersion": version}}
    kube.request("PUT", path_of(MODEL, namespace, "kept"), replaced)


WAYS: tuple[Callable[[Kube, str, Obj], None], ...] = (
    lambda kube, namespace, wanted: client_side(kube, namespace, wanted, "kubectl-client-side-apply"),
    lambda kube, namespace, wanted: kube.apply(wanted, MODEL, "kubectl") and None,
    argo,
    argo_server_side,
    flux,
    replace,
)


def looked_at(kube: Kube, namespace: str, description: str) -> bool:
    """Whether the operator has seen this edit of the Model."""
    model = kube.get(MODEL, namespace, "kept")
    seen = (model.get("status") or {}).get("observedGeneration") == model["metadata"]["generation"]
    return bool(seen and model["spec"]["display"]["description"] == description)


@pytest.mark.usefixtures("operator")
def test_a_saved_version_survives_every_way_to_apply_its_model(kube: Kube, namespace: str) -> None:
    kube.create(manifest(namespace, "first"), MODEL)
    train(kube, namespace)
    uid = kube.get(PVC, namespace, VOLUME)["metadata"]["uid"]
    for number, apply in enumerate(WAYS):
        for versions in ({}, {"versions": [{"name": "v1"}]}, {}):
            said = f"{number} {len(versions)}"
            apply(kube, namespace, manifest(namespace, said, **versions))
            wait_for(lambda said=said: looked_at(kube, namespace, said), f"the edit {said} to be seen")
            volume = kube.get(PVC, namespace, VOLUME)["metadata"]
            assert (volume["uid"], "deletionTimestamp" in volume) == (uid, False), apply
            assert entry(kube, namespace)["phase"] == "Ready"
            assert kube.get(MODEL, namespace, "kept")["spec"].get("versions", []) == versions.get("versions", [])


@pytest.mark.usefixtures("operator")
def test_it_outlives_its_training_and_its_model_and_goes_when_it_is_absent(kube: Kube, namespace: str) -> None:
    train(kube, namespace)
    shown = entry(kube, namespace)
    record = json.loads(kube.get(PVC, namespace, VOLUME)["metadata"]["annotations"]["modelyard.dev/saved"])
    assert (record["description"], record["tags"]) == ("Good.", ["iris"])
    assert {"algorithm", "features", "target", "classes", "trainSamples", "testSamples", "trainingSeconds"} <= set(
        record["metadata"]
    )
    assert record["metadata"]["recipe"] == "tabular-classification"
    assert record["metadata"]["params"]["epochs"] > 0
    assert (record["bytes"], record["files"], record["digest"]) == (2048, 3, SUMMARY["digest"])
    kube.delete(TRAINING, namespace, "t")
    kube.delete(MODEL, namespace, "kept")
    wait_for(lambda: not kube.find(TRAINING, namespace, "t") and not kube.find(MODEL, namespace, "kept"), "both to go")
    assert "deletionTimestamp" not in kube.get(PVC, namespace, VOLUME)["metadata"]

    kube.create(manifest(namespace, "again"), MODEL)
    wait_for(lambda: is_ready(kube, namespace), "the new Model to find the version")
    again = entry(kube, namespace)
    assert [again[k] for k in ("origin", "path", "kind", "digest")] == [
        shown[k] for k in ("origin", "path", "kind", "digest")
    ]
    kube.merge(MODEL, namespace, "kept", {"spec": {"versions": [{"name": "v1", "state": "ABSENT"}]}})
    wait_for(lambda: kube.find(PVC, namespace, VOLUME) is None, "the volume to go")


@pytest.mark.usefixtures("operator")
def test_it_is_the_base_of_the_next_training_which_holds_it(kube: Kube, namespace: str) -> None:
    train(kube, namespace)
    spec = {
        "model": {"ref": {"name": "kept", "version": "v1"}},
        "dataset": {"pvc": {"claimName": "rows"}},
        "recipe": {"name": "text-classification"},
    }
    kube.create(make_training("next", namespace=namespace, spec=spec), TRAINING)
    job = wait_for(lambda: kube.find(JOB, namespace, "next-1"), "the Job")
    volumes = {v["name"]: v for v in job["spec"]["template"]["spec"]["volumes"]}
    assert volumes["model"]["persistentVolumeClaim"] == {"claimName": VOLUME, "readOnly": True}
    mounts = {m["name"]: m for m in job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]}
    assert mounts["model"]["subPath"] == "model"

    def reason() -> str:
        return str(entry(kube, namespace).get("reason"))

    kube.merge(MODEL, namespace, "kept", {"spec": {"versions": [{"name": "v1", "state": "ABSENT"}]}})
    wait_for(lambda: reason() == "InUse", "the version to say who uses it")
    assert "Training next" in entry(kube, namespace)["message"]
    assert "deletionTimestamp" not in kube.get(PVC, namespace, VOLUME)["metadata"]
    kube.delete(TRAINING, namespace, "next")
    with PretendKubelet(kube, namespace, lambda pod: None):
        wait_for(lambda: kube.find(PVC, namespace, VOLUME) is None, "the volume to go with its last user")
