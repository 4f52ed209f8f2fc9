"""Storage on a cluster without any: tests play the provisioner, the volume binder is real."""

from __future__ import annotations

from collections.abc import Sequence

from modelyard.resources.meta import PV, PVC
from support.cluster import Kube, wait_for


def provide(
    kube: Kube, namespace: str, claim: str, modes: Sequence[str] = ("ReadWriteMany",), storage_class: str = ""
) -> None:
    """What a provisioner does: a volume of 1Gi for the claim, when it is there, and it is bound."""
    wait_for(lambda: kube.find(PVC, namespace, claim), claim)
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": list(modes),
        "persistentVolumeReclaimPolicy": "Delete",
        "nfs": {"server": "files.example", "path": f"/{namespace}"},
        "claimRef": {"namespace": namespace, "name": claim},
        "storageClassName": storage_class,
    }
    made = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"{namespace}-{claim}"}, "spec": spec}
    kube.create(made, PV)
    wait_for(lambda: phase(kube, namespace, claim) == "Bound", f"{claim} to be bound")


def phase(kube: Kube, namespace: str, claim: str) -> str:
    """The claim's phase; empty if it is not there."""
    found = kube.find(PVC, namespace, claim) or {}
    return str((found.get("status") or {}).get("phase") or "")
