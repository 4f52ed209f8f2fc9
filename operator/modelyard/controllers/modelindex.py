"""What an observed object has to do with Models: the values under which the store finds it again. Pure.

Nothing here raises for an object that the API server accepts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from modelyard.cluster.mounts import claims_of
from modelyard.decide.model.saved import record_of
from modelyard.plan import Obj
from modelyard.resources.meta import (
    COMPONENT_DOWNLOAD,
    LABEL_COMPONENT,
    LABEL_MODEL,
    LABEL_NAMESPACE,
    LABEL_SHARED_MODEL,
    LABEL_SHARED_NAMESPACE,
)
from modelyard.resources.objects import label


def model_of(obj: Obj) -> Iterator[str]:
    """The Model that it was made for. What belongs to the whole cluster names the namespace in a label."""
    namespace = obj["metadata"].get("namespace") or label(obj, LABEL_NAMESPACE)
    if namespace and (name := label(obj, LABEL_MODEL)):
        yield f"{namespace}/{name}"


def home_of_share(claim: Obj) -> Iterator[str]:
    """The namespace that a share is in."""
    if label(claim, LABEL_SHARED_NAMESPACE):
        yield claim["metadata"]["namespace"]


def home_of_reference(source: Obj) -> Iterator[str]:
    """The namespace of a source that refers to what is shared with it."""
    if (source.get("spec") or {}).get("type") == "REFERENCE":
        yield source["metadata"]["namespace"]


def sharer_of(obj: Obj) -> Iterator[str]:
    """The Model that shares it with the namespace in which it is."""
    if (namespace := label(obj, LABEL_SHARED_NAMESPACE)) and (name := label(obj, LABEL_SHARED_MODEL)):
        yield f"{namespace}/{name}"


def shares(model: Obj) -> Iterator[str]:
    """Something if the Model shares versions, or has shared some."""
    versions = (model.get("spec") or {}).get("versions") or ()
    entries = (model.get("status") or {}).get("syncedVersions") or ()
    if any((v.get("share") or {}).get("enabled") for v in versions) or any(e.get("sharedWith") for e in entries):
        yield "yes"


def base_of(claim: Obj) -> Iterator[str]:
    """The Model that a saved version builds on."""
    base = record_of(claim).get("baseRef")
    if isinstance(base, dict) and base.get("name"):
        yield f"{claim['metadata']['namespace']}/{base['name']}"


def claims_in_use(pod: Obj) -> Iterator[str]:
    """What a pod holds: nothing once it has ended; a download's own volume does not count."""
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed") or is_download(pod):
        return
    for name in claims_of(pod):
        yield f"{pod['metadata']['namespace']}/{name}"


def references(training: Obj) -> Iterator[tuple[str, str]]:
    """Model and version of what a Training names."""
    spec: dict[str, Any] = dict(training.get("spec") or {})
    models, data = spec.get("model") or {}, (spec.get("dataset") or {}).get("ref") or {}
    refs = [models.get("ref") or {}, models.get("assistantRef") or {}]
    for model, version in (
        *((r.get("name"), r.get("version")) for r in refs),
        (data.get("model"), data.get("version")),
    ):
        if model and version:
            yield str(model), str(version)


def models_of_training(training: Obj) -> Iterator[str]:
    """Models that a Training names, or reads."""
    namespace = training["metadata"]["namespace"]
    inputs = (training.get("status") or {}).get("inputs") or ()
    names = {model for model, _ in references(training)} | {i["model"] for i in inputs if i.get("model")}
    for name in sorted(names):
        yield f"{namespace}/{name}"


def is_download(obj: Obj) -> bool:
    """Whether it is a download Job, or its pod."""
    return label(obj, LABEL_COMPONENT) == COMPONENT_DOWNLOAD
