"""What a run would take: memory on each GPU, bytes on the volume, steps, hours, dollars. Pure.

From what the analysis counted (rows, tokens, the shapes of the base model's weights) and the parameters as they are
now, so that an edit of a parameter is judged without another look at the data. It follows what our trainer does: AdamW
with its state in FP32, weights in FP32 unless they are frozen, data parallel over the GPUs, sharded where it says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from typing import Any, Final

from modelyard.decide.training import cost
from modelyard.resources.gpus import gpu_facts
from modelyard.resources.quantities import parse_quantity
from modelyard.resources.training.spec import TrainingSpec
from modelyard.settings import Settings
from modelyard_training.params import RECIPES, CheckpointPolicy
from modelyard_training.params.common import Params, resolve

GIB: Final = 2**30
USABLE: Final = 0.92
"""Of a GPU's memory: the rest goes to CUDA itself and to gaps between blocks."""
CONTEXT_BYTES: Final = int(0.8 * GIB)
"""What the libraries hold on a GPU before the first tensor."""

TRAINED_BYTES: Final = 16
"""Of a trained weight: FP32 value, gradient, AdamW's two moments."""
COPY_BYTES: Final = 2
"""Of a trained weight under autocast: its BF16 copy."""
SAVED_BYTES: Final = 12
"""Of a trained weight in a checkpoint: value and two moments."""
LOGITS: Final = 2**27
LOGIT_BYTES: Final = 10
"""Of a logit: FP32 value and gradient, BF16 value. At most `LOGITS` are in memory at once."""

_SMALL_SHARE, _LARGE_SHARE, _IMAGE_SHARE = 0.05, 0.35, 0.25
"""Of a GPU's peak that a small network, a language model of a billion weights, and an image model reach."""
_CORE_TFLOPS: Final = 0.02
_STEP_SECONDS: Final = 0.002
"""A step is never faster: kernels have to be started."""
_START_SECONDS: Final = 30

# Forward passes of one picture at the usual size, in TFLOP, and the bytes that they leave for the backward pass.
_PICTURES: Final[Mapping[str, tuple[int, float, float]]] = {
    "sd": (512, 0.80, 3.0 * GIB),
    "sdxl": (1024, 6.76, 6.5 * GIB),
    "flux-dev": (1024, 74.4, 27.0 * GIB),
    "flux-schnell": (1024, 74.4, 27.0 * GIB),
}


@dataclass(frozen=True, slots=True)
class Would:
    """What the run would take; None for what can't be said. Bytes, seconds, US dollars."""

    gpu_bytes: int | None
    gpu_limit: int | None
    checkpoint_bytes: int | None
    output_bytes: int | None
    steps: int | None
    seconds: float | None
    usd: Decimal | None

    def status(self) -> dict[str, Any]:
        """`status.analysis.estimate`."""
        found = {
            "gpuMemory": gibibytes(self.gpu_bytes) if self.gpu_bytes is not None else None,
            "gpuMemoryLimit": gibibytes(self.gpu_limit) if self.gpu_limit is not None else None,
            "checkpointBytes": self.checkpoint_bytes,
            "outputBytes": self.output_bytes,
            "steps": self.steps,
            "hours": round(self.seconds / 3600, 2) if self.seconds is not None else None,
            "estimatedUSD": str(self.usd) if self.usd is not None else None,
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class _Load:
    """What a family's model asks for: weights that are trained and frozen bytes, bytes a step keeps on a GPU, samples
    of an epoch and FLOPs of one of them, forward and backward."""

    trained: int
    frozen_bytes: int
    step_bytes: int
    samples: int
    flops: float
    share: float
    exported_bytes: int


def gibibytes(size: float) -> str:
    """Bytes for people, such as `37.5Gi` or `12Mi`."""
    if size >= GIB:
        return f"{math.ceil(size / GIB * 10) / 10:g}Gi"
    return f"{max(1, math.ceil(size / 2**20))}Mi"


def estimate(spec: TrainingSpec, params: Params, found: Mapping[str, Any], settings: Settings) -> Would | None:
    """What the run would take with these parameters; `found` is `status.analysis`. None where nothing can be said."""
    family = RECIPES[spec.recipe.name].family
    effective = _measured(resolve(params))
    profile, model = found.get("profile") or {}, found.get("model") or {}
    try:
        load = _LOADS[family](effective, profile, model) if family in _LOADS else None
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError):
        load = None  # findings of another version, or of another program
    if load is None:
        return None
    gpus = cost.gpus(spec)
    steps = _steps(effective, load.samples, max(gpus, 1))
    policy = resolve(spec.checkpoint) if spec.checkpoint is not None else resolve(CheckpointPolicy())
    saved = load.trained * SAVED_BYTES
    # Those kept, the best one, and one in the making.
    output = saved * (int(policy["keep"]) + 2) + load.exported_bytes
    seconds = _seconds(spec, effective, load, steps, settings)
    price = cost.price(spec, settings.prices)
    dollars = None
    if price is not None and gpus and seconds is not None:
        exact = cost.usd(round(seconds) * gpus, price.per_gpu_hour)
        dollars = exact.quantize(Decimal("0.01"), ROUND_HALF_UP)
    facts = gpu_facts(cost.gpu_type(spec)) if gpus else None
    shards = cost.gpus(spec) // _nodes(spec) if effective.get("sharding") == "Node" else 1
    return Would(
        gpu_bytes=_gpu_bytes(load, max(shards, 1), model) if gpus else None,
        gpu_limit=int(facts.memory * GIB * USABLE) if facts is not None else None,
        checkpoint_bytes=saved,
        output_bytes=output,
        steps=steps,
        seconds=seconds,
        usd=dollars,
    )


def _measured(effective: dict[str, Any]) -> dict[str, Any]:
    """With `batch: Auto` the trainer finds out how many examples fit at a time; one is what must fit."""
    if effective.get("batch") != "Auto" or not effective.get("batchSize"):
        return effective
    examples = effective["batchSize"] * (effective.get("gradientAccumulation") or 1)
    return {**effective, "batchSize": 1, "gradientAccumulation": examples}


def _nodes(spec: TrainingSpec) -> int:
    return (spec.compute.nodes if spec.compute is not None else None) or 1


def _gpu_bytes(load: _Load, shards: int, model: Mapping[str, Any]) -> int:
    """Several shards: weights and their state are divided among as many GPUs, and two layers gathered at a time."""
    held = load.trained * (TRAINED_BYTES + COPY_BYTES) + load.frozen_bytes
    gathered = 2 * COPY_BYTES * int(model.get("parameters") or 0) // int(model.get("layers") or 1) if shards > 1 else 0
    return held // shards + gathered + load.step_bytes + CONTEXT_BYTES


def _steps(effective: Mapping[str, Any], samples: int, processes: int) -> int | None:
    batch: int | None = effective.get("batchSize")
    accumulation: int = effective.get("gradientAccumulation") or 1
    most: int | None = effective.get("maxSteps")
    epochs: int | None = effective.get("epochs")
    if not batch or not samples:
        return most
    each: int = max(1, math.ceil(math.ceil(samples / batch) / processes / accumulation))
    if not epochs:
        return most
    return min(each * epochs, most or each * epochs)


def _seconds(
    spec: TrainingSpec, effective: Mapping[str, Any], load: _Load, steps: int | None, settings: Settings
) -> float | None:
    gpus = cost.gpus(spec)
    facts = gpu_facts(cost.gpu_type(spec)) if gpus else None
    if steps is None or not effective.get("batchSize") or (gpus and facts is None):
        return None
    if facts is not None:
        speed = facts.tflops * 1e12 * load.share
    else:
        cpu = (spec.compute.cpu if spec.compute is not None else None) or settings.training.default_cpu
        speed = float(parse_quantity(cpu)) * _CORE_TFLOPS * 1e12
    each: float = load.flops * effective["batchSize"] * (effective.get("gradientAccumulation") or 1) / speed
    return steps * max(each, _STEP_SECONDS) + _START_SECONDS


def _adapter(effective: Mapping[str, Any], model: Mapping[str, Any]) -> int:
    """Weights of a low-rank adapter: each linear layer gets two matrices of the rank."""
    return int(effective["lora"]["rank"]) * int(model["linearSizes"])


def _tabular(effective: Mapping[str, Any], profile: Mapping[str, Any], model: Mapping[str, Any]) -> _Load | None:
    if effective["algorithm"] not in ("MLP", "Linear"):
        return None
    hidden = effective["hiddenSizes"] if effective["algorithm"] == "MLP" else []
    inputs = int(profile["features"]["encoded"])
    widths = [inputs, *hidden, int(profile["target"].get("outputs") or 1)]
    weights = sum(a * b + b for a, b in pairwise(widths))
    rows = int(profile["split"]["train"])
    kept = effective["batchSize"] * sum(widths) * 12
    table = int(profile["rows"]) * inputs * 4
    return _Load(weights, 0, kept + table, rows, 6.0 * weights, _SMALL_SHARE, weights * 4)


def _text(effective: Mapping[str, Any], profile: Mapping[str, Any], model: Mapping[str, Any]) -> _Load:
    weights, tokens = int(model["parameters"]), profile["tokens"]
    length = min(int(effective["maxLength"]), int(tokens["max"]))
    mean = min(float(tokens["mean"]), length)
    full = effective["method"] == "Full"
    trained = weights if full else _adapter(effective, model)
    kept = _kept(model, effective["batchSize"] * length, checkpointing=False)
    flops = (6.0 if full else 4.0) * weights * mean
    exported = weights * 4
    return _Load(
        trained,
        0 if full else weights * 4,
        kept,
        int(profile["split"]["train"]),
        flops,
        _SMALL_SHARE if weights < 3e8 else _LARGE_SHARE,
        exported,
    )


def _causal_lm(effective: Mapping[str, Any], profile: Mapping[str, Any], model: Mapping[str, Any]) -> _Load:
    weights, tokens = int(model["parameters"]), profile["tokens"]
    limit = min(int(effective["sequenceLength"]), int(model.get("positions") or effective["sequenceLength"]))
    documents = int(profile["split"]["train"])
    total = float(tokens["train"])
    # Packing fills rows almost whole; without it, each document is one.
    rows = max(1, math.ceil(total / limit / 0.97)) if effective["packing"] else documents
    width = limit if effective["packing"] else min(limit, int(tokens["max"]))
    full = effective["method"] == "Full"
    trained = weights if full else _adapter(effective, model)
    batch = effective["batchSize"] * width
    logits = min(LOGITS, batch * int(model["vocabulary"])) * LOGIT_BYTES
    kept = _kept(model, batch, checkpointing=bool(effective.get("activationCheckpointing"))) + logits
    bits = 0.6 if effective["method"] == "QLoRA" else 2.0
    flops = (6.0 if full else 4.0) * weights * (total / rows)
    share = _LARGE_SHARE if weights >= 5e8 else _SMALL_SHARE
    exported = weights * 4 if full else trained * 4
    return _Load(trained, 0 if full else int(weights * bits), kept, rows, flops, share, exported)


def _kept(model: Mapping[str, Any], tokens: int, *, checkpointing: bool) -> int:
    """Bytes that a transformer keeps for the backward pass: BF16 activations of attention and feed-forward, by layer.

    With checkpointing only each layer's input stays, and one layer's all at a time.
    """
    hidden, layers = int(model["hidden"]), int(model["layers"])
    inner = int(model.get("inner") or 4 * hidden)
    layer = tokens * 2 * (13 * hidden + 5 * inner)
    return tokens * 2 * hidden * layers + layer if checkpointing else layer * layers


def _pictures(effective: Mapping[str, Any], profile: Mapping[str, Any], model: Mapping[str, Any]) -> _Load:
    usual, flops, kept = _PICTURES[model["kind"]]
    scale = (int(effective.get("resolution") or usual) / usual) ** 2
    trained = _adapter(effective, model)
    batch = effective["batchSize"]
    return _Load(
        trained,
        int(model["parameters"]) * 2,
        int(batch * kept * scale),
        int((profile.get("split") or {}).get("train") or 0),
        2 * flops * scale * 1e12,
        _IMAGE_SHARE,
        trained * 4,
    )


def _images(effective: Mapping[str, Any], profile: Mapping[str, Any], model: Mapping[str, Any]) -> _Load:
    weights = int(model.get("parameters") or 5_000_000)
    scale = (int(effective.get("imageSize") or (224 if model else 64)) / 224) ** 2
    kept, flops = (90 * 2**20, 25e9) if model else (25 * 2**20, 3e9)
    return _Load(
        weights,
        0,
        int(effective["batchSize"] * kept * scale),
        int(profile["split"]["train"]),
        flops * scale,
        _SMALL_SHARE,
        weights * 4,
    )


_LOADS: Final[Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], _Load | None]]] = {
    "tabular": _tabular,
    "text": _text,
    "causalLM": _causal_lm,
    "textToImageLoRA": _pictures,
    "image": _images,
}
