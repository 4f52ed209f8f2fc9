"""The learning rate of a step: a pure function, so that a resumed run has no schedule to restore."""

from __future__ import annotations

import math


def factor(step: int, total: int, kind: str, warmup_ratio: float) -> float:
    """Share of the peak rate in optimizer step `step` (from 0) of `total`: a linear rise, then the schedule to 0."""
    warmup = round(total * warmup_ratio)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    if kind == "Linear":
        return 1.0 - done
    if kind == "Cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    return 1.0
