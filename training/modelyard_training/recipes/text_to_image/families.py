"""How each kind of model is trained: what it predicts, from what, and how it draws a picture.

Latents are [B, C, H, W], already shifted and scaled as the model sees them. A time is one number a picture: the step
of the noise schedule (U-Nets), or the share of noise from 0 to 1 (FLUX.1).
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch
from torch import Tensor

Kind = Literal["sd", "sdxl", "flux-dev", "flux-schnell"]
Condition = dict[str, Tensor]
"""What the model is told, by name, with the batch first: `embeds`, `pooled`, `sizes` (SDXL: six numbers)."""

DIVISOR: dict[Kind, int] = {"sd": 64, "sdxl": 64, "flux-dev": 16, "flux-schnell": 16}
"""What a picture's edges are multiples of."""


class Family(Protocol):
    """One kind of model."""

    kind: Kind
    model: Any
    """The part that is trained."""
    part: str
    """Its name in the pipeline."""

    def encode(self, pipeline: Any, prompt: str, device: torch.device) -> Condition:
        """What the text encoders make of a prompt: a batch of one, on the CPU."""

    def times(self, count: int, random: torch.Generator) -> Tensor:
        """Random times [N] as they are drawn in training."""

    def mix(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """Latents with noise as of `times`."""

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """What the model shall predict of that mixture."""

    def predict(self, model: Any, mixed: Tensor, times: Tensor, condition: Condition) -> Tensor:
        """The model's prediction."""

    def schedule(self, steps: int, tokens: int) -> Tensor:
        """Times [steps + 1] of a drawing from pure noise on."""

    def advance(self, mixed: Tensor, prediction: Tensor, now: Tensor, then: Tensor) -> Tensor:
        """The mixture as of time `then`, from that of `now`: deterministic."""


def of(kind: Kind, pipeline: Any) -> Family:
    """The family of a loaded pipeline."""
    return _UNet(kind, pipeline) if kind in ("sd", "sdxl") else _Flux(kind, pipeline)


class _UNet:
    part = "unet"

    def __init__(self, kind: Kind, pipeline: Any) -> None:
        from diffusers import DDPMScheduler

        self.kind: Kind = kind
        self.model = pipeline.unet
        self._noise = DDPMScheduler.from_config(pipeline.scheduler.config)
        self._kind_of_target = self._noise.config.prediction_type

    def encode(self, pipeline: Any, prompt: str, device: torch.device) -> Condition:
        found = pipeline.encode_prompt(
            prompt, device=device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        names = ("embeds", None, "pooled") if self.kind == "sdxl" else ("embeds",)
        return {name: part.cpu() for name, part in zip(names, found, strict=False) if name}

    def times(self, count: int, random: torch.Generator) -> Tensor:
        return torch.randint(0, len(self._noise), (count,), generator=random)

    def mix(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        mixed: Tensor = self._noise.add_noise(latents, noise, times)
        return mixed

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        if self._kind_of_target != "v_prediction":
            return noise
        velocity: Tensor = self._noise.get_velocity(latents, noise, times)
        return velocity

    def predict(self, model: Any, mixed: Tensor, times: Tensor, condition: Condition) -> Tensor:
        more: dict[str, Any] = {}
        if self.kind == "sdxl":
            more["added_cond_kwargs"] = {"text_embeds": condition["pooled"], "time_ids": condition["sizes"]}
        found: Tensor = model(mixed, times, encoder_hidden_states=condition["embeds"], return_dict=False, **more)[0]
        return found

    def schedule(self, steps: int, tokens: int) -> Tensor:
        return torch.linspace(len(self._noise) - 1, 0, steps + 1).round().long()

    def advance(self, mixed: Tensor, prediction: Tensor, now: Tensor, then: Tensor) -> Tensor:
        kept = self._noise.alphas_cumprod.to(mixed)
        a, b = kept[now].sqrt(), (1 - kept[now]).sqrt()
        if self._kind_of_target == "v_prediction":
            clean, noise = a * mixed - b * prediction, a * prediction + b * mixed
        else:
            clean, noise = (mixed - b * prediction) / a, prediction
        moved: Tensor = kept[then].sqrt() * clean + (1 - kept[then]).sqrt() * noise
        return moved


class _Flux:
    part = "transformer"

    def __init__(self, kind: Kind, pipeline: Any) -> None:
        self.kind: Kind = kind
        self.model = pipeline.transformer
        self._pack, self._unpack = pipeline._pack_latents, pipeline._unpack_latents
        self._places = pipeline._prepare_latent_image_ids

    def encode(self, pipeline: Any, prompt: str, device: torch.device) -> Condition:
        most = min(512 if self.kind == "flux-dev" else 256, pipeline.tokenizer_2.model_max_length)
        embeds, pooled, _ = pipeline.encode_prompt(prompt, device=device, max_sequence_length=most)
        return {"embeds": embeds.cpu(), "pooled": pooled.cpu()}

    def times(self, count: int, random: torch.Generator) -> Tensor:
        # The middle of the way, where most is decided, more often than its ends.
        return torch.randn(count, generator=random).sigmoid()

    def mix(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        share = times.to(latents)[:, None, None, None]
        return (1 - share) * latents + share * noise

    def target(self, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        return noise - latents

    def predict(self, model: Any, mixed: Tensor, times: Tensor, condition: Condition) -> Tensor:
        count, channels, height, width = mixed.shape
        device = mixed.device
        found = model(
            hidden_states=self._pack(mixed, count, channels, height, width),
            timestep=times.to(mixed),
            # The guidance that the distilled model was given is learned at the value that changes nothing.
            guidance=torch.ones(count, device=device) if self.kind == "flux-dev" else None,
            pooled_projections=condition["pooled"],
            encoder_hidden_states=condition["embeds"],
            txt_ids=torch.zeros(condition["embeds"].shape[1], 3, device=device),
            img_ids=self._places(count, height // 2, width // 2, device, torch.float32),
            return_dict=False,
        )[0]
        prediction: Tensor = self._unpack(found, height * 8, width * 8, 8)
        return prediction

    def schedule(self, steps: int, tokens: int) -> Tensor:
        return torch.linspace(1.0, 0.0, steps + 1)

    def advance(self, mixed: Tensor, prediction: Tensor, now: Tensor, then: Tensor) -> Tensor:
        return mixed + (then - now).to(mixed) * prediction
