"""The card beside the weights, as hubs show it: what was trained, on what, how well it does, how it is loaded.

All of it follows from what the run computed and was told, so that a run that was resumed writes the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from modelyard_training.core import curves
from modelyard_training.core.task import Use
from modelyard_training.params import Split, resolve

CARD, CURVES = "README.md", "curves.png"
TRAINING_LOSS = "loss"
_EPOCHS = 20
_NAMES = 32


def write(folder: Path, metadata: Mapping[str, Any], use: Use, metrics_file: Path) -> None:
    """Adds the card and the curves to a folder of weights. Raises OSError."""
    rows = [json.loads(line) for line in metrics_file.read_text().splitlines()] if metrics_file.exists() else []
    curves.draw(rows, metadata["bestStep"], folder / CURVES)
    (folder / CARD).write_text(card(metadata, use, rows), encoding="utf-8")


def card(metadata: Mapping[str, Any], use: Use, rows: Sequence[Mapping[str, Any]]) -> str:
    """The card as Markdown, after the front matter that the hubs read."""
    recipe, name = str(metadata["recipe"]), str(metadata["training"]["name"] or metadata["algorithm"])
    held = (
        {k: v for k, v in sorted(metadata["metrics"].items()) if k != TRAINING_LOSS} if metadata["testSamples"] else {}
    )
    front: dict[str, Any] = {
        "library_name": use.library,
        "pipeline_tag": use.task,
        "tags": ["modelyard", recipe, *(["lora"] if metadata["kind"] == "Adapter" else [])],
        "metrics": list(held),
        "model-index": [{"name": name, "results": [_result(use.task, held)]}] if held else None,
    }
    front = {key: value for key, value in front.items() if value}
    parts = [f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n# {name}\n\n"]
    parts.append(_table(("", ""), _facts(metadata).items()))
    parts.append("\n## Data\n\n" + _table(("", ""), _data(metadata).items()))
    if held:
        parts.append("\n## Results on the held-out split\n\n")
        parts.append(_table(("metric", "value"), ((k, _number(v)) for k, v in held.items())))
    parts += [_listed(key, value) for key, value in metadata["notes"].items() if _is_rows(value)]
    parts.append(f"\n## Course\n\n![Curves of the run]({CURVES})\n")
    epochs = [row for row in rows if "epoch" in row]
    if epochs:
        parts.append("\n" + _rows(_thin(epochs, metadata["bestEpoch"])))
    parts.append("\n## Use\n\n" + _use(metadata, use))
    parts.append("\n## Parameters\n\n")
    parts.append(_table(("parameter", "value"), ((k, json.dumps(v)) for k, v in metadata["params"].items())))
    parts.append("\nTrained with Modelyard.\n")
    return "".join(parts)


def _facts(metadata: Mapping[str, Any]) -> dict[str, Any]:
    base = metadata["baseModel"] or {}
    loss = metadata["metrics"].get(TRAINING_LOSS)
    facts = {
        "Recipe": metadata["recipe"],
        "Algorithm": metadata["algorithm"],
        "Base model": " ".join(str(base[k]) for k in ("name", "version", "resolvedRevision") if base.get(k)),
        "Steps": metadata["steps"],
        "Epochs": metadata["epochs"],
        "Weights of step": metadata["weightsStep"],
        "Training loss": None if loss is None else _number(loss),
        "Determinism": metadata["determinism"],
    }
    return {k: v for k, v in facts.items() if v not in (None, "")}


def _data(metadata: Mapping[str, Any]) -> dict[str, Any]:
    told = metadata["dataset"] or {}
    columns, classes, features = told.get("columns") or {}, metadata["classes"], metadata["features"]
    split = resolve(Split.model_validate(told.get("split") or {}))
    if split["validation"] is not None:
        held_out = split["validation"]
    else:
        held_out = f"{split['validationFraction']:g} of the rows, seed {split['seed']}"
    facts = {
        "Path": told.get("path"),
        "Format": told.get("format"),
        "Target": metadata["target"],
        "Classes": _names(classes),
        "Features": _names(features),
        "Ignored columns": _names(columns.get("ignore") or []),
        "Training examples": metadata["trainSamples"],
        "Held-out examples": metadata["testSamples"],
        "Held out": held_out if metadata["testSamples"] else None,
    }
    notes = {k: v for k, v in metadata["notes"].items() if not _is_rows(v)}
    facts |= {_words(k): v if isinstance(v, int | float | str) else json.dumps(v) for k, v in notes.items()}
    return {k: v for k, v in facts.items() if v not in (None, "")}


def _use(metadata: Mapping[str, Any], use: Use) -> str:
    before = ['folder = "."  # where this card lies']
    if metadata["kind"] == "Adapter":
        before.append('base = "base"  # the base model: its folder, or its name on a hub')
    return "```python\n" + "\n".join([*before, *use.code]) + "\n```\n"


def _result(task: str, metrics: Mapping[str, float]) -> dict[str, Any]:
    return {
        "task": {"type": task},
        "dataset": {"name": "held-out split", "type": "custom"},
        "metrics": [{"type": name, "value": value} for name, value in metrics.items()],
    }


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _listed(name: str, rows: list[dict[str, Any]]) -> str:
    """A table of rows, what is nested in them flat; without times, which are others in each run."""
    flat = [
        dict(item for k, v in row.items() for item in (v.items() if isinstance(v, dict) else [(k, v)])) for row in rows
    ]
    return f"\n## {_words(name)}\n\n" + _rows([{k: v for k, v in row.items() if k != "seconds"} for row in flat])


def _rows(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = f"| {' | '.join(names)} |\n|{' --- |' * len(names)}\n"
    return head + "".join(f"| {' | '.join(_cell(_number(row.get(n, ''))) for n in names)} |\n" for row in rows)


def _thin(epochs: Sequence[Mapping[str, Any]], best: int | None) -> list[Mapping[str, Any]]:
    """At most about `_EPOCHS` of them, the last one and the best among them."""
    every = -(-len(epochs) // _EPOCHS)
    return [row for n, row in enumerate(epochs) if (len(epochs) - 1 - n) % every == 0 or row["epoch"] == best]


def _table(head: tuple[str, str], rows: Iterable[tuple[str, Any]]) -> str:
    lines = [head, ("---", "---"), *((key, str(value)) for key, value in rows)]
    return "".join(f"| {left} | {_cell(right)} |\n" for left, right in lines)


def _names(names: Sequence[Any]) -> str:
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(str(n) for n in names[:_NAMES]) + more


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _words(name: str) -> str:
    """`rowsWithoutTarget` as `Rows without target`."""
    spaced = "".join(f" {letter.lower()}" if letter.isupper() else letter for letter in name)
    return spaced[:1].upper() + spaced[1:]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
