"""What GPUs can hold and how fast they compute, by type: the figures that estimates are made with. Pure.

Memory is what the maker states, in GiB; speed is the dense BF16 peak in TFLOP/s, which nobody reaches.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class GpuFacts(NamedTuple):
    """Memory in GiB, dense BF16 (or FP16) peak in TFLOP/s."""

    memory: float
    tflops: float


GPUS: Final[dict[str, GpuFacts]] = {
    "T4": GpuFacts(15, 65),
    "V100": GpuFacts(16, 112),
    "L4": GpuFacts(22, 121),
    "A10": GpuFacts(22, 125),
    "A10G": GpuFacts(22, 70),
    "RTX4090": GpuFacts(24, 165),
    "RTX5090": GpuFacts(32, 210),
    "A100": GpuFacts(40, 312),
    "L40": GpuFacts(45, 181),
    "L40S": GpuFacts(45, 362),
    "RTXA6000": GpuFacts(48, 155),
    "RTX6000ADA": GpuFacts(48, 182),
    "H100": GpuFacts(80, 989),
    "H100NVL": GpuFacts(94, 835),
    "GH200": GpuFacts(96, 989),
    "RTXPRO6000": GpuFacts(96, 250),
    "H200": GpuFacts(141, 989),
    "B200": GpuFacts(180, 2250),
    "GB200": GpuFacts(186, 2500),
    "B300": GpuFacts(270, 2250),
}
"""Of a type with several sizes the smallest: whoever asks for `A100` may get one of 40 GiB."""

_SIZE = re.compile(r"-(\d+)GB?\b", re.IGNORECASE)
_SLICE = re.compile(r"MIG-(\d)g\.(\d+)gb", re.IGNORECASE)
_SLICES = 7


def gpu_facts(gpu_type: str) -> GpuFacts | None:
    """What is known of a type, or of a product label such as `NVIDIA-A100-SXM4-80GB`; None for an unknown one."""
    upper = gpu_type.upper()
    if upper in GPUS:
        return GPUS[upper]
    parts = re.split(r"[-_ ]", upper)
    joined = "".join(parts)
    known = next((name for name in sorted(GPUS, key=len, reverse=True) if name in parts or name in joined), None)
    if known is None:
        return None
    if (part := _SLICE.search(gpu_type)) is not None:
        return GpuFacts(float(part[2]), GPUS[known].tflops * int(part[1]) / _SLICES)
    size = _SIZE.search(gpu_type)
    if size is None or float(size[1]) > 2.5 * GPUS[known].memory:
        return GPUS[known]  # GH200-480GB names its CPU's memory
    return GPUS[known]._replace(memory=float(size[1]))


def fitting(memory: float) -> tuple[str, ...]:
    """Types that have at least so many GiB, the smallest first, at most three."""
    return tuple(sorted((n for n, g in GPUS.items() if g.memory >= memory), key=lambda n: GPUS[n].memory)[:3])
