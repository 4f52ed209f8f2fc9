"""Where the pods of an attempt may be placed: GPUs, distance to each other, taints, further resources. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from modelyard.compute import gpu
from modelyard.resources.meta import LABEL_ATTEMPT, LABEL_TRAINING
from modelyard.resources.quantities import Gpu, parse_gpu, parse_quantity

HOSTNAME_LABEL: Final = "kubernetes.io/hostname"
_NEAR_WEIGHT, _APART_WEIGHT = 100, 10
_NATIVE: Final = ("kubernetes.io", "k8s.io")


def wanted_gpus(compute: Mapping[str, Any]) -> Gpu:
    """GPUs of each node."""
    return parse_gpu(compute.get("gpu"))


def node_count(compute: Mapping[str, Any]) -> int:
    """How many nodes train together."""
    return int(compute.get("nodes") or 1)


def requested(compute: Mapping[str, Any], default_cpu: str, default_memory: str) -> dict[str, str]:
    """What each pod asks for, by the names of resources."""
    wanted = wanted_gpus(compute)
    return {
        "cpu": str(compute.get("cpu") or default_cpu),
        "memory": str(compute.get("memory") or default_memory),
        **{name: str(amount) for name, amount in (compute.get("extraResources") or {}).items()},
        **({gpu.RESOURCE: str(wanted.count)} if wanted.count else {}),
    }


def extra_problems(compute: Mapping[str, Any]) -> list[str]:
    """What is wrong with `extraResources`, in words for the user."""
    found = []
    for name, amount in (compute.get("extraResources") or {}).items():
        at = f"spec.compute.extraResources.{name}"
        if name == gpu.RESOURCE:
            found.append(f"{at}: GPUs are asked for in spec.compute.gpu, with their type")
        elif name in ("cpu", "memory", "ephemeral-storage"):
            field = {"ephemeral-storage": "scratch"}.get(name, name)
            found.append(f"{at}: set spec.compute.{field} instead")
        elif not name.startswith("hugepages-") and not _is_extended(name):
            found.append(f"{at}: is no resource of a device; such have a domain in their name, as rdma/hca has")
        elif not name.startswith("hugepages-") and parse_quantity(amount) % Decimal(1):
            found.append(f"{at}: devices are counted in whole numbers")
    return found


def _is_extended(name: str) -> bool:
    domain, slash, rest = name.partition("/")
    return bool(slash and domain and rest) and not domain.endswith(_NATIVE)


def affinity(training: str, attempt: int, compute: Mapping[str, Any]) -> dict[str, Any]:
    """The pod's affinity: to nodes with the GPU, and among the pods of one attempt."""
    found: dict[str, Any] = {}
    if (wanted := wanted_gpus(compute)).count:
        terms = gpu.node_terms(wanted.type)
        found["nodeAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    if node_count(compute) == 1:
        return found
    others = {"matchLabels": {LABEL_TRAINING: training, LABEL_ATTEMPT: str(attempt)}}
    topology, near = compute.get("topology") or {}, dict[str, Any]()
    if key := topology.get("required"):
        near["requiredDuringSchedulingIgnoredDuringExecution"] = [{"labelSelector": others, "topologyKey": key}]
    if key := topology.get("preferred"):
        near["preferredDuringSchedulingIgnoredDuringExecution"] = [_preferred(others, key, _NEAR_WEIGHT)]
    if near:
        found["podAffinity"] = near
    apart = [_preferred(others, HOSTNAME_LABEL, _APART_WEIGHT)]
    found["podAntiAffinity"] = {"preferredDuringSchedulingIgnoredDuringExecution": apart}
    return found


def _preferred(others: Mapping[str, Any], key: str, weight: int) -> dict[str, Any]:
    return {"weight": weight, "podAffinityTerm": {"labelSelector": dict(others), "topologyKey": key}}


def tolerations(compute: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The user's, and the taint that clusters keep other pods from their GPUs with."""
    theirs = [dict(t) for t in compute.get("tolerations") or ()]
    taken = wanted_gpus(compute).count or any(r.startswith("nvidia.com/") for r in compute.get("extraResources") or ())
    ours = [{"key": gpu.RESOURCE, "operator": "Exists", "effect": "NoSchedule"}] if taken else []
    return ours + [t for t in theirs if t not in ours]
