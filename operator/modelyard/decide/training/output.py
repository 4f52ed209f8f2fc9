"""What a finished run says about its result, checked before it goes into a status. Pure.

The trainer's last words come from a pod that a user's program runs in: what does not fit the schema is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from modelyard.resources.training.status import METRICS_MAX, OutputStatus

DEFAULT_PATH: Final = "model"
_METADATA: Final = ("algorithm", "features", "target", "classes", "trainSamples", "testSamples", "trainingSeconds")
_FEATURES_MAX: Final = 64
_CLASSES_MAX: Final = 32


def default_kind(recipe: str) -> str:
    """What a recipe makes, where the trainer's words are lost."""
    return "Tabular" if recipe.startswith("tabular-") else "Full"


def output(
    claim: str, recipe: str, determinism: str, base: Mapping[str, Any] | None, summary: object
) -> dict[str, Any]:
    """`status.output` of a run that is complete. `base` is the resolved base model of an adapter, if there is one."""
    said = summary if isinstance(summary, Mapping) else {}
    kind = said.get("kind") if said.get("kind") in ("Tabular", "Full", "Adapter") else default_kind(recipe)
    found: dict[str, Any] = {
        "pvc": claim,
        "path": _path(said.get("path")),
        "kind": kind,
        "bytes": said.get("bytes"),
        "files": said.get("files"),
        "digest": said.get("digest"),
        "weights": said.get("weights"),
        "metrics": _metrics(said.get("metrics")),
        "metadata": {
            "recipe": recipe,
            "determinism": determinism,
            **{name: _bounded(name, said[name]) for name in _METADATA if said.get(name) is not None},
        },
    }
    if kind == "Adapter" and base is not None:
        found["baseRef"] = {
            "name": base["model"],
            "version": base["version"],
            "resolvedRevision": base.get("resolvedRevision"),
        }
    if recipe == "custom" and said and not said.get("path"):
        # A program of the user's own that has ended well and has left nothing where a result belongs.
        found |= {"path": None, "kind": None}
    return _fitting({name: value for name, value in found.items() if value is not None})


def _fitting(found: dict[str, Any]) -> dict[str, Any]:
    try:
        fits = OutputStatus.model_validate(found)
    except ValidationError as error:
        for wrong in error.errors(include_url=False, include_input=False, include_context=False):
            _drop(found, wrong["loc"])
        fits = OutputStatus.model_validate(found)
    return fits.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)


def _drop(found: dict[str, Any], location: tuple[int | str, ...]) -> None:
    first, *rest = (str(part) for part in location)
    if first == "metadata" and rest:
        found["metadata"].pop(rest[0], None)
    else:
        found.pop(first, None)


def _path(path: object) -> str:
    parts = path.split("/") if isinstance(path, str) else [""]
    safe = isinstance(path, str) and 0 < len(path) <= 512 and not any(p in ("", ".", "..") for p in parts)
    return str(path) if safe else DEFAULT_PATH


def _metrics(said: object) -> dict[str, float]:
    if not isinstance(said, Mapping):
        return {}
    numbers = {
        str(name)[:64]: float(value)
        for name, value in said.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    return dict(sorted(numbers.items())[:METRICS_MAX])


def _bounded(name: str, value: Any) -> Any:
    most = {"features": _FEATURES_MAX, "classes": _CLASSES_MAX}.get(name)
    return [str(v)[:256] for v in value[:most]] if most and isinstance(value, list) else value
