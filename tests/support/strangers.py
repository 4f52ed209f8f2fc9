"""Objects that are not ours under names that are: made by a user, or left behind by an owner that was deleted."""

from __future__ import annotations

from typing import Any

from modelyard.plan import Kind
from support.build import NS, make_object
from support.cluster import Kube, path_of, wait_for

Obj = dict[str, Any]


def make_job(name: str, owner: Obj | None = None, *, namespace: str = NS) -> Obj:
    """A Job that never runs, of a ConfigMap whose metadata are given, or of nobody."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]}
    owners = None
    if owner is not None:
        named = {"apiVersion": "v1", "kind": "ConfigMap", "name": owner["name"], "uid": owner["uid"]}
        owners = [{**named, "controller": True}]
    spec = {"suspend": True, "template": {"spec": pod}}
    return make_object("batch/v1", "Job", name, namespace=namespace, owners=owners, spec=spec)


def settled(kube: Kube, kind: Kind, obj: Obj) -> Obj:
    """The object when Kubernetes' own controllers have done to it what they do to each: from then on nobody writes."""
    namespace, name = obj["metadata"]["namespace"], obj["metadata"]["name"]

    def look() -> Obj | None:
        found = kube.get(kind, namespace, name)
        done = found["metadata"].get("finalizers") if kind.plural == "persistentvolumeclaims" else found.get("status")
        return found if done else None

    return wait_for(look, f"{kind.kind} {name} to settle")


def orphan(kube: Kube, kind: Kind, namespace: str, name: str) -> None:
    """Deletes an owner so that what it owns stays, and waits until it is gone."""
    uid = kube.get(kind, namespace, name)["metadata"]["uid"]
    kube.request("DELETE", path_of(kind, namespace, name), {"propagationPolicy": "Orphan"})

    def gone() -> bool:
        found = kube.find(kind, namespace, name)
        return found is None or found["metadata"]["uid"] != uid

    wait_for(gone, f"{kind.kind} {name} to go")
