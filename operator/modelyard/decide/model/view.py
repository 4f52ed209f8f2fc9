"""What a decision about a Model sees: the Model, its source, its volumes and whoever uses them. Immutable, pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from modelyard.observed import DownloadFact, ObjectFact
from modelyard.plan import Obj, Ref
from modelyard.resources import sources
from modelyard.resources.meta import (
    ANNOTATION_RESYNC,
    ANNOTATION_SAVED,
    ANNOTATION_SHARED_VOLUME,
    COMPONENT_DATA,
    DATASET,
    JOB,
    LABEL_ACCEPT_SHARES,
    LABEL_COMPONENT,
    LABEL_MODEL,
    LABEL_VERSION,
    PVC,
)
from modelyard.resources.names import dataset_job, fetch_job, version_volume, version_volume_for
from modelyard.resources.objects import annotation, controller_uid, is_deleting, label, uid_of
from modelyard.resources.sources import Content
from modelyard.resources.sourcetypes import SOURCES
from modelyard.resources.volumes import (
    ANNOTATION_CONTENT,
    ANNOTATION_RETAINED,
    LABEL_DATASET,
    LABEL_VOLUME,
    Seen,
    kind_of,
)

_NEXT_JOBS: Final = 2


@dataclass(frozen=True, slots=True)
class Use:
    """Somebody who needs stored versions: a Training, a pod, or a saved version that builds on one.

    `claims` are volumes by name, `versions` are versions of this Model by name.
    """

    who: str
    claims: frozenset[str] = frozenset()
    versions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Receivers:
    """Who may be shared with: the namespaces that there are, the label by which one accepts, and the operator's own."""

    namespaces: tuple[Obj, ...] = ()
    require: str = f"{LABEL_ACCEPT_SHARES}=true"
    own: str = ""


@dataclass(frozen=True, slots=True)
class ModelView:
    """A Model and everything that decides about it, all in its namespace but for what is shared.

    `claims` and `datasets` carry the Model's label, whoever controls them; `jobs` and `pods` are of downloads for it.
    A volume is a claim of ours or a Dataset; the claim that a Dataset has is not one. `strangers` are objects of others
    that were found under names of ours. `downloads` are reports by volume. `shares` is what shares of this Model, or of
    one of its name before, are made of, in other namespaces; `disks` are PersistentVolumes by name.
    `links` are those that we made for claims of the Model. `borrowed` are claims of what other namespaces share with
    this one, `foreign` their Datasets, `home_labels` the labels of this namespace, all for REFERENCE sources alone.
    `classes` are StorageClasses by name, of claims that are to grow.
    """

    model: Obj
    source: Obj | None = None
    claims: tuple[Obj, ...] = ()
    jobs: tuple[Obj, ...] = ()
    pods: tuple[Obj, ...] = ()
    strangers: Mapping[Ref, Obj] = field(default_factory=dict)
    uses: tuple[Use, ...] = ()
    downloads: Mapping[str, DownloadFact] = field(default_factory=dict)
    datasets: tuple[Obj, ...] = ()
    shares: tuple[Obj, ...] = ()
    disks: Mapping[str, Obj] = field(default_factory=dict)
    receivers: Receivers = field(default_factory=Receivers)
    links: tuple[Obj, ...] = ()
    borrowed: tuple[Obj, ...] = ()
    foreign: Mapping[Ref, Obj] = field(default_factory=dict)
    home_labels: Mapping[str, str] = field(default_factory=dict)
    classes: Mapping[str, ObjectFact] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        """The Model's namespace."""
        return str(self.model["metadata"]["namespace"])

    @property
    def name(self) -> str:
        """The Model's name."""
        return str(self.model["metadata"]["name"])

    @property
    def resync(self) -> str | None:
        """The value for which everything is to be fetched anew, once."""
        return annotation(self.model, ANNOTATION_RESYNC) or None

    def owns(self, obj: Obj) -> bool:
        """Whether the object is controlled by this very Model, not by another one of its name."""
        return controller_uid(obj) == uid_of(self.model)

    def fetched(self) -> tuple[Obj, ...]:
        """The volumes that were made to be fetched into, and are this Model's."""
        return tuple(c for c in (*self.claims, *self.datasets) if self.owns(c) and _is_fetched(c))

    def retained(self) -> tuple[Obj, ...]:
        """The fetched volumes that an earlier Model of this name left behind on request, not those that it orphaned."""
        left = (c for c in (*self.claims, *self.datasets) if controller_uid(c) is None and not is_deleting(c))
        return tuple(c for c in left if _is_fetched(c) and annotation(c, ANNOTATION_RETAINED) is not None)

    def saved(self) -> tuple[Obj, ...]:
        """The volumes that Trainings saved as versions of this Model, oldest first."""
        found = [c for c in self.claims if annotation(c, ANNOTATION_SAVED) and label(c, LABEL_MODEL) == self.name]
        return tuple(sorted(found, key=lambda c: (c["metadata"].get("creationTimestamp", ""), uid_of(c))))

    def seen(self, volume: str) -> Seen:
        """What there is of ours for one volume, and who else has the names for it."""
        found = next((c for c in self.fetched() if c["metadata"]["name"] == volume), None)
        jobs = tuple(j for j in self.jobs if label(j, LABEL_VOLUME) == volume and self.owns(j))
        rounds = tuple(j for j in self.jobs if label(j, LABEL_DATASET) == volume)
        uids = {uid_of(j) for j in (*jobs, *rounds)}
        pods = tuple(p for p in self.pods if controller_uid(p) in uids)
        names = names_of(self.namespace, volume, len(jobs) and max(_number(j) for j in jobs))
        strangers = tuple(self.strangers[ref] for ref in names if ref in self.strangers)
        disk = next((d for d in self.links if (d["spec"].get("claimRef") or {}).get("name") == volume), None)
        return Seen(found, jobs, pods, strangers, self.claim_of(volume), rounds, disk)

    def claim_of(self, dataset: str) -> Obj | None:
        """The claim that the Dataset controller made for a Dataset of that name, the present one or one before."""
        return next((c for c in self.claims if c["metadata"]["name"] == dataset and is_datasets(c)), None)

    def users_of(self, claim: str, version: str | None = None) -> frozenset[str]:
        """Who needs that volume, or the version that it serves: those with whom it is shared too."""
        users = {u.who for u in self.uses if claim in u.claims or (version and version in u.versions)}
        return frozenset(users | {f"the share in namespace {ns}" for ns in self._shared(claim)})

    def _shared(self, volume: str) -> set[str]:
        """The namespaces that have a volume."""
        mine = [s for s in self.shares if annotation(s, ANNOTATION_SHARED_VOLUME) == volume]
        return {s["metadata"]["namespace"] for s in mine if "namespace" in s["metadata"]}


def volume_name(model: str, version: str, content: Content, resync: str | None, *, first: bool) -> str:
    """The volume of a version's content: the plain name for the first one, one with a hash for each that follows."""
    if first:
        return version_volume(model, version)
    return version_volume_for(model, version, content.hash if resync is None else f"{content.hash} {resync}")


def names_of(namespace: str, volume: str, last_job: int = 0) -> tuple[Ref, ...]:
    """The names that a volume and its next download Jobs have or will have."""
    numbers = range(1, last_job + _NEXT_JOBS)
    jobs = (Ref(JOB, namespace, fetch_job(volume, n)) for n in numbers)
    dataset = (Ref(DATASET, namespace, volume), Ref(JOB, namespace, dataset_job(volume, 1)))
    return (Ref(PVC, namespace, volume), *jobs, *dataset)


def is_datasets(obj: Obj) -> bool:
    """Whether the Dataset controller made it for a Dataset: a claim, or the Job of a round."""
    owners = obj["metadata"].get("ownerReferences") or ()
    return label(obj, LABEL_DATASET) is not None and any(
        o.get("controller") and o.get("kind") == DATASET.kind and o.get("name") == label(obj, LABEL_DATASET)
        for o in owners
    )


def version_of(claim: Obj) -> str:
    """The version that a volume is labelled with."""
    return label(claim, LABEL_VERSION) or ""


def holds(claim: Obj, content: Content, resync: str | None) -> bool:
    """Whether the volume is for that content, fetched for that value of the resync annotation if there is one.

    A Dataset is fetched anew where it is, so that any is for any value.
    """
    if annotation(claim, ANNOTATION_CONTENT) != content.hash:
        return False
    return resync is None or kind_of(claim) == DATASET or annotation(claim, ANNOTATION_RESYNC) == resync


def _is_fetched(claim: Obj) -> bool:
    return label(claim, LABEL_COMPONENT) == COMPONENT_DATA and annotation(claim, ANNOTATION_CONTENT) is not None


def _number(job: Obj) -> int:
    tail = str(job["metadata"]["name"]).rpartition("-")[2]
    return int(tail) if tail.isdecimal() else 0


def possible_volumes(model: Obj, source: Obj | None) -> Iterator[tuple[str, str]]:
    """Versions of the spec, each with the names that its volume may get now. Never raises, whatever the spec holds."""
    name = model["metadata"]["name"]
    resync = annotation(model, ANNOTATION_RESYNC) or None
    spec = (source or {}).get("spec") or {}
    type, config = str(spec.get("type")), spec.get("config") or {}
    usable = type in SOURCES and not sources.check_config(type, config)
    for version in (model.get("spec") or {}).get("versions") or ():
        if version.get("repo") is None:
            continue
        yield version["name"], version_volume(name, version["name"])
        if usable:
            content = sources.content(
                type,
                config,
                version["repo"],
                revision=version.get("revision"),
                include=version.get("include") or (),
                exclude=version.get("exclude") or (),
            )
            yield version["name"], volume_name(name, version["name"], content, resync, first=False)
