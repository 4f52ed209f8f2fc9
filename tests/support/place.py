"""A namespace of an end-to-end test: apply manifests, wait for states, read what is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from deploy.release import Cluster
from deploy.shell import ROOT, CommandError
from support.waiting import wait_for

Obj = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """A namespace in a cluster that runs Modelyard."""

    cluster: Cluster
    namespace: str
    trainer_image: str
    hub_url: str

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        return self.cluster.kubectl("-n", self.namespace, *words, stdin=stdin)

    def apply(self, *objects: Mapping[str, Any]) -> None:
        for obj in objects:
            self.kubectl("apply", "-f", "-", stdin=json.dumps(obj))

    def example(self, name: str, change: Callable[[Obj], None] | None = None) -> None:
        """Apply a file of `examples/` in this namespace, with this cluster's trainer image."""
        text = (ROOT / "examples" / name).read_text().replace("modelyard-trainer:0.1.0", self.trainer_image)
        for obj in yaml.safe_load_all(text):
            obj["metadata"]["namespace"] = self.namespace
            if change is not None:
                change(obj)
            self.apply(obj)

    def secret(self, name: str, data: Mapping[str, str]) -> None:
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": dict(data)})

    def apply_source(self, name: str, secret: str, **config: str) -> None:
        spec = {"type": "HUGGING_FACE", "secretRef": secret, "config": {"endpoint": self.hub_url, **config}}
        self.apply(custom("ModelSource", name, spec))

    def get(self, kind: str, name: str) -> Obj:
        """The object. Raises CommandError where it is not there."""
        words = f"{kind}.modelyard.dev" if kind in ("modelsource", "model", "training") else kind
        found: Obj = self.cluster.get("-n", self.namespace, words, name)
        return found

    def items(self, kinds: str, *words: str) -> list[Obj]:
        return list(self.cluster.get("-n", self.namespace, kinds, *words)["items"])

    def until(self, kind: str, name: str, holds: Callable[[Obj], object], seconds: float = 300) -> Obj:
        """The object once `holds` is true of it; fails with its status when that takes too long."""
        last: Obj = {}

        def look() -> Obj | None:
            try:
                last.clear()
                last.update(self.get(kind, name))
            except CommandError:
                return None
            return dict(last) if holds(last) else None

        return wait_for(
            look, f"{kind} {name}", seconds, 0.5, lambda: f"as it should be: {json.dumps(last.get('status'))}"
        )

    def until_phase(self, kind: str, name: str, *phases: str, seconds: float = 480) -> Obj:
        obj = self.until(kind, name, lambda o: phase(o) in (*phases, "Failed"), seconds)
        assert phase(obj) in phases, json.dumps(obj["status"], indent=1)
        return obj

    def until_gone(self, kind: str, name: str, seconds: float = 300) -> None:
        wait_for(lambda: name not in (o["metadata"]["name"] for o in self.items(kind)), f"{name} to go", seconds, 0.5)

    def describe(self) -> str:
        """What a person would look at first."""
        kinds = "modelsources.modelyard.dev,models.modelyard.dev,trainings.modelyard.dev,jobs,pods,pvc,events"
        return self.kubectl("get", kinds, "-o", "wide") + self.kubectl(
            "get", "models.modelyard.dev,trainings.modelyard.dev", "-o", "yaml"
        )


def custom(kind: str, name: str, spec: Mapping[str, Any], **metadata: Any) -> Obj:
    return {
        "apiVersion": "modelyard.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, **metadata},
        "spec": dict(spec),
    }


def phase(obj: Obj) -> str | None:
    found = obj.get("status", {}).get("phase")
    return None if found is None else str(found)


def condition(obj: Obj, type_: str) -> Obj:
    """A condition by its type; empty where it is not there."""
    found: list[Obj] = [c for c in obj.get("status", {}).get("conditions", []) if c["type"] == type_]
    return found[0] if found else {}
