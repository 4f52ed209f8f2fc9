"""Names of every object that Modelyard makes: pure functions of names that users chose, one name for one input.

Two forms. The plain one joins the parts and is used where it can be taken apart again in one way only. Otherwise the
parts are cut and a hash of all of them is appended. A plain name never ends like a hash, so the two never meet.

The limit is 45 characters, because Jobs are named after volumes with up to 18 characters around them, and a Job's name
must fit a label of 63.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Final

NAME_MAX: Final = 45
TRAINING_NAME_MAX: Final = 45
MODEL_NAME_MAX: Final = 63
VERSION_NAME_MAX: Final = 63

HASH_LENGTH: Final = 8
_HASH_LIKE = re.compile(rf"[0-9a-f]{{{HASH_LENGTH}}}")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_ILLEGAL = re.compile(r"[^a-z0-9]+")


def short_hash(*parts: str) -> str:
    """8 hex digits over the parts, which are kept apart: `a-b`, `c` and `a`, `b-c` differ."""
    text = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]


def version_volume(model: str, version: str) -> str:
    """PVC (and Dataset) of a fetched version: `mdl-<model>-<version>`, or cut and with a hash of both."""
    plain = f"mdl-{model}-{version}"
    return plain if _is_separable(version) and _fits(plain) else _hashed("mdl", (model, version), ("version",))


def version_volume_for(model: str, version: str, content_hash: str) -> str:
    """The volume of the same version with other content, that takes over once it is complete: always with a hash."""
    return _hashed("mdl", (model, version), ("content", content_hash))


def share(namespace: str, model: str, version: str) -> str:
    """The REFERENCE Dataset, in another namespace, of a version that `namespace` shares."""
    plain = f"share-{namespace}-{model}-{version}"
    separable = "-" not in namespace and _is_separable(version)
    return plain if separable and _fits(plain) else _hashed("share", (namespace, model, version), ("share",))


def claim_volume(namespace: str, claim: str) -> str:
    """The PersistentVolume, of the whole cluster, that we make for a claim."""
    return _hashed("pv", (namespace, claim), ("volume",))


def data_volume(source: str, repo: str, content_hash: str) -> str:
    """PVC of data that Trainings of one namespace fetch from a ModelSource and share, one per distinct content."""
    return _hashed("data", (source, repo), ("data", content_hash))


def fetch_job(volume: str, attempt: int) -> str:
    """The download Job number `attempt` (from 1) into that volume."""
    return f"fetch-{volume}-{attempt}"


def dataset_job(dataset: str, round: int) -> str:
    """The Job that the Dataset controller makes for that round of a Dataset."""
    return f"dataset-{dataset}-round-{round}"


def dataset_of_job(job: str) -> str | None:
    """The Dataset that a Job of that name fetches for; None if no Dataset has such Jobs."""
    name, round_, number = job.removeprefix("dataset-").rpartition("-round-")
    return name if round_ and number.isdigit() and job.startswith("dataset-") else None


def output_volume(training: str) -> str:
    """PVC of a Training's checkpoints and weights."""
    return f"trn-{training}-output"


def training_job(training: str, attempt: int) -> str:
    """The Job of a Training's attempt, from 1."""
    return f"{training}-{attempt}"


def queue_workload(job: str, uid: str) -> str:
    """What Kueue keeps of a Job; the rule is Kueue's."""
    digest = hashlib.sha1(f"Job\nbatch\n{job}\n{uid}".encode(), usedforsecurity=False).hexdigest()
    return f"job-{job}-{digest[:5]}"


def run_service(training: str) -> str:
    """Headless Service that gives the pods of a Training of several nodes their names."""
    return f"trn-{training}"


def analysis_job(training: str, key: str) -> str:
    """The Job that analyses what a Training reads; `key` is a hash of all that it depends on."""
    return f"{training}-analysis-{key}"


def _is_separable(last: str) -> bool:
    return "-" not in last and _HASH_LIKE.fullmatch(last) is None


def _fits(name: str) -> bool:
    return len(name) <= NAME_MAX and _SUBDOMAIN.fullmatch(name) is not None


def _hashed(prefix: str, parts: tuple[str, ...], more: tuple[str, ...]) -> str:
    digest = short_hash(prefix, *parts, *more)
    room = NAME_MAX - len(prefix) - HASH_LENGTH - 2
    words = _ILLEGAL.sub("-", "-".join(parts).lower()).strip("-")[:room].rstrip("-")
    return "-".join(part for part in (prefix, words, digest) if part)
