"""Parameters of `tabular-classification` and `tabular-regression`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.alias_generators import to_camel

from modelyard_training.params.common import (
    BestMetric,
    ClassWeights,
    ColumnName,
    EarlyStopping,
    LoopParams,
    Unset,
    unset,
)

_ONLY = {
    "hidden_sizes": ("MLP",),
    "activation": ("MLP",),
    "width": ("Transformer",),
    "layers": ("Transformer",),
    "heads": ("Transformer",),
    "leaves": ("LightGBM",),
    "min_leaf_rows": ("LightGBM",),
    "dropout": ("MLP", "Transformer"),
    "batch_size": ("MLP", "Transformer", "Linear"),
    "weight_decay": ("MLP", "Transformer", "Linear"),
}
"""Parameters that some algorithms have and others would ignore."""


class TabularParams(LoopParams):
    """A model over a table's columns: numbers scaled, categories numbered, both fitted on the training split."""

    algorithm: Annotated[
        Literal["MLP", "Transformer", "LightGBM", "Linear", "Auto"] | None, Unset("MLP", "fits any table")
    ] = Field(
        default=None,
        description=(
            "Kind of model: a multi-layer perceptron, a Transformer over the columns, LightGBM's trees, a linear "
            "model; `Auto` trains each on the same split and keeps the best."
        ),
    )
    hidden_sizes: Annotated[
        list[Annotated[int, Field(ge=1, le=16384)]] | None,
        Unset([128, 128], "enough for tables up to some 100,000 rows"),
    ] = Field(default=None, min_length=1, max_length=16, description="Width of each hidden layer.")
    activation: Annotated[Literal["ReLU", "GELU", "SiLU"] | None, Unset("ReLU", "fastest, and as good on tables")] = (
        Field(default=None, description="Function between the layers.")
    )
    dropout: Annotated[
        float | None, Unset(0.1, "against overfitting on small tables", by=("algorithm", {"Linear": 0.0}))
    ] = Field(default=None, ge=0, lt=1, description="Share of each hidden layer dropped in training.")
    width: Annotated[int | None, Unset(64, "enough for most columns")] = Field(
        default=None, ge=4, le=4096, description="Numbers that stand for a column in the Transformer."
    )
    layers: Annotated[int | None, Unset(3, "more learn little on tables")] = Field(
        default=None, ge=1, le=48, description="Layers of the Transformer."
    )
    heads: Annotated[int | None, Unset(4, "divides the usual widths")] = Field(
        default=None, ge=1, le=64, description="Heads of the Transformer's attention; they divide `width`."
    )
    leaves: Annotated[int | None, Unset(31, "LightGBM's own")] = Field(
        default=None, ge=2, le=4096, description="Most leaves of one of LightGBM's trees."
    )
    min_leaf_rows: Annotated[int | None, Unset(20, "LightGBM's own")] = Field(
        default=None, ge=1, le=1_000_000, description="Fewest training rows in a leaf of LightGBM's trees."
    )
    scaling: Annotated[
        Literal["Standard", "Robust", "None"] | None, Unset("Standard", "a network wants inputs near 1")
    ] = Field(
        default=None,
        description=(
            "How numbers are scaled: by mean and deviation, by median and quartiles (outliers), or not at all."
        ),
    )
    categorical_columns: Annotated[
        list[ColumnName] | None, Unset(None, "columns of text and of true/false are categories, numbers are numbers")
    ] = Field(default=None, max_length=256, description="Columns to be taken as categories though they hold numbers.")
    max_categories: Annotated[int | None, Unset(256, "rarer values carry little and cost memory")] = Field(
        default=None,
        ge=2,
        le=65536,
        description="Most values kept of a category, by frequency. Rarer and unknown ones share one `other`.",
    )
    class_weights: ClassWeights = None
    best_metric: BestMetric = None
    early_stopping: EarlyStopping | None = Field(default=None, description="When to stop before the last epoch.")

    epochs: Annotated[
        int | None,
        Unset(
            60,
            "early stopping ends most runs before; a round of LightGBM's trees is an epoch",
            by=("algorithm", {"LightGBM": 300, "Linear": 100}),
        ),
    ] = Field(default=None, ge=1, le=100000, description="Most passes over the training split.")
    batch_size: Annotated[int | None, Unset(64, "a small table still gives many steps an epoch")] = Field(
        default=None, ge=1, le=65536, description="Rows in one forward and backward pass, on each GPU."
    )
    learning_rate: Annotated[
        float | None,
        Unset(
            1e-3,
            "AdamW's usual rate; a linear model bears more; for LightGBM it is the weight of a tree",
            by=("algorithm", {"LightGBM": 0.1, "Linear": 0.02}),
        ),
    ] = Field(default=None, gt=0, le=10, description="Peak learning rate.")

    @model_validator(mode="after")
    def _one_algorithm(self) -> TabularParams:
        algorithm = self.algorithm or "MLP"
        for name, algorithms in _ONLY.items():
            rule = unset(type(self), name)
            idle = (None, rule.value if rule is not None else None)
            if getattr(self, name) not in idle and algorithm not in (*algorithms, "Auto"):
                raise ValueError(f"{to_camel(name)} is for algorithm {' and '.join(algorithms)}, not {algorithm}")
        if (self.width or 64) % (self.heads or 4):
            raise ValueError("heads must divide width")
        return self
