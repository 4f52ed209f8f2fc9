"""An attempt as a Job of the cluster that the operator runs in.

One Job per attempt, made once and never changed: a Job's template can't be, and `suspend` may belong to Kueue. It
never retries by itself; its failure rules only keep the cause in its condition when the pod is gone. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from modelyard.compute import capacity, gpu, placing
from modelyard.compute.analysis import analysis_job
from modelyard.compute.ended import BAD_INPUT, CONTAINER, STOPPED
from modelyard.compute.observe import observe
from modelyard.compute.observed import Attempt, Cause
from modelyard.compute.pod import Run, grace_seconds, pod_spec
from modelyard.observed import NodeFact
from modelyard.plan import Obj
from modelyard.resources.meta import (
    COMPONENT_TRAINING,
    JOB,
    LABEL_COMPONENT,
    LABEL_TRAINING,
    SERVICE,
    TRAINING,
    managed_labels,
)
from modelyard.resources.names import run_service, training_job
from modelyard.resources.objects import owner_reference
from modelyard.settings import Settings

KUEUE_QUEUE: Final = "kueue.x-k8s.io/queue-name"


class KubernetesCompute:
    """Builds and observes the Jobs of attempts. `ca_pem` is the certificate that trainers trust the collector by."""

    def __init__(self, settings: Settings, ca_pem: str | None = None) -> None:
        self._settings = settings
        self._ca_pem = ca_pem

    def problems(self, training: Obj) -> list[str]:
        """What of a Training can't be placed here, in words for the user."""
        compute = training["spec"].get("compute") or {}
        wanted = placing.wanted_gpus(compute)
        wrong = gpu.problem(wanted) if wanted.count else None
        return [*([wrong] if wrong else []), *placing.extra_problems(compute), *self._nodes_problems(training)]

    def _nodes_problems(self, training: Obj) -> list[str]:
        spec = training["spec"]
        if (count := placing.node_count(spec.get("compute") or {})) == 1:
            return []
        found = []
        if "." in training["metadata"]["name"]:
            found.append("metadata.name: pods of several nodes are named after it, so it can't have dots")
        storage = (spec.get("output") or {}).get("storage") or {}
        modes = storage.get("accessModes") or self._settings.storage.default_access_modes
        if "ReadWriteMany" not in modes:
            found.append(
                f"spec.output.storage.accessModes: {count} nodes write to one volume, so it must be ReadWriteMany, of "
                "a storage class that can be (NFS, CephFS, Lustre, EFS and the like)"
            )
        return found

    def service(self, training: Obj) -> dict[str, Any] | None:
        """What gives the pods of several nodes their names; None for a run of one node."""
        if placing.node_count(training["spec"].get("compute") or {}) == 1:
            return None
        meta = training["metadata"]
        return {
            "apiVersion": SERVICE.api_version,
            "kind": SERVICE.kind,
            "metadata": {
                "namespace": meta["namespace"],
                "name": run_service(meta["name"]),
                "labels": managed_labels(COMPONENT_TRAINING, training=meta["name"]),
                "ownerReferences": [owner_reference(TRAINING, training)],
            },
            "spec": {
                "clusterIP": "None",
                # The nodes must find each other before any of them is ready.
                "publishNotReadyAddresses": True,
                "selector": {LABEL_COMPONENT: COMPONENT_TRAINING, LABEL_TRAINING: meta["name"]},
            },
        }

    def grace_seconds(self, spec: Mapping[str, Any]) -> int:
        """The longest that a pod keeps running after it was told to stop."""
        return grace_seconds(spec)

    def job(
        self,
        training: Obj,
        *,
        attempt: int,
        output_claim: str,
        config: str,
        mounts: Mapping[str, tuple[str, str]],
    ) -> dict[str, Any]:
        """The Job of that attempt. `mounts`: (claim, path in it) by input; `config` is JSON for the trainer."""
        meta, compute = training["metadata"], training["spec"].get("compute") or {}
        labels = managed_labels(COMPONENT_TRAINING, training=meta["name"], attempt=str(attempt))
        queue = compute.get("queueName")
        run = Run(attempt, output_claim, config, mounts)
        template = {
            "metadata": {"labels": labels, "annotations": dict(compute.get("podAnnotations") or {})},
            "spec": pod_spec(training, run, self._settings, self._ca_pem),
        }
        return {
            "apiVersion": JOB.api_version,
            "kind": JOB.kind,
            "metadata": {
                "namespace": meta["namespace"],
                "name": training_job(meta["name"], attempt),
                "labels": {**labels, **({KUEUE_QUEUE: queue} if queue else {})},
                "ownerReferences": [owner_reference(TRAINING, training)],
            },
            "spec": {
                "backoffLimit": 0,
                "podReplacementPolicy": "Failed",
                "suspend": bool(queue),
                **_together(placing.node_count(compute)),
                "podFailurePolicy": {"rules": _rules()},
                "template": template,
            },
        }

    def analysis(
        self,
        training: Obj,
        *,
        name: str,
        output_claim: str,
        config: str,
        mounts: Mapping[str, tuple[str, str]],
    ) -> dict[str, Any]:
        """The Job that looks at what the run reads. It is observed like an attempt."""
        return analysis_job(training, name, Run(0, output_claim, config, mounts), self._settings)

    def capacity(self, spec: Mapping[str, Any], nodes: Sequence[NodeFact]) -> Cause | None:
        """Why these nodes have no place for a run, for ever or for now; None where that is not so."""
        compute, defaults = spec.get("compute") or {}, self._settings.training
        wanted = placing.requested(compute, defaults.default_cpu, defaults.default_memory)
        return capacity.explain(compute, wanted, nodes)

    def observe(self, attempt: int, job: Obj | None, pods: Sequence[Obj], departed: Sequence[Obj] = ()) -> Attempt:
        """The attempt as its Job, its pods and the last words of those that are gone show it."""
        return observe(attempt, job, pods, departed)


def _together(nodes: int) -> dict[str, Any]:
    """Several pods, each with a number that is its rank."""
    return {"completionMode": "Indexed", "completions": nodes, "parallelism": nodes} if nodes > 1 else {}


def _rules() -> list[dict[str, Any]]:
    """In the order that `ended` reads them by."""

    def on_exit(operator: str, code: int) -> dict[str, Any]:
        codes = {"containerName": CONTAINER, "operator": operator, "values": [code]}
        return {"action": "FailJob", "onExitCodes": codes}

    disrupted = {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    return [disrupted, on_exit("In", BAD_INPUT), on_exit("In", STOPPED), on_exit("NotIn", 0)]
