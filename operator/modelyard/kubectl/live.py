"""The live view of one training: where it stands, and the curve of a metric. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from modelyard.kubectl.curve import curve
from modelyard.kubectl.source import Json
from modelyard.kubectl.tables import age, span

_HEIGHT: Final = 8
_PREFERRED: Final = ("loss", "train_loss", "eval_loss", "accuracy")


class Curves:
    """Values of metrics by step, from what was reported before and what is seen while it is watched."""

    def __init__(self) -> None:
        self._values: dict[str, dict[int, float]] = {}

    def take_series(self, series: Mapping[str, Sequence[Json]]) -> None:
        """What was reported before."""
        for name, points in series.items():
            for point in points:
                if point.get("step") is not None:
                    self._values.setdefault(name, {})[point["step"]] = point["value"]

    def take(self, row: Json) -> None:
        """A report."""
        if row.get("step") is not None:
            for name, value in (row.get("metrics") or {}).items():
                self._values.setdefault(name, {})[row["step"]] = value

    def names(self) -> list[str]:
        """Metrics with more than one value, the most telling first."""
        drawn = sorted(name for name, values in self._values.items() if len(values) > 1)
        return sorted(drawn, key=lambda name: _PREFERRED.index(name) if name in _PREFERRED else len(_PREFERRED))

    def steps(self, name: str) -> list[int]:
        """Steps with a value, in order."""
        return sorted(self._values.get(name, {}))

    def of(self, name: str) -> list[float]:
        """Values in the order of steps."""
        return [self._values[name][step] for step in self.steps(name)]


def view(row: Json, curves: Curves, now: datetime, width: int, metric: str = "") -> str:
    """The whole picture, for a terminal that is `width` wide."""
    lines = [
        f"{row['namespace']}/{row['name']}   {row['phase']}" + (f" ({row['reason']})" if row.get("reason") else "")
    ]
    if row.get("message"):
        lines.append(row["message"][: max(20, width)])
    percent = row.get("percent")
    if percent is not None:
        room = max(10, min(50, width - 40))
        full = room * percent // 100
        step = f"{row.get('step', '-')}/{row.get('totalSteps', '-')}"
        lines.append(f"[{'█' * full}{'·' * (room - full)}] {percent}%  step {step}  ETA {span(row.get('etaSeconds'))}")
    facts = {
        "attempt": row.get("attempt"),
        "GPU": f"{row['gpuType']}:{row['gpus']}" if row.get("gpus") and row.get("gpuType") else None,
        "speed": f"{row['throughput']:.4g} {row.get('unit') or 'units'}/s" if row.get("throughput") else None,
        "cost": f"${row['costUSD']}" if row.get("costUSD") else None,
        "reported": f"{age(row['lastReportTime'], now)} ago" if row.get("lastReportTime") else None,
        "saved": row.get("saved"),
    }
    lines.append("   ".join(f"{name} {value}" for name, value in facts.items() if value is not None))
    metrics = row.get("metrics") or {}
    lines.append("   ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items())[:8]))
    for name in [metric] if metric else curves.names()[:1]:
        steps = curves.steps(name)
        ends = (f"step {steps[0]}", str(steps[-1])) if steps else ()
        lines += ["", name, *curve(curves.of(name), max(20, min(100, width - 12)), _HEIGHT, *ends)]
    return "\n".join(lines)
