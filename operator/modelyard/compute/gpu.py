"""Which nodes have the GPU that a user named: `H100` as NVIDIA's feature discovery and the big clouds label it.

A label is matched whole, never by its beginning, so that slices (`…-MIG-1g.10gb`) and GPUs that several pods share
(`…-SHARED`) are not taken for whole ones; a slice is given to who asks for it by its exact name. What the feature
discovery says of a node counts before what its cloud says. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelyard.resources.quantities import Gpu

RESOURCE: Final = "nvidia.com/gpu"
PRODUCT_LABEL: Final = "nvidia.com/gpu.product"
GKE_LABEL: Final = "cloud.google.com/gke-accelerator"
GKE_PARTS: Final = ("cloud.google.com/gke-gpu-partition-size", "cloud.google.com/gke-gpu-sharing-strategy")
"""Labels of GKE's nodes whose GPUs are sliced or shared."""
KARPENTER_LABEL: Final = "karpenter.k8s.aws/instance-gpu-name"
COREWEAVE_LABEL: Final = "gpu.nvidia.com/class"
INSTANCE_LABEL: Final = "node.kubernetes.io/instance-type"
"""EKS and AKS say no more than the machine's type by themselves."""


@dataclass(frozen=True, slots=True)
class Model:
    """The names of one type of GPU: by NVIDIA, GKE, Karpenter on AWS, CoreWeave, and machines of AWS and Azure."""

    products: tuple[str, ...]
    gke: tuple[str, ...] = ()
    karpenter: tuple[str, ...] = ()
    coreweave: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()


def _both(*models: Model) -> Model:
    """All names of several."""
    return Model(*(tuple(n for m in models for n in getattr(m, kind)) for kind in Model.__slots__))


_A100_40 = Model(
    ("NVIDIA-A100-SXM4-40GB", "NVIDIA-A100-PCIE-40GB", "A100-SXM4-40GB", "A100-PCIE-40GB"),
    gke=("nvidia-tesla-a100",),
    coreweave=("A100_NVLINK", "A100_PCIE_40GB"),
    instances=("p4d.24xlarge", "Standard_ND96asr_v4"),
)
_A100_80 = Model(
    ("NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe", "NVIDIA-A100-PCIE-80GB", "A100-SXM4-80GB"),
    gke=("nvidia-a100-80gb",),
    coreweave=("A100_NVLINK_80GB", "A100_PCIE_80GB"),
    instances=(
        "p4de.24xlarge",
        "Standard_ND96amsr_A100_v4",
        "Standard_NC24ads_A100_v4",
        "Standard_NC48ads_A100_v4",
        "Standard_NC96ads_A100_v4",
    ),
)
_H100_SXM = Model(
    (
        "NVIDIA-H100-80GB-HBM3",
        "NVIDIA-H100-SXM5-80GB",
        "NVIDIA-H100-64GB-HBM2e",
        "NVIDIA-H100-64GB-HBM2",
        "NVIDIA-H100-94GB-HBM2e",
        "NVIDIA-H100-96GB-HBM2e",
        "NVIDIA-H100-96GB-HBM3",
    ),
    gke=("nvidia-h100-80gb", "nvidia-h100-mega-80gb"),
    karpenter=("h100",),
    coreweave=("H100_NVLINK_80GB",),
    instances=("p5.4xlarge", "p5.48xlarge", "Standard_ND96isr_H100_v5"),
)
_H100_PCIE = Model(("NVIDIA-H100-PCIe", "NVIDIA-H100-80GB-HBM2e"), coreweave=("H100_PCIE",))
_H100_NVL = Model(("NVIDIA-H100-NVL",), instances=("Standard_NC40ads_H100_v5", "Standard_NC80adis_H100_v5"))
_H200_SXM = Model(
    ("NVIDIA-H200",),
    gke=("nvidia-h200-141gb",),
    karpenter=("h200",),
    instances=("p5e.48xlarge", "p5en.48xlarge", "Standard_ND96isr_H200_v5"),
)
_H200_NVL = Model(("NVIDIA-H200-NVL",))

MODELS: Final[dict[str, Model]] = {
    "A10": Model(("NVIDIA-A10",), instances=("Standard_NV36ads_A10_v5", "Standard_NV72ads_A10_v5")),
    "A10G": Model(("NVIDIA-A10G",), karpenter=("a10g",)),
    "A100": _both(_A100_40, _A100_80, Model((), karpenter=("a100",))),
    "A100-40GB": _A100_40,
    "A100-80GB": _A100_80,
    "B200": Model(
        ("NVIDIA-B200",),
        gke=("nvidia-b200",),
        karpenter=("b200",),
        coreweave=("B200",),
        instances=("p6-b200.48xlarge",),
    ),
    "B300": Model(("NVIDIA-B300-SXM6-AC",), gke=("nvidia-b300",), karpenter=("b300",), instances=("p6-b300.48xlarge",)),
    "GB200": Model(("NVIDIA-GB200",), gke=("nvidia-gb200",), karpenter=("gb200",), coreweave=("GB200",)),
    "GB300": Model(("NVIDIA-GB300",), gke=("nvidia-gb300",), coreweave=("GB300",)),
    "GH200": Model(("NVIDIA-GH200-480GB", "NVIDIA-GH200-144G-HBM3e"), coreweave=("GH200",)),
    "H100": _both(_H100_SXM, _H100_PCIE, _H100_NVL, Model((), coreweave=("H100",))),
    "H100-SXM": _H100_SXM,
    "H100-PCIe": _H100_PCIE,
    "H100-NVL": _H100_NVL,
    "H200": _both(_H200_SXM, _H200_NVL, Model((), coreweave=("H200",))),
    "H200-SXM": _H200_SXM,
    "H200-NVL": _H200_NVL,
    "L4": Model(("NVIDIA-L4",), gke=("nvidia-l4",), karpenter=("l4",)),
    "L40": Model(("NVIDIA-L40",), coreweave=("L40",)),
    "L40S": Model(("NVIDIA-L40S",), karpenter=("l40s",), coreweave=("L40S",)),
    "RTX4090": Model(("NVIDIA-GeForce-RTX-4090",)),
    "RTX5090": Model(("NVIDIA-GeForce-RTX-5090",)),
    "RTX6000Ada": Model(("NVIDIA-RTX-6000-Ada-Generation",)),
    "RTXA6000": Model(("NVIDIA-RTX-A6000",), coreweave=("RTX_A6000",)),
    "RTXPRO6000": Model(
        (
            "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition",
            "NVIDIA-RTX-PRO-6000-Blackwell-Workstation-Edition",
            "NVIDIA-RTX-PRO-6000-Blackwell-Max-Q-Workstation-Edition",
        ),
        gke=("nvidia-rtx-pro-6000",),
    ),
    "T4": Model(
        ("Tesla-T4", "NVIDIA-T4"),
        gke=("nvidia-tesla-t4",),
        karpenter=("t4",),
        instances=tuple(f"Standard_NC{cores}as_T4_v3" for cores in (4, 8, 16, 64)),
    ),
    "V100": Model(
        ("Tesla-V100-SXM2-16GB", "Tesla-V100-SXM2-32GB", "Tesla-V100-PCIE-16GB", "Tesla-V100-PCIE-32GB"),
        gke=("nvidia-tesla-v100",),
        karpenter=("v100",),
        instances=("p3.2xlarge", "p3.8xlarge", "p3.16xlarge", "p3dn.24xlarge"),
    ),
}
_EXACT: Final = ("NVIDIA-", "Tesla-")
_BY_UPPER: Final = {name.upper(): model for name, model in MODELS.items()}


def is_slice(gpu_type: str) -> bool:
    """Whether the type is a part of a GPU (MIG)."""
    return "MIG" in gpu_type.upper()


def problem(wanted: Gpu) -> str | None:
    """What is wrong with a request for GPUs, in words for the user; None where nodes can be looked for."""
    named = wanted.type.startswith(_EXACT)
    if is_slice(wanted.type) and not named:
        return (
            f"spec.compute.gpu: {wanted.type} is a slice of a GPU (MIG). Ask for it by the exact value of the nodes' "
            f"label {PRODUCT_LABEL}, such as NVIDIA-H100-80GB-HBM3-MIG-1g.10gb, or, where slices are resources of "
            "their own, in spec.compute.extraResources, such as nvidia.com/mig-1g.10gb: 1"
        )
    if is_slice(wanted.type) and wanted.count > 1:
        return f"spec.compute.gpu: slices of a GPU (MIG) can't train together; ask for one {wanted.type}"
    if named or wanted.type.upper() in _BY_UPPER:
        return None
    return (
        f"spec.compute.gpu: {wanted.type} is no GPU type known here. Use one of {', '.join(MODELS)}, or the exact "
        f"value of the nodes' label {PRODUCT_LABEL}, such as NVIDIA-H100-80GB-HBM3"
    )


def node_terms(gpu_type: str) -> list[dict[str, Any]]:
    """Node selector terms, any of which will do, for a type that `problem` has nothing against."""
    model = _BY_UPPER.get(gpu_type.upper(), Model((gpu_type,)))
    whole = [_absent(PRODUCT_LABEL)]
    ways: tuple[tuple[str, tuple[str, ...], list[dict[str, Any]]], ...] = (
        (PRODUCT_LABEL, model.products, []),
        (GKE_LABEL, model.gke, [*whole, *(_absent(label) for label in GKE_PARTS)]),
        (KARPENTER_LABEL, model.karpenter, whole),
        (COREWEAVE_LABEL, model.coreweave, whole),
        (INSTANCE_LABEL, model.instances, whole),
    )
    return [
        {"matchExpressions": [{"key": label, "operator": "In", "values": list(values)}, *more]}
        for label, values, more in ways
        if values
    ]


def matches(terms: list[dict[str, Any]], labels: Mapping[str, str]) -> bool:
    """Whether a node of these labels satisfies any of the terms that `node_terms` makes."""
    return any(all(_holds(e, labels) for e in term["matchExpressions"]) for term in terms)


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    return value is None if expression["operator"] == "DoesNotExist" else value in expression["values"]


def _absent(label: str) -> dict[str, Any]:
    return {"key": label, "operator": "DoesNotExist"}
