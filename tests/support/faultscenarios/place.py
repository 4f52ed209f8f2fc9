"""Where a scenario is played: what is done there, and what is seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelyard.plan import Kind
from modelyard.resources.meta import DATASET, JOB, MODEL, NAMESPACE, PVC, TRAINING
from support.cluster import CRD, Kube

Obj = dict[str, Any]
_DATASETS = f"{DATASET.plural}.{DATASET.group}"


class Place:
    """A namespace to act in and to look at."""

    def __init__(self, kube: Kube, namespace: str, watching: Mapping[str, int]) -> None:
        """`watching`: the operator's open watches by resource."""
        self.kube = kube
        self.namespace = namespace
        self._watching = watching

    def serve_datasets(self) -> None:
        """The cluster gets Datasets. Nobody looks after them."""
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        version = {
            "name": "v1alpha1",
            "served": True,
            "storage": True,
            "schema": schema,
            "subresources": {"status": {}},
        }
        names = {"kind": DATASET.kind, "plural": DATASET.plural}
        spec = {"group": DATASET.group, "names": names, "scope": "Namespaced", "versions": [version]}
        self.kube.create({"metadata": {"name": _DATASETS}, "spec": spec}, CRD)

    def withdraw_datasets(self) -> None:
        """The cluster has none any more."""
        self.kube.delete(CRD, "", _DATASETS)

    def watches(self, resource: str) -> bool:
        """Whether the operator does."""
        return self._watching.get(resource, 0) > 0

    @property
    def there(self) -> str:
        """Another namespace, with which something may be shared."""
        return f"{self.namespace}-there"

    def accept(self, value: str | None) -> None:
        """The people there accept shares, or no more."""
        labels = {"modelyard.dev/accept-shares": value}
        self.kube.merge(NAMESPACE, "", self.there, {"metadata": {"labels": labels}})

    def create(self, kind: Kind, obj: Obj) -> None:
        """POST."""
        self.kube.create({**obj, "metadata": {**obj["metadata"], "namespace": self.namespace}}, kind)

    def edit(self, kind: Kind, name: str, **spec: Any) -> None:
        """Changes its spec."""
        self.kube.merge(kind, self.namespace, name, {"spec": spec})

    def delete(self, kind: Kind, name: str) -> None:
        """DELETE."""
        self.kube.delete(kind, self.namespace, name)

    def status(self, kind: Kind, name: str) -> Obj:
        """Of a root; empty if it is gone or has none yet."""
        return dict((self.kube.find(kind, self.namespace, name) or {}).get("status") or {})

    def reason(self, kind: Kind, name: str, type: str) -> str:
        """The reason of a condition."""
        return next((c["reason"] for c in self.status(kind, name).get("conditions") or () if c["type"] == type), "")

    def entry(self, version: str, name: str = "m") -> Obj:
        """A Model version's entry."""
        entries = self.status(MODEL, name).get("syncedVersions") or ()
        return next((e for e in entries if e["name"] == version), {})

    def names(self, kind: Kind) -> list[str]:
        """Of all objects of a kind."""
        return sorted(o["metadata"]["name"] for o in self.kube.list(kind, self.namespace))

    def went(self, kind: Kind, name: str) -> bool:
        """Whether it is gone."""
        return self.kube.find(kind, self.namespace, name) is None

    def has_nothing(self) -> bool:
        """Whether the garbage collector, which may be slow at first, has taken along what a root owned."""
        return not self.names(PVC) and not self.names(JOB)

    def phase(self, *wanted: str) -> bool:
        """Whether Training `t` is in one of the phases."""
        return self.status(TRAINING, "t").get("phase") in wanted
