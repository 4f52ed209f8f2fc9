"""A version's volume in another namespace: a REFERENCE Dataset for a Dataset, else a volume of the same storage.

What must stay true: nothing here can harm the files: a PersistentVolume of ours says Retain and is a second name for
the storage, so that deleting it deletes no file; a share is made anew under its name only when nothing of the one
before is left; a REFERENCE is made when its source says that it is shared, and its round is never touched. Pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from modelyard.dataplane.common import TAKEN_RECHECK_SECONDS
from modelyard.dataplane.static import NO_RIGHT, READ_ONLY, static_claim, static_volume
from modelyard.plan import Action, Apply, Create, Delete, Kind, Obj, Ref
from modelyard.resources.meta import DATASET, PV, PVC
from modelyard.resources.objects import annotation, is_deleting, ref_to, uid_of, whose
from modelyard.resources.shares import Lent, Loan
from modelyard.resources.times import format_time, parse_time
from modelyard.resources.volumes import ANNOTATION_TOUCHED, Stage, Step
from modelyard.settings import Settings

READ_ONLY_BY_OPTION: Final = frozenset({"nfs.csi.k8s.io"})
"""CSI drivers that mount for each pod anew, so that a mount option of one PersistentVolume binds no other."""
_SHAREABLE: Final = frozenset({"ReadWriteMany", "ReadOnlyMany"})
_NOT_COPIED: Final = frozenset(
    {"accessModes", "claimRef", "persistentVolumeReclaimPolicy", "storageClassName", "volumeAttributesClassName"}
)


def lend(loan: Loan, lent: Lent, settings: Settings, now: datetime) -> Step:
    """What to do next so that the namespace has the version, and how far it is."""
    if lent.stranger is not None:
        named = f"{lent.stranger.get('kind')} {loan.name}"
        text = f"{named} is there already and {whose(lent.stranger)}; it is left alone."
        return Step(Stage.FAILED, "NameTaken", text, requeue_after=TAKEN_RECHECK_SECONDS)
    if lent.parts and not lent.is_of(loan):
        return Step(Stage.WAITING, "Replacing", "It is replaced by the files of now.", take_back(lent))
    if any(is_deleting(part) for part in lent.parts):
        return Step(Stage.WAITING, "Terminating", "What was shared before is still mounted.", take_back(lent))
    return _reference(loan, lent, settings, now) if loan.kind == DATASET else _disk(loan, lent, settings)


def take_back(lent: Lent) -> tuple[Action, ...]:
    """Deletes all of a share. A claim that a pod mounts goes when the pod does, and its volume with it."""
    found: list[tuple[Kind, Obj | None]] = [
        (DATASET, lent.dataset),
        (PVC, lent.claim),
        (PV, lent.disk or lent.leftover),
    ]
    if lent.dataset is not None:
        found.remove((PVC, lent.claim))  # its controller made it, and takes it along
    return tuple(
        Delete(ref_to(kind, part), uid_of(part)) for kind, part in found if part is not None and not is_deleting(part)
    )


def _reference(loan: Loan, lent: Lent, settings: Settings, now: datetime) -> Step:
    dataset = lent.dataset
    if dataset is None:
        if lent.claim is not None:
            return Step(Stage.WAITING, "Terminating", "The claim of an earlier share is still there.")
        if loan.source is None or not (loan.source.get("spec") or {}).get("share"):
            return Step(Stage.WORKING, "Sharing", "The Dataset is being opened to other namespaces.")
        beside = (Ref(PVC, loan.namespace, loan.name),)
        return Step(Stage.WORKING, "Sharing", "It is being made.", (Create(DATASET, _dataset(loan), beside=beside),))
    status = dataset.get("status") or {}
    if status.get("phase") == "READY" and lent.claim is not None:
        return Step(Stage.READY, "Ready", "It can be used.")
    if status.get("phase") != "FAILED":
        return Step(Stage.WORKING, "Sharing", "The Dataset controller makes the volume.")
    # Its controller looks at a Dataset that has failed again only when that changes.
    times, since = _touched(dataset)
    download = settings.download
    due = since + timedelta(seconds=min(download.backoff_seconds * 2.0 ** min(times, 16), download.max_backoff_seconds))
    words = "The Dataset controller could not make the volume yet."
    if now < due:
        return Step(Stage.WORKING, "ReferenceFailed", words, requeue_after=(due - now).total_seconds())
    return Step(Stage.WORKING, "ReferenceFailed", words, (_touch(dataset, times + 1, now),))


def _disk(loan: Loan, lent: Lent, settings: Settings) -> Step:
    if (refused := _refusal(loan, settings)) is not None:
        return refused
    if lent.claim is None and lent.disk is not None:
        return Step(Stage.WAITING, "Replacing", "The volume of a claim that is gone is made anew.", take_back(lent))
    phase = ((lent.claim or {}).get("status") or {}).get("phase")
    if phase == "Lost":
        return Step(Stage.WAITING, "Replacing", "The volume was lost, and is made anew.", take_back(lent))
    if phase == "Bound":
        return Step(Stage.READY, "Ready", "It can be used.")
    if loan.disk is None:
        return Step(Stage.WORKING, "Sharing", "The volume behind the claim is being looked at.")
    missing: list[Action] = []
    if lent.claim is None:
        missing.append(Create(PVC, _claim(loan, loan.disk)))
    if lent.disk is None:
        missing.append(Create(PV, _volume(loan, loan.disk)))
    return Step(Stage.WORKING, "Sharing", "It is being made.", tuple(missing))


def _refusal(loan: Loan, settings: Settings) -> Step | None:
    if not settings.makes_volumes:
        text = f"What is not a Dataset is shared by a PersistentVolume, {NO_RIGHT}"
        return Step(Stage.FAILED, "VolumesNotAllowed", text)
    modes = (loan.claim.get("spec") or {}).get("accessModes") or ()
    if not _SHAREABLE & set(modes):
        text = (
            f"The volume is {', '.join(modes)}: only one that is ReadWriteMany or ReadOnlyMany can be read in another "
            "namespace. Set storage.accessModes of the version and have it fetched into a new volume."
        )
        return Step(Stage.FAILED, "AccessModesNotShareable", text)
    if loan.disk is not None and (loan.disk.get("spec") or {}).get("volumeMode") == "Block":
        return Step(Stage.FAILED, "BlockNotShareable", "The volume is a block device, which is not shared.")
    return None


def _dataset(loan: Loan) -> dict[str, Any]:
    home = loan.model["metadata"]["namespace"]
    return {
        "apiVersion": DATASET.api_version,
        "kind": DATASET.kind,
        "metadata": _metadata(loan),
        "spec": {"source": {"type": "REFERENCE", "uri": f"dataset://{home}/{loan.volume}"}},
    }


def _claim(loan: Loan, disk: Obj) -> dict[str, Any]:
    return {
        "apiVersion": PVC.api_version,
        "kind": PVC.kind,
        "metadata": _metadata(loan),
        "spec": static_claim(loan.namespace, loan.name, disk["spec"]["capacity"]["storage"], list(READ_ONLY)),
    }


def _volume(loan: Loan, disk: Obj) -> dict[str, Any]:
    spec = disk["spec"]
    copied = {key: value for key, value in spec.items() if key not in _NOT_COPIED}
    if "nfs" in spec or (spec.get("csi") or {}).get("driver") in READ_ONLY_BY_OPTION:
        copied["mountOptions"] = [*(o for o in spec.get("mountOptions") or () if o not in ("ro", "rw")), "ro"]
    copied["accessModes"] = list(READ_ONLY)
    return static_volume(loan.namespace, loan.name, loan.labels, loan.annotations, copied)


def _metadata(loan: Loan) -> dict[str, Any]:
    return {"name": loan.name, "namespace": loan.namespace, "labels": loan.labels, "annotations": loan.annotations}


def _touched(dataset: Obj) -> tuple[int, datetime]:
    number, _, when = (annotation(dataset, ANNOTATION_TOUCHED) or "").partition(" ")
    try:
        return int(number), parse_time(when)
    except ValueError:
        return 0, parse_time(dataset["metadata"]["creationTimestamp"])


def _touch(dataset: Obj, times: int, now: datetime) -> Apply:
    meta = dataset["metadata"]
    named = {key: meta[key] for key in ("name", "namespace", "uid")}
    said = {ANNOTATION_TOUCHED: f"{times} {format_time(now)}"}
    return Apply(DATASET, {"metadata": {**named, "annotations": said}})
