"""The folder of a base model: its configuration, its weights under a new head, and the refusals that recipes share.

Nothing here imports torch by itself: the analysis of a data set looks at base models too, and starts sooner without.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelyard_training.core.errors import BadInput


def configuration(folder: Path, wanted: str) -> dict[str, Any]:
    """What `config.json` says. Raises `BadInput` for a pipeline (`wanted` says what instead) or an adapter alone."""
    if (folder / "model_index.json").is_file():
        raise BadInput(f"The base model is a diffusers pipeline: {wanted}.")
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise BadInput("The base model is an adapter: name the model that it adapts, or its merged form.")
    return required_json(folder / "config.json")


def required_json(path: Path) -> dict[str, Any]:
    """The object in a file that no base model is without. Raises `BadInput`."""
    found = optional_json(path)
    if found is None:
        raise BadInput(
            f"The base model has no readable {path.name}: check model.ref and the files that its version includes."
        )
    return found


def optional_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, or None where there is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def no_safetensors(which: str = "*.safetensors") -> BadInput:
    """That the base model lacks the files `which`."""
    return BadInput(
        f"The base model has no {which} file. Weights in other formats can hold programs and are not loaded: take a "
        "revision with safetensors, or include them in the version."
    )


def loaded(load: Callable[[], Any], what: str) -> Any:
    """What `load` makes of a base model's files. Raises `BadInput` when they are damaged or of an unknown family."""
    from safetensors import SafetensorError

    try:
        return load()
    except (SafetensorError, OSError, ValueError, KeyError, ImportError, RuntimeError):
        raise BadInput(
            f"The base model's {what} can't be loaded: its files are incomplete or damaged, or of a family that this "
            "version of transformers does not know."
        ) from None


def labels(classes: list[str] | None) -> dict[str, Any]:
    """The classes, or a number (None), as a configuration of transformers has them."""
    names = classes or ["value"]
    return {
        "num_labels": len(names),
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
        "problem_type": "single_label_classification" if classes else "regression",
    }


def with_head(kind: Any, folder: Path, classes: list[str] | None) -> Any:
    """The base model in 32 bits with a new head. `kind`: an `AutoModelFor…` of transformers. Raises `BadInput`."""
    import torch

    return loaded(
        lambda: kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            **labels(classes),
        ),
        "weights",
    )
