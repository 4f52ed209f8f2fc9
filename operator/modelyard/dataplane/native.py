"""Our own data plane: a claim, and one download Job a try, `fetch-<volume>-<n>`.

What must stay true: a Job is made once and never changed; a volume is made only when nothing is left of an earlier one
of its name, so that no old Job can vouch for it; whatever is not controlled by the wanted owner is left alone; a try
that failed is repeated only when that can help. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from modelyard.dataplane import cause
from modelyard.dataplane.common import finished, taken
from modelyard.dataplane.loader_pod import pod_spec
from modelyard.dataplane.static import nfs_step, remove_disk
from modelyard.plan import Action, Create, Delete, Obj
from modelyard.resources.meta import (
    ANNOTATION_RESYNC,
    COMPONENT_DOWNLOAD,
    JOB,
    LABEL_ATTEMPT,
    LABEL_COMPONENT,
    PVC,
)
from modelyard.resources.names import fetch_job
from modelyard.resources.objects import annotation, controller_uid, is_deleting, label, ref_to, uid_of
from modelyard.resources.quantities import quantity_bytes
from modelyard.resources.times import format_time, parse_time
from modelyard.resources.volumes import (
    ANNOTATION_SECRET_VERSION,
    ANNOTATION_SIZE,
    LABEL_VOLUME,
    Seen,
    Stage,
    Step,
    Want,
    claim_for,
    claim_spec,
)
from modelyard.settings import Settings


class NativePlane:
    """Claims and Jobs of our own. `ca_pem` is the certificate that loaders trust the collector by."""

    def __init__(self, settings: Settings, ca_pem: str | None = None) -> None:
        self._settings = settings
        self._ca_pem = ca_pem

    def step(self, want: Want, seen: Seen, now: datetime) -> Step:
        """What to do next so that the volume holds what is wanted, and how far it is."""
        if (refused := taken(want, seen)) is not None:
            return refused
        if want.content.type == "NFS":
            return nfs_step(want, seen, self._settings)
        if want.content.type == "REFERENCE":
            text = f"No version is shared with this namespace under {want.content.uri}, and Datasets are not served."
            return Step(Stage.WAITING, "NotShared", text)
        if seen.volume is None:
            return self._start(want, seen)
        if is_deleting(seen.volume):
            return Step(
                Stage.WAITING,
                "VolumeTerminating",
                f"Volume {want.name} is being deleted and goes when no pod mounts it; then it is made anew.",
            )
        return self._fill(want, seen, seen.volume, now)

    def remove(self, seen: Seen) -> tuple[Action, ...]:
        """Deletes the volume and its Jobs, Jobs first; a volume that a pod mounts goes when the pod does."""
        left: list[Action] = [_delete_job(job) for job in seen.jobs if not is_deleting(job)]
        if seen.volume is not None and not is_deleting(seen.volume):
            left.append(Delete(ref_to(PVC, seen.volume), uid_of(seen.volume)))
        return (*left, *remove_disk(seen))

    def is_complete(self, seen: Seen) -> bool:
        """Whether a download into the volume has succeeded, as far as its Jobs can tell."""
        if seen.volume is not None and seen.disk is not None:
            return (seen.volume.get("status") or {}).get("phase") == "Bound"
        return seen.volume is not None and any(finished(job, "Complete") for job in seen.jobs)

    def _start(self, want: Want, seen: Seen) -> Step:
        if seen.jobs:
            return Step(
                Stage.WAITING,
                "VolumeLost",
                f"Volume {want.name} is gone; it is made anew when its old download Jobs are gone too.",
                tuple(_delete_job(job) for job in seen.jobs if not is_deleting(job)),
            )
        claim = claim_for(want, claim_spec(want.claim, self._settings.storage))
        actions = (Create(PVC, claim), Create(JOB, self._job(want, 1)))
        return Step(Stage.WORKING, "Downloading", "The files are being fetched.", actions, attempts=1)

    def _fill(self, want: Want, seen: Seen, volume: Obj, now: datetime) -> Step:
        jobs = sorted((j for j in seen.jobs if not is_deleting(j)), key=_number)
        if not jobs:
            if want.known:
                return Step(Stage.READY, "Ready", "All files are there.")
            number = max((_number(j) for j in seen.jobs), default=0) + 1
            return Step(
                Stage.WORKING,
                "Downloading",
                "The files are being fetched." + (f" This is try {number}." if number > 1 else ""),
                (Create(JOB, self._job(want, number, volume)),),
                attempts=number,
            )
        job = jobs[-1]
        number = _number(job)
        pods = [p for p in seen.pods if controller_uid(p) == uid_of(job)]
        older = tuple(_delete_job(j) for j in jobs[:-1])
        if (done := finished(job, "Complete")) is not None:
            return Step(
                Stage.READY,
                "Ready",
                "All files are there.",
                older,
                attempts=number,
                result=cause.result(pods),
                completed=(job.get("status") or {}).get("completionTime") or done.get("lastTransitionTime"),
            )
        if (failed := finished(job, "Failed")) is not None:
            return self._after_failure(want, volume, job, failed, pods, older, now)
        if (volume.get("status") or {}).get("phase") == "Lost":
            return Step(
                Stage.FAILED,
                "VolumeLost",
                f"The storage behind volume {want.name} is gone; delete the claim to have it made anew.",
                older,
                attempts=number,
            )
        hindered = cause.hindrance(pods, now)
        reason, message = "Downloading", "The files are being fetched."
        if hindered is not None and hindered.reason is not None:
            reason, message = hindered.reason, hindered.message
        if number > 1:
            message = f"{message} This is try {number}."
        look_again = hindered.look_again if hindered is not None else None
        return Step(Stage.WORKING, reason, message, older, requeue_after=look_again, attempts=number)

    def _after_failure(
        self,
        want: Want,
        volume: Obj,
        job: Obj,
        failed: Mapping[str, Any],
        pods: list[Obj],
        older: tuple[Action, ...],
        now: datetime,
    ) -> Step:
        number = _number(job)
        why = cause.failure(pods)
        download = self._settings.download
        bounded = why.retry is cause.Retry.BOUNDED and number > download.max_retries
        secret_changed = want.secret_version is not None and want.secret_version != (
            annotation(job, ANNOTATION_SECRET_VERSION) or ""
        )
        changed = secret_changed or (why.reason == "DiskFull" and _has_grown(volume, job))
        if not changed and (why.retry is cause.Retry.NEVER or bounded):
            tries = f" after {number} tries" if number > 1 else ""
            hint = (
                f" Not tried again{tries} until the source's Secret, the version or the annotation "
                f"{ANNOTATION_RESYNC} changes."
            )
            return Step(Stage.FAILED, why.reason, why.message + hint, older, attempts=number)
        since = parse_time(failed.get("lastTransitionTime") or job["metadata"]["creationTimestamp"])
        delay = min(download.backoff_seconds * 2.0 ** min(number - 1, 16), download.max_backoff_seconds)
        due = since if changed else since + timedelta(seconds=delay)
        if now < due:
            return Step(
                Stage.WORKING,
                why.reason,
                f"{why.message} Try {number + 1} begins at {format_time(due)}.",
                older,
                requeue_after=(due - now).total_seconds(),
                attempts=number,
            )
        again = Create(JOB, self._job(want, number + 1, volume))
        return Step(
            Stage.WORKING,
            "Downloading",
            f"The files are being fetched. This is try {number + 1}.",
            (*older, again, _delete_job(job)),
            attempts=number + 1,
        )

    def _job(self, want: Want, number: int, volume: Obj | None = None) -> dict[str, Any]:
        labels = {
            **want.labels,
            LABEL_COMPONENT: COMPONENT_DOWNLOAD,
            LABEL_VOLUME: want.name,
            LABEL_ATTEMPT: str(number),
        }
        disrupted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
        return {
            "apiVersion": JOB.api_version,
            "kind": JOB.kind,
            "metadata": {
                "name": fetch_job(want.name, number),
                "namespace": want.namespace,
                "labels": labels,
                "annotations": {
                    ANNOTATION_SECRET_VERSION: want.secret_version or "",
                    ANNOTATION_SIZE: _requested(volume) or want.claim.size or self._settings.storage.default_size,
                },
                "ownerReferences": [dict(want.owner)],
            },
            "spec": {
                "backoffLimit": 0,
                "podFailurePolicy": {"rules": [disrupted]},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": pod_spec(want, self._settings, self._ca_pem),
                },
            },
        }


def _number(job: Obj) -> int:
    value = label(job, LABEL_ATTEMPT) or ""
    return int(value) if value.isdecimal() else 0


def _delete_job(job: Obj) -> Delete:
    return Delete(ref_to(JOB, job), uid_of(job), "Foreground")


def _requested(volume: Obj | None) -> str | None:
    found = (((volume or {}).get("spec") or {}).get("resources") or {}).get("requests") or {}
    return found.get("storage")


def _has_grown(volume: Obj, job: Obj) -> bool:
    """Whether the volume has been expanded since that try, or will be as soon as a pod mounts it."""
    before, now = annotation(job, ANNOTATION_SIZE), _requested(volume)
    if before is None or now is None or quantity_bytes(now) <= quantity_bytes(before):
        return False
    status = volume.get("status") or {}
    has = (status.get("capacity") or {}).get("storage")
    waits = any(c.get("type") == "FileSystemResizePending" for c in status.get("conditions") or ())
    return waits or (has is not None and quantity_bytes(has) >= quantity_bytes(now))
