"""Roots of the copier, as a user makes them and looks at them."""

from __future__ import annotations

from typing import Any

from modelyard.resources.meta import CONFIGMAP
from support.cluster import Kube, wait_for
from support.copier import STATE

Obj = dict[str, Any]


def root(namespace: str, name: str, **data: str) -> Obj:
    labels = {"copier": "root", "copied": "yes"}
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}, "data": data}


def state_of(kube: Kube, namespace: str, name: str) -> str:
    found = kube.get(CONFIGMAP, namespace, name)
    return str((found["metadata"].get("annotations") or {}).get(STATE, ""))


def wait_for_state(kube: Kube, namespace: str, name: str, state: str) -> None:
    wait_for(
        lambda: state_of(kube, namespace, name) == state,
        f"{name} to be {state}",
        said=lambda: f"but it is {state_of(kube, namespace, name)!r}",
    )


def children(kube: Kube, namespace: str, name: str) -> list[str]:
    found = kube.list(CONFIGMAP, namespace, "copier=child")
    return sorted(c["metadata"]["name"] for c in found if c["metadata"]["name"].rpartition("-")[0] == name)


def set_data(kube: Kube, namespace: str, name: str, **data: str | None) -> None:
    kube.merge(CONFIGMAP, namespace, name, {"data": data})
