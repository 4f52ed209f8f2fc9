"""Sizes of a base model, from its configuration and the headers of its safetensors files: no weight is read."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelyard_training.core.errors import BadInput
from modelyard_training.recipes.base_model import configuration, no_safetensors, required_json

_HEADER_MAX = 100 * 2**20
"""The format's own limit."""

_NO_LINEAR = ("embed", "wte", "wpe", "lm_head", "norm", "score", "classifier", "pooler", "shared")
"""Parts of names of matrices that get no adapter: embeddings, heads, norms."""
_BLOCKS = ("attentions", "transformer_blocks", "single_transformer_blocks")
_KINDS = {"StableDiffusionPipeline": "sd", "StableDiffusionXLPipeline": "sdxl", "FluxPipeline": "flux-dev"}


def transformer(folder: Path) -> dict[str, Any]:
    """Sizes of a transformers model. Raises `BadInput` where the folder holds none in safetensors."""
    config = configuration(folder, "this recipe needs a transformers model")
    tensors = list(_tensors(folder))
    if not tensors:
        raise no_safetensors()
    hidden = _first(config, "hidden_size", "n_embd", "d_model", "dim")
    found = {
        "family": config.get("model_type"),
        **_sums(tensors),
        "linearSizes": sum(sum(shape) for name, shape, _ in tensors if _is_linear(name, shape)),
        "hidden": hidden,
        "layers": _first(config, "num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        "inner": _first(config, "intermediate_size", "n_inner", "ffn_dim", "hidden_dim"),
        "vocabulary": config.get("vocab_size"),
        "positions": _first(config, "max_position_embeddings", "n_positions", "n_ctx"),
    }
    return {name: value for name, value in found.items() if value is not None}


def pipeline(folder: Path) -> dict[str, Any]:
    """Sizes of a diffusers pipeline. Raises `BadInput` where the folder holds none that we know."""
    index = required_json(folder / "model_index.json")
    kind = _KINDS.get(str(index.get("_class_name")))
    if kind is None:
        raise BadInput(
            "The base model is no diffusers pipeline of FLUX.1, SDXL or Stable Diffusion 1.5: take one of these, with "
            "all folders of its repository."
        )
    part = "transformer" if kind.startswith("flux") else "unet"
    learning = list(_tensors(folder / part))
    everything = [t for inner in sorted(p for p in folder.iterdir() if p.is_dir()) for t in _tensors(inner)]
    if not learning:
        raise BadInput(
            f"The base model has no {part}/*.safetensors file: take a revision with safetensors, or include them in "
            "the version."
        )
    blocks = [(n, s) for n, s, _ in learning if len(s) == 2 and any(b in n.split(".") for b in _BLOCKS)]
    sizes = sum(sum(shape) for name, shape in blocks if "norm" not in name)
    return {"kind": kind, **_sums(everything), "linearSizes": sizes}


def _sums(tensors: list[tuple[str, list[int], str]]) -> dict[str, Any]:
    kinds: dict[str, int] = {}
    for _, shape, dtype in tensors:
        kinds[dtype] = kinds.get(dtype, 0) + math.prod(shape)
    return {"parameters": sum(kinds.values()), "precision": max(kinds, key=lambda k: kinds[k])}


def _is_linear(name: str, shape: list[int]) -> bool:
    return len(shape) == 2 and min(shape) > 1 and not any(part in name for part in _NO_LINEAR)


def _tensors(folder: Path) -> Iterator[tuple[str, list[int], str]]:
    """Name, shape and type of every tensor. Raises `BadInput` for a damaged file."""
    files = sorted(folder.glob("*.safetensors"))
    plain = [p for p in files if not any(part in p.name for part in (".fp16.", ".non_ema.", ".ema_only."))]
    # A repository may hold the same weights in one file and in shards, or in several precisions.
    sharded = [p for p in plain if "-of-" in p.name]
    for path in (sharded or plain or files) if len(plain) > 1 else (plain or files):
        try:
            with path.open("rb") as file:
                (size,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(size)) if size <= _HEADER_MAX else None
            if not isinstance(header, dict):
                raise ValueError("no header")
            for name, about in header.items():
                if name != "__metadata__":
                    yield name, [int(n) for n in about["shape"]], str(about["dtype"])
        except (OSError, ValueError, KeyError, TypeError, struct.error):
            raise BadInput(f"The base model's file {path.name} is damaged or cut short: fetch it again.") from None


def _first(config: dict[str, Any], *names: str) -> int | None:
    return next((config[n] for n in names if isinstance(config.get(n), int) and not isinstance(config[n], bool)), None)
