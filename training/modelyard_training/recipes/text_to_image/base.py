"""The base of an image run: which kind of pipeline it is, its parts, the new adapter and FLUX.1-schnell's assistant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modelyard_training.core.errors import BadInput
from modelyard_training.recipes import adapters
from modelyard_training.recipes.base_model import no_safetensors
from modelyard_training.recipes.text_to_image.families import Family, Kind
from modelyard_training.recipes.text_to_image.pictures import Pictures

ADAPTER = "default"
ASSISTANT = "assistant"
_PIPELINES: dict[str, Kind] = {
    "StableDiffusionPipeline": "sd",
    "StableDiffusionXLPipeline": "sdxl",
    "FluxPipeline": "flux-dev",
}
_SAMPLES = 4


def check(folder: Path) -> Kind:
    """What kind of pipeline the folder holds. Raises `BadInput` for one that can't be trained."""
    known = "FLUX.1-dev, FLUX.1-schnell, SDXL and Stable Diffusion 1.5"
    try:
        name = str(json.loads((folder / "model_index.json").read_text())["_class_name"])
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(
            f"The base model is no diffusers pipeline (it has no readable model_index.json): take one of {known}, with "
            "all folders of its repository."
        ) from None
    if name not in _PIPELINES:
        raise BadInput(f"The base model is a {name}, which text-to-image-lora can't train: it knows {known}.")
    kind = _PIPELINES[name]
    part = "transformer" if kind == "flux-dev" else "unet"
    if not list((folder / part).glob("*.safetensors")):
        raise no_safetensors(f"{part}/*.safetensors")
    if kind == "flux-dev":
        try:
            guided = json.loads((folder / part / "config.json").read_text()).get("guidance_embeds", False)
        except (OSError, ValueError):
            raise BadInput(
                "The base model has no readable transformer/config.json: include it in the version."
            ) from None
        return "flux-dev" if guided else "flux-schnell"
    return kind


def check_assistant(kind: Kind, folder: Path | None) -> Path | None:
    """The assistant adapter's file, for the family that needs one. Raises `BadInput`."""
    if kind != "flux-schnell":
        if folder is not None:
            raise BadInput(f"An assistant adapter is for FLUX.1-schnell; this base is {kind}: drop model.assistantRef.")
        return None
    if folder is None:
        raise BadInput(
            "FLUX.1-schnell is distilled to few steps, and an adapter trained on it directly unlearns that: set "
            "model.assistantRef to its training adapter (ostris/FLUX.1-schnell-training-adapter)."
        )
    found = sorted(folder.glob("*.safetensors"))
    if len(found) != 1:
        raise BadInput(f"The assistant adapter must be one *.safetensors file; there are {len(found)} in its version.")
    return found[0]


def load(folder: Path, params: dict[str, Any], device: torch.device) -> Any:
    """The pipeline on the CPU; the part that is trained in 16 bits where the run computes in them, the VAE never."""
    from diffusers import DiffusionPipeline
    from safetensors import SafetensorError

    bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported() and params["precision"] != "FP32"
    try:
        pipeline = DiffusionPipeline.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            torch_dtype=torch.bfloat16 if bf16 else torch.float32,
        )
    except (SafetensorError, OSError, ValueError, KeyError, ImportError, RuntimeError, TypeError):
        raise BadInput(
            "The base model's weights can't be loaded: its files are incomplete or damaged, or of a version that this "
            "trainer's diffusers does not know."
        ) from None
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.to(torch.float32)
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.requires_grad_(False)
            part.eval()
    return pipeline


def adapt(
    pipeline: Any, family: Family, params: dict[str, Any], assistant: Path | None, adapter: Path | None = None
) -> None:
    """Puts an adapter into the part that is trained: the one of the folder `adapter`, to be trained further, or a
    fresh one, which follows from the seed alone. Raises `BadInput`.
    """
    from diffusers.training_utils import cast_training_params

    if assistant is not None:
        _load_assistant(pipeline, assistant)
    if adapter is not None:
        _load_adapter(pipeline, adapter)
    else:
        _add_adapter(family, params)
    train_mode(family.model, assisted=assistant is not None)
    if params["activationCheckpointing"]:
        family.model.enable_gradient_checkpointing()
    cast_training_params(family.model, torch.float32)
    if family.model.dtype == torch.bfloat16:
        adapters.narrow(family.model)


def _add_adapter(family: Family, params: dict[str, Any]) -> None:
    model, lora = family.model, params["lora"]
    targets = lora["targetModules"] or [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and _inner(n)]
    settings = adapters.settings(lora, init_lora_weights="gaussian", target_modules=targets)
    torch.manual_seed(params["seed"])
    adapters.added(lambda: model.add_adapter(settings, adapter_name=ADAPTER), lora, "every linear layer of its blocks")


def _load_adapter(pipeline: Any, folder: Path) -> None:
    name = "pytorch_lora_weights.safetensors"
    if not (folder / name).is_file():
        raise BadInput(f"The adapter of model.ref has no {name}: name one that text-to-image-lora saved.")
    try:
        pipeline.load_lora_weights(folder, weight_name=name, adapter_name=ADAPTER)
    except (ValueError, KeyError, RuntimeError, OSError):
        raise BadInput("The adapter of model.ref does not fit its base model: its files are damaged.") from None


def _inner(name: str) -> bool:
    """Whether a linear layer is in an attention or feed-forward part of a block; norms and embeddings are not."""
    # The assistant's layers are inside the ones that they are put on.
    parts = ["" if p == "base_layer" else p for p in name.split(".")]
    blocks = any(p in ("attentions", "transformer_blocks", "single_transformer_blocks") for p in parts)
    return blocks and not any("norm" in p or p.startswith("lora_") for p in parts)


def _load_assistant(pipeline: Any, file: Path) -> None:
    try:
        pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name=ASSISTANT)
    except (ValueError, KeyError, RuntimeError, OSError):
        raise BadInput(
            "The assistant adapter does not fit the base model: take the one that was made for FLUX.1-schnell."
        ) from None


def train_mode(model: Any, *, assisted: bool) -> None:
    """The new adapter alone learns; the assistant only helps to make the prediction that it learns from."""
    model.set_adapters([ASSISTANT, ADAPTER] if assisted else [ADAPTER])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(f".{ADAPTER}." in name)


def sample_prompts(params: dict[str, Any], found: Pictures | None) -> list[str]:
    """What the sample pictures show: what the user says, else the prompt, else a few captions."""
    if params["samplePrompts"]:
        return list(params["samplePrompts"])
    if params["prompt"]:
        return [params["prompt"]]
    assert found is not None
    return sorted({p.caption for p in found.train})[:_SAMPLES]
