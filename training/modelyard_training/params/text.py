"""Parameters of `text-classification` and `text-regression`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelyard_training.params.common import EarlyStopping, LoopParams, LoRA, Unset


class TextParams(LoopParams):
    """An encoder of the transformers library from `model.ref`, with a new head for the labels."""

    method: Annotated[
        Literal["Full", "LoRA"] | None, Unset("Full", "encoders are small, and all weights learn most")
    ] = Field(
        default=None,
        description="`Full` trains all weights; `LoRA` a small adapter that is merged into them at the end.",
    )
    max_length: Annotated[int | None, Unset(256, "most of a paragraph; cost grows with the length")] = Field(
        default=None, ge=4, le=131072, description="Most tokens of a text, at most what the base model can take."
    )
    long_text: Annotated[
        Literal["Truncate", "Refuse"] | None, Unset("Truncate", "the beginning mostly tells the label")
    ] = Field(
        default=None, description="What becomes of a text longer than `maxLength`: cut (and counted), or an error."
    )
    lora: LoRA | None = Field(default=None, description="The adapter, with `method: LoRA`.")
    class_weights: Annotated[
        Literal["None", "Balanced"] | None, Unset("None", "the metrics stay those of the data")
    ] = Field(default=None, description="`Balanced` weighs each class by its rarity. Classification only.")
    best_metric: Annotated[
        Literal["loss", "accuracy", "f1", "auroc", "r2", "mae", "rmse"] | None, Unset("loss", "it is the least noisy")
    ] = Field(default=None, description="Metric on the held-out split that says which checkpoint is best.")
    early_stopping: EarlyStopping | None = Field(default=None, description="When to stop before the last epoch.")

    learning_rate: Annotated[
        float | None,
        Unset(
            5e-5,
            "pre-trained weights must not be thrown away, an adapter starts from nothing",
            by=("method", {"LoRA": 5e-4}),
        ),
    ] = Field(default=None, gt=0, le=10, description="Peak learning rate of AdamW.")
    head_learning_rate: Annotated[float | None, Unset(1e-3, "the head starts from nothing, unlike the encoder")] = (
        Field(default=None, gt=0, le=10, description="Peak learning rate of the new head.")
    )
