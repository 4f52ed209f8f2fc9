"""What `storage` of a version asks for and its volume, made before, does not have: grown where it can, else said. Pure.

What must stay true: a volume only ever grows; what cannot be changed is left alone, and the words say what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from modelyard.observed import ObjectFact
from modelyard.plan import Action, Apply, Obj
from modelyard.resources.meta import ANNOTATION_RESYNC, PVC
from modelyard.resources.objects import is_deleting
from modelyard.resources.quantities import quantity_bytes
from modelyard.resources.volumes import Claim

_ANEW: Final = f"give the annotation {ANNOTATION_RESYNC} a new value to have the files fetched into a new volume"


@dataclass(frozen=True, slots=True)
class Fit:
    """What is written to make a volume fit, and what is said while it does not; nothing if it does."""

    words: str = ""
    actions: tuple[Action, ...] = ()


def fit(wanted: Claim, claim: Obj | None, storage_class: ObjectFact | None) -> Fit:
    """How the claim of a version becomes what is wanted. `storage_class` is the claim's, if it was read."""
    if claim is None or is_deleting(claim):
        return Fit()
    spec = claim.get("spec") or {}
    if wanted.access_modes and set(wanted.access_modes) != set(spec.get("accessModes") or ()):
        has = ", ".join(spec.get("accessModes") or ())
        return Fit(f"storage.accessModes cannot be changed: the volume is {has}. Put that back, or {_ANEW}.")
    if wanted.storage_class is not None and wanted.storage_class != spec.get("storageClassName"):
        has = spec.get("storageClassName") or "no class"
        return Fit(f"storage.storageClassName cannot be changed: the volume has {has}. Put that back, or {_ANEW}.")
    size = requested(claim)
    if wanted.size is None or size is None or quantity_bytes(wanted.size) == quantity_bytes(size):
        return Fit(_growing(claim))
    if quantity_bytes(wanted.size) < quantity_bytes(size):
        return Fit(f"A volume cannot shrink: this one has {size}. Put that back, or {_ANEW}.")
    if (claim.get("status") or {}).get("phase") != "Bound":
        return Fit(f"The volume is expanded from {size} to {wanted.size} when it is bound.")
    if (refused := _refusal(spec.get("storageClassName"), size, storage_class)) is not None:
        return Fit(refused)
    meta = claim["metadata"]
    grown = {
        "metadata": {key: meta[key] for key in ("name", "namespace", "uid")},
        "spec": {"resources": {"requests": {"storage": wanted.size}}},
    }
    return Fit(f"The volume is being expanded from {size} to {wanted.size}.", (Apply(PVC, grown),))


def classes_to_read(versions: Iterable[dict[str, Any]], claims: Iterable[tuple[str, Obj]]) -> Iterator[str]:
    """StorageClasses of claims that are smaller than their version asks for. Never raises, whatever the spec holds."""
    sizes = {v["name"]: _size(v) for v in versions if v.get("name")}
    for version, claim in claims:
        wanted, has = sizes.get(version), requested(claim)
        name = (claim.get("spec") or {}).get("storageClassName")
        with suppress(ValueError):
            if name and wanted and has and wanted != has and quantity_bytes(wanted) > quantity_bytes(has):
                yield name


def requested(claim: Obj) -> str | None:
    """The size that a claim asks for."""
    found = (((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}).get("storage")
    return None if found is None else str(found)


def _size(version: dict[str, Any]) -> str | None:
    found = (((version.get("storage") or {}).get("resources") or {}).get("requests") or {}).get("storage")
    return None if found is None else str(found)


def _refusal(name: str | None, size: str, storage_class: ObjectFact | None) -> str | None:
    if not name:
        return f"The volume stays at {size}: it has no StorageClass that could expand it. Put that back, or {_ANEW}."
    if storage_class is None:
        return f"The volume has {size}; whether StorageClass {name} can expand it is being looked at."
    if storage_class.forbidden:
        return (
            f"The volume stays at {size}: the operator may not read StorageClass {name}. Give its service account the "
            "verb get on storageclasses, or expand the claim by hand."
        )
    if not (storage_class.obj or {}).get("allowVolumeExpansion"):
        return (
            f"The volume stays at {size}: StorageClass {name} has no allowVolumeExpansion. Put that back, or {_ANEW}."
        )
    return None


def _growing(claim: Obj) -> str:
    """What is said while the storage is behind the claim."""
    status, size = claim.get("status") or {}, requested(claim)
    has = (status.get("capacity") or {}).get("storage")
    if has is None or size is None or quantity_bytes(has) >= quantity_bytes(size):
        return ""
    if str((status.get("allocatedResourceStatuses") or {}).get("storage") or "").endswith("Infeasible"):
        return f"The storage cannot expand the volume from {has} to {size}; kubectl describe pvc says why."
    if any(c.get("type") == "FileSystemResizePending" for c in status.get("conditions") or ()):
        return f"The volume grows from {has} to {size} when the next pod mounts it."
    return f"The volume is being expanded from {has} to {size}."
