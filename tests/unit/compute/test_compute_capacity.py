"""A request that no node can ever satisfy is told apart from a full cluster, with numbers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from modelyard.cluster.inventory import asked, fact
from modelyard.compute.kubernetes import KubernetesCompute
from modelyard.observed import NodeFact
from modelyard.settings import Settings

H100 = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
COMPUTE = KubernetesCompute(Settings())
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


def node(name: str, gpus: int, used: int = 0, labels: dict[str, str] | None = None, **fields: Any) -> NodeFact:
    has = {"cpu": "64", "memory": "512Gi", "nvidia.com/gpu": str(gpus)}
    obj = {
        "metadata": {"name": name, "labels": H100 if labels is None else labels},
        "spec": {"taints": [TAINT], **fields},
        "status": {"allocatable": has, "conditions": [{"type": "Ready", "status": "True"}]},
    }
    return fact(obj, {"nvidia.com/gpu": Decimal(used), "cpu": Decimal(2), "memory": Decimal(2**30)})


def why(seen: list[NodeFact], **compute: Any) -> tuple[str, str]:
    found = COMPUTE.capacity({"compute": compute}, seen)
    return (found.reason, found.message) if found is not None else ("", "")


NEVER = [
    ("no such label", [node("a", 8, labels={})], {"gpu": "H100:8"}, "None of 1 nodes is one with H100."),
    (
        "too many on one",
        [node("a", 8), node("b", 4)],
        {"gpu": "H100:16"},
        "It asks for 16 nvidia.com/gpu on one node, and the largest of 2 nodes with H100 has 8 nvidia.com/gpu.",
    ),
    (
        "too few nodes",
        [node("a", 8), node("b", 8)],
        {"gpu": "H100:8", "nodes": 3},
        "It needs 3 pods at once, and 2 nodes with H100 have room for 2.",
    ),
    (
        "memory",
        [node("a", 8)],
        {"gpu": "H100", "memory": "1Ti"},
        "asks for 1024 GiB of memory on one node",
    ),
    ("cordoned", [node("a", 8, unschedulable=True)], {"gpu": "H100"}, "tainted or cordoned"),
    ("tainted", [node("a", 8, taints=[{"key": "x", "effect": "NoExecute"}])], {"gpu": "H100"}, "tainted or cordoned"),
    ("selector", [node("a", 8)], {"gpu": "H100", "nodeSelector": {"pool": "b"}}, "labels of spec.compute.nodeSelector"),
]


@pytest.mark.parametrize(("nodes", "compute", "words"), [c[1:] for c in NEVER], ids=[c[0] for c in NEVER])
def test_never(nodes: list[NodeFact], compute: dict[str, Any], words: str) -> None:
    reason, message = why(nodes, **compute)
    assert reason == "NoNodeFits"
    assert words in message


def test_not_now() -> None:
    nodes = [node("a", 8, used=7), node("b", 8, used=6), node("c", 8, labels={})]
    assert why(nodes, gpu="H100:4") == (
        "ClusterFull",
        "All places are taken: it asks for 4 nvidia.com/gpu; of 16 nvidia.com/gpu on 2 nodes with H100 3 are free, at "
        "most 2 on one node. It begins as soon as there is room.",
    )
    assert why(nodes, gpu="H100:8", nodes=2)[0] == "ClusterFull"


def test_where_there_is_room_the_scheduler_has_its_own_reasons() -> None:
    assert why([node("a", 8)], gpu="H100:8") == ("", "")
    tolerated = node("a", 8, taints=[TAINT, {"key": "team", "value": "x", "effect": "NoSchedule"}])
    assert why([tolerated], gpu="H100:8", tolerations=[{"key": "team", "value": "x"}]) == ("", "")


def test_what_a_pod_takes() -> None:
    def container(cpu: str) -> dict[str, Any]:
        return {"resources": {"requests": {"cpu": cpu}}}

    pod = {"spec": {"containers": [container("500m"), container("1")], "initContainers": [container("4")]}}
    assert asked(pod) == {"cpu": Decimal(4), "pods": Decimal(1)}
