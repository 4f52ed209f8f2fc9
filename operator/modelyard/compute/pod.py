"""The pod of an attempt, under the `restricted` Pod Security Standard. Pure.

Nothing in it is writable but the output volume, /tmp and /dev/shm. The only token is the one projected for progress;
its audience names the Training, so a trainer can speak for no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from modelyard.compute import placing
from modelyard.compute.ended import CONTAINER
from modelyard.plan import Obj
from modelyard.resources.meta import GROUP
from modelyard.resources.names import run_service, training_job
from modelyard.settings import Settings

OUTPUT_PATH: Final = "/modelyard/output"
INPUTS: Final = ("model", "adapter", "assistant", "dataset", "checkpoint")
"""What a run can read, each mounted read-only at `/modelyard/<name>`, which `MODELYARD_<NAME>` says to the trainer."""

TOKEN_FOLDER: Final = "/var/run/secrets/modelyard"
TOKEN_FILE: Final = f"{TOKEN_FOLDER}/token"
TOKEN_SECONDS: Final = 3600
COMMAND: Final = "modelyard-train"
AGENT_FOLDER: Final = "/modelyard/agent"
AGENT_FILE: Final = f"{AGENT_FOLDER}/modelyard-train.pyz"

GRACE_SECONDS: Final = 120
"""Time for a last checkpoint where `checkpoint.graceSeconds` is unset."""

_CONTAINER_SECURITY: Final = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


@dataclass(frozen=True, slots=True)
class Run:
    """What one attempt is given: inputs as (claim, path in the volume) by name, the configuration as JSON."""

    attempt: int
    output_claim: str
    config: str
    mounts: Mapping[str, tuple[str, str]]

    def inputs(self) -> list[tuple[str, str, str]]:
        """Name, claim and path in it of each input, in a fixed order."""
        return [(name, *self.mounts[name]) for name in INPUTS if name in self.mounts]


def input_path(name: str) -> str:
    """Where an input is mounted."""
    return f"/modelyard/{name}"


def grace_seconds(spec: Mapping[str, Any]) -> int:
    """The seconds that a pod of this Training has between SIGTERM and SIGKILL."""
    return int((spec.get("checkpoint") or {}).get("graceSeconds") or GRACE_SECONDS)


def pod_spec(training: Obj, run: Run, settings: Settings, ca_pem: str | None) -> dict[str, Any]:
    """The `spec` of the pod."""
    spec = training["spec"]
    compute = spec.get("compute") or {}
    pull_secrets = [*(s["name"] for s in compute.get("imagePullSecrets") or ()), *settings.images.pull_secrets]
    return _set(
        {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": grace_seconds(spec),
            "securityContext": _pod_security(settings),
            "subdomain": run_service(training["metadata"]["name"]) if placing.node_count(compute) > 1 else None,
            "initContainers": [_agent_container(settings)] if _custom(spec) else [],
            "containers": [_container(training, run, settings, ca_pem)],
            "volumes": _volumes(training, run, compute, settings),
            "nodeSelector": dict(compute.get("nodeSelector") or {}),
            "affinity": placing.affinity(training["metadata"]["name"], run.attempt, compute),
            "tolerations": placing.tolerations(compute),
            "priorityClassName": compute.get("priorityClassName"),
            "imagePullSecrets": [{"name": name} for name in dict.fromkeys(pull_secrets)],
        }
    )


def _custom(spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The user's own program, if the recipe is that."""
    recipe = spec.get("recipe") or {}
    return (recipe.get("custom") or {}) if recipe.get("name") == "custom" else None


def _command(spec: Mapping[str, Any]) -> list[str]:
    """Process 1 is the agent in every image; a program of the user's own is its argument."""
    program = _custom(spec)
    if program is None:
        return [COMMAND]
    return ["python3", AGENT_FILE, "--", *program.get("command", ()), *(program.get("args") or ())]


def _agent_container(settings: Settings) -> dict[str, Any]:
    """Brings the agent, one file of Python, into a pod whose image knows nothing of it."""
    resources = {"cpu": "50m", "memory": "128Mi"}
    return {
        "name": "agent",
        "image": settings.images.loader,
        "imagePullPolicy": settings.images.pull_policy,
        "command": ["python", "-m", "modelyard_training.agent.bundle", AGENT_FILE],
        "resources": {"requests": resources, "limits": {"memory": resources["memory"]}},
        "volumeMounts": [{"name": "agent", "mountPath": AGENT_FOLDER}],
        "securityContext": _CONTAINER_SECURITY,
    }


def _container(training: Obj, run: Run, settings: Settings, ca_pem: str | None) -> dict[str, Any]:
    compute = training["spec"].get("compute") or {}
    return {
        "name": CONTAINER,
        "image": compute.get("image") or settings.images.trainer,
        "imagePullPolicy": settings.images.pull_policy,
        "command": _command(training["spec"]),
        "env": _environment(training, run, settings, ca_pem),
        "resources": _resources(compute, settings),
        "terminationMessagePolicy": "File",
        "volumeMounts": _mounts(training["spec"], run, settings),
        "securityContext": _CONTAINER_SECURITY,
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
    for name, _, _ in run.inputs():
        ours[f"MODELYARD_{name.upper()}"] = input_path(name)
    if settings.collector.url:
        ours["MODELYARD_COLLECTOR_URL"] = settings.collector.url
        ours["MODELYARD_TOKEN_FILE"] = TOKEN_FILE
        if ca_pem:
            ours["MODELYARD_CA_PEM"] = ca_pem
    compute = spec.get("compute") or {}
    ours |= _world(meta["name"], run.attempt, compute)
    theirs = [v for v in map(dict, compute.get("env") or ()) if v["name"] not in ours]
    named = {v["name"] for v in theirs}
    if secrets := [v["name"] for v in theirs if "secretKeyRef" in (v.get("valueFrom") or {})]:
        ours["MODELYARD_SECRETS"] = ",".join(secrets)
    usual = {name: value for name, value in _usual(compute).items() if name not in named}
    return [*_variables(usual), *theirs, *_variables(ours)]


def _variables(values: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in values.items()]


def _usual(compute: Mapping[str, Any]) -> dict[str, str]:
    """What is set unless the user sets it."""
    if not placing.wanted_gpus(compute).count and not compute.get("extraResources"):
        # Images made for GPUs ask for all of them, and where that is the runtime's way they get them, unpaid.
        return {"NVIDIA_VISIBLE_DEVICES": "void"}
    # What NCCL warns of is the only trace of a broken link between GPUs.
    return {"NCCL_DEBUG": "WARN"}


def _world(training: str, attempt: int, compute: Mapping[str, Any]) -> dict[str, str]:
    """How many processes train together, and where they meet: the first pod, by its stable name."""
    nodes, processes = placing.node_count(compute), placing.wanted_gpus(compute).count
    found = {"MODELYARD_PROCESSES_PER_NODE": str(processes)} if processes > 1 else {}
    if nodes > 1:
        found["MODELYARD_NODES"] = str(nodes)
        found["MODELYARD_MASTER_ADDR"] = f"{training_job(training, attempt)}-0.{run_service(training)}"
    return found


def _resources(compute: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    wanted = placing.requested(compute, settings.training.default_cpu, settings.training.default_memory)
    return {"requests": wanted, "limits": {name: amount for name, amount in wanted.items() if name != "cpu"}}


def _volumes(training: Obj, run: Run, compute: Mapping[str, Any], settings: Settings) -> list[dict[str, Any]]:
    meta = training["metadata"]
    volumes: list[dict[str, Any]] = [
        {"name": "output", "persistentVolumeClaim": {"claimName": run.output_claim}},
        {"name": "tmp", "emptyDir": _set({"sizeLimit": compute.get("scratch")})},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    if _custom(training["spec"]) is not None:
        volumes.append({"name": "agent", "emptyDir": {}})
    for name, claim, _ in run.inputs():
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": claim, "readOnly": True}})
    if settings.collector.url:
        audience = f"{GROUP}/training/{meta['namespace']}/{meta['name']}"
        token = {"audience": audience, "expirationSeconds": TOKEN_SECONDS, "path": "token"}
        volumes.append({"name": "token", "projected": {"sources": [{"serviceAccountToken": token}]}})
    return volumes


def _mounts(spec: Mapping[str, Any], run: Run, settings: Settings) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {"name": "output", "mountPath": OUTPUT_PATH},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    for name, _, path in run.inputs():
        mounts.append(_set({"name": name, "mountPath": input_path(name), "subPath": path, "readOnly": True}))
    if _custom(spec) is not None:
        mounts.append({"name": "agent", "mountPath": AGENT_FOLDER, "readOnly": True})
    if settings.collector.url:
        mounts.append({"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": True})
    return mounts


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
