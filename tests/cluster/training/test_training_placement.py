"""Nodes with GPUs as NVIDIA and a cloud label them, and the real scheduler: what fits, what waits, what never will."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from modelyard.resources.meta import NODE, POD, TRAINING
from modelyard.resources.times import format_time
from support.cluster import Kube, Refused, wait_for
from support.live_trainings import condition, put, status_of
from support.volumes import provide

Obj = dict[str, Any]
PRODUCT = "nvidia.com/gpu.product"
SLICE = "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"
LABELS: dict[str, Obj] = {
    "feature-discovery": {PRODUCT: "NVIDIA-H100-80GB-HBM3"},
    "gke": {"cloud.google.com/gke-accelerator": "nvidia-h100-80gb"},
    "slices": {PRODUCT: SLICE},
}


class Nodes:
    """Nodes of eight GPUs that no kubelet stands behind."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self.names = {kind: f"{kind}-{namespace}" for kind in LABELS}
        for kind, name in self.names.items():
            kube.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": LABELS[kind]}}, NODE)
        self.beat()

    def beat(self) -> None:
        """They are alive, keep other pods from their GPUs, and have room."""
        now = format_time(datetime.now(UTC))
        ready = {"type": "Ready", "status": "True", "reason": "Test", "lastHeartbeatTime": now}
        room = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": "8"}
        taint = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}
        for name in self.names.values():
            status = {"conditions": [{**ready, "lastTransitionTime": now}], "capacity": room, "allocatable": room}
            self._kube.merge(NODE, "", name, {"status": status}, "status")
            self._kube.merge(NODE, "", name, {"spec": {"taints": [taint]}})

    def remove(self) -> None:
        for name in self.names.values():
            self._kube.delete(NODE, "", name)


@pytest.fixture
def nodes(kube: Kube, namespace: str) -> Iterator[Nodes]:
    made = Nodes(kube, namespace)
    yield made
    made.remove()


@pytest.mark.usefixtures("operator")
def test_what_fits_what_waits_and_what_never_will(kube: Kube, namespace: str, nodes: Nodes) -> None:
    def run(name: str, **compute: Any) -> None:
        storage = {"resources": {"requests": {"storage": "1Gi"}}}
        recipe = {"name": "custom", "custom": {"command": ["true"]}}
        put(kube, namespace, name, dataset=None, recipe=recipe, compute=compute, output={"storage": storage})
        provide(kube, namespace, f"trn-{name}-output", ("ReadWriteOnce",))

    def node_of(name: str) -> str:
        def look() -> str | None:
            nodes.beat()
            pods = kube.list(POD, namespace, f"modelyard.dev/training={name}")
            return next((str(p["spec"]["nodeName"]) for p in pods if p["spec"].get("nodeName")), None)

        return wait_for(look, f"a node for {name}", every=0.5)

    def says(name: str, reason: str) -> Obj:
        def look() -> Obj | None:
            nodes.beat()
            found = status_of(kube, namespace, name)
            return found if found.get("reason") == reason else None

        found = wait_for(look, f"{name} to say {reason}", every=0.5, said=lambda: str(status_of(kube, namespace, name)))
        assert found["phase"] == "Queued"
        assert condition(found, "Stalled")["status"] == condition(found, "Reconciling")["status"] == "False"
        return found

    run("sliced", gpu=SLICE)
    assert node_of("sliced") == nodes.names["slices"]
    run("one", gpu="H100:8")
    run("two", gpu="H100-SXM:8")
    assert {node_of("one"), node_of("two")} == {nodes.names["feature-discovery"], nodes.names["gke"]}

    run("late", gpu="H100:4")
    assert "of 16 nvidia.com/gpu on 2 nodes with H100 0 are free" in says("late", "ClusterFull")["message"]
    run("large", gpu="H100:16")
    assert "It asks for 16" in says("large", "NoNodeFits")["message"]
    run("other", gpu="H200")
    assert "one with H200" in says("other", "NoNodeFits")["message"]
    run("elsewhere", gpu="H100", nodeSelector={"zone": "moon"})
    assert "spec.compute.nodeSelector" in says("elsewhere", "NoNodeFits")["message"]

    freed = node_of("one")
    kube.delete(TRAINING, namespace, "one")
    (pod,) = kube.list(POD, namespace, "modelyard.dev/training=one") or [None]
    if pod is not None:  # no kubelet lets go of it
        with contextlib.suppress(Refused):
            kube.request(
                "DELETE", f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}?gracePeriodSeconds=0"
            )
    assert node_of("late") == freed
