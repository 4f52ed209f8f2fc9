"""What the frozen parts of a pipeline make of the data, computed once: text encoders and VAE then leave the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from modelyard_training.core.run import Run
from modelyard_training.recipes.text_to_image.families import Condition, Family
from modelyard_training.recipes.text_to_image.pictures import Picture, Pictures


@dataclass(frozen=True)
class Latents:
    """A picture as the VAE sees it: mean and deviation [C, H/8, W/8], scaled for the model; SDXL's six numbers."""

    mean: Tensor
    deviation: Tensor
    sizes: Tensor


@dataclass(frozen=True)
class Cache:
    """Everything that the loop needs of the frozen parts. `flipped` is empty unless pictures are mirrored."""

    prompts: dict[str, Condition]
    train: list[Latents]
    flipped: list[Latents]
    held: list[Latents]


@torch.no_grad()
def fill(family: Family, pipeline: Any, found: Pictures | None, samples: list[str], run: Run) -> Cache:
    """Encodes every distinct prompt and every picture, on the run's device. Raises `Stopped`."""
    device = run.world.device
    said = {p.caption for p in (*found.train, *found.held)} if found else {run.params["prompt"]}
    opposite = run.params["oppositePrompt"] or ""
    prompts: dict[str, Condition] = {}
    encoders = [
        getattr(pipeline, n) for n in ("text_encoder", "text_encoder_2") if getattr(pipeline, n, None) is not None
    ]
    for encoder in encoders:
        encoder.to(device)
    for prompt in sorted({*said, *samples, "", opposite}):
        run.stop.check()
        prompts[prompt] = {name: part.clone() for name, part in family.encode(pipeline, prompt, device).items()}
    for encoder in encoders:
        encoder.to("cpu")
    pipeline.vae.to(device)
    train = [_latents(pipeline.vae, p, False, run) for p in (found.train if found else ())]
    flipped = [_latents(pipeline.vae, p, True, run) for p in (found.train if found and run.params["flip"] else ())]
    held = [_latents(pipeline.vae, p, False, run) for p in (found.held if found else ())]
    pipeline.vae.to("cpu")
    # Only the prompts' embeddings are needed from here on.
    pipeline.register_modules(**{n: None for n in ("text_encoder", "text_encoder_2") if hasattr(pipeline, n)})
    return Cache(prompts, train, flipped, held)


def _latents(vae: Any, picture: Picture, flip: bool, run: Run) -> Latents:
    run.stop.check()
    pixels, (top, left) = picture.pixels()
    found = vae.encode((pixels.flip(-1) if flip else pixels)[None].to(vae.device)).latent_dist
    shift, scale = getattr(vae.config, "shift_factor", None) or 0.0, vae.config.scaling_factor
    mean, deviation = (found.mean - shift) * scale, found.std * scale
    sizes = torch.tensor([*picture.size, top, left, *picture.bucket], dtype=torch.float32)
    return Latents(mean[0].cpu(), deviation[0].cpu(), sizes)
