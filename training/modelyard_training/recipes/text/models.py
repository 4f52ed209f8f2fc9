"""A model of texts as the task trains it, wherever it is from; and encoders of transformers with a new head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from modelyard_training.core.task import Use

_CODE = (
    "from transformers import pipeline",
    'model = pipeline("text-classification", model=folder, truncation=True)',
    'print(model(["A text", "Another one"]))',
)
_USE = Use("text-classification", "transformers", _CODE)
_HEAD_NAMES = (
    "classifier",
    "score",
    "classification_head",
    "pre_classifier",
    "qa_outputs",
    "logits_proj",
    "sequence_summary",
)


@dataclass(frozen=True)
class TextModel:
    """A network from tokens [N, T] to outputs [N, O]."""

    model: nn.Module
    name: str
    tokens: Callable[[list[str], int | None], list[list[int]]]
    """Texts as token numbers, whole or cut to that many."""
    padding: int
    longest: int
    """Most tokens of a text."""
    outputs: Callable[[nn.Module, dict[str, Tensor]], Tensor]
    """Outputs of the model, or of what wraps it, for `input_ids` and `attention_mask`."""
    save: Callable[[nn.Module, Path], None]
    use: Use

    @classmethod
    def of_transformers(cls, model: nn.Module, tokenizer: Any, name: str, longest: int) -> TextModel:
        """A stock model with its stock tokenizer."""

        def tokens(texts: list[str], most: int | None) -> list[list[int]]:
            limits = {"truncation": False} if most is None else {"truncation": True, "max_length": most}
            found: list[list[int]] = tokenizer(texts, verbose=False, **limits)["input_ids"]
            return found

        def outputs(wrapped: nn.Module, batch: dict[str, Tensor]) -> Tensor:
            result: Tensor = wrapped(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            return result

        def save(trained: Any, folder: Path) -> None:
            trained.save_pretrained(folder, safe_serialization=True)
            tokenizer.save_pretrained(folder)

        return cls(model, name, tokens, tokenizer.pad_token_id or 0, longest, outputs, save, _USE)


def is_head(name: str) -> bool:
    """Whether a parameter or module of that name is of the new head."""
    return any(part in _HEAD_NAMES for part in name.split("."))
