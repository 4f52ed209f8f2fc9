"""Which kinds are watched, and what of them: one list for the feed, the re-list and the store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from modelyard.cluster.client import matches
from modelyard.plan import Kind, Obj
from modelyard.resources import meta


@dataclass(frozen=True, slots=True)
class Watched:
    """A kind and the label selector (`key=value`) of what is watched of it; None is all."""

    kind: Kind
    selector: str | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """All that the operator watches: kinds, and namespaces (empty: the whole cluster)."""

    kinds: tuple[Watched, ...]
    namespaces: tuple[str, ...] = ()

    def covers(self, kind: Kind, obj: Obj) -> bool:
        """Whether the watch sees this object, so that the store may hold it."""
        place = obj["metadata"].get("namespace")
        return (place is None or not self.namespaces or place in self.namespaces) and any(
            w.kind == kind and matches(w.selector, obj) for w in self.kinds
        )

    def places(self, kind: Kind) -> tuple[str | None, ...]:
        """The namespaces to list one by one; `None` once for the whole cluster."""
        return (None,) if kind in meta.CLUSTER_SCOPED else self.namespaces or (None,)


def default_scope(namespaces: Iterable[str] = (), *, datasets: bool = False, volumes: bool = False) -> Scope:
    """Our three kinds, and of claims, Jobs, pods, and Datasets where they are served, those that we made.

    Namespaces too, unless they are given: then each is read by name. `volumes`: PersistentVolumes that we made.
    """
    places = tuple(namespaces)
    whole = (*meta.ROOT_KINDS, *(() if places else (meta.NAMESPACE,)))
    kinds = (meta.PVC, meta.JOB, meta.POD, *((meta.DATASET,) if datasets else ()), *((meta.PV,) if volumes else ()))
    made = tuple(Watched(kind, meta.MANAGED_SELECTOR) for kind in kinds)
    return Scope(tuple(Watched(kind) for kind in whole) + made, places)
