"""What a decision about one Training sees: the Training, what it names, and what was made for it. Immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from modelyard.decide.ports import DataPlane
from modelyard.decide.training.ports import Compute
from modelyard.observed import NodeFact, RefusalFact
from modelyard.plan import Obj
from modelyard.resources.names import training_job
from modelyard.resources.objects import controller_uid, uid_of
from modelyard.resources.training.spec import TrainingSpec
from modelyard.resources.volumes import Seen
from modelyard.settings import Settings


@dataclass(frozen=True, slots=True)
class TrainingView:
    """One Training and its surroundings, all of its namespace.

    `models`, by name: those that the spec refers to or saves to. `claims`, by name: output volumes and whatever else
    has their names. `dataset_claim` is the user's own; it counts only if `dataset_claim_read`. `jobs` and `pods` are of
    this Training's attempts, `departed` those of its pods that are gone and not forgotten yet; `analyses` and
    `analysis_pods` are of its analysis; `strangers`, by name, are Jobs of others that have our names. `service`:
    whatever has the name of what connects several nodes. `inputs`, by name: volumes of Models' versions. `refused`, by
    name: what of ours the cluster did not take, `no_pods`: why the Job makes none. `nodes` are the cluster's, where
    they were asked for. `workload`: what Kueue keeps of the attempt's Job while that is suspended. `saved`: volumes
    that hold versions of the Model to save to. `rivals`: other Trainings that want to save under the same name.
    `origin` is the Training to go on from, with its output volume; `successors` are those that go on from this one.
    `node` is the first one of the attempt, as far as its labels are needed.
    """

    training: Obj
    models: Mapping[str, Obj] = field(default_factory=dict)
    source: Obj | None = None
    dataset_claim: Obj | None = None
    dataset_claim_read: bool = False
    claims: Mapping[str, Obj] = field(default_factory=dict)
    data: Seen = field(default_factory=Seen)
    jobs: tuple[Obj, ...] = ()
    pods: tuple[Obj, ...] = ()
    departed: tuple[Obj, ...] = ()
    analyses: tuple[Obj, ...] = ()
    analysis_pods: tuple[Obj, ...] = ()
    strangers: Mapping[str, Obj] = field(default_factory=dict)
    service: Obj | None = None
    inputs: Mapping[str, Obj] = field(default_factory=dict)
    refused: Mapping[str, RefusalFact] = field(default_factory=dict)
    no_pods: RefusalFact | None = None
    nodes: tuple[NodeFact, ...] | None = None
    workload: Obj | None = None
    saved: tuple[Obj, ...] = ()
    rivals: tuple[Obj, ...] = ()
    origin: Obj | None = None
    origin_claim: Obj | None = None
    successors: tuple[Obj, ...] = ()
    node: Obj | None = None

    def job(self, attempt: int) -> Obj | None:
        """The Job of that attempt, if there is one and it is ours."""
        name = training_job(self.training["metadata"]["name"], attempt)
        return next((j for j in self.jobs if j["metadata"]["name"] == name), None)

    def pods_of(self, job_uid: str | None) -> tuple[Obj, ...]:
        """The pods that the Job of that uid has made, whether it is still there or not."""
        return tuple(p for p in self.pods if controller_uid(p) == job_uid) if job_uid else ()

    def departed_of(self, job_uid: str | None) -> tuple[Obj, ...]:
        """The pods of the Job of that uid that are gone, as they were last seen."""
        return tuple(p for p in self.departed if controller_uid(p) == job_uid) if job_uid else ()

    def owns(self, obj: Obj) -> bool:
        """Whether the Training controls the object."""
        return controller_uid(obj) == uid_of(self.training)


@dataclass(frozen=True, slots=True)
class Context:
    """All that one decision is made of. `spec` is the view's, parsed."""

    view: TrainingView
    spec: TrainingSpec
    now: datetime
    settings: Settings
    compute: Compute
    plane: DataPlane
