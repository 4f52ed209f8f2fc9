"""Which recipe a Training runs, with the parameters of that recipe's family in a typed block."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from modelyard.resources.base import Rule, Spec
from modelyard_training.params import (
    RECIPES,
    CausalLMParams,
    CustomParams,
    ImageParams,
    TabularParams,
    TextParams,
    TextToImageLoRAParams,
)
from modelyard_training.params.common import Params, Unset
from modelyard_training.params.recipes import RecipeName

BLOCKS: Final = tuple(dict.fromkeys(recipe.block for recipe in RECIPES.values()))
"""The typed blocks under `spec.recipe`, one a family, by their names in the manifest."""


def _block_rule(block: str) -> Rule:
    names = [name for name, recipe in RECIPES.items() if recipe.block == block]

    def holds(recipe: Any) -> bool:
        return recipe.blocks()[block] is None or recipe.name in names

    listed = ", ".join(f"'{name}'" for name in names)
    return Rule(
        f"!has(self.{block}) || self.name in [{listed}]",
        f"recipe.{block} holds parameters of {' and '.join(names)} only: remove it, or set recipe.name to one of them",
        holds,
    )


class RecipeSpec(Spec):
    """What is trained, and how."""

    name: RecipeName = Field(description="The recipe.")
    tabular: TabularParams | None = Field(default=None, description="Parameters of the tabular recipes.")
    text: TextParams | None = Field(default=None, description="Parameters of the text recipes.")
    image: ImageParams | None = Field(default=None, description="Parameters of the image recipes.")
    causal_lm: CausalLMParams | None = Field(default=None, alias="causalLM", description="Parameters of `causal-lm`.")
    text_to_image_lora: TextToImageLoRAParams | None = Field(
        default=None, alias="textToImageLoRA", description="Parameters of `text-to-image-lora`."
    )
    custom: CustomParams | None = Field(default=None, description="Program of `custom`.")
    determinism: Annotated[
        Literal["Reproducible", "Bitwise"] | None, Unset("Reproducible", "full speed, and exact enough to compare runs")
    ] = Field(
        default=None,
        description="How exactly a resumed run repeats an undisturbed one. `Reproducible`: same data order and "
        "randomness, losses within 1 %. `Bitwise`: identical losses and weights, at some cost in speed.",
    )
    unset_params: Annotated[Literal["Default", "Suggested"] | None, Unset("Default", "the documented defaults")] = (
        Field(
            default=None,
            description="Where parameters that are not set come from: `Default`, or `Suggested` by the analysis.",
        )
    )

    rules = (
        *(_block_rule(block) for block in BLOCKS),
        Rule(
            "self.name != 'custom' || (has(self.custom) && has(self.custom.command))",
            "the recipe custom needs recipe.custom.command: the program to run in your image",
            lambda r: r.name != "custom" or (r.custom is not None and bool(r.custom.command)),
        ),
    )

    def blocks(self) -> dict[str, Params | None]:
        """Every typed block by its name in the manifest."""
        fields = type(self).model_fields
        by_alias = {(info.alias or name): name for name, info in fields.items()}
        return {block: getattr(self, by_alias[block]) for block in BLOCKS}

    def params(self) -> Params:
        """The parameters of the named recipe; an empty block where none is written."""
        recipe = RECIPES[self.name]
        return self.blocks()[recipe.block] or recipe.params()
