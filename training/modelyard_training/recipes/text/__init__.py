"""Text classification and regression: an encoder of transformers with a new head, or a network from scratch."""

from __future__ import annotations

from modelyard_training.core import data, split
from modelyard_training.core.errors import BadInput
from modelyard_training.core.run import Run
from modelyard_training.core.task import Task
from modelyard_training.params import Columns
from modelyard_training.recipes.text import encoders, scratch
from modelyard_training.recipes.text.task import TextTask, texts_of


def build(run: Run) -> Task:
    """The task of a text recipe. Raises `BadInput`."""
    config, kind = run.config.dataset, run.params["architecture"]
    columns = (config.columns if config else None) or Columns()
    base = None
    if kind == "Pretrained":
        base = run.base_model()
        encoders.check_base(base)
    elif run.config.model is not None:
        raise BadInput(f"architecture {kind} is trained from scratch: drop spec.model, or set it to Pretrained.")
    tables = data.read(run.dataset(), config, as_text=True)
    run.stop.check()
    text = tables.train.require(columns.text or "text", "text")
    label = data.target_column(tables.train, columns.label, columns.target, "label")
    if tables.validation is not None:
        tables.validation.require(text, "text")
    parts = split.divide(
        tables, label, config.split if config else None, classify=run.config.recipe == "text-classification"
    )
    if base is not None:
        made = encoders.build(base, run.params, parts.classes)
    else:
        made = scratch.build(run.params, texts_of(parts.train, text), parts.classes)
    return TextTask(run, made, parts, text, label)
