"""Rows and details of each kind."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from modelyard.resources.model import ModelSpec, ModelStatus
from modelyard.resources.modelsource import ModelSourceSpec, ModelSourceStatus
from modelyard.resources.training.spec import TrainingSpec
from modelyard.resources.training.status import TrainingStatus
from modelyard.statusapi.schemas.base import Condition, Dto, Metadata, Summary

_WHO: Final[dict[str, Any]] = {
    "namespace": "team-a",
    "uid": "3f0c2f0e-6a55-4d3a-9d53-5d6f3a0e7c11",
    "created": "2026-11-21T01:31:00Z",
    "labels": {},
}


class ModelSummary(Summary):
    """One Model."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "Model",
                    "name": "minilm",
                    **_WHO,
                    "phase": "Ready",
                    "severity": "ok",
                    "versionsReady": 1,
                    "versionsTotal": 1,
                    "bytes": 90868376,
                }
            ]
        }
    )

    kind: Literal["Model"] = "Model"
    description: str | None = None
    tags: list[str] = Field(default=[])
    source: str | None = Field(default=None, description="ModelSource that versions are fetched from.")
    versions_ready: int | None = None
    versions_total: int | None = None
    versions: list[str] = Field(default=[], description="Names of the versions, spec's first.")
    percent: int | None = Field(default=None, description="Of the downloads that are running, the least advanced.")
    bytes: int = Field(default=0, description="Bytes of all versions that are stored.")
    last_sync_time: str | None = None


class ModelSourceSummary(Summary):
    """One ModelSource."""

    kind: Literal["ModelSource"] = "ModelSource"
    type: str
    secret_ref: str | None = None
    credentials_ready: bool | None = None
    referenced_by_count: int = 0


class TrainingSummary(Summary):
    """One Training."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "kind": "Training",
                    "name": "docstrings",
                    **_WHO,
                    "phase": "Running",
                    "severity": "busy",
                    "recipe": "text-classification",
                    "percent": 42,
                    "step": 420,
                    "totalSteps": 1000,
                    "etaSeconds": 610,
                    "metrics": {"loss": 0.34},
                    "gpus": 1,
                    "gpuType": "H200",
                    "gpuSeconds": 460,
                    "costUSD": "0.51",
                }
            ]
        }
    )

    kind: Literal["Training"] = "Training"
    recipe: str | None = None
    model: str | None = Field(default=None, description="Base model, as name/version.")
    percent: int | None = None
    step: int | None = None
    total_steps: int | None = None
    epoch: float | None = None
    total_epochs: float | None = None
    eta_seconds: int | None = None
    throughput: float | None = None
    unit: str | None = None
    last_report_time: str | None = None
    metrics: dict[str, float] = Field(default={}, description="Latest metrics; final ones once it is over.")
    gpus: int | None = None
    gpu_type: str | None = None
    attempt: int | None = None
    start_time: str | None = None
    completion_time: str | None = None
    active_seconds: int | None = None
    gpu_seconds: int | None = None
    cost_usd: str | None = Field(default=None, alias="costUSD", description="US dollars, estimated, as text.")
    saved: str | None = Field(default=None, description="The version that it was saved as, as name/version.")
    pod: str | None = Field(default=None, description="First pod of the current attempt.")


class DatasetSummary(Summary):
    """One Dataset of the BaizeAI data plane."""

    kind: Literal["Dataset"] = "Dataset"
    type: str | None = None
    uri: str | None = Field(default=None, description="Where it comes from, without user names and queries.")
    pvc_name: str | None = None
    last_sync_time: str | None = None


class PodSummary(Summary):
    """One pod of a download or a training attempt."""

    kind: Literal["Pod"] = "Pod"
    component: str | None = Field(default=None, description="What it does: download or training.")
    model: str | None = None
    version: str | None = None
    training: str | None = None
    attempt: int | None = None
    node: str | None = None
    restarts: int = 0
    start_time: str | None = None


class ModelDetail(Dto):
    """A Model as the cluster has it."""

    kind: Literal["Model"] = "Model"
    metadata: Metadata
    spec: ModelSpec
    status: ModelStatus


class ModelSourceDetail(Dto):
    """A ModelSource as the cluster has it."""

    kind: Literal["ModelSource"] = "ModelSource"
    metadata: Metadata
    spec: ModelSourceSpec
    status: ModelSourceStatus


class TrainingDetail(Dto):
    """A Training as the cluster has it."""

    kind: Literal["Training"] = "Training"
    metadata: Metadata
    spec: TrainingSpec
    status: TrainingStatus


class ContainerState(Dto):
    """One container of a pod."""

    name: str
    image: str | None = None
    ready: bool = False
    restarts: int = 0
    state: str = "unknown"
    reason: str | None = None
    exit_code: int | None = None


class PodDetail(Dto):
    """A pod: where it is and how its containers are."""

    summary: PodSummary
    conditions: list[Condition] = Field(default=[])
    containers: list[ContainerState] = Field(default=[])


class DatasetDetail(Dto):
    """A Dataset: how it stands."""

    summary: DatasetSummary
    conditions: list[Condition] = Field(default=[])
