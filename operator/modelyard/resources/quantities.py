"""Kubernetes quantities and GPU requests as numbers. Pure, exact (Decimal, never float)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Final

QUANTITY_PATTERN: Final = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
"""What Kubernetes takes as a quantity (RE2 and Python alike)."""

GPU_PATTERN: Final = r"^(none|[A-Za-z][A-Za-z0-9._-]*(:[1-9][0-9]{0,2})?)$"
"""`none`, or a GPU type with a count per node: `H100:8`; a type alone means one."""

_SUFFIXES: Final = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15,
    "E": Decimal(10) ** 18,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
    "Pi": Decimal(2) ** 50,
    "Ei": Decimal(2) ** 60,
}
_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:(?P<suffix>[KMGTPE]i|[numkMGTPE])|[eE](?P<exp>[+-]?[0-9]+))?"
)
_GPU = re.compile(GPU_PATTERN)
_MAX_EXPONENT: Final = 30


def parse_quantity(value: str | int) -> Decimal:
    """`20Gi` -> 21474836480, `500m` -> 0.5, `4` -> 4. ValueError, in words for the user, if it is none."""
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        raise ValueError(f"{str(value)[:32]!r} is not a quantity; write for example 500m, 4, 20Gi")
    exponent = int(match["exp"] or 0)
    if abs(exponent) > _MAX_EXPONENT:
        raise ValueError(f"{str(value)[:32]!r} is out of range for a quantity")
    return Decimal(match["number"]).scaleb(exponent) * _SUFFIXES[match["suffix"] or ""]


def quantity_bytes(value: str | int) -> int:
    """A quantity of bytes as a whole number, rounded up. ValueError if it is no quantity, or negative."""
    number = parse_quantity(value)
    if number < 0:
        raise ValueError(f"{str(value)[:32]!r} is negative")
    return int(number.to_integral_value(rounding=ROUND_CEILING))


@dataclass(frozen=True, slots=True)
class Gpu:
    """GPUs of one node: the type as the user wrote it (empty for none) and how many."""

    type: str
    count: int


NO_GPU: Final = Gpu("", 0)


def parse_gpu(text: str | None) -> Gpu:
    """`H100:8` -> 8 of H100, `H200` -> 1, `none` and None -> no GPU. ValueError in words for the user."""
    if text is None or text == "none":
        return NO_GPU
    if _GPU.fullmatch(text) is None:
        raise ValueError(f"{text[:64]!r} is not a GPU request; write none, a type (H200), or type:count (H100:8)")
    kind, _, count = text.partition(":")
    return Gpu(kind, int(count or 1))
