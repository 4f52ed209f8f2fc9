"""Draws the sample pictures of a step, and keeps its adapter beside them so that a person can pick by eye."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modelyard_training.core import files
from modelyard_training.recipes.text_to_image import base
from modelyard_training.recipes.text_to_image.families import Family

FOLDER = "samples"
_STEPS = {"sd": 25, "sdxl": 25, "flux-dev": 20, "flux-schnell": 4}
_GUIDANCE = {"sd": 7.0, "sdxl": 6.0, "flux-dev": 3.5, "flux-schnell": 0.0}


def keep(output: Path, step: int, images: list[Any], write_adapter: Any) -> None:
    """Puts `samples/step-XXXXXXXX/` in place: each picture, all of them in one, and the adapter. Raises OSError."""
    final = output / FOLDER / f"step-{step:08d}"
    partial = final.with_name(f".{final.name}.partial")
    files.remove(partial)
    partial.mkdir(parents=True)
    for number, image in enumerate(images):
        image.save(partial / f"{number:02d}.png")
    grid(images).save(partial / "grid.png")
    write_adapter(partial)
    files.sync_tree(partial)
    files.remove(final)
    partial.rename(final)
    files.sync(final.parent)


def grid(images: list[Any]) -> Any:
    """All pictures (of one size) in one, as square as they fill it."""
    from PIL import Image

    columns = math.ceil(math.sqrt(len(images)))
    width, height = images[0].size
    whole = Image.new("RGB", (columns * width, math.ceil(len(images) / columns) * height))
    for number, image in enumerate(images):
        whole.paste(image, (number % columns * width, number // columns * height))
    return whole


@torch.no_grad()
def draw(
    pipeline: Any, family: Family, cached: dict[str, dict[str, Tensor]], prompts: list[str], edge: int, seed: int
) -> list[Any]:
    """A square picture of each prompt, each with its own fixed seed; the model is as `with_adapter` left it."""
    device = next(family.model.parameters()).device
    edge = edge // 16 * 16
    images = []
    with _on(pipeline.vae, device):
        for number, prompt in enumerate(prompts):
            said = {name: part.to(device) for name, part in cached[prompt].items()}
            empty = {name: part.to(device) for name, part in cached[""].items()}
            told = {"prompt_embeds": said["embeds"]}
            if "pooled" in said:
                told["pooled_prompt_embeds"] = said["pooled"]
            if family.kind in ("sd", "sdxl"):
                told["negative_prompt_embeds"] = empty["embeds"]
            if family.kind == "sdxl":
                told["negative_pooled_prompt_embeds"] = empty["pooled"]
            latents = pipeline(
                **told,
                height=edge,
                width=edge,
                num_inference_steps=_STEPS[family.kind],
                guidance_scale=_GUIDANCE[family.kind],
                generator=torch.Generator().manual_seed(seed + number),
                output_type="latent",
            ).images
            if family.part == "transformer":
                latents = pipeline._unpack_latents(latents, edge, edge, 8)
            images.append(_decode(pipeline, latents))
    return images


def _decode(pipeline: Any, latents: Tensor) -> Any:
    vae = pipeline.vae
    clean = latents.to(vae.dtype) / vae.config.scaling_factor + (getattr(vae.config, "shift_factor", None) or 0.0)
    with torch.autocast(clean.device.type, enabled=False):
        pixels = vae.decode(clean, return_dict=False)[0]
    return pipeline.image_processor.postprocess(pixels, output_type="pil")[0]


@contextlib.contextmanager
def _on(vae: Any, device: torch.device) -> Iterator[None]:
    vae.to(device)
    try:
        yield
    finally:
        vae.to("cpu")


@contextlib.contextmanager
def as_used(model: Any, *, assisted: bool) -> Iterator[None]:
    """The model as a user has it: the new adapter without the assistant, nothing dropped; then as before."""
    training = model.training
    model.eval()
    if assisted:
        model.set_adapters([base.ADAPTER])
    try:
        yield
    finally:
        if assisted:
            base.train_mode(model, assisted=True)
        model.train(training)


def write_adapter(pipeline: Any, family: Family, folder: Path) -> None:
    """`pytorch_lora_weights.safetensors` with the adapter's settings in it: without them alpha would be lost."""
    from peft import get_peft_model_state_dict

    settings = family.model.peft_config[base.ADAPTER].to_dict()
    # A set has no order, and the same run makes the same file.
    settings = {k: sorted(v) if isinstance(v, set | list) else v for k, v in settings.items()}
    state = get_peft_model_state_dict(family.model, adapter_name=base.ADAPTER)
    type(pipeline).save_lora_weights(
        folder,
        **{
            f"{family.part}_lora_layers": {k: v.detach().cpu().contiguous() for k, v in state.items()},
            f"{family.part}_lora_adapter_metadata": settings,
        },
    )
    _in_order(folder / "pytorch_lora_weights.safetensors")


def _in_order(path: Path) -> None:
    """safetensors writes a file's settings in any order; the same run makes the same file."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps({"__metadata__": header.pop("__metadata__"), **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])
