"""Parameters of `text-to-image-lora`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelyard_training.params.common import FittedParams, LoRA, Unset

Prompt = Annotated[str, Field(min_length=1, max_length=2048)]


class TextToImageLoRAParams(FittedParams):
    """An adapter for FLUX.1, SDXL or Stable Diffusion 1.5, from pictures with captions or from a prompt alone."""

    prompt: Annotated[Prompt | None, Unset(None, "each picture's own caption alone")] = Field(
        default=None,
        description=(
            "What the adapter is about. With pictures: the caption of those that have none. "
            "Without: the concept itself."
        ),
    )
    opposite_prompt: Annotated[Prompt | None, Unset(None, "the empty prompt")] = Field(
        default=None, description="Without pictures: the other end of the slider."
    )
    resolution: Annotated[int | None, Unset(None, "1024, or 512 for Stable Diffusion 1.5")] = Field(
        default=None,
        ge=64,
        le=2048,
        description="Edge in pixels of a square picture; others keep their shape at that area.",
    )
    caption_dropout: Annotated[float | None, Unset(0.05, "the model stays steerable without a prompt")] = Field(
        default=None, ge=0, le=1, description="Share of the captions left empty in training."
    )
    flip: Annotated[bool | None, Unset(False, "letters and faces are not symmetric")] = Field(
        default=None, description="Mirror pictures at random."
    )
    sample_every: Annotated[int | None, Unset(250, "often enough to pick a step by eye")] = Field(
        default=None, ge=1, le=1_000_000, description="Steps between sample pictures; each keeps its adapter too."
    )
    sample_prompts: Annotated[list[Prompt] | None, Unset(None, "`prompt`")] = Field(
        default=None,
        min_length=1,
        max_length=16,
        description="Prompts of the sample pictures, always with the same seeds.",
    )
    lora: LoRA | None = Field(default=None, description="Size of the adapter.")
    epochs: Annotated[int | None, Unset(None, "`maxSteps` alone decides")] = Field(
        default=None, ge=1, le=100000, description="Passes over the pictures."
    )
    max_steps: Annotated[int | None, Unset(1500, "usual for a subject of 10 to 30 pictures")] = Field(
        default=None, ge=1, le=100_000_000, description="Optimiser steps."
    )
    method: Annotated[
        Literal["Pictures", "Concept"] | None, Unset(None, "`Concept` without a data set, else `Pictures`")
    ] = Field(default=None, description="Learn from pictures, or turn a prompt into a slider without any.")
    activation_checkpointing: Annotated[bool | None, Unset(False, "faster where memory suffices")] = Field(
        default=None, description="Compute activations again in the backward pass: less memory, about a third slower."
    )
    batch_size: Annotated[int | None, Unset(1, "a large model in memory")] = Field(
        default=None, ge=1, le=1024, description="Pictures in one forward and backward pass, on each GPU."
    )
    learning_rate: Annotated[float | None, Unset(1e-4, "usual for picture adapters")] = Field(
        default=None, gt=0, le=10, description="Peak learning rate of AdamW."
    )
