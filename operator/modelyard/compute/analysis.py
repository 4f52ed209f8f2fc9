"""The Job that looks at a Training's data and base model before the run, as the trainer will see them. Pure.

Its pod is an attempt's pod without what costs money: no GPU, no queue, no report to the collector, none of the user's
variables. It keeps the node selector and the tolerations, and prefers the nodes that have the GPU: the output volume is
made where the first pod that mounts it runs.
"""

from __future__ import annotations

from typing import Any, Final

from modelyard.compute import gpu, placing
from modelyard.compute.ended import BAD_INPUT, CONTAINER
from modelyard.compute.pod import Run, pod_spec
from modelyard.plan import Obj
from modelyard.resources.meta import COMPONENT_ANALYSIS, JOB, TRAINING, managed_labels
from modelyard.resources.objects import owner_reference
from modelyard.settings import Collector, Settings

COMMAND: Final = ("python", "-m", "modelyard_training.analysis")
GRACE_SECONDS: Final = 5
TRIES: Final = 3
"""It costs little and has no side effects: the Job controller may repeat it."""

_KEPT: Final = ("nodeSelector", "podAnnotations", "imagePullSecrets", "priorityClassName")


def analysis_job(training: Obj, name: str, run: Run, settings: Settings) -> dict[str, Any]:
    """The Job of that name."""
    meta = training["metadata"]
    labels = managed_labels(COMPONENT_ANALYSIS, training=meta["name"])
    compute = training["spec"].get("compute") or {}
    return {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "metadata": {
            "namespace": meta["namespace"],
            "name": name,
            "labels": labels,
            "ownerReferences": [owner_reference(TRAINING, training)],
        },
        "spec": {
            "backoffLimit": TRIES - 1,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": _rules()},
            "template": {
                "metadata": {"labels": labels, "annotations": dict(compute.get("podAnnotations") or {})},
                "spec": _pod(training, run, settings),
            },
        },
    }


def _pod(training: Obj, run: Run, settings: Settings) -> dict[str, Any]:
    compute = training["spec"].get("compute") or {}
    spec = {"recipe": {"name": "analysis"}, "compute": {k: compute[k] for k in _KEPT if k in compute}}
    alone = settings.model_copy(update={"collector": Collector()})
    pod = pod_spec({**training, "spec": spec}, run, alone, None)
    pod["terminationGracePeriodSeconds"] = GRACE_SECONDS
    if tolerations := placing.tolerations(compute):
        pod["tolerations"] = tolerations
    if (wanted := placing.wanted_gpus(compute)).count:
        preferred = [{"weight": 100, "preference": term} for term in gpu.node_terms(wanted.type)]
        pod["affinity"] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    resources = settings.training.analysis_resources
    (container,) = pod["containers"]
    container |= {
        "command": list(COMMAND),
        "resources": {"requests": dict(resources.requests), "limits": dict(resources.limits)},
    }
    return pod


def _rules() -> list[dict[str, Any]]:
    disrupted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    codes = {"containerName": CONTAINER, "operator": "In", "values": [BAD_INPUT]}
    return [disrupted, {"action": "FailJob", "onExitCodes": codes}]
