"""How long texts are once they are tokens. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def lengths(train: Sequence[int], held: Sequence[int], limit: int) -> dict[str, Any]:
    """Tokens of the texts of both parts before anything is cut; `train` counts what is left of the training part."""
    every = np.asarray([*train, *held], dtype=np.int64)
    return {
        "min": int(every.min()),
        "median": int(np.median(every)),
        "p95": int(np.percentile(every, 95)),
        "max": int(every.max()),
        "mean": round(float(every.mean()), 1),
        "total": int(every.sum()),
        "train": int(np.minimum(np.asarray(train, dtype=np.int64), limit).sum()),
        "limit": limit,
        "longer": int((every > limit).sum()),
    }


def long_texts(tokens: dict[str, Any], count: int, field: str) -> list[str]:
    """A warning where many texts are cut."""
    if tokens["longer"] <= max(3, count // 20):
        return []
    return [
        f"{tokens['longer']} of {count} texts have more than {tokens['limit']} tokens and are cut: raise {field}, if "
        "what comes later matters."
    ]
