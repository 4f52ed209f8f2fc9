"""A fetched volume in words that decisions and data planes share: what is wanted, what is seen, how far it is.

Decisions say *what* a volume shall hold (`Want`) and hand over what is in the cluster for it (`Seen`); a data plane
answers with writes and a stage (`Step`). Neither knows the other. Pure values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from modelyard import settings
from modelyard.plan import Action, Kind, Obj
from modelyard.resources.common import Storage
from modelyard.resources.meta import ANNOTATION_RESYNC, COMPONENT_DATA, DATASET, GROUP, LABEL_COMPONENT, PVC
from modelyard.resources.sources import Content

LABEL_VOLUME: Final = f"{GROUP}/volume"
"""On a download Job and its pods: the volume that it fills."""
ANNOTATION_CONTENT: Final = f"{GROUP}/content"
"""On a fetched volume: hash of what it holds or is to hold."""
ANNOTATION_RETAINED: Final = f"{GROUP}/retained"
"""On a fetched volume that outlives its Model: when it was given up for the next Model of that name to take back."""
ANNOTATION_SECRET_VERSION: Final = f"{GROUP}/secret-version"
"""On a download Job: resourceVersion of the Secret with which it was started."""
ANNOTATION_SIZE: Final = f"{GROUP}/volume-size"
"""On a download Job: what the volume's claim asked for when it was started."""
ANNOTATION_TOUCHED: Final = f"{GROUP}/touched"
"""On a Dataset: how often and when it was touched to have it looked at again, `<n> <time>`."""
LABEL_DATASET: Final = "baize.io/dataset-name"
"""On what the Dataset controller makes: the Dataset that it is for."""

DATA_PATH: Final = "data"
"""Folder of a fetched volume that holds the files; it appears by one rename when they are complete."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The volume claim to make. None: as the operator's settings say."""

    size: str | None = None
    access_modes: tuple[str, ...] = ()
    storage_class: str | None = None

    @classmethod
    def of(cls, storage: Storage | None) -> Claim:
        """What a manifest's `storage` asks for."""
        if storage is None:
            return cls()
        requests = storage.resources.requests if storage.resources is not None else None
        size = requests.storage if requests is not None else None
        return cls(size, tuple(storage.access_modes), storage.storage_class_name)


@dataclass(frozen=True, slots=True)
class Reporter:
    """Under which name a download reports: `model/<ns>/<name>` or `training/<ns>/<name>`, and which version of it."""

    kind: str
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Result:
    """What a complete download found. Fields that are not known are None."""

    revision: str | None = None
    bytes: int | None = None
    files: int | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Want:
    """A volume that shall hold `content`, fetched with the Secret named `secret`.

    `owner` is the controller reference of everything made for it; `labels` go on everything too. The content's hash
    and `resync` are kept with the volume, to tell later what it holds. `secret_version` changes when a refused download
    is worth another try. `known` is set if the volume was seen complete before: a Job that is gone is then not missed.
    `kept_as` is what keeps the version so far (a claim of ours, or a Dataset): it stays with that. `share` selects the
    namespaces that may refer to a Dataset; None: no other than its own.
    """

    namespace: str
    name: str
    owner: Mapping[str, Any]
    labels: Mapping[str, str]
    content: Content
    claim: Claim
    reporter: Reporter
    secret: str | None = None
    resync: str | None = None
    secret_version: str | None = None
    known: bool = False
    kept_as: Kind | None = None
    share: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is for one volume: the volume, download Jobs and their pods, and who else has our names.

    The volume is a claim of ours, or a Dataset; `claim` and `rounds` are what the Dataset controller made for a Dataset
    of that name, maybe for one that is gone. `disk` is a PersistentVolume that we made for the claim.
    """

    volume: Obj | None = None
    jobs: tuple[Obj, ...] = ()
    pods: tuple[Obj, ...] = ()
    strangers: tuple[Obj, ...] = ()
    claim: Obj | None = None
    rounds: tuple[Obj, ...] = ()
    disk: Obj | None = None


class Stage(Enum):
    """How far a volume is."""

    WAITING = "waiting"
    """Nothing can be done until something else is gone."""
    WORKING = "working"
    """It is being filled, or will be tried again by itself."""
    READY = "ready"
    FAILED = "failed"
    """Nothing more happens until somebody changes something."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a data plane does next for one volume, and what it says about it.

    `reason` is CamelCase and `message` our own words. `completed` is when the files were complete (RFC 3339).
    `serves`: the volume, though not ready, still holds the files from before.
    """

    stage: Stage
    reason: str
    message: str
    actions: tuple[Action, ...] = ()
    requeue_after: float | None = None
    attempts: int | None = None
    result: Result | None = None
    completed: str | None = None
    serves: bool = False


def claim_spec(claim: Claim, storage: settings.Storage, default_size: str | None = None) -> dict[str, Any]:
    """The `spec` of a claim, as wanted, else as the settings say: always with a size and access modes."""
    spec: dict[str, Any] = {
        "accessModes": list(claim.access_modes or storage.default_access_modes),
        "resources": {"requests": {"storage": claim.size or default_size or storage.default_size}},
    }
    if (storage_class := claim.storage_class or storage.default_storage_class) is not None:
        spec["storageClassName"] = storage_class
    return spec


def claim_for(want: Want, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The claim to make for a volume."""
    return {"apiVersion": PVC.api_version, "kind": PVC.kind, "metadata": volume_metadata(want), "spec": dict(spec)}


def volume_metadata(want: Want, **annotations: str) -> dict[str, Any]:
    """Of a claim or Dataset to make: it tells what the volume is to hold, and which resync that is of."""
    told = {ANNOTATION_CONTENT: want.content.hash, **annotations}
    if want.resync is not None:
        told[ANNOTATION_RESYNC] = want.resync
    return {
        "name": want.name,
        "namespace": want.namespace,
        "labels": {**want.labels, LABEL_COMPONENT: COMPONENT_DATA},
        "annotations": told,
        "ownerReferences": [dict(want.owner)],
    }


def kind_of(volume: Obj) -> Kind:
    """Whether a volume is a claim or a Dataset."""
    return DATASET if volume.get("kind") == DATASET.kind else PVC
