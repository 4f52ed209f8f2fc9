"""Parameters of `image-classification` and `image-regression`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelyard_training.params.common import BestMetric, ClassWeights, EarlyStopping, LoopParams, Unset


class ImageParams(LoopParams):
    """A picture to a class or a number: a network from scratch, or a backbone from `model.ref` with a new head."""

    architecture: Annotated[
        Literal["CNN", "ViT", "Pretrained"] | None, Unset(None, "`Pretrained` with a `model.ref`, else `CNN`")
    ] = Field(
        default=None,
        description=(
            "`CNN` (a ResNet) and `ViT` are trained from scratch; `Pretrained` goes on from a base model of the "
            "transformers or timm library."
        ),
    )
    image_size: Annotated[int | None, Unset(None, "the base model's own, 64 from scratch")] = Field(
        default=None, ge=8, le=2048, description="Edge in pixels to which pictures are scaled."
    )
    augment: Annotated[
        Literal["None", "Light", "Strong"] | None, Unset("Light", "small shifts rarely change the label")
    ] = Field(
        default=None,
        description="Random changes of the training pictures: shifts; with `Strong` crops and colours too.",
    )
    max_broken_share: Annotated[float | None, Unset(0.01, "a few broken files are normal, many are a mistake")] = Field(
        default=None,
        ge=0,
        le=1,
        description="Share of pictures that may be unreadable (skipped, counted) before it is an error.",
    )
    class_weights: ClassWeights = None
    best_metric: BestMetric = None
    early_stopping: EarlyStopping | None = Field(default=None, description="When to stop before the last epoch.")
    epochs: Annotated[int | None, Unset(30, "early stopping ends most runs before")] = Field(
        default=None, ge=1, le=100000, description="Most passes over the training split."
    )
    learning_rate: Annotated[
        float | None, Unset(None, "0.001 from scratch, 0.0001 for pre-trained weights, which must not be thrown away")
    ] = Field(default=None, gt=0, le=10, description="Peak learning rate of AdamW.")
    head_learning_rate: Annotated[float | None, Unset(1e-3, "the head starts from nothing, unlike the backbone")] = (
        Field(default=None, gt=0, le=10, description="Peak learning rate of a base model's new head.")
    )
