"""A fetched volume in words that decisions and data planes share: what is wanted, what is seen, how far it is.

Decisions say *what* a volume shall hold (`Want`) and hand over what is in the cluster for it (`Seen`); a data plane
answers with writes and a stage (`Step`). Neither knows the other. Pure values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from modelyard.plan import Action, Obj
from modelyard.resources.meta import GROUP
from modelyard.resources.sources import Content

LABEL_VOLUME: Final = f"{GROUP}/volume"
"""On a download Job and its pods: the volume that it fills."""
ANNOTATION_CONTENT: Final = f"{GROUP}/content"
"""On a fetched volume: hash of what it holds or is to hold."""
ANNOTATION_SECRET_VERSION: Final = f"{GROUP}/secret-version"
"""On a download Job: resourceVersion of the Secret with which it was started."""

DATA_PATH: Final = "data"
"""Folder of a fetched volume that holds the files; it appears by one rename when they are complete."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The volume claim to make. None: as the operator's settings say."""

    size: str | None = None
    access_modes: tuple[str, ...] = ()
    storage_class: str | None = None


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


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is for one volume: the claim, download Jobs of ours and their pods, and who else has our names."""

    volume: Obj | None = None
    jobs: tuple[Obj, ...] = ()
    pods: tuple[Obj, ...] = ()
    strangers: tuple[Obj, ...] = ()


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
    """

    stage: Stage
    reason: str
    message: str
    actions: tuple[Action, ...] = ()
    requeue_after: float | None = None
    attempts: int | None = None
    result: Result | None = None
    completed: str | None = None
