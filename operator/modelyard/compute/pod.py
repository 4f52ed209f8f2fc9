"""The pod of an attempt, under the `restricted` Pod Security Standard. Pure.

Nothing in it is writable but the output volume, /tmp and /dev/shm. The only token is the one projected for progress;
its audience names the Training, so a trainer can speak for no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelyard.compute import gpu
from modelyard.compute.ended import CONTAINER
from modelyard.plan import Obj
from modelyard.resources.meta import GROUP
from modelyard.resources.quantities import Gpu, parse_gpu
from modelyard.settings import Settings

OUTPUT_PATH: Final = "/modelyard/output"
MODEL_PATH: Final = "/modelyard/model"
DATASET_PATH: Final = "/modelyard/dataset"
TOKEN_FOLDER: Final = "/var/run/secrets/modelyard"
TOKEN_FILE: Final = f"{TOKEN_FOLDER}/token"
TOKEN_SECONDS: Final = 3600
COMMAND: Final = "modelyard-train"

GRACE_SECONDS: Final = 120
"""Time for a last checkpoint where `checkpoint.graceSeconds` is unset."""


@dataclass(frozen=True, slots=True)
class Run:
    """What one attempt is given: claims as (name, path in the volume), the configuration as JSON."""

    attempt: int
    output_claim: str
    config: str
    model: tuple[str, str] | None
    dataset: tuple[str, str] | None


def grace_seconds(spec: Mapping[str, Any]) -> int:
    """The seconds that a pod of this Training has between SIGTERM and SIGKILL."""
    return int((spec.get("checkpoint") or {}).get("graceSeconds") or GRACE_SECONDS)


def pod_spec(training: Obj, run: Run, settings: Settings, ca_pem: str | None) -> dict[str, Any]:
    """The `spec` of the pod."""
    spec = training["spec"]
    compute = spec.get("compute") or {}
    wanted = parse_gpu(compute.get("gpu"))
    pull_secrets = [*(s["name"] for s in compute.get("imagePullSecrets") or ()), *settings.images.pull_secrets]
    return _set(
        {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": grace_seconds(spec),
            "securityContext": _pod_security(settings),
            "containers": [_container(training, run, settings, ca_pem, wanted)],
            "volumes": _volumes(training, run, compute, settings),
            "nodeSelector": dict(compute.get("nodeSelector") or {}),
            "affinity": _affinity(wanted),
            "tolerations": _tolerations(wanted, compute),
            "priorityClassName": compute.get("priorityClassName"),
            "imagePullSecrets": [{"name": name} for name in dict.fromkeys(pull_secrets)],
        }
    )


def _container(training: Obj, run: Run, settings: Settings, ca_pem: str | None, wanted: Gpu) -> dict[str, Any]:
    compute = training["spec"].get("compute") or {}
    return {
        "name": CONTAINER,
        "image": compute.get("image") or settings.images.trainer,
        "imagePullPolicy": settings.images.pull_policy,
        "command": [COMMAND],
        "env": _environment(training, run, settings, ca_pem),
        "resources": _resources(compute, wanted, settings),
        "terminationMessagePolicy": "File",
        "volumeMounts": _mounts(run, settings),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }


def _environment(training: Obj, run: Run, settings: Settings, ca_pem: str | None) -> list[dict[str, Any]]:
    meta, spec = training["metadata"], training["spec"]
    ours = {
        "HOME": "/tmp",
        "MODELYARD_NAMESPACE": meta["namespace"],
        "MODELYARD_TRAINING": meta["name"],
        "MODELYARD_TRAINING_UID": meta["uid"],
        "MODELYARD_ATTEMPT": str(run.attempt),
        "MODELYARD_CONFIG": run.config,
        "MODELYARD_OUTPUT": OUTPUT_PATH,
        "MODELYARD_GRACE_SECONDS": str(grace_seconds(spec)),
    }
    if run.model is not None:
        ours["MODELYARD_MODEL"] = MODEL_PATH
    if run.dataset is not None:
        ours["MODELYARD_DATASET"] = DATASET_PATH
    if settings.collector.url:
        ours["MODELYARD_COLLECTOR_URL"] = settings.collector.url
        ours["MODELYARD_TOKEN_FILE"] = TOKEN_FILE
        if ca_pem:
            ours["MODELYARD_CA_PEM"] = ca_pem
    theirs = [dict(variable) for variable in (spec.get("compute") or {}).get("env") or ()]
    return [v for v in theirs if v["name"] not in ours] + [{"name": k, "value": v} for k, v in ours.items()]


def _resources(compute: Mapping[str, Any], wanted: Gpu, settings: Settings) -> dict[str, Any]:
    memory = str(compute.get("memory") or settings.training.default_memory)
    extended = {name: str(amount) for name, amount in (compute.get("extraResources") or {}).items()}
    if wanted.count:
        extended[gpu.RESOURCE] = str(wanted.count)
    return {
        "requests": {"cpu": str(compute.get("cpu") or settings.training.default_cpu), "memory": memory, **extended},
        "limits": {"memory": memory, **extended},
    }


def _volumes(training: Obj, run: Run, compute: Mapping[str, Any], settings: Settings) -> list[dict[str, Any]]:
    meta = training["metadata"]
    volumes: list[dict[str, Any]] = [
        {"name": "output", "persistentVolumeClaim": {"claimName": run.output_claim}},
        {"name": "tmp", "emptyDir": _set({"sizeLimit": compute.get("scratch")})},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    for name, claim in _claims(run):
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
    if settings.collector.url:
        audience = f"{GROUP}/training/{meta['namespace']}/{meta['name']}"
        token = {"audience": audience, "expirationSeconds": TOKEN_SECONDS, "path": "token"}
        volumes.append({"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}})
    return volumes


def _claims(run: Run) -> list[tuple[str, str]]:
    named = (("model", run.model), ("dataset", run.dataset))
    return [(name, mount[0]) for name, mount in named if mount is not None]


def _mounts(run: Run, settings: Settings) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {"name": "output", "mountPath": OUTPUT_PATH},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    for name, mount, path in (("model", run.model, MODEL_PATH), ("dataset", run.dataset, DATASET_PATH)):
        if mount is not None:
            mounts.append(_set({"name": name, "mountPath": path, "subPath": mount[1], "readOnly": True}))
    if settings.collector.url:
        mounts.append({"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": True})
    return mounts


def _affinity(wanted: Gpu) -> dict[str, Any] | None:
    if not wanted.count:
        return None
    terms = gpu.node_terms(wanted.type)
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def _tolerations(wanted: Gpu, compute: Mapping[str, Any]) -> list[dict[str, Any]]:
    theirs = [dict(t) for t in compute.get("tolerations") or ()]
    ours = [{"key": gpu.RESOURCE, "operator": "Exists", "effect": "NoSchedule"}] if wanted.count else []
    return ours + [t for t in theirs if t not in ours]


def _pod_security(settings: Settings) -> dict[str, Any]:
    ids = settings.pod_security
    fixed: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if not ids.enabled:
        return fixed
    return {
        **fixed,
        "runAsUser": ids.run_as_user,
        "runAsGroup": ids.run_as_group,
        "fsGroup": ids.fs_group,
        "fsGroupChangePolicy": "OnRootMismatch",
    }


def _set(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that say something."""
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}
