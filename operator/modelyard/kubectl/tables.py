"""Rows as tables: which columns a kind has, and how values are written. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from modelyard.kubectl.source import Json
from modelyard.resources.times import parse_time

Cell = Callable[[Json, datetime], str]


def _field(name: str) -> Cell:
    return lambda row, now: _text(row.get(name))


def _text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def age(since: str | None, now: datetime) -> str:
    """`3d4h`, `5m`, as kubectl writes ages."""
    return "-" if since is None else span(max(0, int((now - parse_time(since)).total_seconds())))


def span(seconds: int | None) -> str:
    """Seconds in the two largest units."""
    if seconds is None:
        return "-"
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    parts: list[str] = []
    for name, size in units:
        if seconds >= size or (name == "s" and not parts):
            parts.append(f"{seconds // size}{name}")
            seconds %= size
        elif parts:
            break
        if len(parts) == 2:
            break
    return "".join(part for part in parts if not (part.startswith("0") and len(parts) > 1))


def size(count: int | None) -> str:
    """Bytes with a binary unit."""
    if not count:
        return "-"
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def _age(row: Json, now: datetime) -> str:
    return age(row.get("created"), now)


def _percent(row: Json, now: datetime) -> str:
    return "-" if row.get("percent") is None else f"{row['percent']}%"


def _step(row: Json, now: datetime) -> str:
    step, total = row.get("step"), row.get("totalSteps")
    return "-" if step is None else f"{step}/{total}" if total else str(step)


def _loss(row: Json, now: datetime) -> str:
    metrics = row.get("metrics") or {}
    return _text(next((metrics[name] for name in ("loss", "train_loss", "eval_loss") if name in metrics), None))


def _gpu(row: Json, now: datetime) -> str:
    return f"{row['gpuType']}:{row['gpus']}" if row.get("gpus") and row.get("gpuType") else "-"


def _versions(row: Json, now: datetime) -> str:
    return f"{row.get('versionsReady', 0)}/{row.get('versionsTotal', 0)}"


def _cost(row: Json, now: datetime) -> str:
    return f"${row['costUSD']}" if row.get("costUSD") else "-"


def _speed(row: Json, now: datetime) -> str:
    return f"{row['throughput']:.4g} {row.get('unit') or 'units'}/s" if row.get("throughput") else "-"


def _eta(row: Json, now: datetime) -> str:
    return span(row.get("etaSeconds")) if row.get("phase") == "Running" else "-"


COLUMNS: Final[Mapping[str, Sequence[tuple[str, Cell]]]] = {
    "models": (
        ("NAME", _field("name")),
        ("PHASE", _field("phase")),
        ("READY", _versions),
        ("PROGRESS", _percent),
        ("SIZE", lambda row, now: size(row.get("bytes"))),
        ("SOURCE", _field("source")),
        ("REASON", _field("reason")),
        ("AGE", _age),
    ),
    "modelsources": (
        ("NAME", _field("name")),
        ("TYPE", _field("type")),
        ("PHASE", _field("phase")),
        ("SECRET", _field("secretRef")),
        ("USED BY", _field("referencedByCount")),
        ("REASON", _field("reason")),
        ("AGE", _age),
    ),
    "trainings": (
        ("NAME", _field("name")),
        ("PHASE", _field("phase")),
        ("PROGRESS", _percent),
        ("STEP", _step),
        ("LOSS", _loss),
        ("ETA", _eta),
        ("GPU", _gpu),
        ("TRY", _field("attempt")),
        ("COST", _cost),
        ("REASON", _field("reason")),
        ("AGE", _age),
    ),
    "pods": (
        ("NAME", _field("name")),
        ("PHASE", _field("phase")),
        ("DOES", _field("component")),
        ("TRAINING", _field("training")),
        ("MODEL", _field("model")),
        ("NODE", _field("node")),
        ("RESTARTS", _field("restarts")),
        ("AGE", _age),
    ),
    "datasets": (
        ("NAME", _field("name")),
        ("PHASE", _field("phase")),
        ("TYPE", _field("type")),
        ("URI", _field("uri")),
        ("AGE", _age),
    ),
    "top": (
        ("NAME", _field("name")),
        ("GPU", _gpu),
        ("PROGRESS", _percent),
        ("SPEED", _speed),
        ("ETA", _eta),
        ("GPU HOURS", lambda row, now: f"{(row.get('gpuSeconds') or 0) / 3600:.2f}"),
        ("COST", _cost),
    ),
}


def table(plural: str, rows: Sequence[Json], now: datetime, with_namespace: bool) -> str:
    """The rows of a kind as a table with a head."""
    columns = list(COLUMNS[plural])
    if with_namespace:
        columns.insert(0, ("NAMESPACE", _field("namespace")))
    lines = [[head for head, _ in columns], *([cell(row, now) for _, cell in columns] for row in rows)]
    return columned(lines)


def troubles(rows: Sequence[Json], now: datetime) -> str:
    """What needs a person, a paragraph each: what it is about, what is wrong, what to do."""
    return "\n\n".join("\n".join(_trouble(row, now)) for row in rows)


def _trouble(row: Json, now: datetime) -> list[str]:
    who = row["object"]
    version = f" version {row['version']}" if row.get("version") else ""
    since = f"   since {age(row['since'], now)}" if row.get("since") else ""
    waiting = f"   {row['affects']} wait for it" if row.get("affects") else ""
    head = f"{row['level'].upper()}   {who['namespace']}   {who['kind'].lower()}/{who['name']}{version}"
    said = [f"  {row['message']}"] if row.get("message") else []
    return [f"{head}   {row['reason']}{since}{waiting}", *said, f"  → {row['todo']}"]


def totals(found: Json) -> str:
    """How many in which phase, what they took, and where."""
    lines = [["", "TOTAL", "BY PHASE"]]
    for key, words in (("models", "models"), ("modelSources", "sources"), ("trainings", "trainings")):
        if key in found:
            phases = ", ".join(f"{count} {phase}" for phase, count in found[key]["byPhase"].items())
            lines.append([words, str(found[key]["total"]), phases])
    text = columned(lines)
    if "spending" in found:
        spending = found["spending"]
        text += f"\nGPU hours {spending['gpuHours']:.2f}   cost ${spending['costUSD']}"
        if spending["withoutPrice"]:
            text += f"   without a price {spending['withoutPrice']}"
    text += f"\nstored {size(found['storageBytes'])}"
    for key, head in (("byNamespace", ["NAMESPACE"]), ("byModel", ["NAMESPACE", "MODEL"])):
        if len(found[key]) > (key == "byNamespace"):
            text += "\n\n" + columned([[*head, "TRAININGS", "GPU HOURS", "COST"], *map(_spent, found[key])])
    return text


def _spent(row: Json) -> list[str]:
    spending = row.get("spending") or {"gpuHours": 0.0, "costUSD": "0.00"}
    names = [row[name] for name in ("namespace", "model") if name in row]
    return [*names, _text(row.get("trainings")), f"{spending['gpuHours']:.2f}", f"${spending['costUSD']}"]


def columned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells with columns below each other."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
