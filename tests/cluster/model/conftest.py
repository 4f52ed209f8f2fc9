from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localcluster import ControlPlane
from modelyard.plan import Kind
from modelyard.resources.meta import MODEL, MODELSOURCE
from support.cluster import Kube, control_plane, kube, namespace, wait_for
from support.operator import OperatorProcess

__all__ = ["control_plane", "kube", "namespace"]

Obj = dict[str, Any]


class World:
    """One namespace: what is in it, and how its Models and ModelSources are."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace

    def create(self, obj: Obj, kind: Kind) -> Obj:
        """POST into this namespace."""
        return self.kube.create({**obj, "metadata": {**obj["metadata"], "namespace": self.namespace}}, kind)

    def status(self, name: str, kind: Kind = MODEL) -> Obj:
        """The status of a root; empty if it is gone."""
        found = self.kube.find(kind, self.namespace, name)
        return dict((found or {}).get("status") or {})

    def entry(self, version: str = "v1", name: str = "m") -> Obj:
        """A version's entry; empty if there is none."""
        entries = self.status(name).get("syncedVersions") or ()
        return next((e for e in entries if e["name"] == version), {})

    def condition(self, type: str, name: str, kind: Kind = MODEL) -> Obj:
        """A condition of a root; empty if there is none."""
        return next((c for c in self.status(name, kind).get("conditions") or () if c["type"] == type), {})

    def wait_for_entry(self, version: str = "v1", name: str = "m", **wanted: Any) -> Obj:
        """Until the entry has these values; answers it."""

        def look() -> Obj | None:
            entry = self.entry(version, name)
            return entry if all(entry.get(k) == v for k, v in wanted.items()) else None

        return wait_for(look, f"version {version} to be {wanted}", said=lambda: f"which is {self.entry(version, name)}")

    def wait_for_reason(self, type: str, reason: str, name: str = "m", kind: Kind = MODEL) -> Obj:
        """Until the condition has that reason; answers it."""

        def look() -> Obj | None:
            found = self.condition(type, name, kind)
            return found if found.get("reason") == reason else None

        return wait_for(look, f"{type} of {name} to be {reason}", said=lambda: str(self.condition(type, name, kind)))

    def source_reason(self, type: str, reason: str, name: str = "hub") -> Obj:
        """The same for a ModelSource."""
        return self.wait_for_reason(type, reason, name, MODELSOURCE)

    def gone(self, kind: Kind, name: str) -> None:
        """Until the object is no more."""
        wait_for(lambda: self.kube.find(kind, self.namespace, name) is None, f"{kind.kind} {name} to go")


@pytest.fixture(scope="package")
def operator(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    """The real operator over the whole cluster."""
    settings = {"download": {"backoffSeconds": 1, "maxBackoffSeconds": 2}, "storage": {"defaultSize": "1Gi"}}
    folder: Path = tmp_path_factory.mktemp("operator")
    with OperatorProcess(control_plane.kubeconfig, folder, settings) as process:
        process.wait_until_leading()
        yield process


@pytest.fixture
def world(kube: Kube, namespace: str, operator: OperatorProcess) -> World:
    """A namespace of the test's own under a running operator."""
    return World(kube, namespace)
