"""Training for the runtime: what concerns a Training, what must be read for it, and its view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelyard.cluster.facts import Facts
from modelyard.cluster.inventory import INVENTORY
from modelyard.cluster.store import Store
from modelyard.compute.kubernetes import KubernetesCompute
from modelyard.controllers.modelsource import UserOfSources
from modelyard.dataplane.native import NativePlane
from modelyard.decide.ports import DataPlane
from modelyard.decide.training import TrainingView, decide_training
from modelyard.decide.training.data import volume_name
from modelyard.decide.training.ports import Compute
from modelyard.decide.training.waits import wants_events, wants_nodes
from modelyard.plan import Key, Kind, Obj, Plan, Ref
from modelyard.resources.meta import (
    ANNOTATION_SAVED,
    COMPONENT_ANALYSIS,
    COMPONENT_DOWNLOAD,
    COMPONENT_TRAINING,
    EVENT,
    JOB,
    LABEL_COMPONENT,
    LABEL_MODEL,
    LABEL_TRAINING,
    MODEL,
    MODELSOURCE,
    NODE,
    POD,
    PVC,
    SERVICE,
    TRAINING,
    WORKLOAD,
)
from modelyard.resources.names import output_volume, queue_workload, run_service, training_job
from modelyard.resources.objects import annotation, controller_uid, is_deleting, label, uid_of
from modelyard.resources.training.status import TERMINAL_PHASES
from modelyard.resources.volumes import LABEL_VOLUME, Seen
from modelyard.settings import Settings

TRAININGS_BY_NAMED = "trainings-by-named"
"""Trainings by what their spec names: `Model/<namespace>/<name>` and `ModelSource/<namespace>/<name>`."""
TRAININGS_BY_ORIGIN = "trainings-by-origin"
TRAININGS_BY_SAVE = "trainings-by-save"
PODS_BY_TRAINING = "pods-by-training"
SAVED_BY_MODEL = "saved-by-model"
DOWNLOADS_BY_VOLUME = "downloads-by-volume"


@dataclass(frozen=True, slots=True)
class Scene:
    """A view with the adapters that serve it."""

    view: TrainingView
    compute: Compute
    plane: DataPlane


class TrainingController(UserOfSources):
    """Watches Models, sources, claims, Jobs and pods for the Trainings that they concern."""

    kind = TRAINING

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def setup(self, store: Store) -> None:
        """Adds the indexes of what Trainings name and what was made for them."""
        store.add_index(TRAININGS_BY_NAMED, TRAINING, _named)
        store.add_index(TRAININGS_BY_SAVE, TRAINING, _saves)
        store.add_index(TRAININGS_BY_ORIGIN, TRAINING, _goes_on_from)
        store.add_index(PODS_BY_TRAINING, POD, _training_of)
        store.add_index(SAVED_BY_MODEL, PVC, _saved_of)
        store.add_index(DOWNLOADS_BY_VOLUME, JOB, _volume_of)

    def roots(self, kind: Kind, obj: Obj, store: Store) -> Iterable[Key]:
        """The Training itself, or those that name an object or that it was made for."""
        namespace, name = obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
        if kind == TRAINING:
            yield Key(namespace, name)
            for target in _saves(obj):
                yield from _keys(store.indexed(TRAININGS_BY_SAVE, target))
            yield from _keys(store.indexed(TRAININGS_BY_ORIGIN, f"{namespace}/{name}"))
            if origin := _origin(_spec(obj)):
                yield Key(namespace, origin)
        elif kind in (MODEL, MODELSOURCE):
            yield from _keys(store.indexed(TRAININGS_BY_NAMED, f"{kind.kind}/{namespace}/{name}"))
        elif kind in (PVC, JOB, POD):
            yield from self._of_made(kind, obj, store)

    def reads(self, root: Obj, store: Store) -> Iterable[Ref]:
        """The user's own claim, while the run is not committed; and whoever has the names that we need."""
        meta, status = root["metadata"], root.get("status") or {}
        if not status.get("frozen"):
            claim = ((_spec(root).get("dataset") or {}).get("pvc") or {}).get("claimName")
            if claim:
                yield Ref(PVC, meta["namespace"], claim)
        if _nodes(root) > 1 and status.get("phase") not in TERMINAL_PHASES:
            yield _service_ref(root)
        if wants_events(status):
            yield _job_events(root)
        if wants_nodes(status):
            yield INVENTORY
        if (workload := _workload_ref(store, root)) is not None:
            yield workload
        if status.get("reason") == "NameTaken":
            yield from _our_names(root)
        if self._settings.price_label and (node := _unpriced_node(root)) is not None:
            yield node

    def view(self, store: Store, facts: Facts, key: Key) -> Scene | None:
        """The Training with what it names, what was made for it, and who stands in its way."""
        training = store.get(TRAINING, *key)
        if training is None:
            return None
        spec = _spec(training)
        name = _origin(spec)
        origin = store.get(TRAINING, key.namespace, name) if name else None
        analyses, runs = _analyses(store, training), _job_uids(store, training)
        view = TrainingView(
            training,
            models=_found_models(store, key, spec),
            source=_source(store, key, spec),
            **_dataset_claim(facts, key, spec),
            claims=_claims(store, facts, training),
            data=_data(store, key, spec),
            jobs=tuple(j for j in store.owned(uid_of(training), JOB) if _is(j, COMPONENT_TRAINING)),
            pods=_pods(store, key, runs),
            departed=tuple(p for uid in runs for p in store.departed(uid)),
            analyses=analyses,
            analysis_pods=tuple(p for j in analyses for p in store.owned(uid_of(j), POD)),
            strangers=_strangers(store, facts, training),
            service=_service(facts, training),
            inputs=_inputs(store, key, spec),
            refused={r.name: f for r in _made_names(training) if (f := facts.refusal(r)) is not None},
            no_pods=facts.refusal(_job_events(training)),
            nodes=facts.nodes(),
            workload=_workload(store, facts, training),
            saved=tuple(store.indexed(SAVED_BY_MODEL, f"{key.namespace}/{_save(spec).get('model')}")),
            rivals=_rivals(store, training),
            origin=origin,
            origin_claim=_output_of(store, key, origin),
            successors=_successors(store, key),
            node=_node(facts, training),
        )
        return Scene(view, KubernetesCompute(self._settings, facts.ca_pem), NativePlane(self._settings, facts.ca_pem))

    def decide(self, view: Scene, now: datetime) -> Plan:
        """Pure."""
        return decide_training(view.view, now, self._settings, view.compute, view.plane)

    def _of_made(self, kind: Kind, obj: Obj, store: Store) -> Iterator[Key]:
        namespace = obj["metadata"].get("namespace", "")
        for owner in obj["metadata"].get("ownerReferences") or ():
            if owner.get("kind") == TRAINING.kind and owner.get("apiVersion") == TRAINING.api_version:
                yield Key(namespace, owner["name"])
        if name := label(obj, LABEL_TRAINING):
            yield Key(namespace, name)
        if kind == PVC:
            for target in _saved_of(obj):
                yield from _keys(store.indexed(TRAININGS_BY_NAMED, f"{MODEL.kind}/{target}"))
        elif volume := label(obj, LABEL_VOLUME):
            claim = store.get(PVC, namespace, volume)
            if claim is not None:
                yield from self._of_made(PVC, claim, store)


def _dataset_claim(facts: Facts, key: Key, spec: dict[str, Any]) -> dict[str, Any]:
    name = ((spec.get("dataset") or {}).get("pvc") or {}).get("claimName")
    fact = facts.object(Ref(PVC, key.namespace, name)) if name else None
    return {"dataset_claim": fact.obj if fact is not None else None, "dataset_claim_read": fact is not None}


def _source(store: Store, key: Key, spec: dict[str, Any]) -> Obj | None:
    name = ((spec.get("dataset") or {}).get("source") or {}).get("sourceRef")
    return store.get(MODELSOURCE, key.namespace, name) if name else None


def _claims(store: Store, facts: Facts, training: Obj) -> dict[str, Obj]:
    """Whatever has a name that the output volume may have."""
    found = {}
    for ref in _our_names(training):
        if ref.kind == PVC and (obj := _seen(store, facts, ref)) is not None:
            found[ref.name] = obj
    return found


def _strangers(store: Store, facts: Facts, training: Obj) -> dict[str, Obj]:
    found = {}
    for ref in _our_names(training):
        obj = _seen(store, facts, ref) if ref.kind == JOB else None
        if obj is not None and controller_uid(obj) != uid_of(training):
            found[ref.name] = obj
    return found


def _seen(store: Store, facts: Facts, ref: Ref) -> Obj | None:
    """The object: watched, read by name, or met by a create."""
    if (obj := store.get(ref.kind, ref.namespace, ref.name)) is not None:
        return obj
    fact = facts.object(ref)
    return fact.obj if fact is not None else facts.taken(ref)


def _our_names(training: Obj) -> Iterator[Ref]:
    """The names that the current attempt and the analysis need: of Jobs and of the output volume."""
    meta, status = training["metadata"], training.get("status") or {}
    number = int((status.get("attempts") or {}).get("number") or 0)
    for attempt in (number, number + 1):
        yield Ref(JOB, meta["namespace"], training_job(meta["name"], attempt))
    if looking := (status.get("analysis") or {}).get("job"):
        yield Ref(JOB, meta["namespace"], looking)
    chosen = (status.get("output") or {}).get("pvc")
    for name in {output_volume(meta["name"]), chosen or output_volume(meta["name"])}:
        yield Ref(PVC, meta["namespace"], name)


def _made_names(training: Obj) -> Iterator[Ref]:
    """What an attempt makes."""
    yield from _our_names(training)
    yield _service_ref(training)


def _job_events(training: Obj) -> Ref:
    """Asks why the Job of the current attempt makes no pods."""
    meta, status = training["metadata"], training.get("status") or {}
    number = int((status.get("attempts") or {}).get("number") or 0)
    return Ref(EVENT, meta["namespace"], training_job(meta["name"], number))


def _workload_ref(store: Store, training: Obj) -> Ref | None:
    """What Kueue keeps of the Job that it holds back, or has stopped."""
    for job in store.owned(uid_of(training), JOB):
        if _is(job, COMPONENT_TRAINING) and job["spec"].get("suspend"):
            meta = job["metadata"]
            return Ref(WORKLOAD, meta["namespace"], queue_workload(meta["name"], meta["uid"]))
    return None


def _workload(store: Store, facts: Facts, training: Obj) -> Obj | None:
    ref = _workload_ref(store, training)
    fact = facts.object(ref) if ref is not None else None
    return fact.obj if fact is not None else None


def _nodes(training: Obj) -> int:
    return int((_spec(training).get("compute") or {}).get("nodes") or 1)


def _service_ref(training: Obj) -> Ref:
    return Ref(SERVICE, training["metadata"]["namespace"], run_service(training["metadata"]["name"]))


def _service(facts: Facts, training: Obj) -> Obj | None:
    """The Service of several nodes: read by name, or met by a create since then."""
    if _nodes(training) == 1:
        return None
    ref = _service_ref(training)
    fact = facts.object(ref)
    return (fact.obj if fact is not None else None) or facts.taken(ref)


def _inputs(store: Store, key: Key, spec: dict[str, Any]) -> dict[str, Obj]:
    """The volumes of all versions of the Models that the spec names."""
    found = {}
    for model in _found_models(store, key, spec).values():
        for entry in (model.get("status") or {}).get("syncedVersions") or ():
            claim = store.get(PVC, key.namespace, str(entry.get("pvcName")))
            if claim is not None:
                found[claim["metadata"]["name"]] = claim
    return found


def _data(store: Store, key: Key, spec: dict[str, Any]) -> Seen:
    wanted = (spec.get("dataset") or {}).get("source")
    name = volume_name(wanted, _source(store, key, spec)) if wanted else None
    if name is None:
        return Seen()
    jobs = tuple(store.indexed(DOWNLOADS_BY_VOLUME, f"{key.namespace}/{name}"))
    pods = tuple(p for j in jobs for p in store.owned(uid_of(j), POD))
    return Seen(store.get(PVC, key.namespace, name), jobs, pods)


def _pods(store: Store, key: Key, jobs: set[str]) -> tuple[Obj, ...]:
    """Pods of this Training's Jobs, those included whose Job is gone; none of an earlier Training of its name."""
    pods = store.indexed(PODS_BY_TRAINING, f"{key.namespace}/{key.name}")
    return tuple(p for p in pods if controller_uid(p) in jobs)


def _job_uids(store: Store, training: Obj) -> set[str]:
    """The Jobs that are there, and the one of the current attempt, which may be gone."""
    recorded = ((training.get("status") or {}).get("placement") or {}).get("jobUID")
    return {uid_of(j) for j in store.owned(uid_of(training), JOB)} | ({recorded} if recorded else set())


def _analyses(store: Store, training: Obj) -> tuple[Obj, ...]:
    return tuple(j for j in store.owned(uid_of(training), JOB) if _is(j, COMPONENT_ANALYSIS))


def _rivals(store: Store, training: Obj) -> tuple[Obj, ...]:
    """Other Trainings that save under the same name and may still do so."""
    return tuple(
        other
        for target in _saves(training)
        for other in store.indexed(TRAININGS_BY_SAVE, target)
        if uid_of(other) != uid_of(training) and (other.get("status") or {}).get("phase") != "Failed"
    )


def _output_of(store: Store, key: Key, origin: Obj | None) -> Obj | None:
    """The output volume of the Training to go on from, as far as it is there to stay."""
    claim = (((origin or {}).get("status") or {}).get("output") or {}).get("pvc")
    found = store.get(PVC, key.namespace, claim) if claim else None
    return None if found is None or is_deleting(found) else found


def _successors(store: Store, key: Key) -> tuple[Obj, ...]:
    """Trainings that have on record that they go on from this one."""
    return tuple(
        other
        for other in store.indexed(TRAININGS_BY_ORIGIN, str(key))
        for used in (other.get("status") or {}).get("inputs") or ()
        if used["name"] == "checkpoint" and used.get("training") == key.name
    )


def _unpriced_node(training: Obj) -> Ref | None:
    """The node that may say what its GPUs cost, as long as nobody has said."""
    status = training.get("status") or {}
    placement, cost = status.get("placement") or {}, status.get("cost") or {}
    if not (placement.get("gpus") and placement.get("nodes")) or cost.get("priceSource"):
        return None
    return Ref(NODE, "", placement["nodes"][0])


def _node(facts: Facts, training: Obj) -> Obj | None:
    ref = _unpriced_node(training)
    fact = facts.object(ref) if ref is not None else None
    return fact.obj if fact is not None else None


def _origin(spec: dict[str, Any]) -> str | None:
    found = ((spec.get("checkpoint") or {}).get("from") or {}).get("training")
    return str(found) if found else None


def _goes_on_from(training: Obj) -> Iterator[str]:
    if name := _origin(_spec(training)):
        yield f"{training['metadata']['namespace']}/{name}"


def _spec(training: Obj) -> dict[str, Any]:
    return dict(training.get("spec") or {})


def _save(spec: dict[str, Any]) -> dict[str, Any]:
    return dict(spec.get("save") or {})


def _models(spec: dict[str, Any]) -> set[str]:
    models = spec.get("model") or {}
    base, assistant = models.get("ref") or {}, models.get("assistantRef") or {}
    data = (spec.get("dataset") or {}).get("ref") or {}
    names = (base.get("name"), assistant.get("name"), data.get("model"), _save(spec).get("model"))
    return {name for name in names if name}


def _found_models(store: Store, key: Key, spec: dict[str, Any]) -> dict[str, Obj]:
    """The Models that the spec names, and the one that holds the base of an adapter that it names."""
    found = {m: obj for m in _models(spec) if (obj := store.get(MODEL, key.namespace, m)) is not None}
    ref = (spec.get("model") or {}).get("ref") or {}
    for entry in ((found.get(ref.get("name", "")) or {}).get("status") or {}).get("syncedVersions") or ():
        base = (entry.get("baseRef") or {}).get("name")
        if entry["name"] == ref.get("version") and base and (obj := store.get(MODEL, key.namespace, base)) is not None:
            found[base] = obj
    return found


def _named(training: Obj) -> Iterator[str]:
    namespace, spec = training["metadata"]["namespace"], _spec(training)
    resolved = {i["model"] for i in (training.get("status") or {}).get("inputs") or () if i.get("model")}
    for model in sorted(_models(spec) | resolved):
        yield f"{MODEL.kind}/{namespace}/{model}"
    source = ((spec.get("dataset") or {}).get("source") or {}).get("sourceRef")
    if source:
        yield f"{MODELSOURCE.kind}/{namespace}/{source}"


def _saves(training: Obj) -> Iterator[str]:
    wanted = _save(_spec(training))
    if wanted.get("model") and wanted.get("version"):
        yield f"{training['metadata']['namespace']}/{wanted['model']}/{wanted['version']}"


def _training_of(obj: Obj) -> Iterator[str]:
    if _is(obj, COMPONENT_TRAINING) and (name := label(obj, LABEL_TRAINING)):
        yield f"{obj['metadata']['namespace']}/{name}"


def _saved_of(claim: Obj) -> Iterator[str]:
    if annotation(claim, ANNOTATION_SAVED) is not None and (model := label(claim, LABEL_MODEL)):
        yield f"{claim['metadata']['namespace']}/{model}"


def _volume_of(job: Obj) -> Iterator[str]:
    if _is(job, COMPONENT_DOWNLOAD) and (volume := label(job, LABEL_VOLUME)):
        yield f"{job['metadata']['namespace']}/{volume}"


def _is(obj: Obj, component: str) -> bool:
    return label(obj, LABEL_COMPONENT) == component


def _keys(trainings: Iterable[Obj]) -> Iterator[Key]:
    for training in trainings:
        yield Key(training["metadata"]["namespace"], training["metadata"]["name"])
