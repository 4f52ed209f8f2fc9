"""Encoders of transformers from a base model, with a new head, trained in full or by LoRA."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from modelyard_training.core.errors import BadInput
from modelyard_training.recipes import adapters
from modelyard_training.recipes.base_model import configuration, loaded, no_safetensors, with_head
from modelyard_training.recipes.text.models import TextModel, is_head


def build(base: Path, params: dict[str, Any], classes: list[str] | None) -> TextModel:
    """The base model with a head for the classes, or for a number. Raises `BadInput`."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = loaded(lambda: AutoTokenizer.from_pretrained(base, local_files_only=True), "tokenizer")
    model = with_head(AutoModelForSequenceClassification, base, classes)
    longest = _length_limit(model.config, params["maxLength"])
    name = f"{model.config.model_type} ({params['method']})"
    if params["method"] != "LoRA":
        return TextModel.of_transformers(model, tokenizer, name, longest)
    found = TextModel.of_transformers(_adapt(model, params["lora"]), tokenizer, name, longest)

    def save(trained: Any, folder: Path) -> None:
        found.save(trained.merge_and_unload(), folder)

    return replace(found, save=save)


def check_base(base: Path) -> dict[str, Any]:
    """The base model's configuration. Raises `BadInput` unless the folder holds an encoder in safetensors."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CAN_CLASSIFY

    config = configuration(base, "a text recipe needs an encoder such as BERT")
    kind, names = str(config.get("model_type", "")), [str(a) for a in config.get("architectures") or []]
    if any(name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in names):
        raise BadInput(
            f"The base model is of the family '{kind}', which writes text: a text recipe needs an encoder like BERT. "
            "For language models there is the recipe causal-lm."
        )
    if kind not in CAN_CLASSIFY or "auto_map" in config:
        raise BadInput(
            f"The base model's family '{kind}' is not an encoder that transformers can give a head for labels."
        )
    if not list(base.glob("*.safetensors")):
        raise no_safetensors()
    return config


def _length_limit(config: Any, wanted: int) -> int:
    most = [wanted]
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        # RoBERTa counts positions from its padding number on.
        offset = (getattr(config, "pad_token_id", None) or 0) + 1 if "roberta" in config.model_type else 0
        most.append(positions - offset)
    return min(most)


def _adapt(model: Any, lora: dict[str, Any]) -> Any:
    from peft import TaskType, get_peft_model

    # A head is new and is trained whole. Of one with two layers, DistilBERT's, peft would adapt the first.
    heads = [name for name, _ in model.named_children() if is_head(name)]
    settings = adapters.settings(
        lora,
        task_type=TaskType.SEQ_CLS,
        target_modules=lora["targetModules"] or "all-linear",
        exclude_modules=heads,
        modules_to_save=heads,
    )
    return adapters.added(lambda: get_peft_model(model, settings), lora)
