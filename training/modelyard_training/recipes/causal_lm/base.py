"""The base model of a language run: whether it is known to work, its tokenizer, its weights, the adapter."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch

from modelyard_training.core.errors import BadInput
from modelyard_training.recipes import adapters
from modelyard_training.recipes.base_model import configuration, loaded, no_safetensors

FAMILIES = {
    "gpt2": "GPT-2",
    "gpt_neox": "GPT-NeoX",
    "llama": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen 2",
    "qwen3": "Qwen 3",
}
"""Those for which it is tested that packed documents do not see each other, and that the head is one linear layer."""


def check(folder: Path) -> dict[str, Any]:
    """The base model's configuration. Raises `BadInput` unless it is a language model in safetensors that we know."""
    config = configuration(folder, "causal-lm needs a language model such as Llama")
    kind = str(config.get("model_type", ""))
    if kind not in FAMILIES or "auto_map" in config:
        raise BadInput(
            f"The base model is of the family '{kind}', which causal-lm can't train: it knows "
            f"{', '.join(FAMILIES.values())}."
        )
    if "quantization_config" in config:
        raise BadInput("The base model is quantised: take the version with its full weights.")
    if not list(folder.glob("*.safetensors")):
        raise no_safetensors()
    return config


def check_method(params: dict[str, Any]) -> None:
    """Raises `BadInput` where the method's library is not installed, before anything is loaded."""
    if params["method"] == "QLoRA" and importlib.util.find_spec("bitsandbytes") is None:
        raise BadInput(
            "method: QLoRA needs the library bitsandbytes, which is not installed here: install it, or use method: "
            "LoRA with activationCheckpointing: true, which keeps the frozen weights in 16 bits on a GPU."
        )


def sequence_length(config: dict[str, Any], asked: int | None, usual: int) -> int:
    """Most tokens of a row. Raises `BadInput` if more are asked for than the model has positions."""
    most = config.get("max_position_embeddings") or config.get("n_positions") or config.get("n_ctx")
    if not isinstance(most, int):
        return asked or usual
    if asked is not None and asked > most:
        raise BadInput(
            f"sequenceLength is {asked}, and the base model takes at most {most} tokens: lower it, or take another "
            "model."
        )
    return asked or min(usual, most)


def load_tokenizer(folder: Path) -> Any:
    """The base model's own tokenizer. Raises `BadInput`."""
    from transformers import AutoTokenizer

    tokenizer = loaded(lambda: AutoTokenizer.from_pretrained(folder, local_files_only=True), "tokenizer")
    if not tokenizer.is_fast:
        raise BadInput("The base model has no tokenizer.json: include it in the version, or take a revision with one.")
    return tokenizer


def load_model(folder: Path, params: dict[str, Any], device: torch.device, adapter: Path | None = None) -> Any:
    """The model on the CPU, as it is trained: frozen weights in 16 bits where the run computes in them.

    `adapter`: a folder of one that the run goes on from; with all weights trained it is merged in first.
    """
    from transformers import AutoModelForCausalLM

    full = params["method"] == "Full"
    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported() and params["precision"] != "FP32"
    model = loaded(
        lambda: AutoModelForCausalLM.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.bfloat16 if bf16 and not full else torch.float32,
            **(_in_4_bits(bf16, device) if params["method"] == "QLoRA" else {}),
        ),
        "weights",
    )
    for module in model.modules():
        # On the CPU a pass outside training would pack the weights anew and round them once more, and a resumed run
        # would have done so at another time.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    model.config.use_cache = False
    if params["activationCheckpointing"]:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if full:
        return model if adapter is None else go_on(model, adapter).merge_and_unload()
    adapted = adapt(model, params) if adapter is None else go_on(model, adapter)
    if bf16 and params["method"] != "DoRA":
        adapters.narrow(adapted)
    return adapted


def go_on(model: Any, folder: Path) -> Any:
    """`model` with the adapter of `folder`, which is trained further. Raises `BadInput`."""
    from peft import PeftModel

    if not (folder / "adapter_model.safetensors").is_file():
        raise BadInput(
            "The adapter of model.ref has no adapter_model.safetensors. Weights in other formats can hold programs and "
            "are not loaded."
        )
    adapted = loaded(lambda: PeftModel.from_pretrained(model, folder, is_trainable=True), "adapter")
    adapted.peft_config["default"].base_model_name_or_path = None
    return adapted


def _in_4_bits(bf16: bool, device: torch.device) -> dict[str, Any]:
    """NF4 with its scales quantised too, as the QLoRA paper has it; computed in the run's precision."""
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if bf16 else torch.float32,
    )
    return {"quantization_config": settings, "device_map": {"": device}}


def adapt(model: Any, params: dict[str, Any]) -> Any:
    """`model` with a fresh adapter, which follows from the seed alone."""
    from peft import TaskType, get_peft_model

    lora = params["lora"]
    settings = adapters.settings(
        lora,
        task_type=TaskType.CAUSAL_LM,
        target_modules=lora["targetModules"] or "all-linear",
        use_dora=params["method"] == "DoRA",
        fan_in_fan_out=model.config.model_type == "gpt2",
    )
    torch.manual_seed(params["seed"])
    adapted = adapters.added(lambda: get_peft_model(model, settings), lora)
    # The mount's path means nothing elsewhere, and another text could be taken for a repository.
    adapted.peft_config["default"].base_model_name_or_path = None
    return adapted


def check_vocabulary(model: Any, parts: Any) -> None:
    """Raises `BadInput` if the tokenizer's numbers go beyond the model's embedding."""
    rows = model.get_input_embeddings().num_embeddings
    if parts.highest_token >= rows:
        raise BadInput(
            f"The tokenizer gives the number {parts.highest_token}, and the base model's embedding has {rows} rows: "
            "tokenizer and weights belong to different models, or tokens were added without resizing the model."
        )
