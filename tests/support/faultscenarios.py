"""What users do while the operator is disturbed: each scenario is a list of steps, each step an act and its outcome.

What comes before (`given`) is not disturbed: another scenario's steps are. A scenario needs nothing but its namespace,
and everything that a pod does follows from what its Job is, so that two runs differ in what the operator did alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from modelyard.plan import Kind
from modelyard.resources.meta import DATASET, JOB, MODEL, MODELSOURCE, NAMESPACE, POD, PVC, SECRET, TRAINING
from support.build import make_claim, make_model, make_secret, make_source, make_training, make_version
from support.cluster import CRD, Kube, path_of
from support.kubelet import Ending
from support.trainings import ANALYZED, BAD, DONE, STOPPED
from support.volumes import provide

Obj = dict[str, Any]
TABULAR: Obj = {
    "dataset": {"pvc": {"claimName": "rows"}, "path": "iris.csv"},
    "recipe": {"name": "tabular-classification"},
    "compute": {"gpu": "H100:2"},
}
SAVE: Obj = {"model": "flowers", "version": "v1"}
LEFT = json.dumps({**json.loads(DONE), "checkpoint": {"step": 40, "path": "checkpoints/step-00000040"}})
"""The last words of a run that left a checkpoint too."""

_DATASETS = f"{DATASET.plural}.{DATASET.group}"
LONG_AGO = "2026-01-01T00:00:00Z"


class Place:
    """A namespace to act in and to look at."""

    def __init__(self, kube: Kube, namespace: str, watching: Mapping[str, int]) -> None:
        """`watching`: the operator's open watches by resource."""
        self.kube = kube
        self.namespace = namespace
        self._watching = watching

    def serve_datasets(self) -> None:
        """The cluster gets Datasets. Nobody looks after them."""
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        version = {
            "name": "v1alpha1",
            "served": True,
            "storage": True,
            "schema": schema,
            "subresources": {"status": {}},
        }
        names = {"kind": DATASET.kind, "plural": DATASET.plural}
        spec = {"group": DATASET.group, "names": names, "scope": "Namespaced", "versions": [version]}
        self.kube.create({"metadata": {"name": _DATASETS}, "spec": spec}, CRD)

    def withdraw_datasets(self) -> None:
        """The cluster has none any more."""
        self.kube.delete(CRD, "", _DATASETS)

    def watches(self, resource: str) -> bool:
        """Whether the operator does."""
        return self._watching.get(resource, 0) > 0

    @property
    def there(self) -> str:
        """Another namespace, with which something may be shared."""
        return f"{self.namespace}-there"

    def accept(self, value: str | None) -> None:
        """The people there accept shares, or no more."""
        labels = {"modelyard.dev/accept-shares": value}
        self.kube.merge(NAMESPACE, "", self.there, {"metadata": {"labels": labels}})

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


def first_fetched(pod: Obj) -> Ending | None:
    """Revision `a` is fetched at once, `b` never comes to an end."""
    return None if "revision=b" in json.dumps(pod["spec"]["containers"][0]) else fetched(pod)


def trained(*endings: Ending | None) -> Script:
    """How each attempt ends; None goes on until it is stopped. Downloads and analyses work."""

    def script(pod: Obj) -> Ending | None:
        attempt = pod["metadata"]["labels"].get("modelyard.dev/attempt")
        if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "analysis":
            return Ending(0, ANALYZED)
        return endings[int(attempt) - 1] if attempt else fetched(pod)

    return script


@dataclass(frozen=True, slots=True)
class Scenario:
    """A story. `given` is undisturbed. `shares`: there is another namespace, `there`.

    `datasets`: whether the cluster has Datasets is part of it, so that no other is played meanwhile.
    """

    name: str
    steps: tuple[Step, ...]
    given: tuple[Step, ...] = ()
    script: Script = fetched
    shares: bool = False
    datasets: bool = False


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


def _disrupt(place: Place, reason: str) -> str:
    """What the cluster writes on the one pod before it takes it away; its name."""
    (pod,) = place.kube.list(POD, place.namespace)
    disrupted = {"type": "DisruptionTarget", "status": "True", "reason": reason, "lastTransitionTime": LONG_AGO}
    status = {"conditions": [*pod["status"]["conditions"], disrupted]}
    place.kube.merge(POD, place.namespace, pod["metadata"]["name"], {"status": status}, "status")
    return str(pod["metadata"]["name"])


def _asked(place: Place, generation: int) -> bool:
    """A person is asked about that generation, and nothing runs."""
    seen = place.status(TRAINING, "t").get("observedGeneration")
    return seen == generation and place.phase("AwaitingApproval") and not place.names(JOB)


def _approve(place: Place) -> None:
    digest = place.status(TRAINING, "t")["analysis"]["digest"]
    approval = {"metadata": {"annotations": {"modelyard.dev/approve": digest}}}
    place.kube.merge(TRAINING, place.namespace, "t", approval)


def _preempt(place: Place) -> None:
    place.delete(POD, _disrupt(place, "PreemptionByScheduler"))


def _delete_the_pod(place: Place) -> None:
    """As `kubectl delete pod`: nothing on it says why."""
    (pod,) = place.kube.list(POD, place.namespace)
    place.delete(POD, pod["metadata"]["name"])


def _drain(place: Place) -> None:
    """As `kubectl drain`: the API server itself says on the pod what happens to it."""
    (pod,) = place.kube.list(POD, place.namespace)
    name = pod["metadata"]["name"]
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    place.kube.request("POST", path_of(POD, place.namespace, name) + "/eviction", body)


def _lose_the_node(place: Place) -> None:
    """As the garbage collector of pods does with those of a node that is gone: nothing of them is waited for."""
    name = _disrupt(place, "DeletionByPodGC")
    place.kube.merge(POD, place.namespace, name, {"status": {"phase": "Failed"}}, "status")
    place.kube.request("DELETE", path_of(POD, place.namespace, name), {"gracePeriodSeconds": 0})


def _age(place: Place) -> None:
    """The run has ended long ago."""
    place.kube.merge(TRAINING, place.namespace, "t", {"status": {"completionTime": LONG_AGO}}, "status")


def _go_on(place: Place) -> None:
    place.create(TRAINING, make_training("u", spec={**TABULAR, "checkpoint": {"from": {"training": "t"}}}))


def _held(place: Place) -> bool:
    finalizers = (place.kube.find(TRAINING, place.namespace, "t") or {"metadata": {}})["metadata"].get("finalizers")
    return bool(finalizers) and place.status(TRAINING, "u").get("phase") == "Running"


def _kept(place: Place) -> bool:
    return place.entry("v1", "flowers").get("phase") == "Ready" and place.reason(TRAINING, "t", "Saved") == "Saved"


_RWX: Obj = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}


def _versions(place: Place, *, shared: bool) -> list[Obj]:
    sharing: Obj = {"enabled": True, "namespaceSelector": {"matchLabels": {"to": place.namespace}}}
    return [make_version(storage=_RWX, **({"share": sharing} if shared else {}))]


def _make_to_share(place: Place) -> None:
    place.accept("true")
    place.create(MODELSOURCE, make_source())
    place.create(MODEL, make_model("m", *_versions(place, shared=False)))
    provide(place.kube, place.namespace, "mdl-m-v1")


def _has_share(place: Place) -> bool:
    return [row["phase"] for row in place.entry("v1").get("sharedWith") or ()] == ["Ready"]


def _no_share(place: Place) -> bool:
    return not place.kube.list(PVC, place.there) and not place.entry("v1").get("sharedWith")


def _provide_next(place: Place) -> None:
    (second,) = (name for name in place.names(PVC) if name != "mdl-m-v1")
    provide(place.kube, place.namespace, second)


_SHAREABLE = Step("make", _make_to_share, lambda p: p.reason(MODEL, "m", "Ready") == "Ready")
_SHARE = Step("share", lambda p: p.edit(MODEL, "m", versions=_versions(p, shared=True)), _has_share)
_RUNNING = Step("submit", _put(), lambda p: p.phase("Running"))
_ENDED = Ending(0, DONE)
_DONE = Step("submit", _put(), lambda p: _clean(p, "Succeeded"))
_SAVED = Step("submit", _put(save=SAVE), lambda p: _clean(p, "Succeeded") and _kept(p))


def _first_only(pod: Obj) -> Ending | None:
    """Training `t` ends at once, any other runs until it is stopped."""
    return Ending(0, LEFT) if pod["metadata"]["labels"].get("modelyard.dev/training") == "t" else None


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
        "changed back midway",
        (
            Step(
                "change",
                lambda p: p.edit(MODEL, "m", versions=[make_version("v1", revision="b")]),
                lambda p: len(p.names(PVC)) == 2 and p.entry("v1").get("phase") == "Processing",
            ),
            Step(
                "change back",
                lambda p: p.edit(MODEL, "m", versions=[make_version("v1", revision="a")]),
                lambda p: p.names(PVC) == ["mdl-m-v1"] and p.reason(MODEL, "m", "Ready") == "Ready",
            ),
        ),
        given=(_make_model(make_version("v1", revision="a")),),
        script=first_fetched,
    ),
    Scenario(
        "datasets come and go",
        (
            Step("install", lambda p: p.serve_datasets(), lambda p: p.watches("datasets")),
            Step(
                "make another",
                lambda p: p.create(MODEL, make_model("n")),
                lambda p: p.names(DATASET) == ["mdl-n-v1"] and p.entry("v1", "n").get("reason") == "Downloading",
            ),
            Step(
                "remove",
                lambda p: p.withdraw_datasets(),
                lambda p: p.reason(MODEL, "n", "Ready") == "Ready" and not p.watches("datasets"),
            ),
        ),
        given=(_make_model(),),
        datasets=True,
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
    Scenario("version shared", (_SHARE,), given=(_SHAREABLE,), shares=True),
    Scenario(
        "share revoked",
        (Step("accept no more", lambda p: p.accept(None), _no_share),),
        given=(_SHAREABLE, _SHARE),
        shares=True,
    ),
    Scenario(
        "shared content changed",
        (
            Step(
                "change",
                lambda p: p.edit(MODEL, "m", versions=[{**_versions(p, shared=True)[0], "repo": "org/other"}]),
                lambda p: len(p.names(PVC)) == 2,
            ),
            Step("provide", _provide_next, lambda p: _has_share(p) and len(p.names(PVC)) == 1),
        ),
        given=(_SHAREABLE, _SHARE),
        shares=True,
    ),
    Scenario(
        "sharing model deleted",
        (Step("delete", lambda p: p.delete(MODEL, "m"), lambda p: p.went(MODEL, "m") and _no_share(p)),),
        given=(_SHAREABLE, _SHARE),
        shares=True,
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
                _put(save=SAVE),
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
        "training approved",
        (
            Step("submit", _put(pauseAfter="Analysis"), lambda p: _asked(p, 1)),
            Step("approve", _approve, lambda p: _clean(p, "Succeeded")),
        ),
        script=trained(_ENDED),
    ),
    Scenario(
        "other data before approval",
        (
            Step(
                "other data",
                lambda p: p.edit(TRAINING, "t", dataset={"path": "other.csv"}),
                lambda p: _asked(p, 2),
            ),
            Step("go on", lambda p: p.edit(TRAINING, "t", pauseAfter=None), lambda p: p.phase("Running")),
        ),
        given=(Step("submit", _put(pauseAfter="Analysis"), lambda p: _asked(p, 1)),),
        script=trained(None),
    ),
    Scenario(
        "training preempted",
        (Step("preempt", _preempt, lambda p: _clean(p, "Succeeded")),),
        given=(_RUNNING,),
        script=trained(None, _ENDED),
    ),
    Scenario(
        "pod deleted",
        (Step("delete the pod", _delete_the_pod, lambda p: _clean(p, "Succeeded")),),
        given=(_RUNNING,),
        script=trained(None, _ENDED),
    ),
    Scenario(
        "training drained",
        (Step("drain", _drain, lambda p: _clean(p, "Succeeded")),),
        given=(_RUNNING,),
        script=trained(None, _ENDED),
    ),
    Scenario(
        "node gone",
        (Step("lose the node", _lose_the_node, lambda p: _clean(p, "Succeeded")),),
        given=(_RUNNING,),
        script=trained(None, _ENDED),
    ),
    Scenario(
        "training retried",
        (Step("submit", _put(), lambda p: _clean(p, "Succeeded")),),
        script=trained(Ending(1), _ENDED),
    ),
    Scenario(
        "training failed",
        (Step("submit", _put(retry={"onError": 0}), _failed),),
        script=trained(Ending(1)),
    ),
    Scenario(
        "saved after the end",
        (Step("save", lambda p: p.edit(TRAINING, "t", save=SAVE), _kept),),
        given=(_DONE,),
        script=trained(_ENDED),
    ),
    Scenario(
        "output expired",
        (
            Step(
                "expire",
                lambda p: p.edit(TRAINING, "t", output={"unsavedTTLSeconds": 60}),
                lambda p: p.names(PVC) == ["rows"] and p.reason(TRAINING, "t", "Saved") == "OutputExpired",
            ),
        ),
        given=(_DONE, Step("age", _age, lambda p: True)),
        script=trained(_ENDED),
    ),
    Scenario(
        "saved one deleted",
        (
            Step(
                "delete",
                lambda p: p.delete(TRAINING, "t"),
                lambda p: p.went(TRAINING, "t") and p.names(PVC) == ["rows", "trn-t-output"],
            ),
        ),
        given=(_SAVED,),
        script=trained(_ENDED),
    ),
    Scenario(
        "gone on from",
        (
            Step("go on", _go_on, _held),
            Step(
                "delete the first",
                lambda p: p.delete(TRAINING, "t"),
                lambda p: p.reason(TRAINING, "t", "CleanedUp") == "InUse",
            ),
            Step(
                "delete the second",
                lambda p: p.delete(TRAINING, "u"),
                lambda p: p.went(TRAINING, "t") and p.went(TRAINING, "u") and p.names(PVC) == ["rows"],
            ),
        ),
        given=(_DONE,),
        script=_first_only,
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
