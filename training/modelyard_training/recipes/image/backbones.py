"""The networks for pictures: from scratch or from a base model, of transformers or of timm, and how they are saved.

All are stock classes, so that the stock library loads what is saved. Base models are read from safetensors alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modelyard_training.core.errors import BadInput
from modelyard_training.core.task import Use
from modelyard_training.recipes.base_model import (
    configuration,
    labels,
    loaded,
    no_safetensors,
    optional_json,
    with_head,
)

_SCRATCH_SIZE = 64
_SMALL = 64
"""Pictures up to this edge get the small network."""
_HALF = (0.5, 0.5, 0.5)
_STOCK = Use(
    "image-classification",
    "transformers",
    (
        "from transformers import pipeline",
        'model = pipeline("image-classification", model=folder)',
        'print(model("picture.jpg"))',
    ),
)
_TIMM = Use(
    "image-classification",
    "timm",
    (
        "import timm, torch",
        "from PIL import Image",
        'model = timm.create_model("local-dir:" + folder, pretrained=True).eval()',
        "change = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
        "with torch.no_grad():",
        '    found = model(change(Image.open("picture.jpg").convert("RGB"))[None])[0]',
        'print(dict(zip(model.pretrained_cfg["label_names"], found.tolist())))',
    ),
)


@dataclass(frozen=True)
class Backbone:
    """A network from pixels [N, 3, S, S], normalized by `mean` and `std`, to outputs [N, O]."""

    model: nn.Module
    name: str
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    head: nn.Linear
    outputs: Callable[[nn.Module, Tensor], Tensor]
    """The outputs of the model, or of what wraps it."""
    save: Callable[[Path], None]
    use: Use


def edge(base: Path | None, params: dict[str, Any]) -> int:
    """The edge of the pictures that the network will take. Raises `BadInput` for one that it can't, or a wrong base."""
    kind, size = params["architecture"], params["imageSize"]
    if base is None and kind == "Pretrained":
        raise BadInput("architecture Pretrained needs a base model: set spec.model.ref, or train a CNN from scratch.")
    if base is not None and kind in ("CNN", "ViT"):
        raise BadInput(f"architecture {kind} is trained from scratch: drop spec.model, or set it to Pretrained.")
    if base is None:
        size = size or _SCRATCH_SIZE
        if kind == "ViT" and size % 8:
            raise BadInput(f"imageSize is {size}: a ViT from scratch cuts pictures 8 by 8, so take a multiple of 8.")
        return int(size)
    config = _config(base)
    if _is_timm(config):
        known = config["pretrained_cfg"]
        own: int | None = int(known.get("input_size", [3, 224, 224])[-1])
        fixed = bool(known.get("fixed_input_size"))
    else:
        check_transformers(base, config)
        # What it was trained with; the configuration may name what its positions are counted for (DINOv2's do 518).
        given = optional_json(base / "preprocessor_config.json") or {}
        own = _edge(given.get("crop_size")) if given.get("do_center_crop") else None
        own, fixed = own or _edge(given.get("size")) or _edge(config.get("image_size")), False
    if size is not None and size != own and fixed:
        raise BadInput(f"imageSize is {size}, but the base model takes {own}: leave imageSize out.")
    return size or own or 224


def build(base: Path | None, params: dict[str, Any], size: int, classes: list[str] | None) -> Backbone:
    """The network for pictures of that edge. Raises `BadInput`."""
    if base is None:
        return _scratch(params["architecture"] or "CNN", size, classes)
    config = _config(base)
    if _is_timm(config):
        return _timm(base, config, size, classes or ["value"])
    return _transformers(base, config, size, classes)


def _is_timm(config: dict[str, Any]) -> bool:
    return "architecture" in config and isinstance(config.get("pretrained_cfg"), dict)


def _scratch(kind: str, size: int, classes: list[str] | None) -> Backbone:
    from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

    model: Any
    if kind == "ViT":
        shape = {"hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 3, "intermediate_size": 768}
        config: Any = ViTConfig(image_size=size, patch_size=size // 8, **shape, **labels(classes))
        model = ViTForImageClassification(config)
    else:
        small = size <= _SMALL
        widths: dict[str, Any] = {
            "embedding_size": 32 if small else 64,
            "hidden_sizes": [32, 64, 128] if small else [64, 128, 256, 512],
            "depths": [1, 1, 1] if small else [2, 2, 2, 2],
        }
        config = ResNetConfig(**widths, layer_type="basic", **labels(classes))
        model = ResNetForImageClassification(config)
    return _stock(model, kind, size, _HALF, _HALF)


def _transformers(base: Path, config: dict[str, Any], size: int, classes: list[str] | None) -> Backbone:
    from transformers import AutoModelForImageClassification

    model = with_head(AutoModelForImageClassification, base, classes)
    try:
        with torch.no_grad():
            model(pixel_values=torch.zeros(1, 3, size, size))
    except (ValueError, RuntimeError):
        raise BadInput(
            f"The base model can't take pictures of {size} by {size}: set imageSize to {config.get('image_size', 224)}."
        ) from None
    given = optional_json(base / "preprocessor_config.json") or {}
    mean, std = (tuple(given.get(name) or _HALF) for name in ("image_mean", "image_std"))
    return _stock(model, str(config["model_type"]), size, mean, std)


def _stock(model: Any, name: str, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Backbone:
    def save(folder: Path) -> None:
        from transformers import ViTImageProcessor

        model.save_pretrained(folder, safe_serialization=True)
        # It scales to a square, rescales and normalizes: nothing of it belongs to one family.
        ViTImageProcessor(
            size={"height": size, "width": size}, image_mean=list(mean), image_std=list(std)
        ).save_pretrained(folder)

    count = model.config.num_labels
    linear = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == count]
    if not linear:
        raise BadInput(f"The base model's family '{name}' has no linear head that could be trained anew.")
    return Backbone(
        model, name, size, mean, std, linear[-1], lambda m, pixels: m(pixel_values=pixels).logits, save, _STOCK
    )


def _timm(base: Path, config: dict[str, Any], size: int, names: list[str]) -> Backbone:
    import timm

    if not (base / "model.safetensors").is_file():
        raise no_safetensors()
    model: Any = loaded(
        lambda: timm.create_model(f"local-dir:{base}", pretrained=True, num_classes=len(names)), "weights"
    )
    known = config["pretrained_cfg"]
    mean, std = (tuple(known.get(name) or _HALF) for name in ("mean", "std"))
    head = model.get_classifier()
    if not isinstance(head, nn.Linear):
        raise BadInput(f"The base model's architecture '{config['architecture']}' has no linear head.")

    def save(folder: Path) -> None:
        from safetensors.torch import save_file

        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        seen = {
            **known,
            "input_size": [3, size, size],
            "test_input_size": None,
            "crop_pct": 1.0,
            "test_crop_pct": None,
            "crop_mode": "squash",
            "interpolation": "bilinear",
            "mean": list(mean),
            "std": list(std),
            "num_classes": len(names),
        }
        arguments = {k: v for k, v in (config.get("model_args") or {}).items() if k != "num_classes"}
        result = {
            "architecture": config["architecture"],
            "num_classes": len(names),
            "num_features": model.num_features,
            **({"model_args": arguments} if arguments else {}),
            "pretrained_cfg": {k: v for k, v in seen.items() if v is not None},
            "label_names": names,
        }
        (folder / "config.json").write_text(json.dumps(result, indent=1))

    return Backbone(model, str(config["architecture"]), size, mean, std, head, lambda m, pixels: m(pixels), save, _TIMM)


def _config(base: Path) -> dict[str, Any]:
    return configuration(base, "an image recipe needs a backbone such as ViT or ResNet")


def check_transformers(base: Path, config: dict[str, Any]) -> None:
    """Raises `BadInput` unless transformers can give the model in the folder a head for pictures."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as CAN_CLASSIFY

    kind = str(config.get("model_type", ""))
    if kind not in CAN_CLASSIFY or "auto_map" in config:
        raise BadInput(
            f"The base model's family '{kind}' is not a backbone for pictures that transformers or timm can give a "
            "head for labels."
        )
    if not list(base.glob("*.safetensors")):
        raise no_safetensors()


def _edge(size: Any) -> int | None:
    if isinstance(size, dict):
        size = size.get("height") or size.get("shortest_edge")
    return size if isinstance(size, int) else None
