"""The recipes: name, family, parameter class, and the name of the typed block in the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modelyard_training.params.causal_lm import CausalLMParams
from modelyard_training.params.common import Params
from modelyard_training.params.custom import CustomParams
from modelyard_training.params.image import ImageParams
from modelyard_training.params.tabular import TabularParams
from modelyard_training.params.text import TextParams
from modelyard_training.params.text_to_image_lora import TextToImageLoRAParams

RecipeName = Literal[
    "tabular-classification",
    "tabular-regression",
    "text-classification",
    "text-regression",
    "image-classification",
    "image-regression",
    "causal-lm",
    "text-to-image-lora",
    "custom",
]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One row of the table. `base_model` and `dataset` say whether the run needs, may have, or must not have one."""

    name: RecipeName
    family: str
    """Name of the family's typed block under `spec.recipe`."""
    params: type[Params]
    base_model: Literal["Required", "Optional", "None"]
    dataset: Literal["Required", "Optional"]
    available: bool
    """Whether this version's trainer can run it; a Training that asks for another is refused with a reason."""

    @property
    def block(self) -> str:
        """The key under `spec.recipe` that holds the parameters."""
        return self.family


RECIPES: dict[str, Recipe] = {
    r.name: r
    for r in (
        Recipe("tabular-classification", "tabular", TabularParams, "None", "Required", True),
        Recipe("tabular-regression", "tabular", TabularParams, "None", "Required", True),
        Recipe("text-classification", "text", TextParams, "Optional", "Required", True),
        Recipe("text-regression", "text", TextParams, "Optional", "Required", True),
        Recipe("image-classification", "image", ImageParams, "Optional", "Required", True),
        Recipe("image-regression", "image", ImageParams, "Optional", "Required", True),
        Recipe("causal-lm", "causalLM", CausalLMParams, "Required", "Required", True),
        Recipe("text-to-image-lora", "textToImageLoRA", TextToImageLoRAParams, "Required", "Optional", True),
        Recipe("custom", "custom", CustomParams, "Optional", "Optional", True),
    )
}
