"""Which nodes have the GPU that a user named: `H100` as NVIDIA's feature discovery and the big clouds label it.

A product label is matched whole, never by its beginning, so that MIG slices (`…-MIG-1g.10gb`) and time-shared GPUs
(`…-SHARED`) are not taken for whole ones. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

RESOURCE: Final = "nvidia.com/gpu"
PRODUCT_LABEL: Final = "nvidia.com/gpu.product"
GKE_LABEL: Final = "cloud.google.com/gke-accelerator"
KARPENTER_LABEL: Final = "karpenter.k8s.aws/instance-gpu-name"


@dataclass(frozen=True, slots=True)
class Model:
    """The names of one type of GPU: products of NVIDIA's feature discovery, accelerators of GKE, names of Karpenter."""

    products: tuple[str, ...]
    gke: tuple[str, ...] = ()
    karpenter: tuple[str, ...] = ()


MODELS: Final[dict[str, Model]] = {
    "A10": Model(("NVIDIA-A10",)),
    "A10G": Model(("NVIDIA-A10G",), karpenter=("a10g",)),
    "A100": Model(
        (
            "NVIDIA-A100-SXM4-40GB",
            "NVIDIA-A100-SXM4-80GB",
            "NVIDIA-A100-PCIE-40GB",
            "NVIDIA-A100-80GB-PCIe",
            "A100-SXM4-40GB",
            "A100-SXM4-80GB",
            "A100-PCIE-40GB",
        ),
        gke=("nvidia-tesla-a100", "nvidia-a100-80gb"),
        karpenter=("a100",),
    ),
    "B200": Model(("NVIDIA-B200",), gke=("nvidia-b200",), karpenter=("b200",)),
    "B300": Model(("NVIDIA-B300-SXM6-AC",), karpenter=("b300",)),
    "GB200": Model(("NVIDIA-GB200",), gke=("nvidia-gb200",), karpenter=("gb200",)),
    "GH200": Model(("NVIDIA-GH200-480GB", "NVIDIA-GH200-144G-HBM3e")),
    "H100": Model(
        (
            "NVIDIA-H100-80GB-HBM3",
            "NVIDIA-H100-80GB-HBM2e",
            "NVIDIA-H100-PCIe",
            "NVIDIA-H100-NVL",
            "NVIDIA-H100-SXM5-80GB",
            "NVIDIA-H100-64GB-HBM2e",
            "NVIDIA-H100-96GB-HBM2e",
            "NVIDIA-H100-94GB-HBM2e",
            "NVIDIA-H100-96GB-HBM3",
        ),
        gke=("nvidia-h100-80gb", "nvidia-h100-mega-80gb"),
        karpenter=("h100",),
    ),
    "H200": Model(("NVIDIA-H200", "NVIDIA-H200-NVL"), gke=("nvidia-h200-141gb",), karpenter=("h200",)),
    "L4": Model(("NVIDIA-L4",), gke=("nvidia-l4",), karpenter=("l4",)),
    "L40": Model(("NVIDIA-L40",)),
    "L40S": Model(("NVIDIA-L40S",), karpenter=("l40s",)),
    "RTX4090": Model(("NVIDIA-GeForce-RTX-4090",)),
    "RTX5090": Model(("NVIDIA-GeForce-RTX-5090",)),
    "RTX6000Ada": Model(("NVIDIA-RTX-6000-Ada-Generation",)),
    "RTXA6000": Model(("NVIDIA-RTX-A6000",)),
    "T4": Model(("Tesla-T4", "NVIDIA-T4"), gke=("nvidia-tesla-t4",), karpenter=("t4",)),
    "V100": Model(
        ("Tesla-V100-SXM2-16GB", "Tesla-V100-SXM2-32GB", "Tesla-V100-PCIE-16GB", "Tesla-V100-PCIE-32GB"),
        gke=("nvidia-tesla-v100",),
        karpenter=("v100",),
    ),
}
_EXACT: Final = ("NVIDIA-", "Tesla-")
_BY_UPPER: Final = {name.upper(): model for name, model in MODELS.items()}


def problem(gpu_type: str) -> str | None:
    """What is wrong with a GPU type, in words for the user; None where nodes can be looked for."""
    if "MIG" in gpu_type.upper():
        return f"spec.compute.gpu: {gpu_type} is a slice of a GPU (MIG); this version places whole GPUs only."
    if gpu_type.startswith(_EXACT) or gpu_type.upper() in _BY_UPPER:
        return None
    return (
        f"spec.compute.gpu: {gpu_type} is no GPU type known here. Use one of {', '.join(MODELS)}, or the exact value "
        f"of the nodes' label {PRODUCT_LABEL}, such as NVIDIA-H100-80GB-HBM3."
    )


def node_terms(gpu_type: str) -> list[dict[str, Any]]:
    """Node selector terms, any of which will do. ValueError for a type that `problem` refuses."""
    if (wrong := problem(gpu_type)) is not None:
        raise ValueError(wrong)
    model = _BY_UPPER.get(gpu_type.upper(), Model((gpu_type,)))
    labels = ((PRODUCT_LABEL, model.products), (GKE_LABEL, model.gke), (KARPENTER_LABEL, model.karpenter))
    return [
        {"matchExpressions": [{"key": label, "operator": "In", "values": list(values)}]}
        for label, values in labels
        if values
    ]
