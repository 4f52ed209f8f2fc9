"""Parameters of `text-classification` and `text-regression`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from modelyard_training.params.common import BestMetric, ClassWeights, EarlyStopping, FittedParams, LoRA, Unset

_SCRATCH = ("Transformer", "LSTM", "CNN")


class TextParams(FittedParams):
    """An encoder of transformers from `model.ref` with a new head for the labels, or a network from scratch."""

    architecture: Annotated[
        Literal["Pretrained", "Transformer", "LSTM", "CNN"] | None,
        Unset("Pretrained", "what an encoder knows of a language is worth more than any architecture"),
    ] = Field(
        default=None,
        description=(
            "`Pretrained` goes on from the base model; the others are small, need none, and know the words of the "
            "training split alone."
        ),
    )
    width: Annotated[int | None, Unset(128, "enough for some thousand texts")] = Field(
        default=None, ge=8, le=4096, description="Numbers that stand for a word, from scratch: a multiple of 4."
    )
    dropout: Annotated[float | None, Unset(0.2, "against learning few texts by heart")] = Field(
        default=None, ge=0, lt=1, description="Share of the numbers dropped in training, from scratch."
    )
    vocabulary_size: Annotated[int | None, Unset(20000, "rarer words are seen too seldom to learn from")] = Field(
        default=None, ge=10, le=1_000_000, description="Most words that are known, from scratch: the most frequent."
    )
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
    class_weights: ClassWeights = None
    best_metric: BestMetric = None
    early_stopping: EarlyStopping | None = Field(default=None, description="When to stop before the last epoch.")

    learning_rate: Annotated[
        float | None,
        Unset(
            5e-5,
            "pre-trained weights must not be thrown away, an adapter starts from nothing",
            by=("method", {"LoRA": 5e-4}),
            first=("architecture", dict.fromkeys(_SCRATCH, 1e-3)),
        ),
    ] = Field(default=None, gt=0, le=10, description="Peak learning rate of AdamW.")
    head_learning_rate: Annotated[float | None, Unset(1e-3, "the head starts from nothing, unlike the encoder")] = (
        Field(default=None, gt=0, le=10, description="Peak learning rate of the new head.")
    )
    epochs: Annotated[
        int | None, Unset(3, "enough for fine-tuning", by=("architecture", dict.fromkeys(_SCRATCH, 20)))
    ] = Field(default=None, ge=1, le=100000, description="Passes over the training split.")

    @model_validator(mode="after")
    def _method_of_an_encoder(self) -> TextParams:
        if self.method == "LoRA" and self.architecture in _SCRATCH:
            raise ValueError(f"method LoRA adapts a base model; architecture {self.architecture} has none")
        if self.width is not None and self.width % 4:
            raise ValueError("width must be a multiple of 4")
        return self
