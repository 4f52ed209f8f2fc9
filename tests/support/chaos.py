"""Fifty Models and twenty Trainings that come and go, the same way each time, and what is left of them.

Everything that a pod does follows from its name, and every step waits for the state that it builds on. So two plays
differ in nothing but what the operator did, and their ends can be compared.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from typing import Any

from modelyard.resources.meta import JOB, MODEL, MODELSOURCE, POD, PVC, TRAINING
from support.build import make_model, make_source, make_training
from support.cluster import Kube, wait_for
from support.kubelet import Ending
from support.trainings import BAD, DONE

Obj = dict[str, Any]
MODELS = 50
TRAININGS = 20
FETCHED = json.dumps({"result": "done", "resolvedRevision": "c0ffee", "bytes": 9, "files": 1, "digest": "sha256:ab"})
DENIED = json.dumps({"result": "failed", "reason": "NotFound", "message": "There is no such repository."})
SECONDS = 300


def kind_of(number: int) -> str:
    """What becomes of a Training: each of these is met several times."""
    return ("done", "saved", "retried", "bad", "paused", "deleted", "fetching")[number % 7]


def script(pod: Obj) -> Ending | None:
    """How a container ends, by its labels alone."""
    labels = pod["metadata"]["labels"]
    if labels["app.kubernetes.io/component"] == "download":
        missing = labels.get("modelyard.dev/model", "").endswith("7")
        return Ending(64, DENIED) if missing else Ending(0, FETCHED)
    number, attempt = int(labels["modelyard.dev/training"][1:]), int(labels["modelyard.dev/attempt"])
    match kind_of(number):
        case "bad":
            return Ending(64, BAD)
        case "retried" if attempt == 1:
            return Ending(1)
        case "paused" | "deleted" if attempt == 1:
            return None
    return Ending(0, DONE)


def play(kube: Kube, namespace: str) -> None:
    """Everything that users do, in an order that a fixed seed chooses."""
    steps = [lambda i=i: _model(kube, namespace, i) for i in range(MODELS)]
    steps += [lambda i=i: _training(kube, namespace, i) for i in range(TRAININGS)]
    random.Random(3).shuffle(steps)
    kube.create(make_source("hub", namespace=namespace), MODELSOURCE)
    for step in steps:
        step()
    for number in range(TRAININGS):
        if kind_of(number) == "paused":
            _until(kube, namespace, number, "Running")
            kube.merge(TRAINING, namespace, f"t{number}", {"spec": {"suspend": True}})
        elif kind_of(number) == "deleted":
            _until(kube, namespace, number, "Running")
            kube.delete(TRAINING, namespace, f"t{number}")
    for number in range(TRAININGS):
        if kind_of(number) == "paused":
            _until(kube, namespace, number, "Suspended")
            kube.merge(TRAINING, namespace, f"t{number}", {"spec": {"suspend": False}})
    for number in range(10, MODELS, 10):  # those whose number ends with 0 are read by no Training
        kube.delete(MODEL, namespace, f"m{number}")
    for number in range(5, MODELS, 10):
        name = f"m{number}"
        wait_for(lambda name=name: _version(kube, namespace, name) == "Ready", f"{name} to be Ready", SECONDS)
        kube.merge(MODEL, namespace, name, {"spec": {"versions": []}})


def is_over(kube: Kube, namespace: str) -> bool:
    """Whether nothing more is to be expected."""
    trainings = kube.list(TRAINING, namespace)
    kept = [n for n in range(TRAININGS) if kind_of(n) != "deleted"]
    if {t["metadata"]["name"] for t in trainings} != {f"t{n}" for n in kept}:
        return False
    for training in trainings:
        status = training.get("status") or {}
        if status.get("phase") not in ("Succeeded", "Failed") or _condition(status, "CleanedUp") != "True":
            return False
        if "save" in training["spec"] and _condition(status, "Saved") != "True":
            return False
    models = kube.list(MODEL, namespace)
    held = any(m["metadata"].get("finalizers") for m in models)
    settled = all((m.get("status") or {}).get("phase") in ("Ready", "Failed", None) for m in models)
    rest = [o for kind in (PVC, JOB, POD) for o in kube.list(kind, namespace)]
    there = {o["metadata"]["uid"] for o in (*trainings, *models, *rest)}
    return settled and not held and not any(_is_going(o["metadata"], there) for o in rest)


def end_state(kube: Kube, namespace: str) -> Obj:
    """What is there, but for times, uids and whatever else the cluster makes up."""

    def named(kind: Any, look: Callable[[Obj], Any]) -> Obj:
        return {o["metadata"]["name"]: look(o) for o in kube.list(kind, namespace)}

    return {
        "trainings": named(TRAINING, _of_training),
        "models": named(MODEL, _of_model),
        "claims": named(PVC, _of_claim),
        "jobs": sorted(named(JOB, lambda job: None)),
        "pods": sorted(p["metadata"]["labels"]["batch.kubernetes.io/job-name"] for p in kube.list(POD, namespace)),
    }


def _is_going(meta: Obj, there: set[str]) -> bool:
    """Whether it is being deleted, or will be because its owner is gone."""
    owners = meta.get("ownerReferences") or ()
    return "deletionTimestamp" in meta or (bool(owners) and not any(o["uid"] in there for o in owners))


def _model(kube: Kube, namespace: str, number: int) -> None:
    kube.create(make_model(f"m{number}", namespace=namespace), MODEL)


def _training(kube: Kube, namespace: str, number: int) -> None:
    spec: Obj = {"recipe": {"name": "tabular-classification"}}
    if kind_of(number) == "fetching":
        spec["dataset"] = {"source": {"sourceRef": "hub", "repo": "org/rows"}}
    else:
        spec["dataset"] = {"ref": {"model": f"m{10 * (number % 5) + 1}", "version": "v1"}}
    if kind_of(number) == "saved":
        spec["save"] = {"model": f"kept{number}", "version": "v1"}
    if kind_of(number) == "deleted":
        spec["compute"] = {"gpu": "H100:8"}
    kube.create(make_training(f"t{number}", namespace=namespace, spec=spec), TRAINING)


def _until(kube: Kube, namespace: str, number: int, phase: str) -> None:
    name = f"t{number}"
    deadline = time.monotonic() + SECONDS
    while True:
        status = kube.get(TRAINING, namespace, name).get("status") or {}
        if status.get("phase") == phase:
            return
        stuck = status.get("phase") in ("Succeeded", "Failed") or time.monotonic() > deadline
        assert not stuck, f"{name} did not become {phase}: {json.dumps(status)}"
        time.sleep(0.3)


def _version(kube: Kube, namespace: str, name: str) -> str:
    entries = (kube.get(MODEL, namespace, name).get("status") or {}).get("syncedVersions") or [{}]
    return str(entries[0].get("phase"))


def _condition(status: Obj, type: str) -> str:
    return next((c["status"] for c in status.get("conditions") or () if c["type"] == type), "")


def _conditions(status: Obj) -> Any:
    return sorted((c["type"], c["status"], c["reason"]) for c in status.get("conditions") or ())


def _of_training(training: Obj) -> Obj:
    status = training["status"]
    kept = ("phase", "reason", "message", "frozen", "attempts", "inputs", "output", "effectiveParams")
    # A pod that was told to stop may be gone before anybody reads its last words.
    history = [(e["attempt"], e["cause"], e["reason"], "endTime" in e) for e in status["history"]]
    saved = {k: v for k, v in (status.get("saved") or {}).items() if k != "time"}
    shown = {k: status.get(k) for k in kept} | {"history": history, "saved": saved, "spec": training["spec"]}
    return shown | {"conditions": _conditions(status), "finalizers": training["metadata"].get("finalizers")}


def _of_model(model: Obj) -> Obj:
    status = model.get("status") or {}
    kept = ("name", "phase", "origin", "pvcName", "path", "kind", "resolvedRevision", "reason", "message", "attempts")
    versions = [{k: e.get(k) for k in kept} for e in status.get("syncedVersions") or ()]
    finalizers = model["metadata"].get("finalizers")
    conditions = _conditions(status)
    shown = {"phase": status.get("phase"), "versions": versions, "finalizers": finalizers, "conditions": conditions}
    return shown | {"spec": model["spec"]}


def _of_claim(claim: Obj) -> Obj:
    meta = claim["metadata"]
    annotations = dict(meta.get("annotations") or {})
    if "modelyard.dev/saved" in annotations:
        record = json.loads(annotations["modelyard.dev/saved"])
        annotations["modelyard.dev/saved"] = {k: v for k, v in record.items() if k not in ("uid", "time")}
    owners = sorted((o["kind"], o["name"], bool(o.get("controller"))) for o in meta.get("ownerReferences") or ())
    return {"labels": meta["labels"], "annotations": annotations, "owners": owners, "spec": claim["spec"]}
