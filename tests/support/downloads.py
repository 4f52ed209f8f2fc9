"""Download Jobs on a cluster without nodes: tests play the kubelet and end pods, the Job controller is real."""

from __future__ import annotations

import json
from typing import Any

from modelyard.resources.meta import JOB, POD, PVC
from support.cluster import Kube, Refused, wait_for

DONE = {"result": "done", "resolvedRevision": "c0ffee", "bytes": 12, "files": 2, "digest": "sha256:ab"}


def failure(reason: str, message: str) -> dict[str, Any]:
    """What a loader leaves that could not do it."""
    return {"result": "failed", "reason": reason, "message": message, "retryable": False}


def end_download(kube: Kube, namespace: str, job: str, said: dict[str, Any] | None = None, exit_code: int = 0) -> None:
    """The pod of that Job ends with that exit code and those last words; returns when the Job says so."""
    pod = wait_for(lambda: _pod_of(kube, namespace, job), f"a pod of {job}")
    ended = {
        "exitCode": exit_code,
        "reason": "Error" if exit_code else "Completed",
        "message": json.dumps(said if said is not None else DONE),
        "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": "2026-01-01T00:00:01Z",
    }
    container = {
        "name": pod["spec"]["containers"][0]["name"],
        "image": "none",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": {"terminated": ended},
    }
    status = {"phase": "Failed" if exit_code else "Succeeded", "containerStatuses": [container]}
    kube.merge(POD, namespace, pod["metadata"]["name"], {"status": status}, "status")
    wanted = "Failed" if exit_code else "Complete"
    wait_for(lambda: wanted in _conditions(kube, namespace, job), f"{job} to be {wanted}")


def jobs(kube: Kube, namespace: str) -> list[str]:
    """Names of the Jobs that are not on their way out."""
    return sorted(j["metadata"]["name"] for j in kube.list(JOB, namespace) if "deletionTimestamp" not in j["metadata"])


def claims(kube: Kube, namespace: str) -> list[str]:
    """Names of the volume claims."""
    return sorted(c["metadata"]["name"] for c in kube.list(PVC, namespace))


def _pod_of(kube: Kube, namespace: str, job: str) -> dict[str, Any] | None:
    found = kube.list(POD, namespace, f"batch.kubernetes.io/job-name={job}")
    return found[0] if found else None


def _conditions(kube: Kube, namespace: str, job: str) -> set[str]:
    try:
        found = kube.get(JOB, namespace, job)
    except Refused as refused:
        if refused.code == 404:
            return {"Complete", "Failed"}
        raise
    return {c["type"] for c in found.get("status", {}).get("conditions") or () if c["status"] == "True"}
