"""Versions that other namespaces get: which ones, what is made there, and what is taken back. Pure.

What must stay true: a namespace gets a version only if the version's selector matches it and its own label accepts
shares; an empty or absent selector shares nothing; a share is made when its source is ready, and is gone before its
source goes; what nobody wants to be shared any more is taken back, whatever the status says about it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from modelyard.decide.common import ConditionSet, listed
from modelyard.decide.model.entry import FAILED, PENDING, PROCESSING, READY, Outcome
from modelyard.decide.model.view import ModelView
from modelyard.decide.ports import SharingPlane
from modelyard.plan import Action, Obj, Ref
from modelyard.resources import names
from modelyard.resources.meta import DATASET, PV, PVC
from modelyard.resources.model import SHARED_WITH_MAX, ModelSpec, ModelVersion, Share
from modelyard.resources.objects import generation_of, is_deleting, label
from modelyard.resources.selectors import is_empty, label_of, selects
from modelyard.resources.shares import Lent, Loan
from modelyard.resources.volumes import LABEL_DATASET, Stage, Step

CONDITION: Final = "Shared"
_NAME_LABEL: Final = "kubernetes.io/metadata.name"
_PHASES: Final = {Stage.WAITING: PENDING, Stage.WORKING: PROCESSING, Stage.READY: READY, Stage.FAILED: FAILED}
_NOT_OURS_TO_SHARE: Final = {
    "PVC": "its files are in a volume that Modelyard did not make, and which may hold more than this version",
    "REFERENCE": "its files are another namespace's, which shares them itself",
}


@dataclass(frozen=True, slots=True)
class Place:
    """One share by where it is: namespace and name there."""

    namespace: str
    name: str


def selector(share: Share | None, view: ModelView) -> Mapping[str, Any] | None:
    """Selects the namespaces that get the version, in Kubernetes' form; None: it is not shared."""
    chosen = share.namespace_selector if share is not None and share.enabled else None
    written = chosen.model_dump(by_alias=True, exclude_unset=True) if chosen is not None else {}
    if share is None or is_empty(written):
        return None
    expressions = [_plain(e) for e in written.get("matchExpressions") or ()]
    required = [view.receivers.require, *([share.require_opt_in_label] if share.require_opt_in_label else [])]
    for key, value in dict.fromkeys(map(label_of, required)):
        expressions.append({"key": key, "operator": "In", "values": [value]})
    own = sorted({view.namespace, view.receivers.own} - {""})
    expressions.append({"key": _NAME_LABEL, "operator": "NotIn", "values": own})
    return {
        **({"matchLabels": dict(written["matchLabels"])} if written.get("matchLabels") else {}),
        "matchExpressions": expressions,
    }


def targets(share: Share | None, view: ModelView) -> list[str]:
    """The namespaces that get the version now."""
    wanted = selector(share, view)
    if wanted is None:
        return []
    return sorted(n["metadata"]["name"] for n in view.receivers.namespaces if _may_receive(n) and _fits(wanted, n))


def is_shared(view: ModelView, spec: ModelSpec) -> bool:
    """Whether there are shares, or are to be: they go before the Model does."""
    return bool(view.shares) or any(targets(v.share, view) for v in spec.versions if v.state != "ABSENT")


def share_all(
    view: ModelView, spec: ModelSpec, outcomes: Iterable[Outcome], plane: SharingPlane, now: datetime
) -> list[Outcome]:
    """The outcomes with what is shared of each, and all that is to be taken back with the last one."""
    there = lent(view)
    versions = {v.name: v for v in spec.versions}
    result = []
    for outcome in outcomes:
        version = versions.get(outcome.entry.get("name", ""))
        if version is None or version.share is None or not outcome.entry:
            result.append(outcome)
            continue
        result.append(_share(view, version, outcome, there, plane, now))
    back = tuple(a for rest in there.values() for a in plane.take_back(rest))
    return [*result, Outcome({}, back, wanted=False)] if back else result


def lent(view: ModelView) -> dict[Place, Lent]:
    """What there is of shares of this Model, or of one of its name before."""
    parts: dict[Place, dict[str, Obj]] = defaultdict(dict)
    for obj in view.shares:
        meta, kind = obj["metadata"], str(obj.get("kind"))
        at = (obj["spec"].get("claimRef") or {}) if "namespace" not in meta else meta
        parts[Place(at.get("namespace", ""), at.get("name", ""))][kind] = obj
    return {
        place: Lent(
            dataset=found.get(DATASET.kind),
            claim=(claim := found.get(PVC.kind)),
            disk=found.get(PV.kind),
            leftover=view.disks.get(_disk_of(claim)) if claim is not None and label(claim, LABEL_DATASET) else None,
        )
        for place, found in parts.items()
    }


def take_back_all(view: ModelView, plane: SharingPlane) -> tuple[tuple[Action, ...], list[str]]:
    """Takes back every share, and says in which namespaces there still are some."""
    there = lent(view)
    actions = tuple(a for share in there.values() for a in plane.take_back(share))
    # A volume that is on its way out holds no files, and needs nobody to go.
    left = {p.namespace for p, s in there.items() if s.dataset or s.claim or (s.disk and not is_deleting(s.disk))}
    return actions, sorted(left)


def _share(
    view: ModelView,
    version: ModelVersion,
    outcome: Outcome,
    there: dict[Place, Lent],
    plane: SharingPlane,
    now: datetime,
) -> Outcome:
    """Takes what stays shared out of `there`."""
    if version.state == "ABSENT" or version.share is None or not version.share.enabled:
        return outcome
    entry, conditions = dict(outcome.entry), _Conditions(view, outcome, now)
    places = [Place(ns, names.share(view.namespace, view.name, version.name)) for ns in targets(version.share, view)]
    type = ((view.source or {}).get("spec") or {}).get("type")
    if version.repo is not None and type in _NOT_OURS_TO_SHARE:
        text = f"It cannot be shared: {_NOT_OURS_TO_SHARE[type]}."
        return replace(outcome, entry=conditions.say(entry, False, "NotShareable", text))
    if not places:
        return replace(outcome, entry=conditions.say(entry, False, "NoNamespace", _nobody(version.share, view)))
    claim = next((c for c in view.claims if c["metadata"]["name"] == entry.get("pvcName")), None)
    if claim is None:
        return replace(
            outcome, entry=conditions.say(entry, False, "NotReady", "It is shared when its files are there.")
        )
    steps: dict[Place, Step] = {}
    for place in places:
        loan, seen = _loan(view, version, entry, claim, place), there.pop(place, Lent())
        if outcome.phase != READY and not (seen.parts and seen.is_of(loan)):
            continue
        seen = replace(seen, stranger=view.strangers.get(Ref(PVC, place.namespace, place.name)))
        seen = seen if seen.stranger else replace(seen, stranger=_dataset_of_others(view, place))
        steps[place] = plane.lend(loan, seen, now)
    entry["sharedWith"] = [_row(place, step) for place, step in steps.items()][:SHARED_WITH_MAX]
    requeue = [s.requeue_after for s in steps.values()] + [outcome.requeue_after]
    return replace(
        outcome,
        entry=_summed_up(conditions, entry, steps),
        actions=(*outcome.actions, *(a for s in steps.values() for a in s.actions)),
        requeue_after=min((r for r in requeue if r is not None), default=None),
    )


def _summed_up(conditions: _Conditions, entry: dict[str, Any], steps: Mapping[Place, Step]) -> dict[str, Any]:
    ready = [p.namespace for p, s in steps.items() if s.stage is Stage.READY]
    rest = [(p, s) for p, s in steps.items() if s.stage is not Stage.READY]
    rest.sort(key=lambda item: item[1].stage is not Stage.FAILED)
    if not steps:
        return conditions.say(entry, False, "NotReady", "It is shared when its files are there.")
    if not rest:
        return conditions.say(entry, True, "Shared", f"It can be used in {listed(ready)}.")
    place, step = rest[0]
    text = f"It can be used in {len(ready)} of {len(steps)} namespaces. {place.namespace}: {step.message}"
    return conditions.say(entry, False, step.reason, text)


def _row(place: Place, step: Step) -> dict[str, Any]:
    row = {"namespace": place.namespace, "name": place.name, "phase": _PHASES[step.stage]}
    return row if step.stage is Stage.READY else row | {"reason": step.reason}


def _loan(view: ModelView, version: ModelVersion, entry: Mapping[str, Any], claim: Obj, place: Place) -> Loan:
    volume, dataset = str(entry["pvcName"]), entry.get("activeDataset")
    return Loan(
        namespace=place.namespace,
        name=place.name,
        model=view.model,
        version=version.name,
        kind=DATASET if dataset is not None else PVC,
        volume=str(dataset or volume),
        path=str(entry.get("path") or ""),
        claim=claim,
        source=next((d for d in view.datasets if d["metadata"]["name"] == dataset), None),
        disk=view.disks.get(_disk_of(claim)),
    )


def _dataset_of_others(view: ModelView, place: Place) -> Obj | None:
    return view.strangers.get(Ref(DATASET, place.namespace, place.name))


def _disk_of(claim: Obj) -> str:
    return str((claim.get("spec") or {}).get("volumeName") or "")


def _may_receive(namespace: Obj) -> bool:
    phase = (namespace.get("status") or {}).get("phase")
    return not is_deleting(namespace) and phase != "Terminating"


def _fits(wanted: Mapping[str, Any], namespace: Obj) -> bool:
    name = namespace["metadata"]["name"]
    labels = {_NAME_LABEL: name, **(namespace["metadata"].get("labels") or {})}
    return not name.startswith("kube-") and selects(wanted, labels)


def _plain(expression: Mapping[str, Any]) -> dict[str, Any]:
    values = list(expression.get("values") or ())
    found = {"key": expression["key"], "operator": expression["operator"]}
    return found | {"values": values} if values else found


def _nobody(share: Share, view: ModelView) -> str:
    if share.namespace_selector is None or is_empty(share.namespace_selector.model_dump(by_alias=True)):
        return "share.namespaceSelector is empty, which selects no namespace: say which ones get the version."
    more = f" and {share.require_opt_in_label}" if share.require_opt_in_label else ""
    return (
        f"No namespace matches share.namespaceSelector and accepts shares by the label {view.receivers.require}{more}."
    )


class _Conditions:
    """Adds the version's condition about sharing to its others."""

    def __init__(self, view: ModelView, outcome: Outcome, now: datetime) -> None:
        old = (view.model.get("status") or {}).get("syncedVersions") or ()
        before: Mapping[str, Any] = next((e for e in old if e["name"] == outcome.entry["name"]), {})
        self._set = ConditionSet(before.get("conditions"), now=now, generation=generation_of(view.model))

    def say(self, entry: Mapping[str, Any], value: bool, reason: str, message: str) -> dict[str, Any]:
        """The entry with it."""
        self._set.flag(CONDITION, value, reason, message)
        return {**entry, "conditions": [*entry["conditions"], *self._set.result()]}
