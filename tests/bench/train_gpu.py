"""One GPU under the trainer: tokens a second, seconds an image, MFU, for models of the real shapes with random weights.

`make bench-train-gpu`; with `--tiny` the same on the CPU in tiny shapes, which only shows that the script works, and
with `--only llama` (`sd`, `sdxl`, `flux-dev`) one of them, for a machine that is lent for minutes. What is trained is
the recipes' own task and loop; only the weights and the data are made up. Where a batch does not fit, its half is
measured; the row says which it was.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import torch

from modelyard_training.core import run as core
from modelyard_training.core.checkpoint import Checkpoints
from modelyard_training.core.data import ROW, Table
from modelyard_training.core.report import MetricsFile, Reporter
from modelyard_training.core.run import Run, read_config
from modelyard_training.core.stop import Stop
from modelyard_training.core.train import Loop
from modelyard_training.core.world import World
from modelyard_training.params import CheckpointPolicy, resolve
from modelyard_training.recipes import adapters
from modelyard_training.recipes.causal_lm import base as language
from modelyard_training.recipes.causal_lm.documents import Document, Parts, Side
from modelyard_training.recipes.causal_lm.task import CausalLMTask
from modelyard_training.recipes.text_to_image import base as image
from modelyard_training.recipes.text_to_image import families
from modelyard_training.recipes.text_to_image.cache import Cache, Latents
from modelyard_training.recipes.text_to_image.pictures import Picture, Pictures
from modelyard_training.recipes.text_to_image.task import PicturesTask
from support import bench, tiny_models

WARM = 5
PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "4090": 165e12}
"""Dense bf16 operations a second by the makers' data sheets."""

LLAMA_3_8B = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
}
LLAMA_TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 512,
    "max_position_embeddings": 256,
}
SD15 = {
    "sample_size": 64,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SDXL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": 2048,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
FLUX = {"guidance_embeds": True}
"""The configurations of the published models; what is left out is the class's own default."""


def clocked(task: Any, run: Run, root: Path) -> tuple[float, int]:
    """Seconds and steps of a run, the warm-up left out."""
    ends: list[float] = []

    class Clocked(Loop):
        def _step(self, batches: Any) -> None:
            super()._step(batches)
            if len(ends) in (WARM, run.params["maxSteps"] - 1) and run.world.device.type == "cuda":
                torch.cuda.synchronize()
            ends.append(time.perf_counter())

        def _sample(self) -> None:
            pass

        def _evaluate(self) -> dict[str, float]:
            return {}

    settings = core._settings(run, task, resolve(CheckpointPolicy()))
    keeper = Checkpoints(root / "checkpoints", 1, run.world)
    metrics = MetricsFile(root / "metrics.jsonl")
    with contextlib.redirect_stdout(io.StringIO()):
        Clocked(task, settings, run.world, keeper, metrics, Reporter("", ""), run.stop).run(None)
    return ends[-1] - ends[WARM], len(ends) - 1 - WARM


def the_run(recipe: str, params: dict[str, Any], device: torch.device, root: Path) -> Run:
    told = read_config(json.dumps({"recipe": recipe, "params": params, "dataset": {}}))
    environment = {"MODELYARD_OUTPUT": str(root), "MODELYARD_MODEL": str(root), "MODELYARD_DATASET": str(root)}
    return Run(told, resolve(told.block()), World(0, 1, device), Stop(), environment)


def peak(device: torch.device) -> float | None:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((value for key, value in PEAK.items() if key in name), None)


def mfu(what: str, operations: float, seconds: float, device: torch.device) -> list[bench.Row]:
    best = peak(device)
    return [bench.plain(f"{what}, MFU", "%", 100 * operations / seconds / best)] if best else []


def llama(root: Path, device: torch.device, tiny: bool, steps: int, compile: bool) -> list[bench.Row]:
    """LoRA of rank 16 on every linear layer; rows of one document, then packed ones of about six."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    length = 64 if tiny else 4096
    config = LlamaConfig(**(LLAMA_TINY if tiny else LLAMA_3_8B), use_cache=False)
    rows = []
    for what, shares in (("one document a row", (1, 1)), ("packed", (1 / 16, 1 / 4))):

        def measured(batch: int, shares: tuple[float, float] = shares) -> tuple[float, int, int]:
            params = {
                "batchSize": batch,
                "maxSteps": steps + WARM,
                "sequenceLength": length,
                "compile": compile,
                "lora": {"rank": 16, "alpha": 32, "dropout": 0.0},
            }
            run = the_run("causal-lm", params, device, root)
            with torch.device(device):
                model = AutoModelForCausalLM.from_config(config, dtype=torch.float32 if tiny else torch.bfloat16)
            inner = sum(p.numel() for n, p in model.named_parameters() if "embed_tokens" not in n)
            adapted = language.adapt(model, run.params)
            if not tiny:
                adapters.narrow(adapted)
            random = np.random.default_rng(0)
            documents: list[Document] = []
            while sum(len(d.tokens) for d in documents) < length * (batch * (steps + WARM) + 4):
                many = int(random.integers(int(shares[0] * length), int(shares[1] * length) + 1))
                tokens = random.integers(3, config.vocab_size, many, dtype=np.int32)
                documents.append(Document(tokens, np.ones(many, np.bool_), len(documents)))
            frame = pl.DataFrame({"text": [""] * len(documents)}).with_row_index(ROW)
            table = Table(frame, ((Path("made-up.jsonl"), len(documents)),))
            parts = Parts("texts", ["text"], Side(table, documents), Side(table, documents[:1]))
            task = CausalLMTask(run, adapted, tiny_models.bpe_tokenizer(), parts, length)
            used = task.batches(0)[WARM + 1 : WARM + steps]
            seconds, _ = clocked(task, run, root / f"llama-{batch}-{shares[0]}")
            return seconds, sum(task.count(indices) for indices in used), inner

        (seconds, tokens, inner), batch = largest(2, measured, device)
        # Frozen weights have no gradients of their own: two thirds of the operations of a full training.
        each = 2 / 3 * (6 * inner + 12 * config.num_hidden_layers * config.hidden_size * length * shares[1])
        told = f"Llama-3-8B-shaped LoRA at {length}, {what}, batch {batch}"
        rows += [
            bench.more_is_better(told, "tokens/s", tokens / seconds, 15_000, "goal", 1.0),
            *mfu(told, each * tokens, seconds, device),
        ]
    return rows


def largest(batch: int, measured: Callable[[int], Any], device: torch.device) -> tuple[Any, int]:
    """What is measured with the largest batch that fits, of `batch` and its halves."""
    while True:
        forget(device)
        with contextlib.suppress(torch.OutOfMemoryError):
            return measured(batch), batch
        if batch == 1:
            raise SystemExit("not even a batch of one fits on this GPU")
        batch //= 2


def diffusion(
    kind: families.Kind,
    edge: int,
    batch: int,
    goal: float | None,
    root: Path,
    device: torch.device,
    tiny: bool,
    steps: int,
    compile: bool,
) -> list[bench.Row]:
    """LoRA of rank 16 with cached latents and embeddings."""
    found, fits = largest(batch, lambda size: _drawn(kind, edge, size, root, device, tiny, steps, compile), device)
    (seconds, operations, done) = found
    what = f"{kind}-shaped LoRA at {edge}², batch {fits}"
    each = seconds / done / fits
    row = (
        bench.plain(what, "s/image", each)
        if goal is None
        else bench.less_is_better(what, "s/image", each, goal, "goal", 1.0)
    )
    # Without gradients of the frozen weights, backward costs what forward does.
    return [row, *mfu(what, 2.0 * operations * done, seconds, device)]


def _drawn(
    kind: families.Kind,
    edge: int,
    batch: int,
    root: Path,
    device: torch.device,
    tiny: bool,
    steps: int,
    compile: bool,
) -> tuple[float, float, int]:
    """Seconds of the measured steps, operations of a forward pass, and how many steps that were."""
    from torch.utils.flop_counter import FlopCounterMode

    params = {
        "batchSize": batch,
        "maxSteps": steps + WARM,
        "resolution": edge,
        "sampleEvery": 1_000_000,
        "samplePrompts": ["x"],
        "compile": compile,
        "lora": {"rank": 16, "alpha": 16, "dropout": 0.0},
    }
    run = the_run("text-to-image-lora", params, device, root)
    pipeline, condition, channels = _pipeline(kind, root, device, tiny)
    family = families.of(kind, pipeline)
    family.model.requires_grad_(False)
    image.adapt(pipeline, family, run.params, None)
    low = edge // 8
    count = batch * (steps + WARM)
    random = torch.Generator().manual_seed(0)
    shape = (channels, low, low)
    sizes = torch.tensor([edge, edge, 0, 0, edge, edge], dtype=torch.float32)
    latents = [
        Latents(torch.randn(shape, generator=random), torch.full(shape, 0.1), sizes) for _ in range(min(count, 64))
    ]
    found = Pictures([Picture(b"", str(n), "x", (edge, edge), (edge, edge)) for n in range(count)], [], 0)
    cached = Cache({"x": condition, "": condition}, [latents[n % len(latents)] for n in range(count)], [], [])
    task = PicturesTask(run, family, pipeline, cached, found, ["x"], edge)
    family.model.to(device)
    given = {name: t.to(device) for name, t in task.load(task.batches(0)[0]).items()}
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), run.world.autocast(run.params["precision"]):
        task.loss(family.model, given)
    seconds, done = clocked(task, run, root / f"{kind}-{batch}")
    return seconds, float(counter.get_total_flops()), done


def _pipeline(kind: families.Kind, root: Path, device: torch.device, tiny: bool) -> tuple[Any, dict[str, Any], int]:
    """What the task uses of a pipeline, what a prompt is to it (a batch of one), and the channels of its latents."""
    from diffusers import DDPMScheduler, FluxPipeline, FluxTransformer2DModel, UNet2DConditionModel

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    if tiny:
        name = {"sd": "sd15", "sdxl": "sdxl", "flux-dev": "flux-dev"}[kind]
        made = (
            tiny_models._flux(root / name, True)
            if kind == "flux-dev"
            else tiny_models._stable(root / name, kind == "sdxl")
        )
        condition = families.of(kind, made).encode(made, "x", device)
        return made, {name: part.detach() for name, part in condition.items()}, made.vae.config.latent_channels
    with torch.device(device):
        if kind == "flux-dev":
            torch.set_default_dtype(dtype)
            model: Any = FluxTransformer2DModel(**FLUX)
        else:
            torch.set_default_dtype(dtype)
            model = UNet2DConditionModel(**(SDXL if kind == "sdxl" else SD15))
        torch.set_default_dtype(torch.float32)
    if kind == "flux-dev":
        condition = {"embeds": torch.randn(1, 512, 4096).to(dtype), "pooled": torch.randn(1, 768).to(dtype)}
        steps = ("_pack_latents", "_unpack_latents", "_prepare_latent_image_ids")
        return SimpleNamespace(transformer=model, **{n: getattr(FluxPipeline, n) for n in steps}), condition, 16
    noise = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    width = 2048 if kind == "sdxl" else 768
    condition = {"embeds": torch.randn(1, 77, width).to(dtype)}
    if kind == "sdxl":
        condition["pooled"] = torch.randn(1, 1280).to(dtype)
    return SimpleNamespace(unet=model, scheduler=noise), condition, 4


def main(argv: list[str] | None = None) -> list[bench.Row]:
    """Measures, prints the table and writes `build/bench/train-gpu.json`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--only", choices=["llama", "sd", "sdxl", "flux-dev"], help="one of the models")
    told = parser.parse_args(argv)
    if not told.tiny and not torch.cuda.is_available():
        parser.error("there is no GPU here: --tiny shows on the CPU that the script works")
    device = torch.device("cpu" if told.tiny else "cuda:0")
    if not told.tiny:
        torch.backends.cuda.matmul.allow_tf32 = True
    images: dict[families.Kind, tuple[int, int, float | None]] = {
        "sd": (512, 32, None),
        "sdxl": (1024, 8, None),
        "flux-dev": (1024, 4, 0.30),
    }
    name = "-".join(["train-gpu", *(["tiny"] if told.tiny else []), *([told.only] if told.only else [])])
    rows: list[bench.Row] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if told.only in (None, "llama"):
            rows += llama(root, device, told.tiny, told.steps, told.compile)
            bench.publish(name, rows)
        for kind, (edge, batch, goal) in images.items():
            if told.only not in (None, kind):
                continue
            size = (64, 2) if told.tiny else (edge, batch)
            rows += diffusion(kind, *size, goal, root, device, told.tiny, told.steps, told.compile)
            # Whatever comes next: what is measured is kept.
            bench.publish(name, rows)
    return rows


def forget(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
