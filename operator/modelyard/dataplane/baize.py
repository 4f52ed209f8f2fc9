"""The BaizeAI Dataset controller as data plane: one Dataset a volume, whose claim and Jobs its controller makes.

What must stay true: a Dataset is made only when nothing is left of an earlier one of its name and nobody else is known
to have the name of its claim, because its deletion would delete that. Who takes the name at that very moment is seen
when the Dataset is there: its controller leaves such a claim alone, and the Dataset is then not deleted. It trusts any
Job of a round's name, so that a success counts the first time only with a Job that is the Dataset's. A Dataset never
gets a finalizer of ours; its round only ever rises, by one, from the live value, and not while it works; READY counts
only for the round that is asked for, with a claim older than the download; FAILED only with a failed Job. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from modelyard.dataplane import cause
from modelyard.dataplane.common import finished, taken
from modelyard.plan import Action, Apply, Create, Delete, Obj, Ref
from modelyard.resources.meta import ANNOTATION_RESYNC, DATASET, PVC
from modelyard.resources.names import dataset_job
from modelyard.resources.objects import annotation, controller_uid, is_deleting, ref_to, uid_of
from modelyard.resources.times import format_time, parse_time
from modelyard.resources.volumes import (
    ANNOTATION_SECRET_VERSION,
    ANNOTATION_TOUCHED,
    DATA_PATH,
    Result,
    Seen,
    Stage,
    Step,
    Want,
    claim_spec,
    volume_metadata,
)
from modelyard.settings import Settings

JOB_NAME_MAX: Final = 63
JOB_PATIENCE_SECONDS: Final = 30.0
"""For so long a Dataset without its Job is nothing worth telling."""
_TYPES: Final = frozenset({"GIT", "S3", "HTTP", "NFS", "CONDA", "HUGGING_FACE", "MODEL_SCOPE", "REFERENCE"})
_WITHOUT_JOB: Final = frozenset({"NFS", "REFERENCE"})
_PATTERN_TYPES: Final = frozenset({"HUGGING_FACE", "MODEL_SCOPE"})
_SETTING: Final = (
    "Have the Dataset controller run Modelyard's image and set baize.loader: modelyard in the operator's settings"
)
_STEPS: Final = {
    "Config": ("DatasetRefused", "The Dataset controller does not accept the Dataset."),
    "PVC": ("ClaimNotReady", "The Dataset controller could not prepare the volume claim."),
    "ConfigMap": ("ConfigMapNotReady", "The Dataset controller could not write the Dataset's ConfigMap."),
    "Job": ("JobNotReady", "The Dataset controller could not make the download Job."),
}


class BaizePlane:
    """Datasets. The claim has the Dataset's name; the data are in the same folder of it as on our own plane."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def step(self, want: Want, seen: Seen, now: datetime) -> Step:
        """What to do next so that the Dataset holds what is wanted, and how far it is."""
        if (stranger := taken(want, seen)) is not None:
            return stranger
        if seen.volume is None:
            return self._start(want, seen)
        if is_deleting(seen.volume):
            return Step(
                Stage.WAITING,
                "VolumeTerminating",
                f"Dataset {want.name} is being deleted; when it, its claim and its Jobs are gone it is made anew.",
            )
        return _Round(self._settings, want, seen, seen.volume, now).step()

    def remove(self, seen: Seen) -> tuple[Action, ...]:
        """Deletes the Dataset, and with it the claim of its name; none at all if that claim is somebody else's."""
        dataset = seen.volume
        if dataset is None or is_deleting(dataset) or any(s.get("kind") == PVC.kind for s in seen.strangers):
            return ()
        claim = Ref(PVC, dataset["metadata"]["namespace"], dataset["metadata"]["name"])
        return (Delete(ref_to(DATASET, dataset), uid_of(dataset), takes=(claim,)),)

    def is_complete(self, seen: Seen) -> bool:
        """Whether a round has succeeded into the claim that is there."""
        return seen.volume is not None and _holds_files(seen.volume, seen)

    def _start(self, want: Want, seen: Seen) -> Step:
        if seen.claim is not None or seen.rounds or seen.jobs:
            return Step(
                Stage.WAITING,
                "VolumeTerminating",
                f"An earlier Dataset {want.name} has left its claim or Jobs; it is made anew when they are gone.",
            )
        if (refused := self._refusal(want)) is not None:
            return refused
        create = Create(DATASET, self._dataset(want))
        return Step(Stage.WORKING, "Downloading", "The files are being fetched.", (create,), attempts=1)

    def _refusal(self, want: Want) -> Step | None:
        """What the Dataset controller, or its stock loader, would do wrong without a word."""
        content, options = want.content, dict(want.content.options)
        if content.type not in _TYPES:
            text = (
                f"The Dataset controller has no type {content.type}: set dataPlane: native in the operator's settings."
            )
            return Step(Stage.FAILED, "TypeNotSupported", text)
        if self._settings.baize.loader == "modelyard":
            return None
        if "revision" in options:
            text = "The Dataset controller's stock loader ignores revision and would fetch the default branch."
            return Step(Stage.FAILED, "RevisionNotSupported", f"{text} {_SETTING}, or remove revision.")
        if content.type == "MODEL_SCOPE" and "endpoint" in options:
            text = "The Dataset controller's stock loader ignores endpoint and would ask modelscope.cn."
            return Step(Stage.FAILED, "EndpointNotSupported", f"{text} {_SETTING}, or remove endpoint.")
        if "unpack" in options:
            text = "The Dataset controller's stock loader ignores unpack and would leave archives as they are."
            return Step(Stage.FAILED, "UnpackNotSupported", f"{text} {_SETTING}, or remove unpack.")
        patterns = [options[key] for key in ("include", "exclude") if key in options]
        if patterns and (content.type not in _PATTERN_TYPES or any("," in p for p in patterns)):
            text = "The Dataset controller's stock loader takes one include and one exclude pattern, from hubs alone."
            return Step(Stage.FAILED, "PatternsNotSupported", f"{text} {_SETTING}, or use fewer patterns.")
        return None

    def _dataset(self, want: Want) -> dict[str, Any]:
        ids = self._settings.pod_security
        source: dict[str, Any] = {"type": want.content.type, "uri": want.content.uri}
        if want.content.options:
            source["options"] = dict(want.content.options)
        return {
            "apiVersion": DATASET.api_version,
            "kind": DATASET.kind,
            "metadata": volume_metadata(want, **{ANNOTATION_SECRET_VERSION: want.secret_version or ""}),
            "spec": {
                "source": source,
                "dataSyncRound": 1,
                **({"secretRef": want.secret} if want.secret else {}),
                **(_share(want) if want.share is not None else {}),
                "mountOptions": {
                    "path": f"/{DATA_PATH}",
                    "mode": "0755",
                    "uid": ids.run_as_user,
                    "gid": ids.run_as_group,
                },
                **self._template(want),
            },
        }

    def _template(self, want: Want) -> dict[str, Any]:
        """The claim. That of a REFERENCE is its source's; the volume that is made for NFS is ReadWriteMany alone."""
        if want.content.type == "REFERENCE":
            return {}
        spec = claim_spec(want.claim, self._settings.storage)
        if want.content.type == "NFS":
            spec["accessModes"] = ["ReadWriteMany"]
        return {"volumeClaimTemplate": {"spec": spec}}


class _Round:
    """One look at a Dataset that is there: what its present round has come to."""

    def __init__(self, settings: Settings, want: Want, seen: Seen, dataset: Obj, now: datetime) -> None:
        self._download = settings.download
        self._want = want
        self._dataset = dataset
        self._now = now
        self._status: Mapping[str, Any] = dataset.get("status") or {}
        self._number = _round(dataset)
        self._tries = max(self._number - _succeeded(dataset), 1)
        self._claim = _claim(dataset, seen)
        self._serves = _holds_files(dataset, seen)
        name = dataset_job(want.name, self._number)
        mine = [j for j in seen.rounds if controller_uid(j) == uid_of(dataset) and j["metadata"]["name"] == name]
        self._job = mine[0] if mine else None
        self._pods = [p for p in seen.pods if self._job is not None and controller_uid(p) == uid_of(self._job)]

    def step(self) -> Step:
        """What to do next. Who may share it is kept as wanted, whatever else there is to do."""
        step = self._fill()
        spec = self._dataset.get("spec") or {}
        same = bool(spec.get("share")) == (self._want.share is not None)
        same = same and (self._want.share is None or spec.get("shareToNamespaceSelector") == self._want.share)
        if same or any(isinstance(a, Apply) for a in step.actions):
            return step
        times, since = self._touched()
        return replace(step, actions=(*step.actions, self._apply(self._number, times, since)))

    def _fill(self) -> Step:
        if _type(self._dataset) in _WITHOUT_JOB:
            return self._link()
        phase = self._status.get("phase")
        settled = _succeeded(self._dataset) == self._number
        if self._claim is not None and (self._claim.get("status") or {}).get("phase") == "Lost":
            text = f"The storage behind volume {self._want.name} is gone; delete the claim to have it made anew."
            return Step(Stage.FAILED, "VolumeLost", text)
        if phase == "READY" and settled:
            return self._after_success()
        if phase == "FAILED" and not settled:
            failed = finished(self._job, "Failed") if self._job is not None else None
            return self._after_failure(failed) if failed is not None else self._unsettled()
        return self._working()

    def _link(self) -> Step:
        """What copies nothing: there are no rounds, and READY says that the claim was made, not that it is bound."""
        claim = ((self._claim or {}).get("status") or {}).get("phase")
        if self._status.get("phase") == "FAILED":
            return self._unsettled()
        if self._claim is not None and is_deleting(self._claim):
            text = f"Volume {self._want.name} is being deleted and goes when no pod mounts it; then it is made anew."
            return Step(Stage.WAITING, "VolumeTerminating", text)
        if self._status.get("phase") == "READY" and claim == "Bound":
            return Step(Stage.READY, "Ready", "The files are used where they are.")
        return self._said(Stage.WORKING, "Binding", "The Dataset controller makes the claim, and it is being bound.")

    def _after_success(self) -> Step:
        if self._claim is not None and is_deleting(self._claim):
            text = f"Volume {self._want.name} is being deleted and goes when no pod mounts it; then it is made anew."
            return Step(Stage.WAITING, "VolumeTerminating", text)
        if self._job is None and not self._want.known:
            # Somebody else's Job of that name: the controller asks nobody whose it is.
            return self._again("Downloading", "The files are being fetched.")
        if not self._serves:
            return self._again("VolumeLost", f"Volume {self._want.name} was lost; it is made and filled anew.")
        if self._resync_asked():
            return self._again("Downloading", "The files are being fetched anew.")
        return Step(
            Stage.READY,
            "Ready",
            "All files are there.",
            result=cause.result(self._pods) or self._asked_for(),
            completed=self._status.get("lastSyncTime"),
        )

    def _after_failure(self, failed: Mapping[str, Any]) -> Step:
        why = cause.failure(self._pods) if self._pods else self._nobody_knows()
        if self._resync_asked() or self._secret_changed():
            return self._again("Downloading", "The files are being fetched.")
        bounded = why.retry is cause.Retry.BOUNDED and self._tries > self._download.max_retries
        if why.retry is cause.Retry.NEVER or bounded:
            tries = f" after {self._tries} tries" if self._tries > 1 else ""
            hint = (
                f" Not tried again{tries} until the source's Secret, the version or the annotation "
                f"{ANNOTATION_RESYNC} changes."
            )
            return self._said(Stage.FAILED, why.reason, why.message + hint)
        since = parse_time(failed.get("lastTransitionTime") or self._dataset["metadata"]["creationTimestamp"])
        due = since + timedelta(seconds=self._delay(self._tries - 1))
        if self._now < due:
            text = f"{why.message} Try {self._tries + 1} begins at {format_time(due)}."
            return self._said(Stage.WORKING, why.reason, text, requeue_after=(due - self._now).total_seconds())
        return self._again("Downloading", f"The files are being fetched. This is try {self._tries + 1}.")

    def _unsettled(self) -> Step:
        """FAILED without a failed Job: what its controller met may pass, but it does not look again by itself."""
        conditions = {c.get("type"): c.get("status") for c in self._status.get("conditions") or ()}
        broken = next((words for type, words in _STEPS.items() if conditions.get(type) == "False"), None)
        reason, message = broken or ("Downloading", "The files are being fetched.")
        touched, since = self._touched()
        due = since + timedelta(seconds=self._delay(touched))
        if self._now < due:
            return self._said(Stage.WORKING, reason, message, requeue_after=(due - self._now).total_seconds())
        delay = self._delay(touched + 1)
        return self._said(Stage.WORKING, reason, message, (self._apply(self._number, touched + 1),), delay)

    def _working(self) -> Step:
        reason, message = "Downloading", "The files are being fetched."
        look_again = None
        if self._job is None and self._status.get("phase") is None:
            waited = (self._now - parse_time(self._dataset["metadata"]["creationTimestamp"])).total_seconds()
            look_again = JOB_PATIENCE_SECONDS - waited if waited < JOB_PATIENCE_SECONDS else None
            if look_again is None:
                reason, message = (
                    "ControllerSilent",
                    "The Dataset controller has not looked at the Dataset: does it run?",
                )
        elif self._job is None:
            _, since = self._touched()
            waited = (self._now - since).total_seconds()
            look_again = JOB_PATIENCE_SECONDS - waited if waited < JOB_PATIENCE_SECONDS else None
            if look_again is None:
                reason, message = _STEPS["Job"]
        elif (hindered := cause.hindrance(self._pods, self._now)) is not None:
            look_again = hindered.look_again
            if hindered.reason is not None:
                reason, message = hindered.reason, hindered.message
        if self._tries > 1:
            message = f"{message} This is try {self._tries}."
        return self._said(Stage.WORKING, reason, message, requeue_after=look_again)

    def _again(self, reason: str, message: str) -> Step:
        """The next round, unless its Job could have no name."""
        if len(dataset_job(self._want.name, self._number + 1)) > JOB_NAME_MAX:
            text = "The Dataset has no rounds left: set the version ABSENT, and PRESENT again when it is gone."
            return self._said(Stage.FAILED, "RoundsUsedUp", text)
        tries = 1 if _succeeded(self._dataset) == self._number else self._tries + 1
        action = self._apply(self._number + 1, 0)
        return Step(Stage.WORKING, reason, message, (action,), attempts=tries, serves=self._serves)

    def _apply(self, number: int, touched: int, when: datetime | None = None) -> Apply:
        """Bound to the resourceVersion, so that a round that somebody else has raised is never lowered."""
        meta = self._dataset["metadata"]
        annotations = {
            ANNOTATION_SECRET_VERSION: self._want.secret_version or "",
            ANNOTATION_TOUCHED: f"{touched} {format_time(when or self._now)}",
        }
        resync = self._want.resync if number > self._number else None
        if (resync := resync or annotation(self._dataset, ANNOTATION_RESYNC)) is not None:
            annotations[ANNOTATION_RESYNC] = resync
        named = {key: meta[key] for key in ("name", "namespace", "uid", "resourceVersion")}
        spec = {"dataSyncRound": number, "secretRef": self._want.secret or "", **_share(self._want)}
        return Apply(DATASET, {"metadata": {**named, "annotations": annotations}, "spec": spec})

    def _said(
        self,
        stage: Stage,
        reason: str,
        message: str,
        actions: tuple[Action, ...] = (),
        requeue_after: float | None = None,
    ) -> Step:
        return Step(stage, reason, message, actions, requeue_after, attempts=self._tries, serves=self._serves)

    def _touched(self) -> tuple[int, datetime]:
        """How often this round was touched, and when the Dataset was touched or made last."""
        number, _, when = (annotation(self._dataset, ANNOTATION_TOUCHED) or "").partition(" ")
        try:
            return int(number), parse_time(when)
        except ValueError:
            return 0, parse_time(self._dataset["metadata"]["creationTimestamp"])

    def _delay(self, times: int) -> float:
        return float(min(self._download.backoff_seconds * 2.0 ** min(times, 16), self._download.max_backoff_seconds))

    def _resync_asked(self) -> bool:
        wanted = self._want.resync
        return wanted is not None and annotation(self._dataset, ANNOTATION_RESYNC) != wanted

    def _secret_changed(self) -> bool:
        wanted = self._want.secret_version
        return wanted is not None and annotation(self._dataset, ANNOTATION_SECRET_VERSION) != wanted

    def _nobody_knows(self) -> cause.Cause:
        """The Job's own retries are used up, and its pods tell us nothing."""
        job = dataset_job(self._want.name, self._number)
        return cause.Cause(
            "DownloadFailed",
            f"The Dataset's download Job failed; kubectl logs job/{job} says why while its pod is there.",
            cause.Retry.NEVER,
        )

    def _asked_for(self) -> Result | None:
        """A revision that is a commit was fetched as such, or not at all."""
        revision = dict(self._want.content.options).get("revision", "")
        is_commit = len(revision) == 40 and all(c in "0123456789abcdef" for c in revision)
        return Result(revision=revision) if is_commit else None


def _type(dataset: Obj) -> str:
    return str(((dataset.get("spec") or {}).get("source") or {}).get("type"))


def _share(want: Want) -> dict[str, Any]:
    """An absent selector would mean every namespace."""
    return {"share": False} if want.share is None else {"share": True, "shareToNamespaceSelector": dict(want.share)}


def _round(dataset: Obj) -> int:
    return int((dataset.get("spec") or {}).get("dataSyncRound") or 1)


def _succeeded(dataset: Obj) -> int:
    return int((dataset.get("status") or {}).get("lastSucceedRound") or 0)


def _claim(dataset: Obj, seen: Seen) -> Obj | None:
    return seen.claim if seen.claim is not None and controller_uid(seen.claim) == uid_of(dataset) else None


def _holds_files(dataset: Obj, seen: Seen) -> bool:
    """Whether a round has succeeded, and not before the claim was made: the controller replaces a lost one, empty."""
    claim, synced = _claim(dataset, seen), (dataset.get("status") or {}).get("lastSyncTime")
    if _type(dataset) in _WITHOUT_JOB:
        return claim is not None and (claim.get("status") or {}).get("phase") == "Bound"
    if claim is None or is_deleting(claim) or not _succeeded(dataset) or synced is None:
        return False
    return parse_time(claim["metadata"]["creationTimestamp"]) <= parse_time(synced)
