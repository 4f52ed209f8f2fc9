"""What a training run can be told: one class of parameters a recipe family, and the run's whole configuration.

Imported by the operator, the CRD generator and the trainer: pydantic only, never torch.
"""

from __future__ import annotations

from modelyard_training.params.causal_lm import CausalLMParams
from modelyard_training.params.common import Params, Unset, resolve, unset
from modelyard_training.params.config import (
    CheckpointPolicy,
    Columns,
    DatasetConfig,
    ModelInput,
    RunConfig,
    Split,
)
from modelyard_training.params.custom import CustomParams
from modelyard_training.params.image import ImageParams
from modelyard_training.params.recipes import RECIPES, Recipe
from modelyard_training.params.tabular import TabularParams
from modelyard_training.params.text import TextParams
from modelyard_training.params.text_to_image_lora import TextToImageLoRAParams

__all__ = [
    "RECIPES",
    "CausalLMParams",
    "CheckpointPolicy",
    "Columns",
    "CustomParams",
    "DatasetConfig",
    "ImageParams",
    "ModelInput",
    "Params",
    "Recipe",
    "RunConfig",
    "Split",
    "TabularParams",
    "TextParams",
    "TextToImageLoRAParams",
    "Unset",
    "resolve",
    "unset",
]
