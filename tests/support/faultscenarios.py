"""What users do while the operator is disturbed: each scenario is a list of steps, each step an act and its outcome.

What comes before (`given`) is not disturbed: another scenario's steps are. A scenario needs nothing but its namespace,
and everything that a pod does follows from what its Job is, so that two runs differ in what the operator did alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from modelyard.plan import Kind
from modelyard.resources.meta import JOB, MODEL, MODELSOURCE, POD, PVC, SECRET, TRAINING
from support.build import make_claim, make_model, make_secret, make_source, make_training, make_version
from support.cluster import Kube
from support.kubelet import Ending
from support.trainings import BAD, DONE, STOPPED

Obj = dict[str, Any]
TABULAR: Obj = {
    "dataset": {"pvc": {"claimName": "rows"}, "path": "iris.csv"},
    "recipe": {"name": "tabular-classification"},
}


class Place:
    """A namespace to act in and to look at."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube = kube
        self.namespace = namespace

    def create(self, kind: Kind, obj: Obj) -> None:
        """POST."""
        self.kube.create({**obj, "metadata": {**obj["metadata"], "namespace": self.namespace}}, kind)

    def edit(self, kind: Kind, name: str, **spec: Any) -> None:
        """Changes its spec."""
        self.kube.merge(kind, self.namespace, name, {"spec": spec})

    def delete(self, kind: Kind, name: str) -> None:
        """DELETE."""
        self.kube.delete(kind, self.namespace, name)

    def status(self, kind: Kind, name: str) -> Obj:
        """Of a root; empty if it is gone or has none yet."""
        return dict((self.kube.find(kind, self.namespace, name) or {}).get("status") or {})

    def reason(self, kind: Kind, name: str, type: str) -> str:
        """The reason of a condition."""
        return next((c["reason"] for c in self.status(kind, name).get("conditions") or () if c["type"] == type), "")

    def entry(self, version: str, name: str = "m") -> Obj:
        """A Model version's entry."""
        entries = self.status(MODEL, name).get("syncedVersions") or ()
        return next((e for e in entries if e["name"] == version), {})

    def names(self, kind: Kind) -> list[str]:
        """Of all objects of a kind."""
        return sorted(o["metadata"]["name"] for o in self.kube.list(kind, self.namespace))

    def went(self, kind: Kind, name: str) -> bool:
        """Whether it is gone."""
        return self.kube.find(kind, self.namespace, name) is None

    def phase(self, *wanted: str) -> bool:
        """Whether Training `t` is in one of the phases."""
        return self.status(TRAINING, "t").get("phase") in wanted


@dataclass(frozen=True, slots=True)
class Step:
    """`act`, then wait until `outcome`."""

    name: str
    act: Callable[[Place], None]
    outcome: Callable[[Place], bool]


Script = Callable[[Obj], Ending | None]


def fetched(pod: Obj) -> Ending:
    """A download that works; revision `b` is another commit."""
    commit = "decaf" if "revision=b" in json.dumps(pod["spec"]["containers"][0]) else "c0ffee"
    said = {"result": "done", "resolvedRevision": commit, "bytes": 12, "files": 2, "digest": "sha256:ab"}
    return Ending(0, json.dumps(said))


def trained(*endings: Ending | None) -> Script:
    """How each attempt ends; None goes on until it is stopped. Downloads work."""

    def script(pod: Obj) -> Ending | None:
        attempt = pod["metadata"]["labels"].get("modelyard.dev/attempt")
        return endings[int(attempt) - 1] if attempt else fetched(pod)

    return script


@dataclass(frozen=True, slots=True)
class Scenario:
    """A story. `given` is undisturbed."""

    name: str
    steps: tuple[Step, ...]
    given: tuple[Step, ...] = ()
    script: Script = fetched


def _make_model(*versions: Obj) -> Step:
    def act(place: Place) -> None:
        place.create(MODELSOURCE, make_source())
        place.create(MODEL, make_model("m", *versions))

    def outcome(place: Place) -> bool:
        referenced = place.status(MODELSOURCE, "hub").get("referencedBy")
        return place.reason(MODEL, "m", "Ready") == "Ready" and bool(referenced)

    return Step("make", act, outcome)


def _with_secret(place: Place) -> None:
    place.create(MODELSOURCE, make_source(secret="token"))
    place.create(MODEL, make_model("m"))


def _put(**spec: Any) -> Callable[[Place], None]:
    def act(place: Place) -> None:
        claim = make_claim("rows")
        del claim["status"]
        place.create(PVC, claim)
        place.create(TRAINING, make_training("t", spec={**TABULAR, **spec}))

    return act


def _clean(place: Place, phase: str) -> bool:
    return place.phase(phase) and place.reason(TRAINING, "t", "CleanedUp") != "" and not place.names(JOB)


def _failed(place: Place) -> bool:
    return place.phase("Failed") and place.reason(TRAINING, "t", "Stalled") != ""  # its Job stays, for its log


def _preempt(place: Place) -> None:
    (pod,) = place.kube.list(POD, place.namespace)
    disrupted = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    disrupted["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    status = {"conditions": [*pod["status"]["conditions"], disrupted]}
    place.kube.merge(POD, place.namespace, pod["metadata"]["name"], {"status": status}, "status")
    place.delete(POD, pod["metadata"]["name"])


_RUNNING = Step("submit", _put(), lambda p: p.phase("Running"))
_ENDED = Ending(0, DONE)

SCENARIOS = (
    Scenario("model made", (_make_model(make_version("v1"), make_version("v2", "org/other")),)),
    Scenario(
        "revision changed",
        (
            Step(
                "change",
                lambda p: p.edit(MODEL, "m", versions=[make_version("v1", revision="b")]),
                lambda p: p.entry("v1").get("resolvedRevision") == "decaf" and len(p.names(PVC)) == 1,
            ),
        ),
        given=(_make_model(make_version("v1", revision="a")),),
    ),
    Scenario(
        "version removed",
        (
            Step(
                "remove",
                lambda p: p.edit(MODEL, "m", versions=[make_version("v1")]),
                lambda p: p.names(PVC) == ["mdl-m-v1"] and not p.entry("v2"),
            ),
        ),
        given=(_make_model(make_version("v1"), make_version("v2", "org/other")),),
    ),
    Scenario(
        "model deleted",
        (Step("delete", lambda p: p.delete(MODEL, "m"), lambda p: p.went(MODEL, "m") and not p.names(PVC)),),
        given=(_make_model(),),
    ),
    Scenario(
        "source deleted first",
        (
            Step(
                "delete the source",
                lambda p: p.delete(MODELSOURCE, "hub"),
                lambda p: p.reason(MODELSOURCE, "hub", "Ready") == "Deleting",
            ),
            Step("delete the model", lambda p: p.delete(MODEL, "m"), lambda p: p.went(MODELSOURCE, "hub")),
        ),
        given=(_make_model(),),
    ),
    Scenario(
        "secret repaired",
        (
            Step("make", _with_secret, lambda p: p.entry("v1").get("reason") == "SourceNotReady"),
            Step(
                "make the Secret",
                lambda p: p.create(SECRET, make_secret("token", {"token": "x"})),
                lambda p: p.reason(MODEL, "m", "Ready") == "Ready",
            ),
        ),
    ),
    Scenario(
        "training saved",
        (
            Step(
                "submit",
                _put(save={"model": "flowers", "version": "v1"}),
                lambda p: _clean(p, "Succeeded") and p.entry("v1", "flowers").get("phase") == "Ready",
            ),
        ),
        script=trained(_ENDED),
    ),
    Scenario(
        "training paused",
        (
            Step(
                "pause",
                lambda p: p.edit(TRAINING, "t", suspend=True),
                lambda p: p.phase("Suspended") and not p.names(JOB),
            ),
            Step("resume", lambda p: p.edit(TRAINING, "t", suspend=False), lambda p: _clean(p, "Succeeded")),
        ),
        given=(_RUNNING,),
        script=trained(None, _ENDED),
    ),
    Scenario(
        "training preempted",
        (Step("preempt", _preempt, lambda p: _clean(p, "Succeeded")),),
        given=(_RUNNING,),
        script=trained(None, _ENDED),
    ),
    Scenario(
        "bad input",
        (Step("submit", _put(), _failed),),
        script=trained(Ending(64, BAD)),
    ),
    Scenario(
        "training deleted",
        (
            Step(
                "delete",
                lambda p: p.delete(TRAINING, "t"),
                lambda p: p.went(TRAINING, "t") and not p.names(JOB) and p.names(PVC) == ["rows"],
            ),
        ),
        given=(_RUNNING,),
        script=trained(None),
    ),
)

STOPPED_POD = Ending(75, STOPPED)
