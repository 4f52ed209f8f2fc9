"""Trainings on a real control plane, as a user sees them: made, edited, waited for."""

from __future__ import annotations

from typing import Any

from modelyard.resources.meta import PVC, TRAINING
from support.build import make_claim, make_training
from support.cluster import Kube, wait_for

Obj = dict[str, Any]
TABULAR: Obj = {
    "dataset": {"pvc": {"claimName": "rows"}, "path": "iris.csv"},
    "recipe": {"name": "tabular-classification"},
}


def add_claim(kube: Kube, namespace: str, name: str = "rows") -> None:
    """A volume of the user's own with the data."""
    claim = make_claim(name, namespace=namespace)
    del claim["status"]
    kube.create(claim, PVC)


def put(kube: Kube, namespace: str, name: str = "t", **spec: Any) -> None:
    """A tabular Training, with what the test wants otherwise."""
    kube.create(make_training(name, namespace=namespace, spec={**TABULAR, **spec}), TRAINING)


def edit(kube: Kube, namespace: str, name: str = "t", **spec: Any) -> None:
    """Changes its spec."""
    kube.merge(TRAINING, namespace, name, {"spec": spec})


def status_of(kube: Kube, namespace: str, name: str = "t") -> Obj:
    """What its status says; empty if nobody has looked yet."""
    return kube.get(TRAINING, namespace, name).get("status") or {}


def condition(status: Obj, type: str) -> Obj:
    """One condition; empty if it is not there."""
    return next((c for c in status.get("conditions", []) if c["type"] == type), {})


def until(kube: Kube, namespace: str, phase: str, name: str = "t", seconds: float = 180) -> Obj:
    """Its status once it is in that phase."""

    def look() -> Obj | None:
        found = status_of(kube, namespace, name)
        return found if found.get("phase") == phase else None

    return wait_for(look, f"{name} to be {phase}", seconds, said=lambda: str(status_of(kube, namespace, name)))


def until_reason(kube: Kube, namespace: str, reason: str, name: str = "t", seconds: float = 180) -> Obj:
    """Its status once that is its reason."""

    def look() -> Obj | None:
        found = status_of(kube, namespace, name)
        return found if found.get("reason") == reason else None

    return wait_for(look, f"{name} to say {reason}", seconds, said=lambda: str(status_of(kube, namespace, name)))


def until_condition(kube: Kube, namespace: str, type: str, value: str, name: str = "t") -> Obj:
    """Its status once that condition is so."""

    def look() -> Obj | None:
        found = status_of(kube, namespace, name)
        return found if condition(found, type).get("status") == value else None

    return wait_for(look, f"{type} of {name} to be {value}", said=lambda: str(status_of(kube, namespace, name)))
