"""Chooses what is looked at, by the recipe's family, and puts the findings together."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from modelyard_training.analysis import tables
from modelyard_training.analysis.report import Findings
from modelyard_training.core.errors import BadInput
from modelyard_training.params import RECIPES, Columns, DatasetConfig, RunConfig, resolve

_LOOKS: Mapping[str, str] = {
    "tabular": "tables",
    "text": "words",
    "causalLM": "chats",
    "image": "labelled",
    "textToImageLoRA": "images",
}


@dataclass(frozen=True)
class Given:
    """What is looked at."""

    config: RunConfig
    params: dict[str, Any]
    """Effective parameters by their names in the manifest."""
    dataset: Path | None
    model: Path | None

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> Given:
        """As the operator gives it to the pod. Raises `BadInput`."""
        try:
            config = RunConfig.model_validate_json(env.get("MODELYARD_CONFIG", ""))
            params = resolve(config.block())
        except ValidationError:
            raise BadInput("The configuration of the analysis can't be read: MODELYARD_CONFIG is wrong.") from None
        dataset, model = env.get("MODELYARD_DATASET"), env.get("MODELYARD_MODEL")
        inner = config.model.path if config.model is not None and config.model.path else ""
        return cls(config, params, Path(dataset) if dataset else None, Path(model) / inner if model else None)

    @property
    def family(self) -> str:
        """The recipe's family."""
        return RECIPES[self.config.recipe].family

    @property
    def data(self) -> DatasetConfig:
        """How the data set is read."""
        return self.config.dataset or DatasetConfig()

    @property
    def columns(self) -> Columns:
        """Which column is what, as far as the user says."""
        return self.data.columns or Columns()

    def root(self) -> Path:
        """Where the data set is mounted. Raises `BadInput` without one."""
        if self.dataset is None or not self.dataset.is_dir():
            raise BadInput(f"The recipe {self.config.recipe} needs a data set, and none is mounted: set spec.dataset.")
        return self.dataset


def look(given: Given) -> Findings:
    """Looks at everything. Raises `BadInput` for what the trainer would refuse as well."""
    if given.family not in _LOOKS:
        return _generic(given)
    module = importlib.import_module(f"modelyard_training.analysis.{_LOOKS[given.family]}")
    found: Findings = module.look(given)
    return found


def _generic(given: Given) -> Findings:
    """Where it is not known what is read: files, and a table if it is one."""
    if given.dataset is None:
        return Findings({"kind": "none"}, message="The run reads no data set.")
    files = tables.sizes(given.dataset, given.data.path)
    try:
        found = tables.profile_only(given)
    except BadInput:
        found = Findings({"kind": "files"})
    found.profile = {**found.profile, **files}
    found.message = f"{files['files']} files, {files['bytes']} bytes."
    return found
