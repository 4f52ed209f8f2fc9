"""An object as clean YAML that can be applied anywhere: what a person would have written. Pure.

Only the fields of the type's spec, no status, no fields of the server, no annotations but a person's own.
"""

from __future__ import annotations

from typing import Any, Final

import yaml
from pydantic import BaseModel

from modelyard.plan import Kind, Obj
from modelyard.resources.meta import GROUP, MODEL, MODELSOURCE, TRAINING
from modelyard.resources.model import ModelSpec
from modelyard.resources.modelsource import ModelSourceSpec
from modelyard.resources.training.spec import TrainingSpec
from modelyard.statusapi.schemas.base import pick

SPECS: Final[dict[Kind, type[BaseModel]]] = {MODEL: ModelSpec, MODELSOURCE: ModelSourceSpec, TRAINING: TrainingSpec}
_TOOLS: Final = ("kubernetes.io", "k8s.io", GROUP)
_TRACKING: Final = ("argocd.argoproj.io", "helm.sh", "fluxcd.io", "app.kubernetes.io")


def manifest(kind: Kind, obj: Obj, *, with_namespace: bool = True) -> dict[str, Any]:
    """The object as a person would have written it."""
    raw = obj["metadata"]
    meta: dict[str, Any] = {"name": raw["name"]}
    if with_namespace:
        meta["namespace"] = raw["namespace"]
    for name in ("labels", "annotations"):
        kept = {key: value for key, value in (raw.get(name) or {}).items() if not _of_a_tool(key, name)}
        if kept:
            meta[name] = kept
    spec = pick(SPECS[kind], obj.get("spec") or {})
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta, "spec": spec}


def to_yaml(content: dict[str, Any]) -> str:
    """As YAML, keys in the order of the manifest."""
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def _of_a_tool(key: str, where: str) -> bool:
    domain = key.partition("/")[0] if "/" in key else ""
    tools = _TOOLS + _TRACKING if where == "annotations" else _TRACKING[1:3]
    return any(domain == tool or domain.endswith(f".{tool}") for tool in tools)
