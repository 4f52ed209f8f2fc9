"""What a case left behind, without what no two runs share; and what must have been true all the time until then."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NamedTuple

from modelyard.plan import Kind
from modelyard.resources.meta import (
    COMPONENT_TRAINING,
    JOB,
    LABEL_COMPONENT,
    LABEL_TRAINING,
    MODEL,
    MODELSOURCE,
    POD,
    PV,
    PVC,
    TRAINING,
)
from support.cluster import Kube

Obj = dict[str, Any]
KINDS = (MODELSOURCE, MODEL, TRAINING, PVC, JOB, POD)
ROOTS = {"ModelSource", "Model", "Training"}
TERMINAL = {"Succeeded", "Failed"}

_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_HASHED = re.compile(r"\b(share|pv)-[a-z0-9-]+-[0-9a-f]{8}\b")
_MASKED = {
    "managedFields",
    "resourceVersion",
    "secretResourceVersion",
    "generation",
    "observedGeneration",
    "activeSeconds",
    "cost",
    "lastCheckedTime",
    "deletionGracePeriodSeconds",
}


def end_state(kube: Kube, namespace: str) -> Obj:
    """All objects of a namespace by kind and name, masked of times, uids, resourceVersions and running times."""
    state: Obj = {}
    for kind in KINDS:
        for obj in kube.list(kind, namespace):
            state.setdefault(kind.kind, {})[_name(kind, obj)] = _of(kind, _masked(obj, namespace))
    for claim in kube.list(PVC, f"{namespace}-there"):  # what is shared with another namespace
        state.setdefault("there", {})[plain(_name(PVC, claim), namespace)] = _of(PVC, _masked(claim, namespace))
    for disk in kube.list(PV):
        if (name := str(disk["metadata"]["name"])).startswith(f"pv-{namespace}-"):
            state.setdefault(PV.kind, {})[plain(name, namespace)] = _masked(disk["spec"], namespace)
    return state


def differences(found: Any, wanted: Any, at: str = "") -> Iterator[str]:
    """Every place where the two differ, with what is there."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted({*found, *wanted}):
            yield from differences(found.get(key), wanted.get(key), f"{at}/{key}")
    elif found != wanted:
        yield f"{at}: {json.dumps(found)[:300]} is not {json.dumps(wanted)[:300]}"


def plain(text: str, namespace: str) -> str:
    """The text without what a namespace's name does to it: names that it is part of are cut and have a hash."""
    return _HASHED.sub(r"\1-<hash>", text).replace(namespace, "<namespace>")


def _name(kind: Kind, obj: Obj) -> str:
    if kind is POD:
        return str((obj["metadata"].get("labels") or {}).get("batch.kubernetes.io/job-name", obj["metadata"]["name"]))
    return str(obj["metadata"]["name"])


def _masked(value: Any, namespace: str) -> Any:
    if isinstance(value, dict):
        return {k: _masked(v, namespace) for k, v in value.items() if k not in _MASKED}
    if isinstance(value, list):
        return [_masked(v, namespace) for v in value]
    if isinstance(value, str):
        return plain(_TIME.sub("<time>", _UID.sub("<uid>", value)), namespace)
    return value


def _of(kind: Kind, obj: Obj) -> Obj:
    if kind in (JOB, POD):  # whose status is Kubernetes' own, and its order of things
        return {"labels": obj["metadata"].get("labels"), "owners": obj["metadata"].get("ownerReferences")}
    status = obj.get("status") or {}
    for entry in status.get("history") or ():
        # A pod that was told to stop may be gone before anybody reads its last words.
        for key in set(entry) - {"attempt", "cause", "reason", "endTime"}:
            del entry[key]
        if entry["cause"] == "Infrastructure":  # likewise: only the pod knows which of them it was
            del entry["reason"]
    status.pop("checkpoint", None)  # likewise, told by the last words of a pod that was stopped
    (status.get("placement") or {}).pop("pod", None)  # its name is made up
    for holder in (status, *(status.get("syncedVersions") or ())):
        if "conditions" in holder:
            holder["conditions"] = sorted(holder["conditions"], key=lambda c: c["type"])
    return obj


class Seen(NamedTuple):
    """A state that an object had, in the order of the cluster's revisions."""

    revision: int
    event: str
    obj: Obj


class Recorder:
    """Keeps every state that our kinds had, over the whole cluster; fed from watches past the proxy."""

    def __init__(self) -> None:
        self._seen: dict[str, list[Seen]] = defaultdict(list)

    def take(self, event: Obj) -> int:
        """One watch event; its revision."""
        meta = event["object"]["metadata"]
        seen = Seen(int(meta["resourceVersion"]), event["type"], event["object"])
        self._seen[meta.get("namespace", "")].append(seen)
        return seen.revision

    def states(self, namespace: str) -> list[Seen]:
        """What was seen in a namespace, in order; it is forgotten then."""
        return sorted(self._seen.pop(namespace, ()), key=lambda s: s.revision)


def violations(states: list[Seen]) -> Iterator[str]:
    """Every breach of: one live attempt at most; a terminal phase is not left; a child's owner lives as it is made."""
    roots: dict[str, str] = {}
    terminal: dict[str, str] = {}
    live: dict[str, set[str]] = defaultdict(set)
    for revision, event, obj in states:
        kind, meta = obj["kind"], obj["metadata"]
        uid, name = meta["uid"], meta["name"]
        if kind in ROOTS:
            roots.pop(uid, None) if event == "DELETED" else roots.setdefault(uid, name)
        if kind == "Training":
            phase = (obj.get("status") or {}).get("phase", "")
            if uid in terminal and phase != terminal[uid]:
                yield f"Training {name} left {terminal[uid]} for {phase} at revision {revision}"
            if phase in TERMINAL:
                terminal.setdefault(uid, phase)
        owners = [o for o in meta.get("ownerReferences") or () if o["kind"] in ROOTS and o.get("controller")]
        if event == "ADDED" and kind not in ROOTS:
            for owner in owners:
                if owner["uid"] not in roots:
                    yield f"{kind} {name} was made for a {owner['kind']} that was gone, at revision {revision}"
        if kind == "Job" and owners and owners[0]["kind"] == "Training" and "modelyard.dev/attempt" in meta["labels"]:
            attempts = live[owners[0]["uid"]]
            done = {c["type"] for c in (obj.get("status") or {}).get("conditions") or () if c["status"] == "True"}
            if event == "DELETED" or done & {"Complete", "Failed"}:
                attempts.discard(uid)
            else:
                attempts.add(uid)
            if len(attempts) > 1:
                yield f"{len(attempts)} attempts of Training {owners[0]['name']} lived at revision {revision}"


def cost_gaps(states: list[Seen]) -> Iterator[tuple[str, int]]:
    """Of each Training that is there: the seconds by which the GPU time that it tells differs from what its pods held.

    A pod holds its node from being bound until its container has ended or, where nobody saw that, until it was gone.
    Those that look at the data before the run hold no GPU.
    """
    told: dict[str, tuple[int, int]] = {}
    held: dict[str, dict[str, int]] = defaultdict(dict)
    for _, event, obj in states:
        meta, status = obj["metadata"], obj.get("status") or {}
        if obj["kind"] == "Training" and event == "DELETED":
            told.pop(meta["name"], None)
        elif obj["kind"] == "Training" and "gpus" in (status.get("placement") or {}):
            told[meta["name"]] = (
                int(status["placement"]["gpus"]),
                int((status.get("cost") or {}).get("gpuSeconds") or 0),
            )
        labels = meta.get("labels") or {}
        if obj["kind"] == "Pod" and labels.get(LABEL_COMPONENT) == COMPONENT_TRAINING:
            owner = labels[LABEL_TRAINING]
            placed: Obj = next((c for c in status.get("conditions") or () if c["type"] == "PodScheduled"), {})
            if not obj["spec"].get("nodeName") or placed.get("status") != "True":
                continue
            ends = [
                c["state"]["terminated"]["finishedAt"]
                for c in status.get("containerStatuses") or ()
                if "terminated" in c["state"]
            ]
            end = ends[0] if ends else meta.get("deletionTimestamp")
            if end is not None:
                held[owner][meta["uid"]] = _seconds(placed["lastTransitionTime"], end)
    for name, (gpus, seconds) in sorted(told.items()):
        yield name, seconds // gpus - sum(held[name].values())


def _seconds(since: str, until: str) -> int:
    first, last = (datetime.fromisoformat(text) for text in (since, until))
    return int((last - first).total_seconds())
