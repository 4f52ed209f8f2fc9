"""Model: a model and its versions, fetched from a ModelSource or saved by a Training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from modelyard.resources.base import Rule, Spec, Status
from modelyard.resources.common import AtomicLabelSelector, Conditions, Storage
from modelyard.resources.fields import (
    Count,
    Description,
    FilePattern,
    LongText,
    ModelName,
    ObjectName,
    Precision,
    Quantity,
    Reason,
    Repo,
    Revision,
    ShortText,
    StateName,
    Tag,
    Time,
    VersionName,
)
from modelyard.resources.markers import ListMap, ListType

VERSIONS_MAX = 100
SYNCED_VERSIONS_MAX = 256
"""How many versions a Model's status shows: those of its spec, then the saved ones."""

SHARED_WITH_MAX = 64

VersionPhase = Literal["Pending", "Processing", "Ready", "Failed"]
WeightsKind = Literal["Full", "Adapter", "Tabular", "Data"]
Retention = Literal["Delete", "Retain"]


class Share(Spec):
    """Which other namespaces may use the version."""

    enabled: bool = Field(description="Whether the version is shared at all.")
    namespace_selector: AtomicLabelSelector | None = Field(
        default=None, description="Namespaces that get it, by their labels. Unset or empty: none."
    )
    require_opt_in_label: Annotated[str, StringConstraints(min_length=1, max_length=381)] | None = Field(
        default=None,
        description="Label that a namespace must have besides: `key=value`, or `key` for `key=true`. "
        "The operator's own setting always applies too.",
    )


class ModelVersion(Spec):
    """One version of the model."""

    name: VersionName = Field(description="Name of the version within the model, such as `v1`, `FP16`, `2.0.0`.")
    repo: Repo | None = Field(
        default=None,
        description="What to fetch, as the source's type writes it: `org/name`, `bucket/folder`, a path, a URL. "
        "Unset: the version is one that a Training saved, or will save, under this name.",
    )
    revision: Revision | None = Field(
        default=None, description="Branch, tag or commit. Unset: what the source offers as the newest."
    )
    include: Annotated[tuple[FilePattern, ...], Field(max_length=32), ListType("atomic")] = Field(
        default=(), description="Only files that match one of these patterns. Unset: the source's `include`, else all."
    )
    exclude: Annotated[tuple[FilePattern, ...], Field(max_length=32), ListType("atomic")] = Field(
        default=(),
        description="No files that match one of these patterns. Unset: the source's `exclude`, else none. "
        "Hubs often hold the same weights in several formats.",
    )
    precision: Precision | None = Field(default=None, description="Number format of the weights, for people.")
    metadata: Annotated[dict[str, Annotated[str, StringConstraints(max_length=1024)]], Field(max_length=32)] = Field(
        default={}, description="Anything worth noting about the version."
    )
    storage: Storage | None = Field(default=None, description="The volume that the files are kept in.")
    state: StateName | None = Field(
        default=None, description="`ABSENT` deletes what is stored for the version. Unset: `PRESENT`."
    )
    share: Share | None = Field(default=None, description="Which other namespaces may use it. Unset: none.")

    rules = (
        Rule(
            "has(self.repo) || !(has(self.revision) || has(self.include) || has(self.exclude) || has(self.storage))",
            "revision, include, exclude and storage say how a repo is fetched: set repo too, or remove them from "
            "a version that a Training saves",
            lambda v: v.repo is not None or not (v.revision or v.include or v.exclude or v.storage),
        ),
    )


class Display(Spec):
    """How user interfaces show the model."""

    description: Description | None = Field(default=None, description="What the model is.")
    tags: Annotated[tuple[Tag, ...], Field(max_length=32), ListType("atomic")] = Field(
        default=(), description="Words to find it by."
    )
    logo_url: Annotated[str, StringConstraints(max_length=2048)] | None = Field(
        default=None, alias="logoURL", description="Address of a picture."
    )


class RetentionPolicy(Spec):
    """What becomes of stored versions when the Model is deleted."""

    fetched: Retention | None = Field(default=None, description="Versions that can be fetched again. Unset: `Delete`.")
    saved: Retention | None = Field(default=None, description="Versions that a Training saved. Unset: `Retain`.")


class ModelSpec(Spec):
    """A model and its versions."""

    source_ref: ObjectName | None = Field(
        default=None, description="ModelSource in this namespace that the versions with a `repo` are fetched from."
    )
    display: Display | None = Field(default=None, description="How user interfaces show the model.")
    versions: Annotated[tuple[ModelVersion, ...], Field(max_length=VERSIONS_MAX), ListMap(("name",))] = Field(
        default=(),
        description="The versions. An entry that is removed deletes what was fetched for it, never what was trained.",
    )
    retention: RetentionPolicy | None = Field(
        default=None, description="What becomes of stored versions when the Model is deleted."
    )

    rules = (
        Rule(
            "has(self.sourceRef) || !has(self.versions) || self.versions.all(v, !has(v.repo))",
            "sourceRef is required as soon as a version has a repo: name the ModelSource to fetch it from",
            lambda m: m.source_ref is not None or all(v.repo is None for v in m.versions),
        ),
    )


class DownloadProgress(Status):
    """How far a download is."""

    percent: Annotated[int, Field(ge=0, le=100)] | None = Field(default=None, description="Share of the bytes.")
    bytes: Count | None = Field(default=None, description="Bytes that are there.")
    total_bytes: Count | None = Field(default=None, description="Bytes in all, as far as the source tells.")
    files: Count | None = Field(default=None, description="Files that are complete.")
    total_files: Count | None = Field(default=None, description="Files in all.")
    bytes_per_second: Count | None = Field(default=None, description="Speed of the last few seconds.")
    eta_seconds: Count | None = Field(default=None, description="Seconds to go at that speed.")
    last_report_time: Time | None = Field(default=None, description="When the download last reported.")


class BaseRef(Status):
    """The version that an adapter was trained on."""

    name: ModelName = Field(description="Name of the Model.")
    version: VersionName = Field(description="Its version.")
    resolved_revision: ShortText | None = Field(default=None, description="Commit or digest of what was trained on.")


class SharedWith(Status):
    """One namespace that a version is shared with."""

    namespace: ObjectName = Field(description="The namespace.")
    name: ObjectName | None = Field(default=None, description="Name of the volume claim there.")
    phase: VersionPhase | None = Field(default=None, description="Whether it can be used there.")
    reason: Reason | None = Field(default=None, description="Why it cannot be used there, as one word.")


class SyncedVersion(Status):
    """What is stored of one version, where, and what it is."""

    name: VersionName = Field(description="Name of the version.")
    phase: VersionPhase | None = Field(default=None, description="Where the version is in its life.")
    origin: ShortText | None = Field(default=None, description="`Source`, or `Training/<name>` that saved it.")
    pvc_name: ObjectName | None = Field(default=None, description="Volume claim with the files.")
    path: Annotated[str, StringConstraints(max_length=512)] | None = Field(
        default=None, description="Folder in the volume: mount the claim with this `subPath`, read-only."
    )
    kind: WeightsKind | None = Field(default=None, description="What the files are.")
    base_ref: BaseRef | None = Field(default=None, description="For an adapter: the version that it belongs to.")
    active_dataset: ObjectName | None = Field(default=None, description="Dataset that serves the version.")
    last_sync_time: Time | None = Field(default=None, description="When the files were last complete.")
    observed_state: StateName | None = Field(default=None, description="`state` that this is about.")
    observed_storage: Quantity | None = Field(default=None, description="Bytes that the files take.")
    observed_version_hash: ShortText | None = Field(default=None, description="Hash of what was asked for.")
    resolved_revision: ShortText | None = Field(default=None, description="Commit or ETag that was fetched.")
    bytes: Count | None = Field(default=None, description="Bytes of all files.")
    files: Count | None = Field(default=None, description="Number of files.")
    digest: ShortText | None = Field(default=None, description="Digest over names and contents of all files.")
    reason: Reason | None = Field(default=None, description="Why it is not ready, as one word.")
    message: LongText | None = Field(default=None, description="Why it is not ready, in words.")
    attempts: Count | None = Field(default=None, description="Download Jobs started for this content.")
    resync: ShortText | None = Field(default=None, description="Value of the resync annotation that was served last.")
    progress: DownloadProgress | None = Field(default=None, description="How far the download is.")
    shared_with: Annotated[tuple[SharedWith, ...], Field(max_length=SHARED_WITH_MAX), ListMap(("namespace",))] = Field(
        default=(), description="Namespaces that it is shared with: the first 64."
    )
    conditions: Conditions = Field(default=(), description="Conditions of this version.")


class ModelStatus(Status):
    """What is stored of the model."""

    observed_generation: int | None = Field(default=None, description="Generation of the spec that this is about.")
    phase: VersionPhase | None = Field(
        default=None, description="The worst of the versions: Failed, Processing, Pending, Ready."
    )
    versions_ready: Count | None = Field(default=None, description="Versions that can be used.")
    versions_total: Count | None = Field(default=None, description="Versions that are wanted.")
    last_sync_time: Time | None = Field(default=None, description="When a version was last completed.")
    conditions: Conditions = Field(default=(), description="`Ready`, and for tools `Reconciling` and `Stalled`.")
    synced_versions: Annotated[tuple[SyncedVersion, ...], Field(max_length=SYNCED_VERSIONS_MAX), ListMap(("name",))] = (
        Field(default=(), description="What is stored of each version: of the spec's first, then saved ones.")
    )
