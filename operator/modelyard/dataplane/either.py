"""Both data planes as one: a version stays with the one that keeps it, and only a new one goes to the preferred.

Pure. Which one keeps a version is read off its volume (a claim of ours, or a Dataset) and its status.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from modelyard.dataplane.baize import BaizePlane
from modelyard.dataplane.native import NativePlane
from modelyard.dataplane.shares import lend, take_back
from modelyard.plan import Action, Obj
from modelyard.resources.meta import DATASET, JOB, PVC
from modelyard.resources.shares import Lent, Loan
from modelyard.resources.volumes import Seen, Stage, Step, Want, kind_of
from modelyard.settings import Settings


class EitherPlane:
    """Our own plane, and the Dataset controller's where `datasets` (its kind) are served."""

    def __init__(self, settings: Settings, *, datasets: bool, ca_pem: str | None = None) -> None:
        self._settings = settings
        self._native = NativePlane(settings, ca_pem)
        self._baize = BaizePlane(settings)
        self._datasets = datasets
        self._preferred = DATASET if datasets and settings.data_plane != "native" else PVC

    def step(self, want: Want, seen: Seen, now: datetime) -> Step:
        """What to do next so that the volume holds what is wanted, and how far it is."""
        kind = kind_of(seen.volume) if seen.volume is not None else want.kept_as or self._preferred
        if kind == PVC:
            return self._native.step(want, _as_native(seen), now)
        if not self._datasets:
            return Step(
                Stage.FAILED,
                "DatasetsNotServed",
                "A Dataset keeps this version, and the cluster no longer serves Datasets: install their CRD and "
                "controller again, or set the version ABSENT and then PRESENT to have it fetched without them.",
            )
        return self._baize.step(want, _as_baize(seen), now)

    def remove(self, seen: Seen) -> tuple[Action, ...]:
        """Deletes the volume and what was made to fill it."""
        if seen.volume is not None and kind_of(seen.volume) == DATASET:
            return self._baize.remove(_as_baize(seen))
        return self._native.remove(seen)

    def is_complete(self, seen: Seen) -> bool:
        """Whether the volume holds all its files."""
        if seen.volume is not None and kind_of(seen.volume) == DATASET:
            return self._baize.is_complete(seen)
        return self._native.is_complete(seen)

    def lend(self, loan: Loan, lent: Lent, now: datetime) -> Step:
        """What to do next so that another namespace has the version, and how far it is."""
        if loan.kind == DATASET and not self._datasets:
            return Step(Stage.FAILED, "DatasetsNotServed", "A Dataset keeps this version, and Datasets are not served.")
        return lend(loan, lent, self._settings, now)

    def take_back(self, lent: Lent) -> tuple[Action, ...]:
        """Deletes all that a share is made of, and none of the files."""
        return take_back(lent)


def _as_native(seen: Seen) -> Seen:
    return replace(seen, strangers=tuple(s for s in seen.strangers if not _is_datasets(s)))


def _as_baize(seen: Seen) -> Seen:
    strangers = (s for s in seen.strangers if s.get("kind") == PVC.kind or _is_datasets(s))
    return replace(seen, strangers=tuple(strangers))


def _is_datasets(obj: Obj) -> bool:
    """Whether its name is one of a Dataset's: the Dataset itself, or the Job of a round."""
    is_job = obj.get("kind") == JOB.kind and str(obj["metadata"]["name"]).startswith("dataset-")
    return is_job or obj.get("kind") == DATASET.kind
