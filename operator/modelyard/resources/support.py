"""The one table of what the API has and this version does not do yet. Pure.

Whatever is listed here is refused with a reason, so that nothing that a user asks for is ignored in silence. When a
behaviour is added, its line goes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelyard.resources.model import ModelSpec
from modelyard.resources.modelsource import ModelSourceSpec
from modelyard.resources.problems import Problem
from modelyard.resources.training.spec import TrainingSpec


@dataclass(frozen=True, slots=True)
class Gap:
    """A field without behaviour: any value, or any but `only`. `path` is below spec; `[]` stands for each item."""

    path: str
    only: tuple[str | int | bool, ...] = ()


MODELSOURCE_GAPS: Final[tuple[Gap, ...]] = ()

MODEL_GAPS: Final[tuple[Gap, ...]] = ()

TRAINING_GAPS: Final[tuple[Gap, ...]] = (
    Gap(
        "recipe.name",
        only=(
            "tabular-classification",
            "tabular-regression",
            "text-classification",
            "text-regression",
            "image-classification",
            "image-regression",
            "causal-lm",
            "text-to-image-lora",
            "custom",
        ),
    ),
    Gap("compute.provider", only=("kubernetes",)),
    Gap("compute.secretRef"),
    Gap("export"),
)


def unsupported(spec: ModelSourceSpec | ModelSpec | TrainingSpec) -> list[Problem]:
    """Every field of this spec that is set and has no behaviour in this version, in the order of the table."""
    match spec:
        case ModelSourceSpec():
            gaps = MODELSOURCE_GAPS
        case ModelSpec():
            gaps = MODEL_GAPS
        case TrainingSpec():
            gaps = TRAINING_GAPS
    if not gaps:
        return []
    written = spec.model_dump(by_alias=True, exclude_unset=True)
    return [
        Problem(path, _message(gap, value))
        for gap in gaps
        for path, value in _values(written, gap.path.split("."), "spec")
        if value not in gap.only
    ]


def _message(gap: Gap, value: Any) -> str:
    if not gap.only:
        return "is not supported yet by this version of Modelyard; remove it"
    return (
        f"{json.dumps(value)} is not supported yet by this version of Modelyard; "
        f"supported: {', '.join(json.dumps(v) for v in gap.only)}"
    )


def _values(node: Mapping[str, Any], parts: list[str], at: str) -> Iterator[tuple[str, Any]]:
    """The values at that path which are set: neither absent nor null nor empty."""
    head, *rest = parts
    name = head.removesuffix("[]")
    found = node.get(name)
    if found is None or found in ({}, [], ()):
        return
    items = enumerate(found) if head.endswith("[]") else [(None, found)]
    for index, item in items:
        path = f"{at}.{name}" if index is None else f"{at}.{name}[{index}]"
        if rest:
            yield from _values(item, rest, path)
        else:
            yield path, item
