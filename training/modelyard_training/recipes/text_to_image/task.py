"""What the loop trains, from pictures or from a prompt alone.

Every random number of a batch (noise, time, mirror, dropped caption) follows from the seed and the batch's place in
the run, so that neither a resume nor the sample pictures on the way change any of them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from modelyard_training.core.errors import Stopped
from modelyard_training.core.run import Run
from modelyard_training.core.task import Batch, Description, Indices, Use
from modelyard_training.core.world import World
from modelyard_training.recipes.common import generator
from modelyard_training.recipes.text_to_image import base, samples
from modelyard_training.recipes.text_to_image.cache import Cache, Latents
from modelyard_training.recipes.text_to_image.families import Condition, Family
from modelyard_training.recipes.text_to_image.pictures import Picture, Pictures

_CONCEPT_BATCHES = 100
"""Batches in an epoch of a run without pictures."""
_DRAWING_STEPS = 20
_STRENGTH = 4.0
"""How far the slider's end is from the frozen model, in multiples of the difference of the two prompts."""


class _AdapterTask:
    """What both tasks share; see `core.task.Task` and `core.task.Sampling`."""

    unit = "pictures"
    best_metric: tuple[str, Literal["min", "max"]] = ("validationLoss", "min")

    def __init__(
        self, run: Run, family: Family, pipeline: Any, cached: Cache, prompts: list[str], resolution: int
    ) -> None:
        self._run, self._params, self._family, self._pipeline = run, run.params, family, pipeline
        self._cached, self._prompts, self._resolution = cached, prompts, resolution
        self._assisted = family.kind == "flux-schnell"
        self._numbers: dict[int, int] = {}
        self.sample_every: int = run.params["sampleEvery"]
        self.model: nn.Module = family.model

    def groups(self) -> list[dict[str, Any]]:
        """The adapter."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        return [{"params": trained, "lr": self._params["learningRate"], "weight_decay": self._params["weightDecay"]}]

    def _number(self, batches: list[Tensor], epoch: int) -> list[Tensor]:
        self._numbers = {int(batch[0]): epoch * len(batches) + at for at, batch in enumerate(batches)}
        return batches

    def _random(self, indices: Indices) -> torch.Generator:
        """The random numbers of a batch: of its own, whatever was drawn before."""
        return generator(self._params["seed"] + 1, self._numbers[int(indices[0])])

    def _condition(self, prompts: list[str]) -> Condition:
        found = [self._cached.prompts[prompt] for prompt in prompts]
        return {name: torch.cat([one[name] for one in found]) for name in found[0]}

    def sample(self, step: int) -> None:
        """Draws the sample pictures and keeps the adapter, below `samples/`. Raises OSError."""
        with samples.as_used(self.model, assisted=self._assisted):
            images = samples.draw(
                self._pipeline,
                self._family,
                self._cached.prompts,
                self._prompts,
                self._resolution,
                self._params["seed"],
            )
            samples.keep(self._run.output(), step, images, self.export)

    def export(self, folder: Path) -> None:
        """`pytorch_lora_weights.safetensors`, as diffusers' `load_lora_weights` reads it."""
        samples.write_adapter(self._pipeline, self._family, folder)

    def _description(self, train: int, held: int, notes: dict[str, Any]) -> Description:
        code = (
            "from diffusers import DiffusionPipeline",
            "pipeline = DiffusionPipeline.from_pretrained(base)",
            "pipeline.load_lora_weights(folder)",
            f'pipeline({json.dumps(self._prompts[0], ensure_ascii=False)}).images[0].save("picture.png")',
        )
        return Description(
            kind="Adapter",
            algorithm=f"{self._family.kind} (LoRA)",
            train_samples=train,
            test_samples=held,
            target="",
            use=Use("text-to-image", "diffusers", code),
            notes={"samplePrompts": self._prompts, **notes},
        )


class PicturesTask(_AdapterTask):
    """Learns what the pictures show."""

    def __init__(
        self,
        run: Run,
        family: Family,
        pipeline: Any,
        cached: Cache,
        found: Pictures,
        prompts: list[str],
        resolution: int,
    ) -> None:
        super().__init__(run, family, pipeline, cached, prompts, resolution)
        self._found = found

    def batches(self, epoch: int) -> Sequence[Indices]:
        """Pictures of one bucket together, in an order by seed and epoch."""
        random = generator(self._params["seed"], epoch)
        order = torch.randperm(len(self._found.train), generator=random).tolist()
        batches = _by_bucket(self._found.train, order, self._params["batchSize"])
        return self._number([batches[i] for i in torch.randperm(len(batches), generator=random).tolist()], epoch)

    def load(self, indices: Indices) -> Batch:
        """Latents, noise, times and what the model is told."""
        random = self._random(indices)
        numbers = indices.tolist()
        # Drawn whether they are used or not, so that one setting does not change another's randomness.
        mirror, drop = torch.rand(2, len(numbers), generator=random)
        latents = [
            (self._cached.flipped if self._params["flip"] and mirror[i] < 0.5 else self._cached.train)[n]
            for i, n in enumerate(numbers)
        ]
        captions = [
            "" if drop[i] < self._params["captionDropout"] else self._found.train[n].caption
            for i, n in enumerate(numbers)
        ]
        return self._batch(latents, captions, random)

    def _batch(self, latents: list[Latents], captions: list[str], random: torch.Generator) -> dict[str, Tensor]:
        mean = torch.stack([one.mean for one in latents])
        deviation = torch.stack([one.deviation for one in latents])
        return {
            "latents": mean + deviation * torch.randn(mean.shape, generator=random),
            "noise": torch.randn(mean.shape, generator=random),
            "times": self._family.times(len(latents), random),
            "sizes": torch.stack([one.sizes for one in latents]),
            **self._condition(captions),
        }

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean squared error of the prediction."""
        latents, noise, times = batch["latents"], batch["noise"], batch["times"]
        dtype = batch["embeds"].dtype
        mixed = self._family.mix(latents, noise, times).to(dtype)
        predicted = self._family.predict(model, mixed, times, dict(batch))
        return functional.mse_loss(predicted.float(), self._family.target(latents, noise, times).float())

    def evaluate(self, world: World) -> dict[str, float]:
        """The loss on the held-out pictures, each time with the same noise; nothing if none are held out."""
        batches = _by_bucket(self._found.held, list(range(len(self._found.held))), self._params["batchSize"])
        sums = torch.zeros(2, dtype=torch.float64)
        for at in range(0, len(batches), world.size):
            if world.agree(self._run.stop.requested)[0]:
                raise Stopped
            if at + world.rank < len(batches):
                numbers = batches[at + world.rank].tolist()
                captions = [self._found.held[n].caption for n in numbers]
                batch = self._batch([self._cached.held[n] for n in numbers], captions, generator(0, numbers[0]))
                loss = self.loss(self.model, {name: tensor.to(world.device) for name, tensor in batch.items()})
                sums += torch.tensor([float(loss) * len(numbers), len(numbers)], dtype=torch.float64)
        total, count = world.mean(sums).tolist()
        return {"validationLoss": total / count} if count else {}

    def where(self, indices: Indices) -> str:
        """The first few pictures of a batch."""
        named = [self._found.train[i].name for i in indices[:3].tolist()]
        return ", ".join(named) + (", …" if len(indices) > 3 else "")

    def describe(self) -> Description:
        """What was trained, on what."""
        buckets = sorted({p.bucket for p in self._found.train})
        notes = {"brokenPictures": self._found.broken, "buckets": [f"{w}x{h}" for h, w in buckets]}
        return self._description(len(self._found.train), len(self._found.held), notes)


def _by_bucket(pictures: list[Picture], order: list[int], size: int) -> list[Tensor]:
    buckets: dict[tuple[int, int], list[int]] = {}
    for number in order:
        buckets.setdefault(pictures[number].bucket, []).append(number)
    return [part for _, numbers in sorted(buckets.items()) for part in torch.split(torch.tensor(numbers), size)]


class ConceptTask(_AdapterTask):
    """Turns a prompt into a slider without any picture (Gandikota et al., Concept Sliders, 2023).

    With the adapter, the model shall predict for the empty prompt what it predicted without, moved by the difference
    of what it predicts for the prompt and for its opposite. What it looks at it has begun to draw itself.
    """

    def batches(self, epoch: int) -> Sequence[Indices]:
        """Numbers of drawings; none is ever made twice."""
        size = self._params["batchSize"]
        return self._number(list(torch.split(torch.arange(_CONCEPT_BATCHES * size), size)), epoch)

    def load(self, indices: Indices) -> Batch:
        """Pure noise, and how far it is drawn."""
        random, edge = self._random(indices), self._resolution // 16 * 2
        shape = (len(indices), self._pipeline.vae.config.latent_channels, edge, edge)
        steps = torch.randint(1, _DRAWING_STEPS, (1,), generator=random)
        return {"noise": torch.randn(shape, generator=random), "steps": steps}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean squared error against the moved prediction."""
        noise, family = batch["noise"], self._family
        told = {
            name: self._told(prompt, noise)
            for name, prompt in (
                ("empty", ""),
                ("toward", self._params["prompt"]),
                ("away", self._params["oppositePrompt"] or ""),
            )
        }
        times = family.schedule(_DRAWING_STEPS, noise.shape[-1] * noise.shape[-2] // 4).to(noise.device)
        mixed = noise.to(told["empty"]["embeds"].dtype)
        with torch.no_grad():
            self._frozen(True)
            stop = int(batch["steps"])
            for now, then in pairwise(times[: stop + 1]):
                prediction = family.predict(self.model, mixed, now.expand(len(noise)), told["empty"])
                mixed = family.advance(mixed, prediction, now, then)
            at = times[stop].expand(len(noise))
            seen = {name: family.predict(self.model, mixed, at, one).float() for name, one in told.items()}
            self._frozen(False)
        target = seen["empty"] + _STRENGTH * (seen["toward"] - seen["away"])
        return functional.mse_loss(family.predict(model, mixed, at, told["empty"]).float(), target)

    def _told(self, prompt: str, noise: Tensor) -> Condition:
        count, edge = len(noise), float(noise.shape[-1] * 8)
        found = {
            name: part.to(noise.device).expand(count, *part.shape[1:])
            for name, part in self._cached.prompts[prompt].items()
        }
        return {
            **found,
            "sizes": torch.tensor([[edge, edge, 0.0, 0.0, edge, edge]], device=noise.device).expand(count, 6),
        }

    def _frozen(self, frozen: bool) -> None:
        """The model without its new adapter, and with it again."""
        for module in self.model.modules():
            if hasattr(module, "lora_A") and hasattr(module, "set_scale"):
                set_scale: Any = module.set_scale
                set_scale(base.ADAPTER, 0.0 if frozen else 1.0)

    def evaluate(self, world: World) -> dict[str, float]:
        """Nothing is held out: there is no data."""
        return {}

    def where(self, indices: Indices) -> str:
        """There are no examples to name."""
        return "drawn by the model itself"

    def describe(self) -> Description:
        """What was trained."""
        notes = {"prompt": self._params["prompt"], "oppositePrompt": self._params["oppositePrompt"] or ""}
        return self._description(0, 0, notes)
