"""Versions whose files are used where they are: nothing is copied, and nothing of others is ever deleted. Pure.

A folder of a volume that the user brings, or what another namespace shares with this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from modelyard.decide.model.entry import PENDING, PROCESSING, READY, Said, make
from modelyard.decide.model.view import ModelView
from modelyard.plan import Obj, Ref
from modelyard.resources import sources
from modelyard.resources.meta import (
    ANNOTATION_SHARED_PATH,
    ANNOTATION_SHARED_VOLUME,
    DATASET,
    LABEL_SHARED_NAMESPACE,
)
from modelyard.resources.names import share
from modelyard.resources.objects import annotation, generation_of, is_deleting, label
from modelyard.resources.selectors import label_of, selects
from modelyard.resources.sources import Content
from modelyard.resources.times import format_time

_USED: Final = "The files are used where they are."


def linked_entry(
    view: ModelView,
    name: str,
    old: Mapping[str, Any],
    content: Content,
    said: Said | None,
    now: datetime,
    *,
    claim: str | None = None,
    path: str = "",
) -> dict[str, Any]:
    """The entry of a version that lies in `claim`; `said` if it cannot be used now."""
    generation = generation_of(view.model)
    if said is not None:
        return make(name, said, old, now=now, generation=generation, origin="Source")
    same = old.get("observedVersionHash") == content.hash and old.get("phase") == READY
    return make(
        name,
        Said(READY, "Ready", _USED),
        old,
        now=now,
        generation=generation,
        origin="Source",
        pvcName=claim,
        path=path or None,
        kind="Full",
        observedVersionHash=content.hash,
        lastSyncTime=(old.get("lastSyncTime") if same else None) or format_time(now),
    )


def shared_here(view: ModelView, content: Content) -> tuple[Obj | None, Said | None]:
    """The claim here of what the REFERENCE names, if Modelyard shares it, and what is to be said while it is unusable.

    Neither: it is, or may be, a Dataset that others share, for which a Dataset of our own is made.
    """
    namespace, model, version = sources.reference(content)
    if version is not None:
        wanted = share(namespace, model, version)
        found = [c for c in view.borrowed if c["metadata"]["name"] == wanted]
        what = f"version {version} of Model {model}"
    else:
        found = [c for c in view.borrowed if annotation(c, ANNOTATION_SHARED_VOLUME) == model]
        what = f"volume {model}"
    found = [c for c in found if label(c, LABEL_SHARED_NAMESPACE) == namespace]
    if not found:
        if version is None:
            return None, None
        text = (
            f"Namespace {namespace} does not share {what} with this one: its Model must have the version and select "
            "this namespace in share.namespaceSelector, and this namespace must accept shares by the label "
            f"{view.receivers.require}."
        )
        return None, Said(PENDING, "NotShared", text)
    claim = found[0]
    if is_deleting(claim):
        return None, Said(PENDING, "NotShared", f"Namespace {namespace} shares {what} no more, or shares it anew.")
    if (claim.get("status") or {}).get("phase") != "Bound":
        return None, Said(PROCESSING, "Binding", f"The share of {what} is being made.")
    return claim, None


def shared_path(claim: Obj) -> str:
    """The folder of a share's volume with the files."""
    return annotation(claim, ANNOTATION_SHARED_PATH) or ""


def reference_problem(view: ModelView, content: Content) -> Said | None:
    """Why a Dataset of ours may not refer to another namespace's now: it would only fail, and never look again."""
    namespace, name, _ = sources.reference(content)
    dataset = view.foreign.get(Ref(DATASET, namespace, name))
    if dataset is None:
        return Said(PENDING, "NotShared", f"There is no Dataset {name} in namespace {namespace}, or it cannot be read.")
    here, spec = view.home_labels, dataset.get("spec") or {}
    key, value = label_of(view.receivers.require)
    if here.get(key) != value:
        text = f"This namespace does not accept shares: it needs the label {view.receivers.require}."
        return Said(PENDING, "NotAccepted", text)
    if not spec.get("share") or not selects(spec.get("shareToNamespaceSelector") or {}, here):
        text = f"Dataset {name} of namespace {namespace} is not shared with this one: see its spec.share."
        return Said(PENDING, "NotShared", text)
    if (dataset.get("status") or {}).get("phase") != "READY":
        return Said(PENDING, "SourceNotReady", f"Dataset {name} of namespace {namespace} is not READY yet.")
    return None


def path_of_foreign(view: ModelView, content: Content) -> str:
    """The folder of another namespace's Dataset with the files."""
    namespace, name, _ = sources.reference(content)
    spec = (view.foreign.get(Ref(DATASET, namespace, name)) or {}).get("spec") or {}
    return str((spec.get("mountOptions") or {}).get("path") or "").strip("/")
