"""A PersistentVolume that is made for one claim: a second name for storage that is there already. Pure.

What must stay true: it says Retain, so that deleting it deletes no file; it binds to its claim and to no other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from modelyard.plan import Action, Create, Delete, Obj
from modelyard.resources.meta import (
    COMPONENT_DATA,
    LABEL_COMPONENT,
    LABEL_NAMESPACE,
    PV,
    PVC,
)
from modelyard.resources.names import claim_volume
from modelyard.resources.objects import annotation, is_deleting, ref_to, uid_of
from modelyard.resources.volumes import ANNOTATION_CONTENT, Seen, Stage, Step, Want, claim_for
from modelyard.settings import Settings

NO_RIGHT = "which the operator may not make: set storage.persistentVolumes in its settings."
READ_ONLY = ("ReadOnlyMany",)


def static_claim(namespace: str, name: str, size: str, modes: Sequence[str]) -> dict[str, Any]:
    """The `spec` of a claim for the PersistentVolume that `static_volume` makes for it, and for no other."""
    return {
        "accessModes": list(modes),
        "resources": {"requests": {"storage": size}},
        "storageClassName": "",
        "volumeName": claim_volume(namespace, name),
    }


def static_volume(
    namespace: str, name: str, labels: Mapping[str, str], annotations: Mapping[str, str], spec: Mapping[str, Any]
) -> dict[str, Any]:
    """A PersistentVolume for one claim. `spec` has capacity, access modes and where the storage is."""
    own = {"name": claim_volume(namespace, name), "labels": dict(labels), "annotations": dict(annotations)}
    return {
        "apiVersion": PV.api_version,
        "kind": PV.kind,
        "metadata": own,
        "spec": {
            **spec,
            "claimRef": {"apiVersion": PVC.api_version, "kind": PVC.kind, "namespace": namespace, "name": name},
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": "",
        },
    }


def nfs_step(want: Want, seen: Seen, settings: Settings) -> Step:
    """What to do next so that an exported folder is there as a claim: nothing is copied. Expects no strangers."""
    if not settings.makes_volumes:
        return Step(Stage.FAILED, "VolumesNotAllowed", f"An NFS source needs a PersistentVolume, {NO_RIGHT}")
    claim, disk = seen.volume, seen.disk
    if claim is not None and is_deleting(claim):
        text = f"Volume {want.name} is being deleted and goes when no pod mounts it; then it is made anew."
        return Step(Stage.WAITING, "VolumeTerminating", text, remove_disk(seen))
    phase = ((claim or {}).get("status") or {}).get("phase")
    if disk is not None and (claim is None or is_deleting(disk) or _holds_other(disk, want)):
        text = f"The PersistentVolume of an earlier claim {want.name} is being deleted."
        return Step(Stage.WAITING, "VolumeTerminating", text, (*_remove_claim(claim), *remove_disk(seen)))
    if phase == "Bound":
        return Step(Stage.READY, "Ready", "The files are used where they are.")
    if phase == "Lost":
        text = f"The PersistentVolume of volume {want.name} is gone; both are made anew."
        return Step(Stage.WAITING, "VolumeLost", text, _remove_claim(claim))
    missing: list[Action] = []
    if claim is None:
        missing.append(Create(PVC, _claim(want, settings)))
    if disk is None:
        missing.append(Create(PV, _disk(want, settings)))
    return Step(Stage.WORKING, "Binding", "The claim is being bound to the exported folder.", tuple(missing))


def remove_disk(seen: Seen) -> tuple[Action, ...]:
    """Deletes the PersistentVolume of a claim; it goes when the claim has gone."""
    disk = seen.disk
    return () if disk is None or is_deleting(disk) else (Delete(ref_to(PV, disk), uid_of(disk)),)


def _remove_claim(claim: Obj | None) -> tuple[Action, ...]:
    return () if claim is None or is_deleting(claim) else (Delete(ref_to(PVC, claim), uid_of(claim)),)


def _holds_other(disk: Obj, want: Want) -> bool:
    return annotation(disk, ANNOTATION_CONTENT) != want.content.hash


def _claim(want: Want, settings: Settings) -> dict[str, Any]:
    size, modes = want.claim.size or settings.storage.default_size, want.claim.access_modes or READ_ONLY
    return claim_for(want, static_claim(want.namespace, want.name, size, modes))


def _disk(want: Want, settings: Settings) -> dict[str, Any]:
    server, _, path = want.content.uri.removeprefix("nfs://").partition("/")
    modes = want.claim.access_modes or READ_ONLY
    spec = {
        "capacity": {"storage": want.claim.size or settings.storage.default_size},
        "accessModes": list(modes),
        "nfs": {"server": server, "path": f"/{path}"},
        **({"mountOptions": ["ro"]} if tuple(modes) == READ_ONLY else {}),
    }
    labels = {**want.labels, LABEL_COMPONENT: COMPONENT_DATA, LABEL_NAMESPACE: want.namespace}
    return static_volume(want.namespace, want.name, labels, {ANNOTATION_CONTENT: want.content.hash}, spec)
