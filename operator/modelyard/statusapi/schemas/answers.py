"""Answers that are no single object: pages, totals, what needs a person, series, events, log tails."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import ConfigDict, Field

from modelyard.statusapi.schemas.base import Dto, Ref, Summary

Row = TypeVar("Row", bound=Summary)


class Page(Dto, Generic[Row]):
    """One page of a list."""

    items: list[Row]
    total: int = Field(description="Objects that match, on all pages, of those that you may see.")
    next_cursor: str | None = Field(default=None, description="`cursor` of the next page; absent on the last one.")
    facets: dict[str, dict[str, int]] | None = Field(
        default=None, description="For each of `facets`: how many of the objects that match have which value."
    )


class NamespaceRow(Dto):
    """A namespace that you may see."""

    name: str
    kinds: list[str] = Field(description="Kinds that you may list in it.")


class Namespaces(Dto):
    """The namespaces that you may see: those that you may list, and those in which you may list one of our kinds."""

    items: list[NamespaceRow]


class Counts(Dto):
    """How many, by phase."""

    total: int = 0
    by_phase: dict[str, int] = Field(default={})


class Spending(Dto):
    """What trainings took."""

    gpu_hours: float = 0.0
    cost_usd: str = Field(default="0.00", alias="costUSD", description="US dollars, estimated, as text.")
    without_price: int = Field(default=0, description="Trainings with GPU time whose price nobody has set.")


class NamespaceTotals(Dto):
    """Totals of one namespace. What you may not list in it is left out."""

    namespace: str
    models: int | None = None
    model_sources: int | None = None
    trainings: int | None = None
    spending: Spending | None = None
    storage_bytes: int = 0


class ModelTotals(Dto):
    """What trainings of one model took: of the base model, or the one that the result was saved as."""

    namespace: str
    model: str
    trainings: int
    spending: Spending


class Statistics(Dto):
    """Totals of what you may list. A kind that you may list nowhere is absent, not 0."""

    models: Counts | None = None
    model_sources: Counts | None = None
    trainings: Counts | None = None
    spending: Spending | None = None
    storage_bytes: int = Field(
        default=0, description="Bytes of stored model versions and of training outputs, as far as they were counted."
    )
    by_namespace: list[NamespaceTotals] = Field(default=[])
    by_model: list[ModelTotals] = Field(default=[], description="The 100 that cost most.")


class Trouble(Dto):
    """Something that needs a person."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "level": "error",
                    "object": {"kind": "ModelSource", "namespace": "team-a", "name": "hub"},
                    "reason": "SecretNotFound",
                    "message": "There is no Secret 'hub-token' in namespace 'team-a': create it with token.",
                    "todo": "Create the Secret, or correct spec.secretRef.",
                    "since": "2026-11-21T01:31:00Z",
                    "affects": 3,
                }
            ]
        }
    )

    level: Literal["error", "warning", "decision"] = Field(
        description="error: it does not go on by itself; warning: it goes on, but look; decision: it waits for you."
    )
    object: Ref
    reason: str
    message: str
    todo: str = Field(description="What to do.")
    since: str | None = None
    affects: int = Field(default=0, description="How many other objects wait for it.")
    version: str | None = Field(default=None, description="The version of a Model that it is about.")


class Troubles(Dto):
    """Everything that needs a person, worst first."""

    items: list[Trouble]
    total: int


class Point(Dto):
    """One value of a metric."""

    value: float
    step: int | None = None
    epoch: float | None = None
    time: str | None = None
    attempt: int | None = None


class CurveEpoch(Dto):
    """Metrics at the end of one epoch, as the collector has them."""

    epoch: int
    step: int | None = None
    time: str | None = None
    attempt: int | None = None
    metrics: dict[str, float] = Field(default={})


class Curves(Dto):
    """What the collector answers."""

    attempts: list[int]
    series: dict[str, list[Point]]
    epochs: list[CurveEpoch]


class SeriesList(Dto):
    """Metrics of a training over its steps."""

    latest: dict[str, float] = Field(default={})
    attempts: list[int] = Field(default=[], description="Attempts that reported.")
    series: dict[str, list[Point]] = Field(
        default={},
        description="Metrics as they were reported, thinned to `maxPoints` each: first and last, peaks and dips stay. "
        "Without `attempt` a resumed attempt replaces what it computed again.",
    )
    epochs: dict[str, list[Point]] = Field(default={}, description="Metrics at the end of epochs.")
    available: bool = Field(
        description="Whether the collector could be asked. If not, `series` is empty, and `epochs` are the last 50."
    )


class EpochRow(Dto):
    """Metrics at the end of one epoch."""

    epoch: int
    step: int | None = None
    time: str | None = None
    metrics: dict[str, float] = Field(default={})


class Epochs(Dto):
    """The last 50 epochs."""

    items: list[EpochRow]


class Attempt(Dto):
    """One attempt of a training."""

    attempt: int
    current: bool = False
    job: str | None = None
    start_time: str | None = None
    running_since: str | None = None
    end_time: str | None = None
    active_seconds: int | None = None
    cause: str | None = None
    reason: str | None = None
    message: str | None = None
    exit_code: int | None = None
    step: int | None = None
    resumed_from: int | None = None


class Attempts(Dto):
    """The current attempt and the last 10 that are over, newest first."""

    items: list[Attempt]


class EventRow(Dto):
    """One Kubernetes Event."""

    type: str
    reason: str
    message: str
    count: int = 1
    first_time: str | None = None
    last_time: str | None = None
    source: str | None = None


class Events(Dto):
    """Events about an object, newest first."""

    items: list[EventRow]


class LogTail(Dto):
    """The end of a pod's log."""

    pod: str
    container: str
    lines: list[str]
    times: list[str] = Field(default=[], description="When each line was written, to the nanosecond.")
    truncated: bool = Field(default=False, description="There is more than this, before it or (of long lines) after.")


class SecretCheckRequest(Dto):
    """What to check. Names of keys only: a value has no place here."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"namespace": "team-a", "type": "HUGGING_FACE", "secretRef": "hub-token", "keys": ["token"]}]
        }
    )

    namespace: str = Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    type: Literal["HUGGING_FACE", "MODEL_SCOPE", "S3", "HTTP", "GIT", "PVC", "NFS", "CONDA", "REFERENCE", "KAGGLE"]
    secret_ref: str | None = Field(
        default=None, min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
    )
    config: dict[str, str] = Field(default={}, max_length=16, description="`spec.config` of the source.")
    keys: list[str] | None = Field(
        default=None,
        max_length=64,
        description="Names of the keys that the Secret has or will have. Unset: not checked.",
    )


class SecretProblem(Dto):
    """One thing that is wrong."""

    path: str
    message: str


class SecretFinding(Dto):
    """What the operator found when it looked at the Secret for a ModelSource."""

    model_source: str
    type: str
    ready: bool | None = None
    reason: str | None = None
    message: str | None = None
    checked_keys: list[str] = Field(default=[])
    last_checked_time: str | None = None


class SecretCheck(Dto):
    """The rules of the type, applied. Nothing was read from any Secret for this."""

    valid: bool | None = Field(
        default=None, description="None: the operator has not looked at that Secret yet, and no keys were given."
    )
    problems: list[SecretProblem] = Field(default=[])
    needed_keys: list[list[str]] = Field(default=[], description="Sets of keys; the Secret needs one of them whole.")
    optional_keys: list[str] = Field(default=[])
    missing_keys: list[str] = Field(default=[], description="What the set that fits best lacks.")
    found: list[SecretFinding] = Field(default=[], description="What the operator found, by ModelSource.")
    hint: str | None = None


class ApiStatus(Dto):
    """How this API stands, and who you are to it."""

    version: str
    synced: bool
    observed_at: str | None = Field(default=None, description="When the cluster was last known to be reached.")
    stale: bool
    user: str
    groups: list[str] = Field(default=[])
    kinds: list[str]
    position: str = Field(description="Where the stream of changes is: usable as Last-Event-ID.")
    logs: bool = Field(description="Whether log tails are switched on.")
    streams: int


JsonObject = dict[str, Any]
