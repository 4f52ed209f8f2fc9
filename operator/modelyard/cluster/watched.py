"""Which kinds are watched, and what of them: one list for the feed, the re-list and the store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from modelyard.cluster.client import matches
from modelyard.plan import Kind, Obj
from modelyard.resources import meta


@dataclass(frozen=True, slots=True)
class Watched:
    """A kind and the label selector (`key=value`) of what is watched of it; None is all.

    With `others`, the rest is watched too, and the store keeps it under that kind: whose each object is, and no more.
    """

    kind: Kind
    selector: str | None = None
    others: Kind | None = None

    @property
    def asked(self) -> str | None:
        """The selector that the API server is asked with."""
        return None if self.others is not None else self.selector


@dataclass(frozen=True, slots=True)
class Scope:
    """All that the operator watches: kinds, and namespaces (empty: the whole cluster)."""

    kinds: tuple[Watched, ...]
    namespaces: tuple[str, ...] = ()

    def covers(self, kind: Kind, obj: Obj) -> bool:
        """Whether the watch sees this object, so that the store may hold it."""
        place = obj["metadata"].get("namespace")
        return (place is None or not self.namespaces or place in self.namespaces) and any(
            w.kind == kind and matches(w.asked, obj) for w in self.kinds
        )

    def filed(self, kind: Kind, obj: Obj) -> tuple[Kind, Obj]:
        """Under which kind the store keeps an object, and what of it."""
        for watched in self.kinds:
            if watched.kind == kind and watched.others is not None and not matches(watched.selector, obj):
                return watched.others, _identity(obj)
        return kind, obj

    def stored(self, kind: Kind) -> tuple[Kind, ...]:
        """The kinds under which the store may keep what is of a kind."""
        return (kind, *(w.others for w in self.kinds if w.kind == kind and w.others is not None))

    def places(self, kind: Kind) -> tuple[str | None, ...]:
        """The namespaces to list one by one; `None` once for the whole cluster."""
        return (None,) if kind in meta.CLUSTER_SCOPED else self.namespaces or (None,)


def default_scope(namespaces: Iterable[str] = (), *, datasets: bool = False, volumes: bool = False) -> Scope:
    """Our three kinds, and of claims, Jobs, pods, and Datasets where they are served, those that we made.

    Namespaces too, unless they are given: then each is read by name. `volumes`: PersistentVolumes that we made.
    Beside Datasets, the names of all claims: a Dataset deletes the claim of its name with it, whoever made that.
    """
    places = tuple(namespaces)
    whole = (*meta.ROOT_KINDS, *(() if places else (meta.NAMESPACE,)))
    kinds = (meta.JOB, meta.POD, *((meta.DATASET,) if datasets else ()), *((meta.PV,) if volumes else ()))
    claims = Watched(meta.PVC, meta.MANAGED_SELECTOR, meta.OTHERS_PVC if datasets else None)
    made = tuple(Watched(kind, meta.MANAGED_SELECTOR) for kind in kinds)
    return Scope((*(Watched(kind) for kind in whole), claims, *made), places)


def _identity(obj: Obj) -> Obj:
    """What tells whose an object is, and nothing by which it could be taken for one of ours."""
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "ownerReferences")
    metadata = {key: obj["metadata"][key] for key in kept if key in obj["metadata"]}
    return {"apiVersion": obj.get("apiVersion"), "kind": obj.get("kind"), "metadata": metadata}
