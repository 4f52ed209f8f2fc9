"""Model for the runtime: what concerns a Model, whose names must be read, and its view with all of its users."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from modelyard.cluster.facts import Facts
from modelyard.cluster.mounts import claims_of
from modelyard.cluster.store import Store
from modelyard.controllers.modelindex import (
    base_of,
    claims_in_use,
    home_of_reference,
    home_of_share,
    is_download,
    model_of,
    models_of_training,
    references,
    sharer_of,
    shares,
)
from modelyard.controllers.modelsource import MODELS_BY_SOURCE, UserOfSources
from modelyard.dataplane.either import EitherPlane
from modelyard.decide.model.decision import decide
from modelyard.decide.model.saved import record_of
from modelyard.decide.model.storage import classes_to_read
from modelyard.decide.model.view import (
    ModelView,
    Receivers,
    Use,
    is_datasets,
    names_of,
    possible_volumes,
    version_of,
)
from modelyard.decide.ports import SharingPlane
from modelyard.plan import Key, Kind, Obj, Plan, Ref
from modelyard.resources.meta import (
    DATASET,
    JOB,
    LABEL_MODEL,
    LABEL_TRAINING,
    MODEL,
    MODELSOURCE,
    NAMESPACE,
    OTHERS_PVC,
    POD,
    PV,
    PVC,
    STORAGECLASS,
    TRAINING,
)
from modelyard.resources.names import dataset_job, dataset_of_job, share
from modelyard.resources.objects import controller_uid, label, uid_of
from modelyard.resources.sources import check_content, referred
from modelyard.resources.sourcetypes import LINKED
from modelyard.resources.training.status import TERMINAL_PHASES
from modelyard.resources.volumes import LABEL_VOLUME
from modelyard.settings import Settings

CLAIMS_BY_MODEL = "claims-by-model"
CLAIMS_BY_BASE = "claims-by-base"
DATASETS_BY_MODEL = "datasets-by-model"
JOBS_BY_MODEL = "downloads-by-model"
PODS_BY_CLAIM = "pods-by-claim"
TRAININGS_BY_MODEL = "trainings-by-model"
SHARING = "models-that-share"
SHARED_HERE = "shared-with-namespace"
DISKS_BY_MODEL = "disks-by-model"
REFERENCES = "reference-sources-by-namespace"
SHARES_BY_MODEL: Final = {kind: f"shared-{kind.plural}-by-model" for kind in (PVC, DATASET, PV)}

NAME_TAKEN = "NameTaken"


@dataclass(frozen=True, slots=True)
class Scene:
    """A view with the data plane that serves it."""

    view: ModelView
    plane: SharingPlane


class ModelController(UserOfSources):
    """Watches sources, claims, download Jobs, pods and Trainings. Needs the ModelSource controller's indexes.

    `datasets`: their kind is served, and watched too.
    """

    kind = MODEL

    def __init__(self, settings: Settings, *, datasets: bool = False) -> None:
        self._settings = settings
        self._datasets = datasets

    def setup(self, store: Store) -> None:
        """Adds the indexes of what belongs to a Model and who uses it."""
        store.add_index(CLAIMS_BY_MODEL, PVC, model_of)
        store.add_index(DATASETS_BY_MODEL, DATASET, model_of)
        store.add_index(CLAIMS_BY_BASE, PVC, base_of)
        store.add_index(JOBS_BY_MODEL, JOB, model_of)
        store.add_index(PODS_BY_CLAIM, POD, claims_in_use)
        store.add_index(TRAININGS_BY_MODEL, TRAINING, models_of_training)
        store.add_index(SHARING, MODEL, shares)
        store.add_index(SHARED_HERE, PVC, home_of_share)
        store.add_index(DISKS_BY_MODEL, PV, model_of)
        store.add_index(REFERENCES, MODELSOURCE, home_of_reference)
        for kind, index in SHARES_BY_MODEL.items():
            store.add_index(index, kind, sharer_of)

    def roots(self, kind: Kind, obj: Obj, store: Store) -> Iterable[Key]:
        """The Model itself, or those that an object belongs to, comes from or uses."""
        namespace = obj["metadata"].get("namespace", "")
        if kind == MODEL:
            yield Key(namespace, obj["metadata"]["name"])
        elif kind == MODELSOURCE:
            for model in store.indexed(MODELS_BY_SOURCE, f"{namespace}/{obj['metadata']['name']}"):
                yield Key(namespace, model["metadata"]["name"])
        elif kind == PVC:
            yield from map(_key, (*model_of(obj), *base_of(obj), *sharer_of(obj)))
            for home in home_of_share(obj):
                for source in store.indexed(REFERENCES, home):
                    yield from self.roots(MODELSOURCE, source, store)
        elif kind in (JOB, DATASET, PV):
            yield from map(_key, (*model_of(obj), *sharer_of(obj)))
        elif kind == OTHERS_PVC:
            dataset = store.get(DATASET, namespace, obj["metadata"]["name"])
            yield from map(_key, (*model_of(dataset), *sharer_of(dataset)) if dataset is not None else ())
        elif kind == NAMESPACE:
            for model in store.indexed(SHARING, "yes"):
                yield Key(model["metadata"]["namespace"], model["metadata"]["name"])
        elif kind == TRAINING:
            yield from map(_key, models_of_training(obj))
        elif kind == POD:
            yield from map(_key, model_of(obj))
            for name in claims_of(obj):
                claim = store.get(PVC, namespace, name)
                if claim is not None:
                    yield from map(_key, model_of(claim))

    def reads(self, root: Obj, store: Store) -> Iterable[Ref]:
        """Objects of others that stand in the way of a version, to see when they are gone, and claims to be sure of."""
        namespace = root["metadata"]["namespace"]
        entries = (root.get("status") or {}).get("syncedVersions") or ()
        taken = {e["name"] for e in entries if e.get("reason") == NAME_TAKEN}
        yield from self._lacking_claims(root, store)
        yield from self._disks_to_read(root, store)
        yield from _classes_to_read(root, store)
        if any(shares(root)):
            yield from (Ref(NAMESPACE, "", name) for name in self._settings.watch_namespaces)
        source = store.get(MODELSOURCE, namespace, str((root.get("spec") or {}).get("sourceRef")))
        yield from self._foreign(root, source)
        for row in (row for entry in entries for row in entry.get("sharedWith") or ()):
            if row.get("reason") == NAME_TAKEN:
                kinds = (PVC, DATASET) if self._datasets else (PVC,)
                yield from (Ref(kind, row["namespace"], row["name"]) for kind in kinds)
        if not taken:
            return
        for version, volume in possible_volumes(root, source):
            if version in taken:
                yield from (r for r in names_of(namespace, volume) if self._datasets or r.kind != DATASET)

    def _lacking_claims(self, root: Obj, store: Store) -> Iterator[Ref]:
        """Claims and Jobs that complete Datasets must have, and that the watch has not brought: it may be behind."""
        key = f"{root['metadata']['namespace']}/{root['metadata']['name']}"
        made = {c["metadata"]["name"] for c in store.indexed(CLAIMS_BY_MODEL, key)}
        entries = (root.get("status") or {}).get("syncedVersions") or ()
        late = {e["name"] for e in entries if e.get("reason") == "JobNotReady"}  # somebody may have the Job's name
        for dataset in store.indexed(DATASETS_BY_MODEL, key):
            meta = dataset["metadata"]
            ready = (dataset.get("status") or {}).get("phase") == "READY"
            if not ready and version_of(dataset) not in late:
                continue
            if ready and meta["name"] not in made:
                yield Ref(PVC, meta["namespace"], meta["name"])
            if (job := _unknown_round(root, dataset)) is not None and store.get(*_place(job)) is None:
                yield job

    def _disks_to_read(self, model: Obj, store: Store) -> list[Ref]:
        """PersistentVolumes behind claims that are shared, and those that the Dataset controller made for shares."""
        if not self._settings.makes_volumes:
            return []
        key = f"{model['metadata']['namespace']}/{model['metadata']['name']}"
        lent = [c for c in store.indexed(SHARES_BY_MODEL[PVC], key) if is_datasets(c)]
        shared = [c for c in store.indexed(CLAIMS_BY_MODEL, key) if not is_datasets(c)] if any(shares(model)) else []
        names = {(c.get("spec") or {}).get("volumeName") for c in (*shared, *lent)}
        return [Ref(PV, "", name) for name in sorted(n for n in names if n)]

    def _foreign(self, model: Obj, source: Obj | None) -> Iterator[Ref]:
        """What is read of other namespaces for a REFERENCE source: their Datasets, and this namespace's own labels."""
        if ((source or {}).get("spec") or {}).get("type") != "REFERENCE" or not self._datasets:
            return
        if self._settings.watch_namespaces:
            yield Ref(NAMESPACE, "", model["metadata"]["namespace"])
        config = ((source or {}).get("spec") or {}).get("config") or {}
        for version in (model.get("spec") or {}).get("versions") or ():
            parts = referred(config, str(version.get("repo"))).split("/")
            if len(parts) == 2 and not check_content("REFERENCE", {}, "/".join(parts), at=""):
                yield Ref(DATASET, *parts)

    def _borrowed(self, store: Store, facts: Facts, model: Obj, source: Obj | None) -> dict[str, Any]:
        home = model["metadata"]["namespace"]
        if ((source or {}).get("spec") or {}).get("type") != "REFERENCE":
            return {}
        read = {ref: fact.obj for ref in self._foreign(model, source) if (fact := facts.object(ref)) is not None}
        here = store.get(NAMESPACE, "", home) or read.get(Ref(NAMESPACE, "", home)) or {"metadata": {}}
        return {
            "borrowed": tuple(store.indexed(SHARED_HERE, home)),
            "foreign": {ref: obj for ref, obj in read.items() if obj is not None},
            "home_labels": here["metadata"].get("labels") or {},
        }

    def _namespaces(self, model: Obj, store: Store, facts: Facts) -> Iterator[Obj]:
        """All that there are, if it matters."""
        if not any(shares(model)):
            return
        if not self._settings.watch_namespaces:
            yield from store.list(NAMESPACE)
        for name in self._settings.watch_namespaces:
            fact = facts.object(Ref(NAMESPACE, "", name))
            if fact is not None and fact.obj is not None:
                yield fact.obj

    def view(self, store: Store, facts: Facts, key: Key) -> Scene | None:
        """The Model with its source, volumes, Jobs, pods, strangers, users and reports."""
        model = store.get(MODEL, *key)
        if model is None:
            return None
        source = store.get(MODELSOURCE, key.namespace, str((model.get("spec") or {}).get("sourceRef")))
        datasets = tuple(store.indexed(DATASETS_BY_MODEL, str(key)))
        claims = tuple(store.indexed(CLAIMS_BY_MODEL, str(key)))
        claims = (*claims, *_unseen_claims(facts, datasets, claims))
        jobs = (*store.indexed(JOBS_BY_MODEL, str(key)), *_unseen_jobs(store, facts, model, datasets))
        jobs = tuple(j for j in jobs if is_download(j) or is_datasets(j))
        pods = tuple(p for j in jobs for p in store.owned(uid_of(j), POD))
        volumes = {v for j in jobs if (v := label(j, LABEL_VOLUME) or dataset_of_job(j["metadata"]["name"]))}
        reports = {v: fact for v in sorted(volumes) if (fact := facts.download(key.namespace, v)) is not None}
        namespaces = tuple(self._namespaces(model, store, facts))
        view = ModelView(
            model,
            source,
            claims,
            jobs,
            pods,
            strangers=_strangers(store, facts, model, source, datasets) | _in_the_way(store, facts, model, namespaces),
            datasets=datasets,
            uses=tuple(_uses(store, facts, key, claims)),
            downloads=reports,
            shares=tuple(obj for index in SHARES_BY_MODEL.values() for obj in store.indexed(index, str(key))),
            links=tuple(store.indexed(DISKS_BY_MODEL, str(key))),
            classes={r.name: f for r in _classes_to_read(model, store) if (f := facts.object(r)) is not None},
            **self._borrowed(store, facts, model, source),
            disks=_disks(facts, self._disks_to_read(model, store)),
            receivers=Receivers(namespaces, self._settings.sharing.require_namespace_label, self._settings.namespace),
        )
        return Scene(view, EitherPlane(self._settings, datasets=self._datasets, ca_pem=facts.ca_pem))

    def decide(self, view: Scene, now: datetime) -> Plan:
        """Pure."""
        return decide(view.view, view.plane, now)


def _strangers(store: Store, facts: Facts, model: Obj, source: Obj | None, datasets: Iterable[Obj]) -> dict[Ref, Obj]:
    """Objects under names of ours that this very Model does not control: seen, met by a create, or read since."""
    found = {}
    namespace = model["metadata"]["namespace"]
    volumes = {volume for _, volume in possible_volumes(model, source)} | {d["metadata"]["name"] for d in datasets}
    for volume in sorted(volumes):
        for ref in names_of(namespace, volume):
            obj = _under(store, facts, ref)
            if obj is not None and controller_uid(obj) != uid_of(model) and not _is_of_our_dataset(obj, model):
                found[ref] = obj
    return found


def _under(store: Store, facts: Facts, ref: Ref) -> Obj | None:
    """The object that has a name, as far as that is known."""
    found = store.get(*_place(ref))
    if found is None and ref.kind == PVC:
        found = store.get(OTHERS_PVC, ref.namespace, ref.name)
    fact = facts.object(ref) if found is None else None
    return found or (fact.obj if fact is not None else facts.taken(ref))


def _in_the_way(store: Store, facts: Facts, model: Obj, namespaces: Iterable[Obj]) -> dict[Ref, Obj]:
    """Objects of others under the names that shares of the Model have, or would have."""
    found = {}
    home, name = model["metadata"]["namespace"], model["metadata"]["name"]
    names = [share(home, name, v["name"]) for v in (model.get("spec") or {}).get("versions") or () if v.get("share")]
    for namespace in namespaces:
        for ref in (Ref(kind, namespace["metadata"]["name"], n) for n in names for kind in (PVC, DATASET)):
            obj = _under(store, facts, ref)
            if obj is not None and f"{home}/{name}" not in sharer_of(obj):
                found[ref] = obj
    return found


def _classes_to_read(model: Obj, store: Store) -> list[Ref]:
    """StorageClasses of claims that are to grow."""
    key = f"{model['metadata']['namespace']}/{model['metadata']['name']}"
    versions = [v for v in (model.get("spec") or {}).get("versions") or () if v.get("storage")]
    if not versions:
        return []
    claims = ((version_of(c), c) for c in store.indexed(CLAIMS_BY_MODEL, key))
    return [Ref(STORAGECLASS, "", name) for name in sorted(set(classes_to_read(versions, claims)))]


def _disks(facts: Facts, refs: Iterable[Ref]) -> dict[str, Obj]:
    found = {ref.name: fact.obj for ref in refs if (fact := facts.object(ref)) is not None}
    return {name: obj for name, obj in found.items() if obj is not None}


def _is_of_our_dataset(obj: Obj, model: Obj) -> bool:
    """Whether a Dataset made for this Model has, or had, it: such a one is waited for, and never touched."""
    return is_datasets(obj) and label(obj, LABEL_MODEL) == model["metadata"]["name"]


def _unseen_claims(facts: Facts, datasets: tuple[Obj, ...], claims: tuple[Obj, ...]) -> Iterator[Obj]:
    """Claims of Datasets that were read by name, because the watch has not brought them."""
    seen = {c["metadata"]["name"] for c in claims}
    for dataset in datasets:
        meta = dataset["metadata"]
        fact = None if meta["name"] in seen else facts.object(Ref(PVC, meta["namespace"], meta["name"]))
        if fact is not None and fact.obj is not None and controller_uid(fact.obj) == uid_of(dataset):
            yield fact.obj


def _unknown_round(model: Obj, dataset: Obj) -> Ref | None:
    """The Job of a Dataset's round, as long as the Model's status does not say that the Dataset serves."""
    meta, entries = dataset["metadata"], (model.get("status") or {}).get("syncedVersions") or ()
    source = (dataset.get("spec") or {}).get("source") or {}
    if source.get("type") in LINKED or any(e.get("pvcName") == meta["name"] for e in entries):
        return None
    number = int((dataset.get("spec") or {}).get("dataSyncRound") or 1)
    return Ref(JOB, meta["namespace"], dataset_job(meta["name"], number))


def _unseen_jobs(store: Store, facts: Facts, model: Obj, datasets: tuple[Obj, ...]) -> Iterator[Obj]:
    """Jobs of rounds that were read by name, because the watch has not brought them."""
    for dataset in datasets:
        job = _unknown_round(model, dataset)
        fact = facts.object(job) if job is not None and store.get(*_place(job)) is None else None
        if fact is not None and fact.obj is not None and controller_uid(fact.obj) == uid_of(dataset):
            yield fact.obj


def _uses(store: Store, facts: Facts, key: Key, claims: tuple[Obj, ...]) -> Iterator[Use]:
    for training in store.indexed(TRAININGS_BY_MODEL, str(key)):
        status = training.get("status") or {}
        if status.get("frozen") and status.get("phase") not in TERMINAL_PHASES:
            inputs = [i for i in status.get("inputs") or () if i.get("model") == key.name]
            yield Use(
                f"Training {training['metadata']['name']}",
                frozenset(i["pvcName"] for i in inputs if "pvcName" in i),
                frozenset(version for model, version in references(training) if model == key.name),
            )
    for claim in claims:
        name = claim["metadata"]["name"]
        for pod in store.indexed(PODS_BY_CLAIM, f"{key.namespace}/{name}"):
            training_name = label(pod, LABEL_TRAINING)
            who = f"Training {training_name}" if training_name else f"Pod {pod['metadata']['name']}"
            yield Use(who, frozenset({name}))
        for pod_name in sorted(facts.mounted_by(key.namespace, name)):
            yield Use(f"Pod {pod_name}", frozenset({name}))
    for claim in store.indexed(CLAIMS_BY_BASE, str(key)):
        base = record_of(claim).get("baseRef") or {}
        who = f"version {label(claim, LABEL_MODEL)}/{version_of(claim)}"
        yield Use(who, versions=frozenset({str(base.get("version"))}))


def _place(ref: Ref) -> tuple[Kind, str, str]:
    return ref.kind, ref.namespace, ref.name


def _key(value: str) -> Key:
    namespace, _, name = value.partition("/")
    return Key(namespace, name)
