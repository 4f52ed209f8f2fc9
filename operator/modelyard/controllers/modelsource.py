"""ModelSource for the runtime: what concerns a source, what must be read for it, and its view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from modelyard.cluster.facts import Facts
from modelyard.cluster.store import Store
from modelyard.controllers.protocol import SETTLE_SECONDS
from modelyard.decide.modelsource import SourceView, decide
from modelyard.plan import Key, Kind, Obj, Plan, Ref
from modelyard.resources.meta import MODEL, MODELSOURCE, PVC, SECRET, TRAINING
from modelyard.resources.training.status import TERMINAL_PHASES

MODELS_BY_SOURCE = "models-by-source"
TRAININGS_BY_SOURCE = "trainings-by-source"


class UserOfSources:
    """How Models and Trainings look at what changes around them."""

    settle = SETTLE_SECONDS

    def indifferent(self, kind: Kind, old: Obj, new: Obj) -> bool:
        """Who else refers to a source does not matter."""
        return kind == MODELSOURCE and _as_used(old) == _as_used(new)


class ModelSourceController:
    """Watches Models and Trainings for their references; reads Secrets and claims by name."""

    kind = MODELSOURCE
    settle = 1.0
    """Who refers to a source is written at its leisure: it may be thousands that come one after the other."""

    def setup(self, store: Store) -> None:
        """Adds the indexes of who refers to a source."""
        store.add_index(MODELS_BY_SOURCE, MODEL, _source_of_model)
        store.add_index(TRAININGS_BY_SOURCE, TRAINING, _source_of_training)

    def roots(self, kind: Kind, obj: Obj, store: Store) -> Iterable[Key]:
        """The source itself, or the one that a Model or Training refers to."""
        if kind == MODELSOURCE:
            yield Key(obj["metadata"]["namespace"], obj["metadata"]["name"])
        elif kind == MODEL:
            yield from map(_key, _source_of_model(obj))
        elif kind == TRAINING:
            yield from map(_key, _source_of_training(obj, active_only=False))

    def indifferent(self, kind: Kind, old: Obj, new: Obj) -> bool:
        """Only who refers to a source matters."""
        if kind == MODEL:
            return set(_source_of_model(old)) == set(_source_of_model(new))
        return kind == TRAINING and set(_source_of_training(old)) == set(_source_of_training(new))

    def reads(self, root: Obj, store: Store) -> Iterable[Ref]:
        """The Secret of the source, and the claim that a PVC source names."""
        namespace, spec = root["metadata"]["namespace"], root.get("spec") or {}
        if (secret := spec.get("secretRef")) is not None:
            yield Ref(SECRET, namespace, secret)
        if (claim := _claim_name(root)) is not None:
            yield Ref(PVC, namespace, claim)

    def view(self, store: Store, facts: Facts, key: Key) -> SourceView | None:
        """The source with what was read for it and everybody who refers to it."""
        source = store.get(MODELSOURCE, *key)
        if source is None:
            return None
        secret, claim = (source.get("spec") or {}).get("secretRef"), _claim_name(source)
        models = {f"{key.namespace}/{m['metadata']['name']}" for m in store.indexed(MODELS_BY_SOURCE, str(key))}
        trainings = {
            f"Training/{key.namespace}/{t['metadata']['name']}" for t in store.indexed(TRAININGS_BY_SOURCE, str(key))
        }
        return SourceView(
            source,
            secret=facts.secret(Ref(SECRET, key.namespace, secret)) if secret is not None else None,
            claim=facts.object(Ref(PVC, key.namespace, claim)) if claim is not None else None,
            users=frozenset(models | trainings),
        )

    def decide(self, view: SourceView, now: datetime) -> Plan:
        """Pure."""
        return decide(view, now)


def _as_used(source: Obj) -> tuple[object, ...]:
    metadata = {k: v for k, v in source["metadata"].items() if k not in ("resourceVersion", "managedFields")}
    status = {k: v for k, v in (source.get("status") or {}).items() if not k.startswith("referencedBy")}
    return metadata, source.get("spec"), status


def _key(value: str) -> Key:
    namespace, _, name = value.partition("/")
    return Key(namespace, name)


def _claim_name(source: Obj) -> str | None:
    spec = source.get("spec") or {}
    name = (spec.get("config") or {}).get("pvcName")
    return str(name) if spec.get("type") == "PVC" and name else None


def _source_of_model(model: Obj) -> Iterator[str]:
    name = (model.get("spec") or {}).get("sourceRef")
    if name:
        yield f"{model['metadata']['namespace']}/{name}"


def _source_of_training(training: Obj, *, active_only: bool = True) -> Iterator[str]:
    """A Training that is over needs its source no more."""
    if active_only and (training.get("status") or {}).get("phase") in TERMINAL_PHASES:
        return
    dataset = (training.get("spec") or {}).get("dataset") or {}
    name = (dataset.get("source") or {}).get("sourceRef")
    if name:
        yield f"{training['metadata']['namespace']}/{name}"
