"""Causes that a program's last lines give away: what the CUDA driver and NCCL say when a GPU or a peer is gone. Pure.

Only that a known phrase is there leaves the pod, never the line that it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .codes import Reason

_SIGNS = (
    (
        re.compile(
            r"uncorrectable (ECC|NVLink) error|ECC_?UNCORRECTABLE|fallen off the bus|GPU is lost|\bXid\b"
            r"|no CUDA-capable device|CUDA-capable device\(s\) is/are busy or unavailable",
            re.IGNORECASE,
        ),
        Reason.GPU_LOST,
        "The GPU failed or went away, says its driver. The run goes on from its last checkpoint, best on another node: "
        "have this one looked at.",
    ),
    (
        re.compile(r"collective operation timeout|NCCL (operations have failed or )?time(d )?-?out", re.IGNORECASE),
        Reason.NCCL_TIMEOUT,
        "A collective operation of NCCL timed out: one of the processes was stuck or gone, or the network between them "
        "failed. The other pods of the attempt may say which.",
    ),
    (
        re.compile(r"nccl(Remote|System|UnhandledCuda)Error|NCCL error", re.IGNORECASE),
        Reason.NCCL_ERROR,
        "NCCL failed: another process of the run ended, or the network between them failed.",
    ),
)


def of(lines: Iterable[str]) -> tuple[str, str] | None:
    """Reason and sentence of the first cause of the list that the lines tell of."""
    text = "\n".join(lines)
    return next(((reason, words) for sign, reason, words in _SIGNS if sign.search(text)), None)
