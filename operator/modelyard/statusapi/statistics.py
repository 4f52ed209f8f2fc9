"""Totals: how many in which phase, GPU hours, cost, storage. Pure; sees only rows that the caller may list."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Final

from modelyard.plan import Kind, Obj
from modelyard.resources import conditions
from modelyard.resources.meta import MODEL, MODELSOURCE, TRAINING
from modelyard.statusapi.access import Seen
from modelyard.statusapi.rows import Row, Rows
from modelyard.statusapi.schemas.answers import Counts, ModelTotals, NamespaceTotals, Spending, Statistics
from modelyard.statusapi.schemas.objects import ModelSummary, TrainingSummary

MODELS_SHOWN: Final = 100
_CENT: Final = Decimal("0.01")


@dataclass(slots=True)
class _Bill:
    """What trainings took."""

    trainings: int = 0
    gpu_seconds: int = 0
    usd: Decimal = Decimal(0)
    without_price: int = 0

    def add(self, row: TrainingSummary) -> None:
        self.trainings += 1
        self.gpu_seconds += row.gpu_seconds or 0
        if row.cost_usd is not None:
            self.usd += _amount(row.cost_usd)
        elif row.gpu_seconds:
            self.without_price += 1

    def spending(self) -> Spending:
        return Spending(
            gpu_hours=round(self.gpu_seconds / 3600, 3),
            cost_usd=str(self.usd.quantize(_CENT)),
            without_price=self.without_price,
        )


@dataclass(slots=True)
class _Place:
    """What is in one namespace."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    bill: _Bill = field(default_factory=_Bill)
    storage: int = 0


def output_bytes(training: Obj) -> int:
    """What a Training's own volume holds; what was saved is the Model's, and what expired is gone."""
    status = training.get("status") or {}
    refused = conditions.find(status.get("conditions") or (), "Saved") or {}
    if status.get("saved") or refused.get("reason") == "OutputExpired":
        return 0
    return (status.get("output") or {}).get("bytes") or 0


def statistics(rows: Rows, seen: Mapping[Kind, Seen], outputs: Mapping[str, int]) -> Statistics:
    """Totals of the kinds in `seen`; those in none of whose namespaces the caller may list are left out.

    `outputs`: bytes on the output volume, by the Training's uid.
    """
    counts: dict[Kind, Counter[str]] = {}
    places: dict[str, _Place] = defaultdict(_Place)
    whole, models = _Bill(), defaultdict[tuple[str, str], _Bill](_Bill)
    storage = 0
    for kind in (MODEL, MODELSOURCE, TRAINING):
        visible = seen[kind]
        if not visible.everywhere and not visible.namespaces:
            continue
        counts[kind] = Counter()
        for row in _rows(rows, kind, visible):
            place, summary = places[row.key.namespace], row.summary
            counts[kind][summary.phase] += 1
            place.kinds[kind] += 1
            taken = 0
            if isinstance(summary, ModelSummary):
                taken = summary.bytes
            elif isinstance(summary, TrainingSummary):
                taken = outputs.get(summary.uid, 0)
                for bill in (whole, place.bill, *_model_bills(models, summary)):
                    bill.add(summary)
            place.storage += taken
            storage += taken
    return Statistics(
        models=_counts(counts.get(MODEL)),
        model_sources=_counts(counts.get(MODELSOURCE)),
        trainings=_counts(counts.get(TRAINING)),
        spending=whole.spending() if TRAINING in counts else None,
        storage_bytes=storage,
        by_namespace=[_totals(name, places[name], seen) for name in sorted(places)],
        by_model=_by_model(models),
    )


def _rows(rows: Rows, kind: Kind, seen: Seen) -> Iterable[Row]:
    return (row for row in rows.of(kind) if row.key.namespace in seen)


def _model_bills(models: Mapping[tuple[str, str], _Bill], row: TrainingSummary) -> tuple[_Bill, ...]:
    name = (row.model or row.saved or "").partition("/")[0]
    return (models[row.namespace, name],) if name else ()


def _counts(found: Counter[str] | None) -> Counts | None:
    return None if found is None else Counts(total=found.total(), by_phase=dict(sorted(found.items())))


def _totals(namespace: str, place: _Place, seen: Mapping[Kind, Seen]) -> NamespaceTotals:
    trainings = namespace in seen[TRAINING]
    return NamespaceTotals(
        namespace=namespace,
        models=place.kinds[MODEL] if namespace in seen[MODEL] else None,
        model_sources=place.kinds[MODELSOURCE] if namespace in seen[MODELSOURCE] else None,
        trainings=place.kinds[TRAINING] if trainings else None,
        spending=place.bill.spending() if trainings else None,
        storage_bytes=place.storage,
    )


def _by_model(models: Mapping[tuple[str, str], _Bill]) -> list[ModelTotals]:
    dearest = sorted(models.items(), key=lambda item: (-item[1].usd, -item[1].gpu_seconds, item[0]))
    return [
        ModelTotals(namespace=namespace, model=model, trainings=bill.trainings, spending=bill.spending())
        for (namespace, model), bill in dearest[:MODELS_SHOWN]
    ]


def _amount(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal(0)
