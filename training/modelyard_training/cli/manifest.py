"""A Training manifest as the trainer takes it: its recipe, data set and checkpoints; what a cluster does is left out.

The fields are read through the same classes as in the cluster, so a wrong one is refused with the same words.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from modelyard_training.params import RECIPES, CheckpointPolicy, DatasetConfig, ModelInput, RunConfig

_HERE = ("recipe", "model", "dataset", "checkpoint", "save")
_CLUSTER = ("compute", "suspend", "pauseAfter", "retry", "timeouts", "budget", "output", "export")
_OF_RECIPE = ("name", "determinism", "unsetParams")
_OF_DATASET = ("ref", "pvc", "source")
_OF_CHECKPOINT = ("graceSeconds", "from")
_OF_SAVE = ("model", "version", "description", "tags", "keepCheckpoints")
_SAVED_HERE = ("checkpoint", "form")


class ManifestError(Exception):
    """A file that can't be used. `str(error)` is a sentence for the user."""


@dataclass(frozen=True)
class Manifest:
    """A Training: its name, what the trainer is told, and what of it has no effect here."""

    name: str
    config: RunConfig
    notes: list[str]
    env: dict[str, str]
    """`compute.env`, as far as its values are written there."""


def read(path: Path, name: str | None = None) -> Manifest:
    """The Training in a file. Raises `ManifestError`."""
    documents = load(path)
    trainings = [d for d in documents if isinstance(d, dict) and d.get("kind") == "Training"]
    if name is not None:
        trainings = [d for d in trainings if (d.get("metadata") or {}).get("name") == name]
    if len(trainings) != 1:
        what = "several Trainings: choose one with --name" if trainings else "no Training (kind: Training)"
        raise ManifestError(f"{path} has {what}.")
    (found,) = trainings
    if not str(found.get("apiVersion", "")).startswith("modelyard.dev/"):
        raise ManifestError(f"{path}: apiVersion must be modelyard.dev/v1alpha1.")
    spec = found.get("spec")
    if not isinstance(spec, dict):
        raise ManifestError(f"{path}: the Training has no spec.")
    return of(str((found.get("metadata") or {}).get("name") or path.stem), spec)


def load(path: Path) -> list[Any]:
    """The documents of a YAML file. Raises `ManifestError`."""
    try:
        return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ManifestError(f"{path} can't be read: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1})" if mark is not None else ""
        raise ManifestError(f"{path} is not valid YAML{place}.") from None


def of(name: str, spec: Mapping[str, Any]) -> Manifest:
    """What the trainer is told of a spec. Raises `ManifestError` naming the field that is wrong."""
    _known(spec, (*_HERE, *_CLUSTER), "spec")
    recipe = _object(spec, "recipe", "spec")
    chosen = RECIPES.get(str(recipe.get("name")))
    if chosen is None:
        raise ManifestError(
            f"spec.recipe.name is {recipe.get('name')!r}{_meant(str(recipe.get('name')), RECIPES)}: use one of "
            f"{', '.join(RECIPES)}."
        )
    blocks = {r.block for r in RECIPES.values()}
    _known(recipe, (*_OF_RECIPE, *blocks), "spec.recipe")
    other = [key for key in recipe if key in blocks and key != chosen.block]
    if other:
        raise ManifestError(f"spec.recipe.{other[0]} does not belong to {chosen.name}: its block is {chosen.block}.")
    dataset = _object(spec, "dataset", "spec")
    checkpoint = _object(spec, "checkpoint", "spec")
    model, save = _object(spec, "model", "spec"), _object(spec, "save", "spec")
    _known(dataset, (*_OF_DATASET, *_aliases(DatasetConfig)), "spec.dataset")
    _known(checkpoint, (*_OF_CHECKPOINT, *_aliases(CheckpointPolicy)), "spec.checkpoint")
    _known(save, (*_OF_SAVE, *_SAVED_HERE), "spec.save")
    told = {
        "recipe": chosen.name,
        "params": recipe.get(chosen.block) or {},
        "dataset": {k: v for k, v in dataset.items() if k not in _OF_DATASET} if "dataset" in spec else None,
        "checkpoint": {k: v for k, v in checkpoint.items() if k not in _OF_CHECKPOINT},
        "determinism": recipe.get("determinism"),
        "model": _input(model.get("ref")),
        "assistant": _input(model.get("assistantRef")),
        "form": save.get("form"),
        # A sample step's weights lie beside its samples: they are no other run.
        "weights": None if str(save.get("checkpoint")).startswith("step-") else save.get("checkpoint"),
    }
    try:
        config = RunConfig.model_validate({k: v for k, v in told.items() if v is not None})
    except ValidationError as error:
        raise _wrong(error, "spec") from None
    try:
        config.block()
    except ValidationError as error:
        raise _wrong(error, f"spec.recipe.{chosen.block}") from None
    env = _object(spec, "compute", "spec").get("env")
    given = [item for item in env if isinstance(item, dict)] if isinstance(env, list) else []
    values = {str(item["name"]): str(item["value"]) for item in given if "name" in item and "value" in item}
    return Manifest(name, config, _notes(spec, checkpoint, save), values)


def _notes(spec: Mapping[str, Any], checkpoint: Mapping[str, Any], save: Mapping[str, Any]) -> list[str]:
    only_env = "compute" if list(_object(spec, "compute", "spec")) == ["env"] else None
    unused = [f"spec.{key}" for key in _CLUSTER if key in spec and key != only_env]
    unused += [f"spec.checkpoint.{key}" for key in _OF_CHECKPOINT if key in checkpoint]
    unused += [f"spec.save.{key}" for key in _OF_SAVE if key in save]
    unused += ["spec.recipe.unsetParams"] if spec["recipe"].get("unsetParams") == "Suggested" else []
    notes = [f"{', '.join(unused)} {'has' if len(unused) == 1 else 'have'} no effect here."] if unused else []
    if str(save.get("checkpoint")).startswith("step-"):
        notes.append("spec.save.checkpoint: the weights of a step are beside its samples, in samples/ of the output.")
    return notes


def _input(ref: Any) -> dict[str, Any] | None:
    if not isinstance(ref, dict):
        return None
    return {k: str(v) for k, v in ref.items() if k in _aliases(ModelInput)}


def _object(parent: Mapping[str, Any], key: str, at: str) -> dict[str, Any]:
    value = parent.get(key)
    if value is not None and not isinstance(value, dict):
        raise ManifestError(f"{at}.{key} must be an object.")
    return value or {}


def _known(given: Mapping[str, Any], known: Iterable[str], at: str) -> None:
    names = list(known)
    for key in given:
        if key not in names:
            raise ManifestError(f"{at} has no field {key!r}{_meant(str(key), names)}.")


def _meant(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {close[0]}?)" if close else ""


def _aliases(cls: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in cls.model_fields.items()]


def _wrong(error: ValidationError, at: str) -> ManifestError:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join([at, *(str(part) for part in first["loc"])])
    return ManifestError(f"{place}: {first['msg']}.")
