"""What every bench ends with: a table for people and `build/bench/<name>.json` for programs. Judges nothing.

A row compares one figure with a peer's, or with the bound that it should keep, measured or applied in the same run.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "build" / "bench"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `ratio`: more is better; `goal`: the ratio that is asked for, None where nothing is."""

    what: str
    unit: str
    ours: float
    peer: float | None
    peer_name: str
    ratio: float | None
    goal: float | None


def more_is_better(what: str, unit: str, ours: float, peer: float, peer_name: str, goal: float | None = None) -> Row:
    """A rate, beside the peer's: the ratio is ours / peer."""
    return Row(what, unit, ours, peer, peer_name, ours / peer if peer else None, goal)


def less_is_better(what: str, unit: str, ours: float, peer: float, peer_name: str, goal: float | None = None) -> Row:
    """A time, size or count, beside the peer's: the ratio is peer / ours."""
    return Row(what, unit, ours, peer, peer_name, peer / ours if ours else None, goal)


def at_most(what: str, unit: str, ours: float, bound: float) -> Row:
    """A figure that has a bound: the goal is a ratio of at least 1."""
    return less_is_better(what, unit, ours, bound, "bound", 1.0)


def plain(what: str, unit: str, ours: float) -> Row:
    """A figure to know, with nothing to hold it against."""
    return Row(what, unit, ours, None, "", None, None)


def publish(name: str, rows: Sequence[Row]) -> Path:
    """Prints the table and writes the file; returns its path."""
    lines = [("what", "ours", "beside it", "ratio", "goal")]
    for row in rows:
        peer = "" if row.peer is None else f"{_number(row.peer)} {row.peer_name}"
        lines.append((row.what, f"{_number(row.ours)} {row.unit}", peer, _ratio(row.ratio), _ratio(row.goal)))
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    print(
        f"\n{name}: {os.cpu_count()} CPUs, {memory:.0f} GiB, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}"
    )
    for line in lines:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    return path


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
