"""What the trainer is told: the run's configuration as JSON, made of the committed spec and the resolved inputs.

The same run gives the same text, so that two attempts differ in nothing but their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from modelyard.resources.training.spec import TrainingSpec
from modelyard_training.params import RECIPES, CheckpointPolicy, DatasetConfig, RunConfig
from modelyard_training.params.analysis import read_by_analysis
from modelyard_training.params.common import Params, resolve
from modelyard_training.params.config import ModelInput


def run_config(spec: TrainingSpec, inputs: Any, analysis: Mapping[str, Any] | None = None) -> str:
    """The JSON of `MODELYARD_CONFIG`. `inputs` and `analysis` are those of the status."""
    config = RunConfig(
        recipe=spec.recipe.name,
        params=_written(used_params(spec, analysis)),
        dataset=_dataset(spec),
        checkpoint=_checkpoint(spec),
        determinism=spec.recipe.determinism,
        model=_model(inputs, "model"),
        adapter=_model(inputs, "adapter"),
        assistant=_model(inputs, "assistant"),
        form=spec.save.form if spec.save is not None else None,
        weights=_weights(spec),
        keep_checkpoints=spec.save.keep_checkpoints or False if spec.save is not None else None,
    )
    return config.model_dump_json(by_alias=True, exclude_none=True)


def _weights(spec: TrainingSpec) -> Literal["Best", "Last"] | None:
    wanted = spec.save.checkpoint if spec.save is not None else None
    return "Last" if wanted == "Last" else "Best" if wanted == "Best" else None


def analysis_config(spec: TrainingSpec, inputs: Any) -> str:
    """The same for the analysis: only what changes what the model sees, so that other edits need no other look."""
    config = RunConfig(
        recipe=spec.recipe.name,
        params=read_by_analysis(RECIPES[spec.recipe.name].family, _written(spec.recipe.params())),
        dataset=_dataset(spec),
        model=_model(inputs, "model"),
        adapter=_model(inputs, "adapter"),
        assistant=_model(inputs, "assistant"),
    )
    return config.model_dump_json(by_alias=True, exclude_none=True)


def effective_params(spec: TrainingSpec, analysis: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Every parameter of the recipe with the value that is used; those without a value are left out."""
    return {name: value for name, value in resolve(used_params(spec, analysis)).items() if value is not None}


def used_params(spec: TrainingSpec, analysis: Mapping[str, Any] | None) -> Params:
    """The parameters as written, and with `unsetParams: Suggested` what the analysis suggests for those that are not.

    A suggestion that the parameters' own rules refuse is not taken.
    """
    params = spec.recipe.params()
    if spec.recipe.unset_params != "Suggested":
        return params
    suggested = ((analysis or {}).get("suggested") or {}).get("params") or {}
    for name, info in type(params).model_fields.items():
        said = suggested.get(info.alias or name)
        if getattr(params, name) is None and isinstance(said, Mapping):
            try:
                params = type(params).model_validate({**_written(params), info.alias or name: said.get("value")})
            except ValidationError:
                continue
    return params


def _written(params: Params) -> dict[str, Any]:
    return params.model_dump(mode="json", by_alias=True, exclude_none=True)


def _dataset(spec: TrainingSpec) -> DatasetConfig | None:
    if spec.dataset is None:
        return None
    return DatasetConfig(**{name: getattr(spec.dataset, name) for name in DatasetConfig.model_fields})


def _checkpoint(spec: TrainingSpec) -> CheckpointPolicy | None:
    if spec.checkpoint is None:
        return None
    return CheckpointPolicy(**{name: getattr(spec.checkpoint, name) for name in CheckpointPolicy.model_fields})


def _model(inputs: Any, name: str) -> ModelInput | None:
    found = next((e for e in inputs or () if e["name"] == name), None)
    if found is None:
        return None
    return ModelInput(
        kind=found.get("kind"),
        name=found["model"],
        version=found["version"],
        resolved_revision=found.get("resolvedRevision"),
    )
