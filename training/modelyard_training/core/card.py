"""What lies beside the weights for people: the model card that hubs show, and the curves of the run as a picture.

Both follow from what the run computed alone, so that a run that was resumed writes the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

CARD, CURVES = "README.md", "curves.png"
_LIBRARIES = {
    "text-to-image-lora": "diffusers",
    "text-classification": "transformers",
    "text-regression": "transformers",
}
_TASKS = {
    "tabular-classification": "tabular-classification",
    "tabular-regression": "tabular-regression",
    "text-classification": "text-classification",
    "text-regression": "text-classification",
    "image-classification": "image-classification",
    "image-regression": "image-classification",
    "causal-lm": "text-generation",
    "text-to-image-lora": "text-to-image",
}
_USES = {
    ("causal-lm", "Adapter"): (
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM",
        "model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder)",
    ),
    ("causal-lm", "Full"): (
        "from transformers import pipeline",
        'write = pipeline("text-generation", model=folder)',
    ),
    ("text-classification", "Full"): (
        "from transformers import pipeline",
        'classify = pipeline("text-classification", model=folder)',
    ),
    ("text-to-image-lora", "Adapter"): (
        "from diffusers import DiffusionPipeline",
        "pipeline = DiffusionPipeline.from_pretrained(base)",
        "pipeline.load_lora_weights(folder)",
    ),
}
_LOSSES = ("loss", "validationLoss")
_PANELS = 6
_POINTS = 2000


def write(folder: Path, metadata: Mapping[str, Any], metrics_file: Path) -> None:
    """Adds the card and the curves to a folder of weights. Raises OSError."""
    rows = _rows(metrics_file)
    drawn = draw(rows, folder / CURVES)
    (folder / CARD).write_text(card(metadata, drawn), encoding="utf-8")


def card(metadata: Mapping[str, Any], curves: bool) -> str:
    """The card: front matter as the hubs read it, then what was trained, on what, and how well it does."""
    recipe, name = str(metadata["recipe"]), str(metadata["training"]["name"] or metadata["algorithm"])
    metrics = {key: value for key, value in metadata["metrics"].items() if isinstance(value, int | float)}
    front: dict[str, Any] = {
        "library_name": _library(metadata),
        "pipeline_tag": _TASKS.get(recipe),
        "tags": ["modelyard", recipe, *(["lora"] if metadata["kind"] == "Adapter" else [])],
        "metrics": sorted(metrics),
        "model-index": [{"name": name, "results": [_result(recipe, metrics)]}] if metrics else None,
    }
    front = {key: value for key, value in front.items() if value}
    base = metadata["baseModel"] or {}
    facts = {
        "Recipe": recipe,
        "Algorithm": metadata["algorithm"],
        "Base model": " ".join(str(base[k]) for k in ("name", "version", "resolvedRevision") if base.get(k)),
        "Target": metadata["target"],
        "Classes": ", ".join(str(c) for c in metadata["classes"][:32]),
        "Training examples": metadata["trainSamples"],
        "Held-out examples": metadata["testSamples"],
        "Steps": metadata["steps"],
        "Epochs": metadata["epochs"],
        "Best step": metadata["bestStep"],
        "Determinism": metadata["determinism"],
    }
    parts = [f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n\n# {name}\n"]
    parts.append(_table(("", ""), {k: v for k, v in facts.items() if v not in (None, "")}))
    if metrics:
        parts.append("\n## Results on the held-out split\n\n")
        parts.append(_table(("metric", "value"), {k: f"{v:.6g}" for k, v in sorted(metrics.items())}))
    if curves:
        parts.append(f"\n![Curves of the run]({CURVES})\n")
    use = _USES.get((recipe, str(metadata["kind"])))
    if use is not None:
        parts.append("\n## Use\n\n```python\n" + "\n".join(use) + "\n```\n")
    parts.append("\n## Parameters\n\n")
    parts.append(_table(("parameter", "value"), {k: json.dumps(v) for k, v in metadata["params"].items()}))
    parts.append("\nTrained with Modelyard.\n")
    return "".join(parts)


def _library(metadata: Mapping[str, Any]) -> str | None:
    if metadata["recipe"] == "causal-lm":
        return "peft" if metadata["kind"] == "Adapter" else "transformers"
    return _LIBRARIES.get(str(metadata["recipe"]))


def _result(recipe: str, metrics: Mapping[str, float]) -> dict[str, Any]:
    return {
        "task": {"type": _TASKS.get(recipe, "other")},
        "dataset": {"name": "held-out split", "type": "custom"},
        "metrics": [{"type": name, "value": value} for name, value in sorted(metrics.items())],
    }


def _table(head: tuple[str, str], rows: Mapping[str, Any]) -> str:
    lines = [head, ("---", "---"), *((key, str(value)) for key, value in rows.items())]
    return "".join(f"| {left} | {_cell(right)} |\n" for left, right in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def draw(rows: Sequence[Mapping[str, Any]], target: Path) -> bool:
    """The losses in one panel and each other metric in its own, over the steps. False: there is nothing to draw."""
    steps = [row for row in rows if "epoch" not in row]
    epochs = [row for row in rows if "epoch" in row]
    names = sorted({key for row in epochs for key in row} - {"step", "epoch", *_LOSSES})[: _PANELS - 1]
    if not steps and not epochs:
        return False
    # Seconds of import, and only at the end.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(3, 1 + len(names))
    lines = -(-(1 + len(names)) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.0 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    losses, *others = figure.subplots(lines, columns, squeeze=False).flatten()
    thin = steps[:: max(1, len(steps) // _POINTS)]
    losses.plot([r["step"] for r in thin], [r["loss"] for r in thin], label="training", linewidth=0.8)
    held = [row for row in epochs if "validationLoss" in row]
    if held:
        losses.plot([r["step"] for r in held], [r["validationLoss"] for r in held], label="held out", marker=".")
    losses.legend()
    losses.set_title("loss")
    for panel, name in zip(others, names, strict=False):
        with_it = [row for row in epochs if name in row]
        panel.plot([r["step"] for r in with_it], [r[name] for r in with_it], marker=".")
        panel.set_title(name)
    for panel in others[len(names) :]:
        panel.set_visible(False)
    for panel in (losses, *others):
        panel.set_xlabel("step")
    # Without the library's name and version in it: the same run makes the same file.
    figure.savefig(target, dpi=100, metadata={"Software": None})
    return True
