"""A run's whole configuration: what the operator writes into `MODELYARD_CONFIG` and the trainer reads from it.

The parts that a user also writes in a Training (`Columns`, `Split`, `CheckpointPolicy`) are the same classes there.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, model_validator

from modelyard_training.params.common import ColumnName, Params, Unset
from modelyard_training.params.recipes import RECIPES, RecipeName

RelativePath = Annotated[str, Field(min_length=1, max_length=512)]


class Columns(Params):
    """Which column of the data set is what."""

    target: ColumnName | None = Field(
        default=None,
        description="Tabular recipes: the column to predict. Unset: `target`, else `label`, whichever is there.",
    )
    text: Annotated[ColumnName | None, Unset("text", "the usual name")] = Field(
        default=None, description="Text recipes: the column with the text."
    )
    label: ColumnName | None = Field(
        default=None, description="Text and image recipes: the column to predict. Unset: `label`, else `target`."
    )
    messages: Annotated[ColumnName | None, Unset("messages", "the usual name")] = Field(
        default=None, description="Language models: the column with a chat's messages."
    )
    image: Annotated[ColumnName | None, Unset("image", "the usual name")] = Field(
        default=None, description="Image recipes: the column with the picture or its path."
    )
    caption: Annotated[ColumnName | None, Unset("caption", "the usual name")] = Field(
        default=None, description="Text to image: the column with a picture's caption."
    )
    ignore: Annotated[list[ColumnName] | None, Unset(None, "every other column is a feature")] = Field(
        default=None, max_length=256, description="Tabular recipes: columns that are not features, such as an id."
    )


class Split(Params):
    """Which rows train and which are held out to measure."""

    train: RelativePath | None = Field(
        default=None,
        description=("File or pattern (`train-*.parquet`) below `path` with the training rows. Unset: all."),
    )
    validation: RelativePath | None = Field(
        default=None, description="File or pattern with the held-out rows. Unset: a share of the training rows."
    )
    validation_fraction: Annotated[float | None, Unset(0.2, "enough rows to measure, most left to learn from")] = Field(
        default=None, gt=0, lt=1, description="Share of the training rows held out. Not with `validation`."
    )
    stratify: Annotated[bool | None, Unset(True, "rare classes are in both parts; regression: no effect")] = Field(
        default=None, description="Keep the share of each class the same in both parts."
    )
    seed: Annotated[int | None, Unset(17, "the same rows are held out in every run")] = Field(
        default=None,
        ge=0,
        le=2_147_483_647,
        description="Seed of the choice. The recipe's own seed does not change it.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Split:
        if self.validation is not None and self.validation_fraction is not None:
            raise ValueError("split has both validation and validationFraction: set one of them")
        return self


class DatasetConfig(Params):
    """The data set as it is mounted: read-only, everything below `path`."""

    path: RelativePath | None = Field(
        default=None, description="File, folder or pattern below the mount. Unset: all files of the format."
    )
    format: Literal["CSV", "JSONL", "Parquet", "Images", "Tar"] | None = Field(
        default=None,
        description=(
            "Format of the files. Unset: by their endings (.csv, .tsv, .jsonl, .ndjson, .parquet). Image recipes: "
            "also `Images`, a folder for each class, and `Tar`, shards with `name.jpg` beside `name.cls` or "
            "`name.json`."
        ),
    )
    columns: Columns | None = Field(default=None, description="Which column is what.")
    split: Split | None = Field(default=None, description="Which rows train and which are held out.")


class CheckpointPolicy(Params):
    """How often a run saves what it needs to go on, and how many of these it keeps."""

    every_steps: Annotated[int | None, Unset(None, "`everySeconds` alone decides")] = Field(
        default=None, ge=1, le=100_000_000, description="Optimiser steps between checkpoints."
    )
    every_seconds: Annotated[int | None, Unset(300, "at most five minutes of work are done twice")] = Field(
        default=None, ge=1, le=604_800, description="Seconds between checkpoints."
    )
    keep: Annotated[int | None, Unset(2, "one to go on from, one before it")] = Field(
        default=None,
        ge=1,
        le=1000,
        description="Checkpoints kept; the best one by the held-out metric is kept besides.",
    )
    resume: Annotated[Literal["Auto", "Never"] | None, Unset("Auto", "paid work is not done twice")] = Field(
        default=None, description="`Auto` goes on from the last valid checkpoint, `Never` starts over in each attempt."
    )


class ModelInput(Params):
    """A mounted model: where it is below the mount, and what it is."""

    path: RelativePath | None = Field(default=None, description="Folder below the mount. Unset: the mount itself.")
    kind: Literal["Full", "Adapter", "Tabular", "Data"] | None = Field(
        default=None, description="What the weights are."
    )
    name: str | None = Field(default=None, max_length=253, description="Name of the Model.")
    version: str | None = Field(default=None, max_length=253, description="Its version.")
    resolved_revision: str | None = Field(
        default=None, max_length=256, description="Commit or digest of what was fetched."
    )


class RunConfig(Params):
    """All that the trainer is told. Paths of mounts and the pod's identity come by other variables."""

    recipe: RecipeName = Field(description="Name of the recipe.")
    params: dict[str, JsonValue] = Field(
        default_factory=dict, description="The family's block, as written by the user."
    )
    dataset: DatasetConfig | None = Field(
        default=None, description="The mounted data set; absent where none is mounted."
    )
    checkpoint: CheckpointPolicy | None = Field(default=None, description="Checkpoints.")
    determinism: Literal["Reproducible", "Bitwise"] | None = Field(
        default=None, description="How exactly a resumed run repeats an undisturbed one. Unset: `Reproducible`."
    )
    model: ModelInput | None = Field(default=None, description="The base model; absent for training from scratch.")
    adapter: ModelInput | None = Field(
        default=None, description="An adapter of the base model that the run goes on from."
    )
    assistant: ModelInput | None = Field(default=None, description="A second model that some families need.")
    form: Literal["Adapter", "Merged"] | None = Field(
        default=None, description="For an adapter: alone, or merged into its base. Unset: alone."
    )
    weights: Literal["Best", "Last"] | None = Field(
        default=None, description="Which weights are the result: the best by the held-out metric (unset), or the last."
    )
    keep_checkpoints: bool | None = Field(
        default=None, description="False: the checkpoints are removed once the result is there."
    )

    def block(self) -> Params:
        """The typed parameters. Raises pydantic.ValidationError for an unknown or wrong one."""
        return RECIPES[self.recipe].params.model_validate(self.params)
