"""LoRA adapters of peft, as the recipes that train them have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from modelyard_training.core.errors import BadInput


def settings(lora: dict[str, Any], **more: Any) -> Any:
    """peft's configuration of the effective `lora` block; `more` is the recipe's own part."""
    from peft import LoraConfig

    alpha = lora["alpha"]
    return LoraConfig(
        r=lora["rank"],
        # A whole number stays one: other programs read the file too.
        lora_alpha=int(alpha) if float(alpha).is_integer() else alpha,
        lora_dropout=lora["dropout"],
        **more,
    )


def added(add: Callable[[], Any], lora: dict[str, Any], which: str = "every linear layer") -> Any:
    """What `add` makes of the base model. Raises `BadInput` if it has no layers of the names; `which`: those unset."""
    try:
        return add()
    except ValueError:
        raise BadInput(
            f"The base model has no layers called {', '.join(lora['targetModules'] or [])}: correct "
            f"lora.targetModules, or leave it out for {which}."
        ) from None


def check_rank(wanted: Any, rank: int) -> None:
    """Raises `BadInput` if the written `lora` block asks for another rank than the adapter that is gone on from has."""
    if wanted is not None and wanted.rank not in (None, rank):
        raise BadInput(
            f"lora.rank is {wanted.rank}, and the adapter of model.ref has rank {rank}, which stays: drop lora.rank, "
            "or name the adapter's base as model.ref to train a new one."
        )


def narrow(model: nn.Module) -> None:
    """Hands an adapter its inputs as they are, for a run that computes in 16 bits by autocast: peft widens them to
    the adapter's 32 bits, and autocast narrows them again in the next operation.
    """
    from peft.tuners.lora import LoraLayer

    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.cast_input_dtype_enabled = False
