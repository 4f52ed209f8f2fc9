"""Image classification and regression: a picture to a class or a number, by a CNN, a ViT or a pre-trained backbone."""

from __future__ import annotations

from modelyard_training.core import split
from modelyard_training.core.data import Tables
from modelyard_training.core.run import Run
from modelyard_training.core.task import Task
from modelyard_training.recipes.image import backbones, pictures, sources
from modelyard_training.recipes.image.task import ImageTask


def build(run: Run) -> Task:
    """The task of an image recipe. Raises `BadInput`."""
    params, config = run.params, run.config.dataset
    base = run.base_model() if run.config.model is not None else None
    if params["learningRate"] is None:
        params["learningRate"] = 1e-3 if base is None else 1e-4
    size = backbones.edge(base, params)
    given = sources.read(run.dataset(), config)
    pool = pictures.pool()
    good, decoded, broken = pictures.check(given.train, size, params["maxBrokenShare"], run.stop, pool)
    train = sources.table(good, given.target)
    held, held_good, held_decoded = None, good, decoded
    if given.validation is not None:
        held_good, held_decoded, more = pictures.check(given.validation, size, params["maxBrokenShare"], run.stop, pool)
        held, broken = sources.table(held_good, given.target), broken + more
    parts = split.divide(
        Tables(train, held),
        given.target,
        config.split if config else None,
        classify=run.config.recipe == "image-classification",
    )
    return ImageTask(
        run,
        backbones.build(base, params, size, parts.classes),
        parts,
        pictures.Store(good, size, pool, decoded),
        pictures.Store(held_good, size, pool, held_decoded),
        given.target,
        {"brokenPictures": broken},
    )
