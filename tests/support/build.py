"""Builders of Kubernetes objects for tests: small dicts as a user would write them, with what a test cares about."""

from __future__ import annotations

import json
from typing import Any

API = "modelyard.dev/v1alpha1"
NS = "team-a"

Obj = dict[str, Any]


def make_object(api_version: str, kind: str, name: str, *, namespace: str = NS, **fields: Any) -> Obj:
    """Any object; `labels`, `annotations`, `owners`, `finalizers` go to its metadata, the rest beside it."""
    metadata: Obj = {"name": name, "namespace": namespace}
    for key, target in (
        ("labels", "labels"),
        ("annotations", "annotations"),
        ("owners", "ownerReferences"),
        ("finalizers", "finalizers"),
    ):
        if (value := fields.pop(key, None)) is not None:
            metadata[target] = value
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def make_source(
    name: str = "hub",
    type: str = "HUGGING_FACE",
    *,
    secret: str | None = None,
    config: dict[str, str] | None = None,
    **fields: Any,
) -> Obj:
    """A ModelSource."""
    spec: Obj = {"type": type}
    if secret is not None:
        spec["secretRef"] = secret
    if config is not None:
        spec["config"] = config
    return make_object(API, "ModelSource", name, spec=spec, **fields)


def make_version(name: str = "v1", repo: str | None = "org/repo", **fields: Any) -> Obj:
    """One entry of `spec.versions`; `repo=None` for one that a Training saves."""
    return {"name": name, **({"repo": repo} if repo is not None else {}), **fields}


def make_model(
    name: str = "m",
    *versions: Obj,
    source: str | None = "hub",
    retention: dict[str, str] | None = None,
    **fields: Any,
) -> Obj:
    """A Model; of one version `v1` from `org/repo` if none is given."""
    spec: Obj = {"versions": list(versions or (make_version(),))}
    if source is not None:
        spec["sourceRef"] = source
    if retention is not None:
        spec["retention"] = retention
    return make_object(API, "Model", name, spec=spec, **fields)


def make_training(name: str = "t", *, spec: Obj | None = None, **fields: Any) -> Obj:
    """A Training with just the given spec."""
    return make_object(API, "Training", name, spec=spec or {}, **fields)


def make_secret(name: str, data: dict[str, str] | None = None, **fields: Any) -> Obj:
    """A Secret; `data` in clear text."""
    return make_object("v1", "Secret", name, stringData=data or {}, **fields)


def make_claim(name: str, *, size: str = "1Gi", phase: str = "Bound", **fields: Any) -> Obj:
    """A PersistentVolumeClaim, as bound as `phase` says."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
    status = {"phase": phase, **({"capacity": {"storage": size}} if phase == "Bound" else {})}
    return make_object("v1", "PersistentVolumeClaim", name, spec=spec, status=status, **fields)


def make_saved_claim(name: str, model: str, version: str, record: Obj, **fields: Any) -> Obj:
    """The output volume of a Training whose result was saved as a Model version."""
    labels = {
        "app.kubernetes.io/managed-by": "modelyard",
        "app.kubernetes.io/component": "output",
        "modelyard.dev/model": model,
        "modelyard.dev/version": version,
        **fields.pop("labels", {}),
    }
    return make_claim(name, labels=labels, annotations={"modelyard.dev/saved": json.dumps(record)}, **fields)


def make_pod(name: str, *, claims: tuple[str, ...] = (), phase: str = "Running", **fields: Any) -> Obj:
    """A pod that mounts the claims."""
    volumes = [{"name": f"v{i}", "persistentVolumeClaim": {"claimName": c}} for i, c in enumerate(claims)]
    containers = [{"name": "main", "image": "none"}]
    return make_object(
        "v1", "Pod", name, spec={"containers": containers, "volumes": volumes}, status={"phase": phase}, **fields
    )
