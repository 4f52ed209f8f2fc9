"""The bodies that pods send, validated and bounded.

Reports come from the agent in the form that its `progress` module makes; downloads from the loader. Keys that are not
known are left out, so that a newer agent can talk to an older collector; what is known and has the wrong form refuses
the body.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

POINTS = 500
POINTS_MAX = 5000

_Number = Annotated[float, Field(allow_inf_nan=False, ge=-1e18, le=1e18)]
_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Amount = Annotated[float, Field(ge=0, le=1e18, allow_inf_nan=False)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_Metrics = Annotated[dict[_Name, _Number], Field(max_length=64)]

MAX_REPORTS = 256


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, alias_generator=to_camel, populate_by_name=True)


class EpochRow(_Body):
    """Metrics at the end of an epoch."""

    epoch: _Count
    metrics: _Metrics = {}


class Checkpoint(_Body):
    """A checkpoint that became valid; `path` is relative to the output volume."""

    step: _Count
    path: Annotated[str, StringConstraints(max_length=512)] | None = None


class TrainerStatus(_Body):
    """The part of Kubeflow's status that the agent computes."""

    progress_percentage: Annotated[int, Field(ge=0, le=100)] | None = None
    estimated_remaining_seconds: _Count | None = None


class Run(_Body):
    """The agent's normal form of a program's report. `final`: the run is over."""

    step: _Count | None = None
    total_steps: _Count | None = None
    epoch: _Amount | None = None
    total_epochs: _Amount | None = None
    throughput: _Amount | None = None
    unit: _Name | None = None
    metrics: _Metrics = {}
    epoch_row: EpochRow | None = None
    checkpoint: Checkpoint | None = None
    final: bool = False


class Report(_Body):
    """One report. `seq` counts up within a pod."""

    seq: Annotated[int, Field(ge=1, lt=2**53)]
    time: AwareDatetime
    trainer_status: TrainerStatus = TrainerStatus()
    modelyard: Run = Run()


class Batch(_Body):
    """`POST …/trainings/{name}/reports`."""

    uid: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    attempt: Annotated[int, Field(ge=0, lt=2**31)]
    reports: Annotated[list[Report], Field(min_length=1, max_length=MAX_REPORTS)]


class SeriesQuery(_Body):
    """`GET /v1/series/{uid}`: which part of a run, and how many points of each metric at most."""

    attempt: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    metrics: Annotated[list[_Name], Field(max_length=64)] = []
    from_step: _Count | None = None
    to_step: _Count | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    max_points: Annotated[int, Field(ge=1, le=POINTS_MAX)] = POINTS


class Download(_Body):
    """`POST …/{models|trainings|datasets}/{name}/downloads`: bytes and files so far, of how many."""

    version: Annotated[str, StringConstraints(max_length=63)] | None = None
    volume: Annotated[str, StringConstraints(max_length=253)] | None = None
    bytes: _Count | None = None
    total_bytes: _Count | None = None
    files: _Count | None = None
    total_files: _Count | None = None
    bytes_per_second: _Amount | None = None
    eta_seconds: _Amount | None = None
    seq: _Count = 0
