"""Reading observed objects: who they are, whose they are, what is written on them. Pure."""

from __future__ import annotations

from typing import Any

from modelyard.plan import Kind, Obj, Ref


def ref_to(kind: Kind, obj: Obj) -> Ref:
    """The name of an observed object."""
    meta = obj["metadata"]
    return Ref(kind, meta.get("namespace", ""), meta["name"])


def uid_of(obj: Obj) -> str:
    """The identity of an observed object."""
    uid: str = obj["metadata"]["uid"]
    return uid


def generation_of(obj: Obj) -> int:
    """The generation of an observed object's spec."""
    return int(obj["metadata"].get("generation", 0))


def annotation(obj: Obj, name: str) -> str | None:
    """The value of an annotation, or None."""
    return (obj["metadata"].get("annotations") or {}).get(name)


def label(obj: Obj, name: str) -> str | None:
    """The value of a label, or None."""
    return (obj["metadata"].get("labels") or {}).get(name)


def is_deleting(obj: Obj) -> bool:
    """Whether the object's deletion was asked for and waits for its finalizers."""
    return bool(obj["metadata"].get("deletionTimestamp"))


def owner_reference(kind: Kind, owner: Obj) -> dict[str, Any]:
    """The controller reference that makes an object ours, and lets it go with its owner."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "name": owner["metadata"]["name"],
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_uid(obj: Obj) -> str | None:
    """The uid of the owner that controls the object, or None for an object of its own."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return str(reference["uid"])
    return None


def whose(obj: Obj) -> str:
    """Whose an object is that has a name of ours, in words that follow "is there already and"."""
    for reference in obj["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return f"belongs to {reference['kind']} {reference['name']} (uid {reference['uid']})"
    return "was not made by Modelyard for this object"
