"""A Training's surroundings in the in-memory world: users, the Job controller and a kubelet, each one step at a time.

`Yard` is a world in which a Job that is deleted in the foreground stays until its pods are gone, as in a cluster.
"""

from __future__ import annotations

import json
from typing import Any

from modelyard.controllers.training import TrainingController
from modelyard.plan import Action, Delete, Key, Plan, Ref
from modelyard.resources.meta import JOB, MODEL, MODELSOURCE, POD, PVC, TRAINING
from modelyard.resources.times import format_time
from modelyard.settings import Settings
from modelyard_training.params.analysis import pack
from support.build import NS, make_model, make_source, make_training
from support.world import World
from support.world_facts import WorldFacts

Obj = dict[str, Any]
FOREGROUND = "foregroundDeletion"
SUMMARY = {
    "path": "model",
    "kind": "Tabular",
    "bytes": 2048,
    "files": 3,
    "digest": "sha256:" + "a" * 64,
    "metrics": {"accuracy": 0.97},
    "features": ["a", "b"],
    "target": "kind",
    "classes": ["x", "y"],
    "trainSamples": 120,
    "testSamples": 30,
    "trainingSeconds": 1.5,
    "algorithm": "MLP",
}
DONE = json.dumps({"result": "done", "reason": "Completed", "message": "Trained.", "step": 40, "summary": SUMMARY})
STOPPED = json.dumps(
    {"result": "stopped", "reason": "Stopped", "message": "Stopped.", "step": 9, "checkpoint": {"step": 9, "path": "c"}}
)
FINDINGS: Obj = {
    "profile": {
        "kind": "table",
        "rows": 150,
        "columns": [{"name": "a", "type": "number", "distinct": 40, "min": 0.5, "max": 7}],
        "split": {"train": 120, "validation": 30},
        "target": {"column": "kind", "kind": "classes", "outputs": 2, "classes": {"x": 70, "y": 80}},
        "features": {"numeric": 4, "categorical": 0, "encoded": 4},
    },
    "suggested": {
        "recipe": {"value": "tabular-classification", "reason": "'kind' has 2 different values"},
        "params": {
            "batchSize": {"value": 32, "reason": "120 training rows are few"},
            "dropout": {"value": 7, "reason": "no such share: not taken"},
        },
    },
    "warnings": ["3 of 150 rows are copies of others."],
    "message": "150 rows of 5 columns.",
}
ANALYZED = json.dumps({"result": "done", "reason": "Analyzed", "message": "150 rows.", "analysis": pack(FINDINGS)})
BAD = json.dumps({"result": "failed", "reason": "BadInput", "message": "Column kind is not in the data set."})


class Yard(World):
    """The world with foreground deletion of Jobs."""

    def _act(self, action: Action) -> None:
        if isinstance(action, Delete) and action.ref.kind == JOB and action.propagation == "Foreground":
            live = self._live(action.ref, action.uid)
            if not live["metadata"].get("deletionTimestamp"):
                self.edit(action.ref, lambda o: o["metadata"].update(finalizers=[FOREGROUND]))
        super()._act(action)


_SETTINGS: Obj = {"namespace": "modelyard-system", "prices": {"H100": "3.60"}}
SETTINGS = Settings.model_validate({**_SETTINGS, "training": {"analysis": "WhenAsked"}})
ANALYSED = Settings.model_validate(_SETTINGS)
"""As it comes: every run is analysed first."""


def controller(world: World, settings: Settings = SETTINGS) -> TrainingController:
    """A controller whose indexes are in the world."""
    made = TrainingController(settings)
    made.setup(world)  # type: ignore[arg-type]
    return made


def decide(world: World, key: Key, settings: Settings = SETTINGS) -> Plan | None:
    """What the operator would write next for the Training."""
    trainings = controller(world, settings)
    scene = trainings.view(world, WorldFacts(world), key)  # type: ignore[arg-type]
    return None if scene is None else trainings.decide(scene, world.now)


def tabular(name: str = "t", **spec: Any) -> Obj:
    """A Training from scratch on a Model version with data."""
    base: Obj = {
        "dataset": {"ref": {"model": "rows", "version": "v1"}, "format": "CSV"},
        "recipe": {"name": "tabular-classification"},
    }
    return make_training(name, spec={**base, **spec})


def add_ready_model(world: World, name: str = "rows", *, kind: str = "Data", version: str = "v1") -> None:
    """A Model whose version can be used."""
    world.put(MODEL, make_model(name))
    set_version(world, name, version, phase="Ready", kind=kind)


def set_version(world: World, name: str, version: str, **fields: Any) -> None:
    """What the Model's status says about a version."""
    known = {"pvcName": f"mdl-{name}-{version}", "path": "data", "resolvedRevision": "c0ffee"}
    entry = {"name": version, **(known if fields.get("phase") == "Ready" else {}), **fields}
    world.edit(Ref(MODEL, NS, name), lambda o: o.update(status={"syncedVersions": [entry]}))


def add_ready_source(world: World, name: str = "hub", **fields: Any) -> None:
    """A ModelSource that can be used."""
    world.put(MODELSOURCE, make_source(name, **fields))
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "message": ""}
    world.edit(Ref(MODELSOURCE, NS, name), lambda o: o.update(status={"conditions": [ready]}))


def job_ref(number: int = 1, name: str = "t") -> Ref:
    return Ref(JOB, NS, f"{name}-{number}")


def pod_ref(number: int = 1, name: str = "t") -> Ref:
    return Ref(POD, NS, f"{name}-{number}-pod")


def training(world: World, name: str = "t") -> Obj:
    return world.objects[Ref(TRAINING, NS, name)]


def status(world: World, name: str = "t") -> Obj:
    found: Obj = training(world, name).get("status") or {}
    return found


def condition(world: World, type: str, name: str = "t") -> tuple[str, str, str]:
    """Status, reason and message of a condition; empty words where there is none."""
    for c in status(world, name).get("conditions") or ():
        if c["type"] == type:
            return c["status"], c["reason"], c.get("message", "")
    return "", "", ""


def run(world: World, name: str = "t", times: int = 12, settings: Settings = SETTINGS) -> Plan:
    """The operator acts until it asks for nothing; answers its last plan. AssertionError if that does not end."""
    plan = Plan()
    for _ in range(times):
        world.settle()
        plan = decide(world, Key(NS, name), settings) or Plan()
        if not plan.actions:
            return plan
        world.apply(plan)
    raise AssertionError(f"still writing: {plan.actions}")


# The Job controller and the kubelet.


def make_pod(world: World, job: Ref) -> Ref:
    """The Job's pod appears, without a node."""
    live = world.objects[job]
    ref = Ref(POD, job.namespace, f"{job.name}-pod")
    template = live["spec"]["template"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job.name, "uid": live["metadata"]["uid"]}
    metadata = {
        "name": ref.name,
        "namespace": ref.namespace,
        "labels": dict(template["metadata"]["labels"]),
        "ownerReferences": [{**owner, "controller": True}],
    }
    world.put(POD, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": dict(template["spec"])})
    unscheduled = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
    }
    world.edit(ref, lambda o: o.update(status={"phase": "Pending", "conditions": [unscheduled]}))
    return ref


def schedule(world: World, pod: Ref, node: str = "node-a") -> None:
    """The pod gets a node."""
    placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": format_time(world.now)}

    def change(o: Obj) -> None:
        o["spec"]["nodeName"] = node
        o["status"]["conditions"] = [placed]

    world.edit(pod, change)


def container(state: Obj) -> list[Obj]:
    return [{"name": "trainer", "image": "modelyard-trainer:latest", "state": state}]


def start(world: World, pod: Ref) -> None:
    """The trainer runs."""
    running = container({"running": {"startedAt": format_time(world.now)}})
    world.edit(pod, lambda o: o["status"].update(phase="Running", containerStatuses=running))


def end(
    world: World, pod: Ref, code: int, message: str = "", *, condition: Obj | None = None, **terminated: Any
) -> None:
    """The trainer has ended, and the Job controller says so, if the Job is still there."""
    live = world.objects[pod]
    began = (live["status"].get("containerStatuses") or [{"state": {}}])[0]["state"].get("running") or {}
    times = {"startedAt": began.get("startedAt"), "finishedAt": format_time(world.now)}
    last = {"exitCode": code, "message": message, **{k: v for k, v in times.items() if v}, **terminated}

    def change(o: Obj) -> None:
        o["status"].update(phase="Failed" if code else "Succeeded", containerStatuses=container({"terminated": last}))
        if condition is not None:
            o["status"]["conditions"] = [*o["status"].get("conditions", []), condition]

    world.edit(pod, change)
    finish(world, pod, code, disrupted=condition is not None)


def finish(world: World, pod: Ref, code: int, *, disrupted: bool = False) -> None:
    """The Job's condition after its pod has ended."""
    job = Ref(JOB, pod.namespace, pod.name.removesuffix("-pod"))
    live = world.objects.get(job)
    if live is None or live["metadata"].get("deletionTimestamp"):
        return
    rule = 0 if disrupted else {64: 1, 75: 2}.get(code, 3)
    message = (
        f"Container trainer for pod {NS}/{pod.name} failed with exit code {code} matching FailJob rule at index {rule}"
    )
    said: Obj = {"status": "True", "lastTransitionTime": format_time(world.now)}
    if code == 0 and not disrupted:
        said |= {"type": "Complete", "reason": "CompletionsReached"}
    else:
        said |= {"type": "Failed", "reason": "PodFailurePolicy", "message": message}
    world.edit(job, lambda o: o.update(status={"conditions": [said]}))


def disruption(reason: str) -> Obj:
    return {"type": "DisruptionTarget", "status": "True", "reason": reason}


def release(world: World, job: Ref, code: int = 75, message: str = STOPPED) -> None:
    """What a cluster does with a Job that is deleted in the foreground: its pod ends and goes, then the Job goes."""
    pod = Ref(POD, job.namespace, f"{job.name}-pod")
    if pod in world.objects:
        if world.objects[pod]["status"].get("phase") == "Running":
            end(world, pod, code, message)
        world.last_seen.append(world.objects.pop(pod))
    if job in world.objects:
        world.edit(job, lambda o: o["metadata"].pop("finalizers", None))
    world.settle()


def claim(world: World, name: str) -> Obj:
    return world.objects[Ref(PVC, NS, name)]
