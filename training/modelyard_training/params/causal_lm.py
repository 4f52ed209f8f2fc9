"""Parameters of `causal-lm`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelyard_training.params.common import FittedParams, LoRA, Unset


class CausalLMParams(FittedParams):
    """A language model from `model.ref` that learns to go on with texts or to answer in chats."""

    method: Annotated[
        Literal["LoRA", "DoRA", "QLoRA", "Full"] | None, Unset("LoRA", "fits on one GPU and learns most tasks as well")
    ] = Field(
        default=None,
        description="What is trained: an adapter (`LoRA`, `DoRA`, `QLoRA` on a 4-bit base), or all weights.",
    )
    sequence_length: Annotated[int | None, Unset(2048, "holds most chats")] = Field(
        default=None,
        ge=16,
        le=1_048_576,
        description="Most tokens of a sequence, at most what the base model can take.",
    )
    packing: Annotated[bool | None, Unset(True, "no compute goes to padding")] = Field(
        default=None, description="Put several documents into one sequence; they do not see each other."
    )
    loss_on: Annotated[
        Literal["Assistant", "Completion", "All"] | None,
        Unset("Assistant", "the model shall answer, not ask; plain text: all"),
    ] = Field(default=None, description="Which tokens of a chat count in the loss.")
    long_text: Annotated[Literal["Truncate", "Refuse"] | None, Unset("Truncate", "it is counted in the metadata")] = (
        Field(
            default=None,
            description="A chat longer than `sequenceLength`: cut, or an error. Plain text goes on in pieces.",
        )
    )
    lora: LoRA | None = Field(default=None, description="The adapter, unless `method: Full`.")
    activation_checkpointing: Annotated[bool | None, Unset(False, "faster where memory suffices")] = Field(
        default=None, description="Compute activations again in the backward pass: less memory, about a third slower."
    )
    sharding: Annotated[
        Literal["None", "Node"] | None,
        Unset(
            "None",
            "an adapter's base mostly fits, all weights don't",
            by=("method", {"Full": "Node"}),
        ),
    ] = Field(
        default=None,
        description=(
            "Several GPUs: each has the whole model (`None`), or those of a node share weights, gradients and "
            "optimiser, the same in every node (`Node`: FSDP2)."
        ),
    )
    batch_size: Annotated[int | None, Unset(4, "fits a mid-sized GPU at the default length")] = Field(
        default=None, ge=1, le=65536, description="Sequences in one forward and backward pass, on each GPU."
    )
    learning_rate: Annotated[
        float | None, Unset(2e-4, "usual for adapters, lower for all weights", by=("method", {"Full": 2e-5}))
    ] = Field(default=None, gt=0, le=10, description="Peak learning rate of AdamW.")
