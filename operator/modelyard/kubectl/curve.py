"""A curve in the terminal, with braille dots: two values wide and four high in each character. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_DOTS: Final = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def curve(values: Sequence[float], width: int, height: int, first: str = "", last: str = "") -> list[str]:
    """Lines of a plot of `width` × `height` characters, with the highest and lowest value beside it.

    More values than fit are thinned so that peaks stay, fewer are spread over the width; none at all is an empty list.
    `first` and `last` say below the plot where it begins and ends.
    """
    if not values:
        return []
    low, high = min(values), max(values)
    rows, columns = height * 4, width * 2
    cells = [[0] * width for _ in range(height)]
    before: int | None = None
    for x, value in enumerate(_fitted(values, columns)):
        y = rows // 2 if high == low else round((high - value) / (high - low) * (rows - 1))
        for between in range(
            min(y, before if before is not None else y), max(y, before if before is not None else y) + 1
        ):
            cells[between // 4][x // 2] |= _DOTS[x % 2][between % 4]
        before = y
    labels = [f"{high:.4g}", *[""] * (height - 2), f"{low:.4g}"] if height > 1 else [f"{high:.4g}"]
    margin = max(map(len, labels))
    drawn = ["".join(chr(0x2800 + dots) for dots in line) for line in cells]
    lines = [f"{label.rjust(margin)} ┤{line}" for label, line in zip(labels, drawn, strict=True)]
    if first or last:
        lines.append(" " * (margin + 2) + first + last.rjust(width - len(first)))
    return lines


def _fitted(values: Sequence[float], most: int) -> list[float]:
    """`most` values: of many, of each part by turns its highest and lowest; of few, what lies between them too."""
    if len(values) == 1:
        return list(values)
    if len(values) <= most:
        return [_between(values, at * (len(values) - 1) / (most - 1)) for at in range(most)]
    found = []
    for part in range(most):
        chunk = values[part * len(values) // most : (part + 1) * len(values) // most]
        found.append(max(chunk) if part % 2 else min(chunk))
    return found


def _between(values: Sequence[float], place: float) -> float:
    at = min(int(place), len(values) - 2)
    return values[at] + (values[at + 1] - values[at]) * (place - at)
