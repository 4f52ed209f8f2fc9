"""Tabular classification and regression: a table's rows to a class or a number, by one algorithm or the best of all."""

from __future__ import annotations

from modelyard_training.core.run import Run
from modelyard_training.core.task import Task
from modelyard_training.recipes.tabular import encode
from modelyard_training.recipes.tabular.auto import AutoTask, make


def build(run: Run) -> Task:
    """The task of a tabular recipe. Raises `BadInput`."""
    data = encode.read(run)
    algorithm = run.params["algorithm"]
    return AutoTask(run, data) if algorithm == "Auto" else make(run, algorithm, data)
