"""A curve in the terminal, with braille dots: two values wide and four high in each character. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_DOTS: Final = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))


def curve(values: Sequence[float], width: int, height: int) -> list[str]:
    """Lines of a plot of `width` × `height` characters, with the highest and lowest value beside it.

    More values than fit are thinned so that peaks stay; none at all is an empty list.
    """
    if not values:
        return []
    low, high = min(values), max(values)
    rows, columns = height * 4, width * 2
    cells = [[0] * width for _ in range(height)]
    last: int | None = None
    for x, value in enumerate(_thinned(values, columns)):
        y = rows // 2 if high == low else round((high - value) / (high - low) * (rows - 1))
        for between in range(min(y, last if last is not None else y), max(y, last if last is not None else y) + 1):
            cells[between // 4][x // 2] |= _DOTS[x % 2][between % 4]
        last = y
    labels = [f"{high:.4g}", *[""] * (height - 2), f"{low:.4g}"] if height > 1 else [f"{high:.4g}"]
    margin = max(map(len, labels))
    drawn = ["".join(chr(0x2800 + dots) for dots in line) for line in cells]
    return [f"{label.rjust(margin)} ┤{line}" for label, line in zip(labels, drawn, strict=True)]


def _thinned(values: Sequence[float], most: int) -> list[float]:
    """At most `most` values: of each part by turns its highest and lowest."""
    if len(values) <= most:
        return list(values)
    found = []
    for part in range(most):
        chunk = values[part * len(values) // most : (part + 1) * len(values) // most]
        found.append(max(chunk) if part % 2 else min(chunk))
    return found
