"""ModelSource: is its config right, do its credentials serve, who uses it; and it stays while somebody does.

Pure. The Secret is known by its keys alone. `lastCheckedTime` is written together with what a check found, not at every
check: at rest nothing is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from modelyard.decide.common import ConditionSet, guard, has_guard, listed, status_patch
from modelyard.observed import ObjectFact, SecretFact
from modelyard.plan import Obj, Plan
from modelyard.resources import problems, sources, support
from modelyard.resources.meta import MODELSOURCE
from modelyard.resources.modelsource import REFERENCED_BY_MAX, ModelSourceSpec
from modelyard.resources.objects import generation_of, is_deleting
from modelyard.resources.sourcetypes import SOURCES
from modelyard.resources.times import format_time

_KEYS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class SourceView:
    """A ModelSource and what decides about it. `secret` and `claim` are None until they were read."""

    source: Obj
    secret: SecretFact | None
    claim: ObjectFact | None
    users: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Finding:
    """One answer: True, False or Unknown, with reason and words."""

    status: Any
    reason: str
    message: str


def decide(view: SourceView, now: datetime) -> Plan:
    """The guard finalizer while it is in use, and a status that says what is wrong and what to do."""
    if (change := guard(MODELSOURCE, view.source, bool(view.users))) is not None:
        return Plan((change,))
    if is_deleting(view.source) and not has_guard(view.source):
        return Plan()
    patch = status_patch(MODELSOURCE, view.source, _status(view, now))
    return Plan((patch,) if patch is not None else ())


def _status(view: SourceView, now: datetime) -> dict[str, Any]:
    source, generation = view.source, generation_of(view.source)
    old = source.get("status") or {}
    credentials = _credentials(view)
    ready = _ready(view, credentials)
    conditions = ConditionSet(old.get("conditions"), now=now, generation=generation)
    conditions.set("Ready", ready.status, ready.reason, ready.message)
    conditions.set("CredentialsReady", credentials.status, credentials.reason, credentials.message)
    working = ready.status == "Unknown" or ready.reason == "Deleting"
    conditions.flag(
        "Reconciling",
        working,
        ready.reason if working else "Settled",
        ready.message if working else "Nothing is in progress.",
    )
    stalled = ready.status == "False" and not working
    conditions.flag(
        "Stalled", stalled, ready.reason if stalled else "Settled", ready.message if stalled else "Nothing is stuck."
    )
    return {
        "observedGeneration": generation,
        "conditions": conditions.result(),
        "referencedBy": sorted(view.users)[:REFERENCED_BY_MAX],
        "referencedByCount": len(view.users),
        "credentials": _known_credentials(view, old.get("credentials") or {}),
    }


def _ready(view: SourceView, credentials: _Finding) -> _Finding:
    if is_deleting(view.source):
        return _Finding("False", "Deleting", f"Deletion waits until nobody uses the source: {listed(view.users)}.")
    if (wrong := _wrong_spec(view.source)) is not None:
        return wrong
    if credentials.status != "True":
        return credentials
    if view.source["spec"]["type"] == "PVC":
        return _ready_claim(view)
    return _Finding("True", "Ready", "The source can be used.")


def _wrong_spec(source: Obj) -> _Finding | None:
    try:
        spec = problems.parse(ModelSourceSpec, source.get("spec"))
    except problems.ManifestError as error:
        return _Finding("False", "InvalidSpec", f"{error}.")
    if refused := support.unsupported(spec):
        return _Finding("False", "NotSupported", f"{problems.describe(refused)}.")
    found = sources.check_config(spec.type, spec.config)
    if (odd := sources.check_secret_ref(spec.type, spec.secret_ref)) is not None:
        found = [*found, odd]
    return _Finding("False", "InvalidConfig", f"{problems.describe(found)}.") if found else None


def _credentials(view: SourceView) -> _Finding:
    spec = view.source.get("spec") or {}
    name, type = spec.get("secretRef"), str(spec.get("type"))
    if name is None or type not in SOURCES:
        return _Finding("True", "NotNeeded", "No Secret is named: the source is used without credentials.")
    secret, namespace = view.secret, view.source["metadata"]["namespace"]
    if secret is None:
        return _Finding("Unknown", "NotChecked", f"Secret {name!r} is being looked at.")
    if secret.forbidden:
        return _Finding(
            "False",
            "SecretForbidden",
            f"The operator may not read Secret {name!r} in namespace {namespace!r}: "
            "give its service account the verb get on secrets there.",
        )
    if not secret.exists:
        keys = " or ".join(" and ".join(group) for group in SOURCES[type].secrets)
        return _Finding(
            "False",
            "SecretNotFound",
            f"There is no Secret {name!r} in namespace {namespace!r}: create it"
            + (f" with {keys}" if keys else "")
            + ", or correct spec.secretRef.",
        )
    if (wrong := sources.check_secret(type, secret.present | secret.empty, secret.empty, name)) is not None:
        return _Finding("False", "SecretInvalid", f"{wrong}.")
    return _Finding("True", "Valid", f"Secret {name!r} has the keys that type {type} needs.")


def _known_credentials(view: SourceView, old: dict[str, Any]) -> dict[str, Any]:
    spec = view.source.get("spec") or {}
    secret, type = view.secret, str(spec.get("type"))
    if spec.get("secretRef") is None or type not in SOURCES:
        return {}
    if secret is None:
        return old
    good = (sources.secret_keys(type) & secret.present) - secret.empty
    found = {"checkedKeys": sorted(good)[:_KEYS_MAX], "secretResourceVersion": secret.resource_version}
    found = {key: value for key, value in found.items() if value}
    if {key: value for key, value in old.items() if key != "lastCheckedTime"} == found and "lastCheckedTime" in old:
        return old
    return {**found, "lastCheckedTime": format_time(secret.checked_at)}


def _ready_claim(view: SourceView) -> _Finding:
    name, namespace = view.source["spec"]["config"]["pvcName"], view.source["metadata"]["namespace"]
    if view.claim is None:
        return _Finding("Unknown", "NotChecked", f"Claim {name!r} is being looked at.")
    claim = view.claim.obj
    if view.claim.forbidden:
        return _Finding(
            "False",
            "ClaimForbidden",
            f"The operator may not read PersistentVolumeClaim {name!r} in namespace {namespace!r}: "
            "give its service account the verb get on persistentvolumeclaims there.",
        )
    if claim is None:
        return _Finding(
            "False",
            "ClaimNotFound",
            f"There is no PersistentVolumeClaim {name!r} in namespace {namespace!r}: create it, or correct "
            "spec.config.pvcName.",
        )
    if is_deleting(claim):
        return _Finding("False", "ClaimTerminating", f"PersistentVolumeClaim {name!r} is being deleted.")
    if (claim.get("status") or {}).get("phase") != "Bound":
        return _Finding(
            "False",
            "ClaimNotBound",
            f"PersistentVolumeClaim {name!r} is not bound to a volume, so it holds no files: fill it, then it is used.",
        )
    return _Finding("True", "Ready", f"Files are taken from claim {name!r} as they are.")
