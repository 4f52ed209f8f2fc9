"""The status of a Training. The operator writes all of it but `progress`, `metrics`, `epochs` and
`checkpoint.lastReported`, which the collector writes.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

from modelyard.resources.base import Status
from modelyard.resources.common import Conditions
from modelyard.resources.fields import (
    Count,
    LongText,
    ModelName,
    ObjectName,
    Reason,
    ShortText,
    Time,
    VersionName,
)
from modelyard.resources.markers import ListMap, ListType, Open
from modelyard.resources.model import BaseRef, DownloadProgress, WeightsKind

TrainingPhase = Literal[
    "Pending",
    "Validating",
    "Preparing",
    "Analyzing",
    "AwaitingApproval",
    "Queued",
    "Provisioning",
    "Running",
    "Suspended",
    "Retrying",
    "Succeeded",
    "Failed",
]
TERMINAL_PHASES: Final = ("Succeeded", "Failed")

HISTORY_MAX = 10
EPOCHS_MAX = 50
METRICS_MAX = 64
INPUTS_MAX = 8
LINES_MAX = 8
WARNINGS_MAX = 16
COLLECTOR_FIELDS: Final = ("progress", "metrics", "epochs", "checkpoint.lastReported")

AttemptCause = Literal["Infrastructure", "Error", "BadInput", "Suspended", "Stopped", "Succeeded"]
Metrics = Annotated[dict[str, float], Field(max_length=METRICS_MAX)]
LogLine = Annotated[str, StringConstraints(max_length=256)]
Path = Annotated[str, StringConstraints(max_length=512)]


class Input(Status):
    """One thing that the run reads, as it was resolved."""

    name: Literal["model", "adapter", "assistant", "dataset", "checkpoint"] = Field(
        description="What it is to the run; `adapter`: what it goes on from, and `model` the base of that."
    )
    phase: Literal["Pending", "Processing", "Ready", "Failed"] | None = Field(
        default=None, description="Whether it can be used."
    )
    model: ModelName | None = Field(default=None, description="Name of the Model.")
    version: VersionName | None = Field(default=None, description="Its version.")
    source: ObjectName | None = Field(default=None, description="ModelSource that it is fetched from.")
    training: ObjectName | None = Field(default=None, description="Training that left it.")
    repo: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        default=None, description="What is fetched."
    )
    pvc_name: ObjectName | None = Field(default=None, description="Volume claim with the files.")
    path: Path | None = Field(default=None, description="Folder in the volume.")
    kind: WeightsKind | None = Field(default=None, description="What the files are.")
    resolved_revision: ShortText | None = Field(default=None, description="Commit or ETag of the files.")
    digest: ShortText | None = Field(default=None, description="Digest over names and contents of the files.")
    bytes: Count | None = Field(default=None, description="Bytes of all files.")
    attempts: Count | None = Field(default=None, description="Download Jobs started for it.")
    reason: Reason | None = Field(default=None, description="Why it is not ready, as one word.")
    message: LongText | None = Field(default=None, description="Why it is not ready, in words.")
    progress: DownloadProgress | None = Field(default=None, description="How far its download is.")


class Estimate(Status):
    """What the run would take, as far as that can be said before it begins. Estimates, not promises."""

    gpu_memory: ShortText | None = Field(default=None, description="Memory needed on each GPU, such as 37Gi.")
    gpu_memory_limit: ShortText | None = Field(default=None, description="What of such a GPU's memory can be used.")
    checkpoint_bytes: Count | None = Field(default=None, description="Bytes of one checkpoint.")
    output_bytes: Count | None = Field(default=None, description="Most bytes on the output volume at one time.")
    steps: Count | None = Field(default=None, description="Optimiser steps, early stopping not foreseen.")
    hours: Annotated[float, Field(ge=0)] | None = Field(default=None, description="Hours of running.")
    estimated_usd: ShortText | None = Field(default=None, alias="estimatedUSD", description="US dollars, as text.")


class Analysis(Status):
    """What the analysis found before the run. All of it, with samples, is in a file on the output volume."""

    key: ShortText | None = Field(
        default=None, description="Hash of what it is about: data, model, and how they are read."
    )
    job: ObjectName | None = Field(default=None, description="Job that made it; it goes when its findings are here.")
    digest: ShortText | None = Field(default=None, description="What an approval must name.")
    time: Time | None = Field(default=None, description="When it was done.")
    reason: Reason | None = Field(default=None, description="Why there are no findings, as one word.")
    message: LongText | None = Field(default=None, description="What was found, or why nothing was, in words.")
    path: Path | None = Field(default=None, description="File on the output volume with all findings and samples.")
    profile: Annotated[dict[str, Any] | None, Open()] = Field(default=None, description="Profile of the data set.")
    model: Annotated[dict[str, Any] | None, Open()] = Field(default=None, description="Sizes of the base model.")
    suggested: Annotated[dict[str, Any] | None, Open()] = Field(
        default=None, description="Suggested recipe, target and parameters, each with its reason."
    )
    warnings: Annotated[tuple[LongText, ...], Field(max_length=WARNINGS_MAX), ListType("atomic")] = Field(
        default=(), description="What a person should look at before the run."
    )
    estimate: Estimate | None = Field(default=None, description="What the run would take.")


class Progress(Status):
    """How far the run is, as the trainer last reported. 100 percent does not mean that it succeeded."""

    percent: Annotated[int, Field(ge=0, le=100)] | None = Field(default=None, description="Share of the steps.")
    step: Count | None = Field(default=None, description="Last finished step.")
    total_steps: Count | None = Field(default=None, description="Steps in all.")
    epoch: Annotated[float, Field(ge=0)] | None = Field(default=None, description="Epoch, with its fraction.")
    total_epochs: Annotated[float, Field(ge=0)] | None = Field(default=None, description="Epochs in all.")
    eta_seconds: Count | None = Field(default=None, description="Seconds to go.")
    throughput: Annotated[float, Field(ge=0)] | None = Field(default=None, description="Units per second.")
    unit: ShortText | None = Field(default=None, description="Unit of the throughput, such as samples.")
    attempt: Count | None = Field(default=None, description="Attempt that this is about.")
    last_report_time: Time | None = Field(default=None, description="When the trainer last reported.")
    last_advance_time: Time | None = Field(
        default=None, description="When it last had finished a step, an epoch or a checkpoint."
    )


class Epoch(Status):
    """Metrics at the end of one epoch."""

    epoch: Count = Field(description="Number of the epoch, from 1.")
    step: Count | None = Field(default=None, description="Step at its end.")
    metrics: Metrics = Field(default={}, description="Metrics by name.")
    time: Time | None = Field(default=None, description="When it ended.")


class SavedCheckpoint(Status):
    """One checkpoint on the output volume."""

    step: Count = Field(description="Step that it holds.")
    path: Path | None = Field(default=None, description="Folder on the output volume.")
    time: Time | None = Field(default=None, description="When it became valid.")


class CheckpointStatus(Status):
    """What survives if the run is stopped now."""

    last_reported: SavedCheckpoint | None = Field(default=None, description="The newest that the trainer reported.")
    last: SavedCheckpoint | None = Field(default=None, description="What the last attempt left when it ended.")
    resumed_from: Count | None = Field(default=None, description="Step that the last attempt went on from.")


class Attempts(Status):
    """Attempts so far."""

    number: Count | None = Field(default=None, description="Number of the current attempt, from 1.")
    infrastructure: Count | None = Field(default=None, description="Attempts lost to infrastructure.")
    error: Count | None = Field(default=None, description="Attempts that ended with an error.")


class HistoryEntry(Status):
    """One attempt that is over."""

    attempt: Count = Field(description="Number of the attempt.")
    job: ObjectName | None = Field(default=None, description="Its Job.")
    start_time: Time | None = Field(default=None, description="When its Job was made.")
    running_since: Time | None = Field(default=None, description="When its pods ran.")
    end_time: Time | None = Field(default=None, description="When it was over.")
    active_seconds: Count | None = Field(default=None, description="Seconds in which its pods ran.")
    gpu_seconds: Count | None = Field(
        default=None, description="Seconds times GPUs that it held, from being placed until it was over."
    )
    cause: AttemptCause | None = Field(default=None, description="Why it ended, and whose budget it counts against.")
    reason: Reason | None = Field(default=None, description="The cause as one word.")
    message: LongText | None = Field(default=None, description="The cause in words.")
    exit_code: int | None = Field(default=None, description="Exit code of the trainer.")
    last_lines: Annotated[tuple[LogLine, ...], Field(max_length=LINES_MAX), ListType("atomic")] = Field(
        default=(),
        description="Last lines of the trainer's log after a failure, with what looks like a credential blanked. None "
        "of images and programs of the user: those are in the pod's log alone.",
    )
    step: Count | None = Field(default=None, description="Last step that it reached.")
    resumed_from: Count | None = Field(default=None, description="Step that it went on from.")


class Placement(Status):
    """Where the current attempt runs."""

    job: ObjectName | None = Field(default=None, description="Job of the current attempt.")
    job_uid: ShortText | None = Field(default=None, alias="jobUID", description="Its uid.")
    pod: ObjectName | None = Field(default=None, description="First pod of the attempt.")
    nodes: Annotated[tuple[ObjectName, ...], Field(max_length=64), ListType("atomic")] = Field(
        default=(), description="Nodes: the first 64."
    )
    placed_time: Time | None = Field(default=None, description="When its first pod got a node.")
    gpu_type: ShortText | None = Field(default=None, description="Type of the GPUs.")
    gpus: Count | None = Field(default=None, description="GPUs on all nodes.")
    provider_id: ShortText | None = Field(default=None, description="Id of the pod at the provider.")
    data_center: ShortText | None = Field(default=None, description="Data centre at the provider.")


class Cost(Status):
    """What the run cost until `asOf`."""

    gpu_seconds: Count | None = Field(default=None, description="Seconds times GPUs.")
    estimated_usd: ShortText | None = Field(default=None, alias="estimatedUSD", description="US dollars, as text.")
    hourly_rate: ShortText | None = Field(default=None, description="US dollars an hour, for all GPUs.")
    price_per_gpu_hour: ShortText | None = Field(
        default=None, alias="pricePerGPUHour", description="US dollars for one GPU and hour, as text."
    )
    price_source: ShortText | None = Field(default=None, description="Where the price comes from.")
    as_of: Time | None = Field(default=None, description="Until when this is counted.")


class OutputMetadata(Status):
    """What the trainer says about its result; the whole of it is in `metadata.json` on the output volume."""

    recipe: ShortText | None = Field(default=None, description="The recipe.")
    algorithm: ShortText | None = Field(default=None, description="Kind of model.")
    determinism: ShortText | None = Field(default=None, description="Which promise held.")
    features: Annotated[tuple[ShortText, ...], Field(max_length=64), ListType("atomic")] = Field(
        default=(), description="Columns that the model takes: the first 64."
    )
    target: ShortText | None = Field(default=None, description="Column that it predicts.")
    classes: Annotated[tuple[ShortText, ...], Field(max_length=32), ListType("atomic")] = Field(
        default=(), description="Classes that it tells apart: the first 32."
    )
    train_samples: Count | None = Field(default=None, description="Rows that it learned from.")
    test_samples: Count | None = Field(default=None, description="Rows that it was measured on.")
    training_seconds: Annotated[float, Field(ge=0)] | None = Field(default=None, description="Seconds of training.")


class Weights(Status):
    """Which weights of the run can be saved, by their steps."""

    step: Count | None = Field(default=None, description="Step of the weights under `path`.")
    best_step: Count | None = Field(
        default=None, description="Step that was best on the held-out split. Unset: nothing was held out."
    )
    last_step: Count | None = Field(default=None, description="Last step of the run.")
    samples: Annotated[tuple[Count, ...], Field(max_length=64), ListType("atomic")] = Field(
        default=(), description="Steps whose weights are kept beside their sample pictures: the newest 64."
    )


class OutputStatus(Status):
    """What the run has left on its volume."""

    pvc: ObjectName | None = Field(default=None, description="The volume claim.")
    path: Path | None = Field(default=None, description="Folder with the weights.")
    kind: WeightsKind | None = Field(default=None, description="What the weights are.")
    base_ref: BaseRef | None = Field(default=None, description="For an adapter: the version that it belongs to.")
    bytes: Count | None = Field(default=None, description="Bytes of the weights and the files beside them.")
    files: Count | None = Field(default=None, description="Number of files.")
    digest: ShortText | None = Field(default=None, description="Digest over names and contents of the files.")
    weights: Weights | None = Field(default=None, description="Which weights of the run can be saved.")
    metrics: Metrics = Field(default={}, description="Final metrics by name.")
    metadata: OutputMetadata | None = Field(default=None, description="What the trainer says about its result.")
    expires_time: Time | None = Field(default=None, description="When it is deleted unless it is saved.")


class Saved(Status):
    """The version that the result was saved as. Once it is here, `spec.save` cannot change."""

    model: ModelName = Field(description="The Model.")
    version: VersionName = Field(description="The version.")
    time: Time | None = Field(default=None, description="When it was saved.")


class TrainingStatus(Status):
    """What became of the run."""

    observed_generation: int | None = Field(default=None, description="Generation of the spec that this is about.")
    frozen: bool | None = Field(
        default=None, description="The run is committed: most of the spec cannot be changed any more."
    )
    phase: TrainingPhase | None = Field(default=None, description="Where the run is in its life.")
    reason: Reason | None = Field(default=None, description="Why, as one word.")
    message: LongText | None = Field(default=None, description="Why, in words.")
    conditions: Conditions = Field(
        default=(),
        description="`Validated`, `DataReady`, `Running`, `Succeeded`, `Suspended`, `Saved`, `CleanedUp`, and for "
        "tools `Reconciling` and `Stalled`.",
    )
    start_time: Time | None = Field(default=None, description="When the first attempt was made.")
    running_since: Time | None = Field(default=None, description="Since when the current attempt runs.")
    completion_time: Time | None = Field(default=None, description="When the run ended.")
    active_seconds: Count | None = Field(default=None, description="Seconds of running in all attempts that are over.")
    inputs: Annotated[tuple[Input, ...], Field(max_length=INPUTS_MAX), ListMap(("name",))] = Field(
        default=(), description="What the run reads, as it was resolved."
    )
    effective_params: Annotated[dict[str, Any] | None, Open()] = Field(
        default=None, description="Every parameter of the recipe with the value that is used."
    )
    analysis: Analysis | None = Field(default=None, description="What the analysis found.")
    progress: Progress | None = Field(default=None, description="How far the run is.")
    metrics: Metrics = Field(default={}, description="Latest metrics by name.")
    epochs: Annotated[tuple[Epoch, ...], Field(max_length=EPOCHS_MAX), ListType("atomic")] = Field(
        default=(), description="Metrics of the last 50 epochs."
    )
    checkpoint: CheckpointStatus | None = Field(default=None, description="What survives if the run is stopped now.")
    attempts: Attempts | None = Field(default=None, description="Attempts so far.")
    history: Annotated[tuple[HistoryEntry, ...], Field(max_length=HISTORY_MAX), ListMap(("attempt",))] = Field(
        default=(), description="The last 10 attempts that are over."
    )
    placement: Placement | None = Field(default=None, description="Where the current attempt runs.")
    cost: Cost | None = Field(default=None, description="What the run cost.")
    output: OutputStatus | None = Field(default=None, description="What the run has left on its volume.")
    saved: Saved | None = Field(default=None, description="The version that the result was saved as.")
