"""From an observed object to its row and its detail. Pure, and the only place that reads objects for an answer.

What must stay true: any object that the API server accepts has a row; what is odd in it is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from modelyard.plan import Obj
from modelyard.resources import conditions, meta
from modelyard.resources.model import ModelSpec, ModelStatus
from modelyard.resources.modelsource import ModelSourceSpec, ModelSourceStatus
from modelyard.resources.objects import annotation, is_deleting, label
from modelyard.resources.quantities import parse_gpu
from modelyard.resources.training.spec import TrainingSpec
from modelyard.resources.training.status import TrainingStatus
from modelyard.statusapi.schemas.base import Severity, pick
from modelyard.statusapi.schemas.objects import (
    DatasetSummary,
    ModelSourceSummary,
    ModelSummary,
    PodSummary,
    TrainingSummary,
)

_SEVERITIES: Final[Mapping[str, Severity]] = {
    "Ready": "ok",
    "Succeeded": "ok",
    "READY": "ok",
    "Running": "busy",
    "Processing": "busy",
    "PROCESSING": "busy",
    "Preparing": "busy",
    "Analyzing": "busy",
    "Provisioning": "busy",
    "Retrying": "busy",
    "Validating": "busy",
    "Pending": "waiting",
    "PENDING": "waiting",
    "Queued": "waiting",
    "Suspended": "waiting",
    "AwaitingApproval": "waiting",
    "Failed": "problem",
    "FAILED": "problem",
    "NotReady": "problem",
}
_ANNOTATIONS: Final = (meta.ANNOTATION_RESYNC, meta.ANNOTATION_APPROVE)


def model(obj: Obj) -> ModelSummary:
    """A Model's row."""
    spec, status = _part(obj, "spec"), _part(obj, "status")
    versions = [v for v in status.get("syncedVersions") or () if isinstance(v, Mapping)]
    percents = [p["percent"] for v in versions if (p := _part(v, "progress")).get("percent") is not None]
    names = [v["name"] for v in [*(spec.get("versions") or ()), *versions] if "name" in v]
    worst = next((v for v in versions if v.get("phase") == "Failed"), {})
    ready = conditions.find(_conditions(obj), "Ready") or {}
    return ModelSummary(
        **_common(obj, status.get("phase") or "Pending", worst or (ready if ready.get("status") == "False" else {})),
        description=_part(spec, "display").get("description"),
        tags=list(_part(spec, "display").get("tags") or ()),
        source=spec.get("sourceRef"),
        versions_ready=status.get("versionsReady"),
        versions_total=status.get("versionsTotal"),
        versions=list(dict.fromkeys(names)),
        percent=min(percents) if percents else None,
        bytes=sum(v.get("bytes") or 0 for v in versions),
        last_sync_time=status.get("lastSyncTime"),
    )


def source(obj: Obj) -> ModelSourceSummary:
    """A ModelSource's row."""
    spec, status = _part(obj, "spec"), _part(obj, "status")
    ready = conditions.find(_conditions(obj), "Ready") or {}
    phase = {"True": "Ready", "False": "NotReady"}.get(ready.get("status", ""), "Pending")
    credentials = conditions.find(_conditions(obj), "CredentialsReady") or {}
    return ModelSourceSummary(
        **_common(obj, phase, ready if phase != "Ready" else {}),
        type=spec.get("type", ""),
        secret_ref=spec.get("secretRef"),
        credentials_ready={"True": True, "False": False}.get(credentials.get("status", "")),
        referenced_by_count=status.get("referencedByCount") or 0,
    )


def training(obj: Obj) -> TrainingSummary:
    """A Training's row."""
    spec, status = _part(obj, "spec"), _part(obj, "status")
    progress, cost = _part(status, "progress"), _part(status, "cost")
    placement, output = _part(status, "placement"), _part(status, "output")
    base, compute = _part(_part(spec, "model"), "ref"), _part(spec, "compute")
    saved = _part(status, "saved")
    stalled = conditions.is_true(_conditions(obj), "Stalled")
    common = _common(obj, status.get("phase") or "Pending", status)
    if stalled:
        common["severity"] = "problem"
    return TrainingSummary(
        **common,
        recipe=_part(spec, "recipe").get("name"),
        model=_named(base.get("name"), base.get("version")),
        percent=progress.get("percent"),
        step=progress.get("step"),
        total_steps=progress.get("totalSteps"),
        epoch=progress.get("epoch"),
        total_epochs=progress.get("totalEpochs"),
        eta_seconds=progress.get("etaSeconds"),
        throughput=progress.get("throughput"),
        unit=progress.get("unit"),
        last_report_time=progress.get("lastReportTime"),
        metrics=dict(output.get("metrics") or status.get("metrics") or {}),
        gpus=_gpus(compute),
        gpu_type=placement.get("gpuType") or _gpu_type(compute),
        attempt=_part(status, "attempts").get("number"),
        start_time=status.get("startTime"),
        completion_time=status.get("completionTime"),
        active_seconds=status.get("activeSeconds"),
        gpu_seconds=cost.get("gpuSeconds"),
        cost_usd=cost.get("estimatedUSD"),
        saved=_named(saved.get("model"), saved.get("version")),
        pod=placement.get("pod"),
    )


def dataset(obj: Obj) -> DatasetSummary:
    """A Dataset's row."""
    spec, status = _part(obj, "spec"), _part(obj, "status")
    place = _part(spec, "source")
    failed = next((c for c in _conditions(obj) if c.get("status") == "False"), {})
    phase = str(status.get("phase") or "PENDING")
    return DatasetSummary(
        **_common(obj, phase, failed if phase == "FAILED" else {}),
        type=place.get("type"),
        uri=_clean_uri(place.get("uri")),
        pvc_name=status.get("pvcName"),
        last_sync_time=status.get("lastSyncTime"),
    )


def pod(obj: Obj) -> PodSummary:
    """A pod's row."""
    spec, status = _part(obj, "spec"), _part(obj, "status")
    containers = status.get("containerStatuses") or ()
    waiting = next((w for c in containers if (w := _part(_part(c, "state"), "waiting")).get("reason")), {})
    attempt = label(obj, meta.LABEL_ATTEMPT) or ""
    return PodSummary(
        # The kubelet's messages can repeat what images and volumes are called, and no more than `kubectl get pod` does.
        **_common(obj, status.get("phase") or "Unknown", {"reason": waiting.get("reason") or status.get("reason")}),
        component=label(obj, meta.LABEL_COMPONENT),
        model=label(obj, meta.LABEL_MODEL),
        version=label(obj, meta.LABEL_VERSION),
        training=label(obj, meta.LABEL_TRAINING),
        attempt=int(attempt) if attempt.isdigit() else None,
        node=spec.get("nodeName"),
        restarts=sum(c.get("restartCount") or 0 for c in containers),
        start_time=status.get("startTime"),
    )


def model_detail(obj: Obj) -> dict[str, Any]:
    """A Model as its types name it."""
    return _detail("Model", obj, ModelSpec, ModelStatus)


def source_detail(obj: Obj) -> dict[str, Any]:
    """A ModelSource as its types name it."""
    return _detail("ModelSource", obj, ModelSourceSpec, ModelSourceStatus)


def training_detail(obj: Obj) -> dict[str, Any]:
    """A Training as its types name it."""
    return _detail("Training", obj, TrainingSpec, TrainingStatus)


def pod_detail(obj: Obj) -> dict[str, Any]:
    """A pod's row, conditions and containers."""
    containers = [_container(c) for c in _part(obj, "status").get("containerStatuses") or ()]
    return {"summary": _plain(pod(obj)), "conditions": _shown_conditions(obj), "containers": containers}


def dataset_detail(obj: Obj) -> dict[str, Any]:
    """A Dataset's row and conditions."""
    return {"summary": _plain(dataset(obj)), "conditions": _shown_conditions(obj)}


def metadata(obj: Obj) -> dict[str, Any]:
    """Who an object is."""
    raw = obj["metadata"]
    return {
        "namespace": raw.get("namespace", ""),
        "name": raw["name"],
        "uid": raw["uid"],
        "resourceVersion": raw["resourceVersion"],
        "generation": raw.get("generation", 0),
        "created": raw["creationTimestamp"],
        "deleting": is_deleting(obj),
        "labels": dict(raw.get("labels") or {}),
        "annotations": {name: value for name in _ANNOTATIONS if (value := annotation(obj, name)) is not None},
    }


def _detail(kind: str, obj: Obj, spec: Any, status: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "metadata": metadata(obj),
        "spec": pick(spec, _part(obj, "spec")),
        "status": pick(status, _part(obj, "status")),
    }


def _common(obj: Obj, phase: str, why: Mapping[str, Any]) -> dict[str, Any]:
    raw = obj["metadata"]
    return {
        "namespace": raw.get("namespace", ""),
        "name": raw["name"],
        "uid": raw["uid"],
        "created": raw["creationTimestamp"],
        "deleting": is_deleting(obj),
        "labels": dict(raw.get("labels") or {}),
        "phase": phase,
        "severity": _SEVERITIES.get(phase, "unknown"),
        "reason": why.get("reason") or None,
        "message": why.get("message") or None,
    }


def _container(raw: Mapping[str, Any]) -> dict[str, Any]:
    state = next(iter(_part(raw, "state")), "unknown")
    details = _part(_part(raw, "state"), state)
    return {
        "name": raw.get("name", ""),
        "image": raw.get("image"),
        "ready": bool(raw.get("ready")),
        "restarts": raw.get("restartCount") or 0,
        "state": state,
        "reason": details.get("reason"),
        "exitCode": details.get("exitCode"),
    }


def _shown_conditions(obj: Obj) -> list[dict[str, Any]]:
    names = ("type", "status", "reason", "message", "lastTransitionTime")
    return [{name: c[name] for name in names if c.get(name) is not None} for c in _conditions(obj)]


def _conditions(obj: Obj) -> Sequence[Mapping[str, Any]]:
    return [c for c in _part(obj, "status").get("conditions") or () if isinstance(c, Mapping)]


def _part(obj: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = obj.get(name)
    return part if isinstance(part, Mapping) else {}


def _plain(row: Any) -> Any:
    return row.model_dump(mode="json", by_alias=True, exclude_none=True)


def _named(name: str | None, version: str | None) -> str | None:
    return f"{name}/{version}" if name and version else name or None


def _gpus(compute: Mapping[str, Any]) -> int | None:
    try:
        return parse_gpu(compute.get("gpu")).count * int(compute.get("nodes") or 1)
    except ValueError:
        return None


def _gpu_type(compute: Mapping[str, Any]) -> str | None:
    try:
        return parse_gpu(compute.get("gpu")).type or None
    except ValueError:
        return None


def _clean_uri(uri: Any) -> str | None:
    if not isinstance(uri, str):
        return None
    try:
        parts = urlsplit(uri)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    return f"{parts.scheme}://{host}{port}{parts.path}"
