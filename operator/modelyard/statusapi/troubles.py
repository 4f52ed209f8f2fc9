"""Everything that needs a person, worst first, each with what to do. Pure; from what the operator wrote into status.

The operator's messages say what is wrong and often what to do; `todo` says it in one line for each reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, Literal

from modelyard.plan import Kind, Obj
from modelyard.resources import conditions
from modelyard.resources.meta import DATASET, MODEL, MODELSOURCE, POD, TRAINING
from modelyard.resources.objects import is_deleting
from modelyard.resources.times import parse_time
from modelyard.statusapi.schemas.answers import Trouble
from modelyard.statusapi.schemas.base import Ref

Level = Literal["error", "warning", "decision"]

EXPIRES_SOON_SECONDS: Final = 24 * 3600
SILENT_SECONDS: Final = 600
_RANKS: Final[Mapping[Level, int]] = {"error": 0, "decision": 1, "warning": 2}
_TODO: Final[Mapping[str, str]] = {
    "SecretNotFound": "Create the Secret, or correct spec.secretRef.",
    "SecretInvalid": "Put the keys that the message names into the Secret.",
    "SecretForbidden": "Let the operator's service account get Secrets in this namespace.",
    "InvalidSpec": "Correct the field that the message names, and apply again.",
    "InvalidConfig": "Correct spec.config as the message says, and apply again.",
    "NotSupported": "Remove what this version does not support, and apply again.",
    "Unauthorized": "Check the token in the source's Secret: it was not accepted.",
    "Forbidden": "Get access to the repository, or use a token that has it.",
    "NotFound": "Check repo and revision: the source has no such thing.",
    "NoMatch": "Check include and exclude: no file matches.",
    "DiskFull": "Make the volume larger: storage.resources.requests.storage.",
    "HashMismatch": "What arrives is not what the source promises: check the endpoint, or try again.",
    "Unreachable": "Check that the source can be reached from the cluster.",
    "RateLimited": "Wait, or use a token: the source limits requests.",
    "NameTaken": "Another object has the name that is needed: rename or delete it.",
    "VolumeInUse": "Stop the pod that has the volume on another node, or use ReadWriteMany.",
    "BadInput": "Correct the data or the parameters; a run that has failed needs a new Training.",
    "GPUMemoryTooSmall": "Choose one of the settings or GPUs that the message names.",
    "OutputTooSmall": "Raise spec.output.storage, or keep fewer checkpoints.",
    "GraceTooShort": "Raise spec.checkpoint.graceSeconds.",
    "NoSuggestions": "Remove spec.recipe.unsetParams, or have the data looked at again.",
    "OutOfMemory": "Give the run more memory, or a smaller batch, and create a new Training.",
    "ImagePullFailed": "Check the image's name and the pull Secret.",
    "Unschedulable": "Ask for what a node can give, or add nodes.",
    "BudgetExceeded": "Raise spec.budget.maxUSD, or stop the run.",
    "RunTimeout": "Raise spec.timeouts.runSeconds in a new Training.",
    "QueueTimeout": "Raise spec.timeouts.queueSeconds, or ask for quota.",
    "ProvisionTimeout": "Raise spec.timeouts.provisionSeconds, or ask for what nodes can give.",
    "SourceNotFound": "Create the ModelSource, or correct sourceRef.",
    "SourceNotReady": "Look at the ModelSource: its condition Ready says what is wrong.",
    "ModelNotFound": "Create the Model, or correct the reference.",
    "VersionNotFound": "Correct the version's name, or add the version to the Model.",
    "ModelVersionFailed": "Look at the Model: the version that is needed has failed.",
    "ClaimNotFound": "Create the PersistentVolumeClaim, or correct its name.",
    "RevisionNotSupported": "Leave the revision out, or use Modelyard's loader (settings.baize.loader).",
    "PatternsNotSupported": "Use one pattern, or Modelyard's loader (settings.baize.loader).",
    "VolumesNotAllowed": "Give the volumes ReadWriteMany, or ask for one node.",
    "VersionExists": "Choose another version name in spec.save.",
    "CheckpointNotAvailable": "Choose a checkpoint that is there: Best, Last or a step that was kept.",
    "CheckpointIncompatible": "Start from a checkpoint of the same recipe and model, or from none.",
    "OutputExpired": "The output is gone: train again, with spec.save or a longer unsavedTTLSeconds.",
    "ImageNotFound": "Check the image's name and tag.",
    "ImagePullDenied": "Name a pull Secret that may pull the image: spec.compute.imagePullSecrets.",
    "RegistryUnreachable": "Check that nodes reach the image's registry.",
    "NodeLost": "Raise spec.retry.onInfrastructure to go on by itself, or create a new Training.",
    "GPULost": "Have the node's GPU checked; raise spec.retry.onInfrastructure to go on by itself.",
    "StallTimeout": "Look at the log for where it stands still; raise spec.timeouts.stallSeconds if it is only slow.",
    "Error": "Look at the end of the log: kubectl modelyard logs NAME.",
    "DatasetFailed": "Look at the Model that it belongs to, and at the log of the Dataset's Job.",
    "AwaitingApproval": "Look at status.analysis, then set params or the annotation modelyard.dev/approve.",
    "OutputExpires": "Set spec.save to keep the result.",
    "NoReports": "Look at the pod's log: the trainer does not report any more.",
}
_DEFAULT: Final = "Read the message; kubectl describe shows more."


def of(kind: Kind, obj: Obj, now: datetime) -> Iterator[Trouble]:
    """What of this object needs a person."""
    status = obj.get("status") or {}
    if kind == MODELSOURCE:
        yield from _source(obj, status)
    elif kind == MODEL:
        yield from _model(obj, status)
    elif kind == TRAINING:
        yield from _training(obj, status, now)
    elif kind == DATASET and status.get("phase") == "FAILED":
        yield _trouble(kind, obj, "error", "DatasetFailed", "The data plane could not load this Dataset.", None)
    elif kind == POD:
        yield from _pod(obj, status)


def rank(trouble: Trouble) -> tuple[Any, ...]:
    """Worst first, then what most depends on, then the newest."""
    who = trouble.object
    newest = -_seconds(trouble.since)
    return _RANKS[trouble.level], -trouble.affects, newest, who.namespace, who.kind, who.name, trouble.version or ""


def _source(obj: Obj, status: Mapping[str, Any]) -> Iterator[Trouble]:
    ready = conditions.find(status.get("conditions") or (), "Ready")
    if ready is None or ready.get("status") != "False":
        return
    level: Level = "warning" if is_deleting(obj) else "error"
    users = status.get("referencedByCount") or 0
    yield _trouble(
        MODELSOURCE, obj, level, ready.get("reason"), ready.get("message"), ready.get("lastTransitionTime"), users
    )


def _model(obj: Obj, status: Mapping[str, Any]) -> Iterator[Trouble]:
    found = False
    for version in status.get("syncedVersions") or ():
        if version.get("phase") == "Failed":
            found = True
            since = next((c.get("lastTransitionTime") for c in version.get("conditions") or ()), None)
            words = version.get("message")
            yield _trouble(MODEL, obj, "error", version.get("reason"), words, since, version=version.get("name"))
    stalled = conditions.find(status.get("conditions") or (), "Stalled")
    if not found and stalled is not None and stalled.get("status") == "True":
        since = stalled.get("lastTransitionTime")
        yield _trouble(MODEL, obj, "error", stalled.get("reason"), stalled.get("message"), since)


def _training(obj: Obj, status: Mapping[str, Any], now: datetime) -> Iterator[Trouble]:
    known, phase = status.get("conditions") or (), status.get("phase")
    stalled = conditions.find(known, "Stalled") or {}
    since = stalled.get("lastTransitionTime")
    if phase == "Failed" or stalled.get("status") == "True":
        yield _trouble(TRAINING, obj, "error", status.get("reason"), status.get("message"), since)
    elif phase == "AwaitingApproval":
        yield _trouble(TRAINING, obj, "decision", "AwaitingApproval", status.get("message"), since)
    elif phase == "Suspended" and status.get("reason") == "BudgetExceeded":
        yield _trouble(TRAINING, obj, "decision", "BudgetExceeded", status.get("message"), since)
    elif phase == "Running" and (silent := _silent(status, now)):
        words = "The run has not reported for more than ten minutes."
        yield _trouble(TRAINING, obj, "warning", "NoReports", words, silent)
    refused = conditions.find(known, "Saved")
    if refused is not None and refused.get("status") == "False" and (obj.get("spec") or {}).get("save"):
        if phase == "Succeeded":
            reason, at = refused.get("reason"), refused.get("lastTransitionTime")
            yield _trouble(TRAINING, obj, "error", reason, refused.get("message"), at)
    elif (expires := (status.get("output") or {}).get("expiresTime")) and not status.get("saved"):
        left = _seconds(expires) - now.timestamp()
        if 0 < left < EXPIRES_SOON_SECONDS:
            words = f"The result is deleted at {expires} unless it is saved."
            yield _trouble(TRAINING, obj, "decision", "OutputExpires", words, None)


def _pod(obj: Obj, status: Mapping[str, Any]) -> Iterator[Trouble]:
    for container in status.get("containerStatuses") or ():
        waiting = ((container.get("state") or {}).get("waiting") or {}).get("reason")
        if waiting in ("ImagePullBackOff", "ErrImagePull", "InvalidImageName"):
            words = f"The image of container {container.get('name')} cannot be pulled."
            yield _trouble(POD, obj, "warning", "ImagePullFailed", words, status.get("startTime"))


def _silent(status: Mapping[str, Any], now: datetime) -> str | None:
    last = (status.get("progress") or {}).get("lastReportTime")
    return last if last and now.timestamp() - _seconds(last) > SILENT_SECONDS else None


def _trouble(
    kind: Kind,
    obj: Obj,
    level: Level,
    reason: Any,
    message: Any,
    since: Any,
    affects: int = 0,
    version: str | None = None,
) -> Trouble:
    meta = obj["metadata"]
    code = str(reason or "Unknown")
    return Trouble(
        level=level,
        object=Ref(kind=kind.kind, namespace=meta.get("namespace", ""), name=meta["name"]),
        reason=code,
        message=str(message or ""),
        todo=_TODO.get(code, _DEFAULT),
        since=since,
        affects=affects,
        version=version,
    )


def _seconds(text: str | None) -> float:
    try:
        return parse_time(text).timestamp() if text else 0.0
    except ValueError:
        return 0.0
