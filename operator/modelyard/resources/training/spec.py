"""The spec of a Training: what a user asks for, and what of it can still be changed once the run is committed."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from modelyard.resources.base import Rule, Spec, at_most_one
from modelyard.resources.common import Storage
from modelyard.resources.fields import (
    Decimals,
    Description,
    ModelName,
    ObjectName,
    Repo,
    Seconds,
    Tag,
    TrainingName,
    VersionName,
)
from modelyard.resources.markers import ListType
from modelyard.resources.training.compute import Compute
from modelyard.resources.training.data import BaseModels, Dataset
from modelyard.resources.training.recipe import RecipeSpec
from modelyard_training.params import CheckpointPolicy
from modelyard_training.params.common import Unset


class CheckpointOrigin(Spec):
    """A run to go on from."""

    training: TrainingName = Field(description="Training in this namespace whose last checkpoint is taken.")


class Checkpoint(CheckpointPolicy):
    """What survives when the run is stopped or killed."""

    grace_seconds: Annotated[int | None, Unset(120, "time to write a checkpoint of a small model")] = Field(
        default=None, ge=5, le=7200, description="Seconds that a pod gets to save a checkpoint before it is killed."
    )
    from_: CheckpointOrigin | None = Field(
        default=None, alias="from", description="Another run to go on from. Unset: the run starts at step 0."
    )


class Retry(Spec):
    """How often the run is started again, counted apart for the two kinds of failure."""

    on_infrastructure: Annotated[
        int | None, Unset(10, "a lost node or a preemption is nobody's fault, and the run resumes")
    ] = Field(default=None, ge=0, le=1000, description="Further attempts after a lost node, an eviction, a preemption.")
    on_error: Annotated[int | None, Unset(1, "an error mostly happens again")] = Field(
        default=None, ge=0, le=1000, description="Further attempts after an error of the program. Bad input: none."
    )


class Timeouts(Spec):
    """How long each part of the run may take."""

    queue_seconds: Seconds | None = Field(default=None, description="Longest wait in a queue. Unset: no limit.")
    provision_seconds: Seconds | None = Field(
        default=None, description="Longest wait for a node and the image. Unset: no limit."
    )
    run_seconds: Seconds | None = Field(
        default=None, description="Longest running time, summed over pauses and attempts. Unset: no limit."
    )
    stall_seconds: Seconds | None = Field(
        default=None,
        description="Longest time without a finished step, epoch or checkpoint while the pod reports; the attempt is "
        "then stopped and counts as an error. Seen within two minutes. Unset: no limit.",
    )


class Budget(Spec):
    """What the run may cost."""

    max_usd: Decimals | None = Field(
        default=None, alias="maxUSD", description="Most US dollars, as text: `12.50`. Unset: no limit."
    )
    price_per_gpu_hour: Decimals | None = Field(
        default=None,
        alias="pricePerGPUHour",
        description="Price of one GPU for one hour in US dollars. Unset: the operator's price of that GPU type.",
    )
    on_exceed: Annotated[
        Literal["Warn", "Suspend", "Fail"] | None, Unset("Warn", "nothing that was paid for is stopped unasked")
    ] = Field(default=None, description="What happens at the limit.")


class Output(Spec):
    """Where checkpoints, weights and metrics are kept."""

    storage: Storage | None = Field(default=None, description="The volume for checkpoints, weights and metrics.")
    unsaved_ttl_seconds: Annotated[int, Field(ge=60, le=315_360_000)] | None = Field(
        default=None,
        alias="unsavedTTLSeconds",
        description="Seconds after the end at which output that was not saved is deleted. Unset: it is kept.",
    )


class Save(Spec):
    """Keeps the result as a version of a Model. Can be set before, during or after the run."""

    model: ModelName = Field(description="Model in this namespace; it is made if there is none.")
    version: VersionName = Field(description="Name of the new version. A name that is taken is refused.")
    description: Description | None = Field(default=None, description="What the version is.")
    tags: Annotated[tuple[Tag, ...], Field(max_length=32), ListType("atomic")] = Field(
        default=(), description="Words to find it by."
    )
    checkpoint: Annotated[str, StringConstraints(max_length=16, pattern=r"^(Best|Last|step-[0-9]{1,10})$")] | None = (
        Field(
            default=None,
            description="Which weights: `Best` by the held-out metric, `Last`, or `step-N`: those that "
            "`text-to-image-lora` keeps with the samples of a step. Unset: what the run exported, which is the best.",
        )
    )
    form: Literal["Adapter", "Merged"] | None = Field(
        default=None, description="For an adapter: alone, or merged into its base. Unset: as the recipe exports it."
    )
    keep_checkpoints: Annotated[bool | None, Unset(False, "checkpoints are many times larger than the weights")] = (
        Field(
            default=None,
            description="Whether the checkpoints stay beside the weights. Else they are removed at the end of a run "
            "that is saved; those of a run that is saved after its end stay.",
        )
    )


class HuggingFaceExport(Spec):
    """A repository of a Hugging Face Hub."""

    repo: Repo = Field(description="Repository, as `org/name`.")
    private: bool | None = Field(default=None, description="Whether a repository that is made is private. Unset: true.")
    secret_ref: ObjectName = Field(description="Secret in this namespace with `token`.")


class ObjectStorageExport(Spec):
    """A folder in object storage."""

    uri: Annotated[str, StringConstraints(max_length=1024, pattern=r"^s3://[^/]+(/.*)?$")] = Field(
        description="Bucket and folder: `s3://bucket/folder`."
    )
    endpoint: Annotated[str, StringConstraints(max_length=512, pattern=r"^https?://")] | None = Field(
        default=None, description="Address of the service. Unset: AWS."
    )
    region: Annotated[str, StringConstraints(max_length=64)] | None = Field(default=None, description="Region.")
    secret_ref: ObjectName = Field(description="Secret in this namespace with `access-key` and `secret-key`.")


class Export(Spec):
    """Copies the result to a place outside the cluster."""

    hugging_face: HuggingFaceExport | None = Field(default=None, description="To a Hugging Face Hub.")
    object_storage: ObjectStorageExport | None = Field(default=None, description="To object storage.")

    rules = (
        Rule(
            at_most_one("huggingFace", "objectStorage"),
            "set only one of export.huggingFace and export.objectStorage",
            lambda e: e.hugging_face is None or e.object_storage is None,
        ),
    )


class TrainingSpec(Spec):
    """One training run. It can be edited until the run is committed (`status.frozen`)."""

    model: BaseModels | None = Field(
        default=None, description="The models that the run starts from. Unset: training from scratch."
    )
    dataset: Dataset | None = Field(default=None, description="What the run learns from.")
    recipe: RecipeSpec = Field(description="What is trained, and how.")
    compute: Compute | None = Field(
        default=None,
        description="Where and on what the run is computed. Unset: one node of this cluster, without GPUs.",
    )
    suspend: bool | None = Field(
        default=None, description="Pause: save a checkpoint, give the GPUs back, keep the object. Unset: false."
    )
    pause_after: Literal["Analysis"] | None = Field(
        default=None,
        description="`Analysis` stops after the profile of the data set, so that a person can choose the parameters. "
        "Unset: the run goes on by itself.",
    )
    checkpoint: Checkpoint | None = Field(default=None, description="What survives when the run is stopped or killed.")
    retry: Retry | None = Field(default=None, description="How often the run is started again.")
    timeouts: Timeouts | None = Field(default=None, description="How long each part of the run may take.")
    budget: Budget | None = Field(default=None, description="What the run may cost. Unset: no limit.")
    output: Output | None = Field(default=None, description="Where the output is kept.")
    save: Save | None = Field(
        default=None, description="Keeps the result as a version of a Model. Unset: it stays in the output alone."
    )
    export: Export | None = Field(default=None, description="Copies the result out of the cluster. Unset: no copy.")


EDITABLE: Final = frozenset({"suspend", "budget", "timeouts", "retry", "output", "save"})
"""Fields of the spec that can be changed after the run was committed: `output` but for its storage, `save` until it
is saved. All others are refused by a rule of the CRD."""
