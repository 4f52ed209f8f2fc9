"""The kinds that the API shows: how they are called in paths, rows, details, and what lists can be sorted by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelyard.cluster.watched import Watched
from modelyard.plan import Kind, Obj
from modelyard.resources import meta
from modelyard.statusapi import summaries
from modelyard.statusapi.schemas import objects
from modelyard.statusapi.schemas.base import Dto, Summary

_ALWAYS: Final = ("name", "namespace", "created", "phase")


@dataclass(frozen=True, slots=True)
class Shown:
    """One kind. `word` is what people call one of it; `selector` of what is watched."""

    kind: Kind
    word: str
    row: type[Summary]
    detail_type: type[Dto]
    summary: Callable[[Obj], Summary]
    detail: Callable[[Obj], dict[str, Any]]
    selector: str | None = None
    more_sorts: tuple[str, ...] = ()
    more_facets: tuple[str, ...] = ()

    @property
    def plural(self) -> str:
        """Its name in paths."""
        return self.kind.plural

    @property
    def watched(self) -> Watched:
        """What the feed watches of it."""
        return Watched(self.kind, self.selector)

    @property
    def sorts(self) -> tuple[str, ...]:
        """Fields of a row that a list can be sorted by."""
        return _ALWAYS + self.more_sorts

    @property
    def facets(self) -> tuple[str, ...]:
        """Fields of a row whose values can be counted."""
        return ("namespace", "phase", "severity", *self.more_facets)


MODELS: Final = Shown(
    meta.MODEL,
    "Model",
    objects.ModelSummary,
    objects.ModelDetail,
    summaries.model,
    summaries.model_detail,
    more_sorts=("bytes", "versionsReady", "lastSyncTime"),
    more_facets=("source",),
)
SOURCES: Final = Shown(
    meta.MODELSOURCE,
    "ModelSource",
    objects.ModelSourceSummary,
    objects.ModelSourceDetail,
    summaries.source,
    summaries.source_detail,
    more_sorts=("type", "referencedByCount"),
    more_facets=("type",),
)
TRAININGS: Final = Shown(
    meta.TRAINING,
    "Training",
    objects.TrainingSummary,
    objects.TrainingDetail,
    summaries.training,
    summaries.training_detail,
    more_sorts=("percent", "startTime", "completionTime", "gpuSeconds", "etaSeconds"),
    more_facets=("recipe", "model", "gpuType"),
)
DATASETS: Final = Shown(
    meta.DATASET, "Dataset", objects.DatasetSummary, objects.DatasetDetail, summaries.dataset, summaries.dataset_detail
)
PODS: Final = Shown(
    meta.POD,
    "pod of Modelyard",
    objects.PodSummary,
    objects.PodDetail,
    summaries.pod,
    summaries.pod_detail,
    selector=meta.MANAGED_SELECTOR,
    more_sorts=("startTime", "restarts"),
    more_facets=("component", "node"),
)

ROOTS: Final = (MODELS, SOURCES, TRAININGS)
ALL: Final = (*ROOTS, DATASETS, PODS)
BY_PLURAL: Final[Mapping[str, Shown]] = {shown.plural: shown for shown in ALL}
BY_KIND: Final[Mapping[Kind, Shown]] = {shown.kind: shown for shown in ALL}
