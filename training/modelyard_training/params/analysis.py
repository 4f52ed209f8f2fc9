"""What the analysis and the operator share: which parameters it reads, and the form in which its findings travel.

The findings go through a container's termination message, which holds 4,096 bytes: so they are packed, and what is
unpacked is bounded, since it comes from a pod.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

REPORT: Final = "analysis.json"
"""The complete findings, on the output volume."""

READ_BY_ANALYSIS: Final[Mapping[str, tuple[str, ...]]] = {
    "tabular": ("categoricalColumns", "maxCategories"),
    "text": ("maxLength", "longText"),
    "image": ("architecture", "imageSize", "maxBrokenShare"),
    "causalLM": ("sequenceLength", "lossOn", "longText"),
    "textToImageLoRA": ("method", "prompt", "resolution"),
    "custom": (),
}
"""Parameters, by family, that change what the model sees. Others can change without another look at the data."""

_UNPACKED_MAX: Final = 48 * 1024


def read_by_analysis(family: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the parameters that the analysis reads."""
    return {name: params[name] for name in READ_BY_ANALYSIS[family] if name in params}


def pack(findings: Mapping[str, Any]) -> str:
    """Findings as text."""
    text = json.dumps(findings, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b85encode(zlib.compress(text.encode(), 9)).decode()


def unpack(text: object) -> dict[str, Any] | None:
    """Findings that `pack` has made, or None for anything else, also for what is suspiciously large."""
    if not isinstance(text, str):
        return None
    try:
        opened = zlib.decompressobj()
        content = opened.decompress(base64.b85decode(text), _UNPACKED_MAX)
        found = json.loads(content, parse_constant=_refuse) if opened.eof else None
    except (ValueError, zlib.error, binascii.Error, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
