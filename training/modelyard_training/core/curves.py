"""The course of a run as a picture: the losses in one panel, each held-out metric in its own, over the steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_LOSSES = ("loss", "validationLoss")
_PANELS = 6
_POINTS = 2000

Row = Mapping[str, Any]


def draw(rows: Sequence[Row], best: int | None, target: Path) -> None:
    """Draws rows of `metrics.jsonl`; `best`: the step whose weights were kept. Raises OSError.

    The candidates of a contest come one after the other, each in a colour of its own.
    """
    steps = [row for row in rows if "epoch" not in row]
    epochs = [row for row in rows if "epoch" in row]
    others = {"step", "epoch", "candidate", *_LOSSES}
    names = sorted({key for row in epochs for key in row} - others)[: _PANELS - 1]
    # Seconds of import, and only at the end.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(3, 1 + len(names))
    lines = -(-(1 + len(names)) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.0 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    for number, (candidate, first, last) in enumerate(_candidates(epochs)):
        colour, name = f"C{2 * number}", f"{candidate}: " if candidate else ""
        within = [row for row in steps if first < row["step"] <= last]
        within = within[:: max(1, len(within) // _POINTS)]
        held = [row for row in epochs if first < row["step"] <= last]
        _line(panels[0], within, "loss", f"{name}training", color=colour, linewidth=0.8)
        _line(panels[0], held, "validationLoss", f"{name}held out", color=f"C{2 * number + 1}", marker=".")
        for panel, metric in zip(panels[1:], names, strict=False):
            _line(panel, held, metric, candidate or "", color=colour, marker=".")
    for panel, title in zip(panels, ["loss", *names], strict=False):
        panel.set_title(title)
        panel.set_xlabel("step")
        if best is not None:
            panel.axvline(best, color="0.7", linestyle=":", linewidth=1)
    for panel in panels[1 + len(names) :]:
        panel.set_visible(False)
    if panels[0].lines:
        panels[0].legend(fontsize="x-small")
    # Without the library's name and version in it: the same run makes the same file.
    figure.savefig(target, dpi=100, metadata={"Software": None})


def _line(panel: Any, rows: Sequence[Row], name: str, label: str, **style: Any) -> None:
    points = [(row["step"], row[name]) for row in rows if name in row]
    if points:
        panel.plot(*zip(*points, strict=True), label=label, **style)


def _candidates(epochs: Sequence[Row]) -> list[tuple[str | None, int, float]]:
    """Each candidate with the step before its first one and its last one; all steps where there is no contest."""
    ends: dict[str, int] = {}
    for row in epochs:
        if "candidate" in row:
            ends[row["candidate"]] = row["step"]
    if not ends:
        return [(None, 0, float("inf"))]
    firsts = [0, *list(ends.values())[:-1]]
    return [(name, first, last) for (name, last), first in zip(ends.items(), firsts, strict=True)]
