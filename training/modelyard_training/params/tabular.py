"""Parameters of `tabular-classification` and `tabular-regression`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelyard_training.params.common import ColumnName, EarlyStopping, LoopParams, Unset


class TabularParams(LoopParams):
    """A network over a table's columns: numbers scaled, categories embedded, both fitted on the training split."""

    algorithm: Annotated[Literal["MLP"] | None, Unset("MLP", "fits any table")] = Field(
        default=None, description="Kind of model: `MLP` is a multi-layer perceptron."
    )
    hidden_sizes: Annotated[
        list[Annotated[int, Field(ge=1, le=16384)]] | None,
        Unset([128, 128], "enough for tables up to some 100,000 rows"),
    ] = Field(default=None, min_length=1, max_length=16, description="Width of each hidden layer.")
    activation: Annotated[Literal["ReLU", "GELU", "SiLU"] | None, Unset("ReLU", "fastest, and as good on tables")] = (
        Field(default=None, description="Function between the layers.")
    )
    dropout: Annotated[float | None, Unset(0.1, "against overfitting on small tables")] = Field(
        default=None, ge=0, lt=1, description="Share of each hidden layer dropped in training."
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
    class_weights: Annotated[
        Literal["None", "Balanced"] | None, Unset("None", "the metrics stay those of the data")
    ] = Field(default=None, description="`Balanced` weighs each class by its rarity. Classification only.")
    best_metric: Annotated[
        Literal["loss", "accuracy", "f1", "auroc", "r2", "mae", "rmse"] | None, Unset("loss", "it is the least noisy")
    ] = Field(default=None, description="Metric on the held-out split that says which checkpoint is best.")
    early_stopping: EarlyStopping | None = Field(default=None, description="When to stop before the last epoch.")

    epochs: Annotated[int | None, Unset(60, "early stopping ends most runs before")] = Field(
        default=None, ge=1, le=100000, description="Most passes over the training split."
    )
    batch_size: Annotated[int | None, Unset(64, "a small table still gives many steps an epoch")] = Field(
        default=None, ge=1, le=65536, description="Rows in one forward and backward pass, on each GPU."
    )
