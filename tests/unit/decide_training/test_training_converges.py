"""Whatever happens in whatever order, and wherever a plan stops: the run converges, and then nothing is written.

What must hold in between: never two live attempts, no Job without its number on record, nothing leaves a terminal
phase, nothing is counted twice.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.plan import Create, Key, Ref
from modelyard.resources.meta import JOB, POD, PVC, TRAINING, WORKLOAD
from modelyard.resources.names import queue_workload
from modelyard.resources.objects import uid_of
from modelyard.resources.times import format_time
from support.build import NS, make_object
from support.training_life import T, move_jobs, set_spec
from support.trainings import (
    BAD,
    DONE,
    FOREGROUND,
    STOPPED,
    Yard,
    add_ready_model,
    condition,
    decide,
    disruption,
    end,
    make_pod,
    release,
    run,
    status,
    tabular,
    training,
)

KEY = Key(NS, "t")
TERMINAL = ("Succeeded", "Failed")

STEPS = st.one_of(
    st.tuples(st.just("operator"), st.integers(0, 5)),
    st.tuples(st.just("cluster"), st.just(0)),
    st.tuples(st.just("end"), st.sampled_from([0, 1, 64, 75, 137])),
    st.tuples(st.just("evict"), st.just(0)),
    st.tuples(st.just("release"), st.sampled_from([0, 75, 137])),
    st.tuples(st.just("suspend"), st.booleans()),
    st.tuples(st.just("retry"), st.integers(0, 3)),
    st.tuples(st.just("timeout"), st.sampled_from([30, 3000])),
    st.tuples(st.just("stall"), st.integers(0, 3)),
    st.tuples(st.just("budget"), st.sampled_from(["Warn", "Suspend", "Fail"])),
    st.tuples(st.just("save"), st.booleans()),
    st.tuples(st.just("delete-job"), st.booleans()),
    st.tuples(st.just("queue"), st.sampled_from(["admits", "takes back", "is told to stop it"])),
    st.tuples(st.just("wait"), st.sampled_from([1, 20, 400])),
)


class Watch:
    """Looks at every state of the world."""

    def __init__(self, world: Yard) -> None:
        self.world = world
        self.terminal: str | None = None
        self.held = 0
        self.counts: tuple[int, int, int] = (0, 0, 0)
        self.saved: dict[str, Any] | None = None

    def look(self) -> None:
        found = status(self.world)
        live = {self._attempt(r) for r in self.world.objects if self._is_live(r)}
        assert len(live) <= 1, f"two live attempts: {live}"
        number = int((found.get("attempts") or {}).get("number") or 0)
        for ref in self.world.objects:
            if ref.kind == JOB:
                assert self._attempt(ref) <= number, "a Job without its number on record"
                assert found.get("frozen")
        if self.terminal is not None:
            assert found["phase"] == self.terminal
        if found.get("phase") in TERMINAL:
            self.terminal = found["phase"]
        attempts = found.get("attempts") or {}
        counts = tuple(int(attempts.get(k) or 0) for k in ("number", "infrastructure", "error"))
        assert all(new >= old for new, old in zip(counts, self.counts, strict=True))
        assert sum(counts[1:]) <= counts[0]
        self.counts = counts  # type: ignore[assignment]
        self._costs(found)
        if self.saved is not None:
            assert found["saved"] == self.saved
        self.saved = found.get("saved")

    def _costs(self, found: dict[str, Any]) -> None:
        """What was held in all is what the attempts held; while one is open, at least what the others did."""
        total = int((found.get("cost") or {}).get("gpuSeconds") or 0)
        history = found.get("history") or []
        held = sum(e.get("gpuSeconds", 0) for e in history)
        if len(history) == int((found.get("attempts") or {}).get("number") or 0) < 10:
            closed = all("endTime" in e for e in history)
            assert total == held if closed else total >= held

    def _attempt(self, ref: Ref) -> int:
        return int(ref.name.removesuffix("-pod").rpartition("-")[2])

    def _is_live(self, ref: Ref) -> bool:
        obj = self.world.objects[ref]
        if ref.kind == POD:
            return (obj.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
        return ref.kind == JOB and not obj["metadata"].get("deletionTimestamp") and not (obj.get("status") or {})


def act(world: Yard, step: tuple[str, Any]) -> None:
    what, value = step
    jobs = [r for r in world.objects if r.kind == JOB]
    pods = [r for r in world.objects if r.kind == POD]
    live = [p for p in pods if world.objects[p]["status"].get("phase") == "Running"]
    match what:
        case "operator":
            plan = decide(world, KEY)
            if plan is not None:
                world.apply(plan, value)
        case "cluster":
            move(world)
        case "end" if live:
            words = {0: DONE, 64: BAD, 75: STOPPED}.get(value, "")
            end(world, live[0], value, words)
        case "evict" if live:
            end(world, live[0], 137, condition=disruption("EvictionByEvictionAPI"))
        case "release":
            for job in jobs:
                if world.objects[job]["metadata"].get("deletionTimestamp"):
                    release(world, job, value, {0: DONE, 75: STOPPED}.get(value, ""))
        case "suspend":
            set_spec(world, suspend=value)
        case "retry":
            set_spec(world, retry={"onError": value, "onInfrastructure": value})
        case "timeout":
            set_spec(world, timeouts={"runSeconds": value})
        case "stall":
            set_spec(world, timeouts={"stallSeconds": 100})
            number = int((status(world).get("attempts") or {}).get("number") or 0)
            said = {"attempt": number, "step": value, "lastReportTime": format_time(world.now)}
            world.edit(T, lambda o: o.setdefault("status", {}).update(progress=said))
        case "budget":
            set_spec(world, budget={"maxUSD": "0.50", "onExceed": value})
        case "save" if not status(world).get("saved"):
            save = {"model": "kept", "version": "v1"} if value else None
            set_spec(world, save=save)
        case "delete-job" if jobs:
            if value:
                world.edit(jobs[0], lambda o: o["metadata"].update(finalizers=[FOREGROUND]))
                world.remove(jobs[0])
            else:
                world.objects.pop(jobs[0])
        case "queue" if jobs and value == "admits":
            admit(world, jobs[0])
        case "queue" if jobs:
            switch(world, jobs[0], active=value == "takes back")
            take_back(world, jobs[0])
        case "wait":
            world.wait(value)


def admit(world: Yard, job: Ref) -> None:
    """A queue lets a Job begin."""
    world.edit(job, lambda o: o["spec"].update(suspend=False))


def switch(world: Yard, job: Ref, *, active: bool) -> None:
    """An administrator takes a Job out of the queue, or lets it in again."""
    name = queue_workload(job.name, uid_of(world.objects[job]))
    ref = Ref(WORKLOAD, NS, name)
    if ref not in world.objects:
        world.put(WORKLOAD, make_object(WORKLOAD.api_version, WORKLOAD.kind, name))
    world.edit(ref, lambda o: o.update(spec={"active": active}))


def take_back(world: Yard, job: Ref) -> None:
    """A queue suspends a Job of its own again, and the Job's controller stops its pod."""
    live = world.objects[job]
    if "kueue.x-k8s.io/queue-name" not in live["metadata"]["labels"] or live.get("status"):
        return
    world.edit(job, lambda o: o["spec"].update(suspend=True))
    world.objects.pop(Ref(POD, NS, f"{job.name}-pod"), None)


def move(world: Yard) -> None:
    """The cluster does the next thing for each Job and pod."""
    move_jobs(world)
    owners = {o["metadata"]["uid"] for r, o in world.objects.items() if r.kind == JOB}
    for ref, obj in list(world.objects.items()):
        if ref.kind == POD and obj["metadata"]["ownerReferences"][0]["uid"] not in owners:
            world.objects.pop(ref)


def finish_all(world: Yard, watch: Watch) -> None:
    """Undisturbed from here on: the run must come to its end."""
    set_spec(world, suspend=False, budget=None, timeouts=None)
    for _ in range(60):
        run(world)
        watch.look()
        if status(world).get("phase") in TERMINAL and condition(world, "CleanedUp")[0] == "True":
            return
        for ref in [r for r in world.objects if r.kind == JOB]:
            if world.objects[ref]["metadata"].get("deletionTimestamp"):
                release(world, ref)
            else:
                admit(world, ref)
        for ref in [r for r in world.objects if r.kind == POD]:
            if world.objects[ref]["status"]["phase"] == "Running":
                end(world, ref, 0, DONE)
        move(world)
        world.wait(100)
    raise AssertionError(f"does not end: {json.dumps(status(world), indent=1)}")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=40), st.sampled_from([{}, {"gpu": "H100:2"}, {"gpu": "H100:2", "queueName": "team"}]))
def test_every_history_ends_and_is_then_silent(steps: list[tuple[str, Any]], compute: dict[str, Any]) -> None:
    world = Yard()
    add_ready_model(world)
    world.put(TRAINING, tabular(**({"compute": compute} if compute else {})))
    watch = Watch(world)
    for step in steps:
        act(world, step)
        world.settle()
        watch.look()
    finish_all(world, watch)
    run(world)
    before = world.writes
    for _ in range(3):
        world.wait(10_000)
        plan = decide(world, KEY)
        assert plan is not None
        assert not plan.actions
    assert world.writes == before
    assert not [r for r in world.objects if r.kind == POD and world.objects[r]["status"]["phase"] == "Running"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=25), st.booleans())
def test_from_every_prefix_of_every_plan_the_same_end_is_reached(steps: list[tuple[str, Any]], nodes: bool) -> None:
    world = Yard()
    add_ready_model(world)
    shared: dict[str, Any] = {"compute": {"nodes": 1}}
    if nodes:
        shared = {"compute": {"nodes": 2}, "output": {"storage": {"accessModes": ["ReadWriteMany"]}}}
    world.put(TRAINING, tabular(**shared, save={"model": "kept", "version": "v1"}))
    for step in steps:
        act(world, step)
        world.settle()
        plan = decide(world, KEY)
        assert plan is not None
        ends = []
        for upto in range(len(plan.actions) + 1):
            clone = world.copy()
            clone.apply(plan, upto)
            run(clone)
            ends.append(shape(clone))
        assert all(e == ends[-1] for e in ends), f"the end depends on where {plan.actions} stops"


def shape(world: Yard) -> Any:
    """What is there, but for what the API server makes up."""

    def mask(obj: dict[str, Any]) -> dict[str, Any]:
        meta = {k: v for k, v in obj["metadata"].items() if k not in ("uid", "resourceVersion", "ownerReferences")}
        return {**obj, "metadata": meta}

    text = json.dumps({str(r): mask(o) for r, o in sorted(world.objects.items(), key=lambda i: str(i[0]))})
    uids = {o["metadata"]["uid"]: str(r) for r, o in world.objects.items()}
    for uid, ref in sorted(uids.items(), key=lambda i: -len(i[0])):
        text = text.replace(f'"{uid}"', f'"{ref}"').replace(uid + '\\"', ref + '\\"')
    return text


def test_a_create_is_never_asked_for_while_a_pod_of_an_earlier_attempt_runs() -> None:
    world = Yard()
    add_ready_model(world)
    world.put(TRAINING, tabular())
    run(world)
    make_pod(world, Ref(JOB, NS, "t-1"))
    move(world)
    move(world)
    run(world)
    world.objects.pop(Ref(JOB, NS, "t-1"))
    for _ in range(5):
        world.wait(1000)
        plan = decide(world, KEY)
        assert plan is not None
        assert not [a for a in plan.actions if isinstance(a, Create)]
        world.apply(plan)
    assert training(world)["status"]["attempts"]["number"] == 1
    assert Ref(PVC, NS, "trn-t-output") in world.objects


def both(world: Yard) -> None:
    """The operator looks at both Trainings until neither asks for anything."""
    for _ in range(3):
        run(world, "u")
        run(world)


def test_from_every_prefix_a_run_that_goes_on_from_another_holds_it_and_lets_it_go() -> None:
    world = Yard()
    add_ready_model(world)
    world.put(TRAINING, tabular())
    run(world)
    move(world), move(world), move(world)
    left = {**json.loads(DONE), "checkpoint": {"step": 40, "path": "checkpoints/step-00000040"}}
    end(world, Ref(POD, NS, "t-1-pod"), 0, json.dumps(left))
    run(world)
    release(world, Ref(JOB, NS, "t-1"))
    run(world)
    world.put(TRAINING, tabular("u", checkpoint={"from": {"training": "t"}}))
    held = False
    for deleted in (False, True):
        if deleted:
            world.remove(T)
            world.remove(Ref(TRAINING, NS, "u"))
            world.settle()
        for _ in range(8):
            for name in ("u", "t"):
                plan = decide(world, Key(NS, name))
                if plan is None:
                    continue
                ends = []
                for upto in range(len(plan.actions) + 1):
                    clone = world.copy()
                    clone.apply(plan, upto)
                    both(clone)
                    ends.append(shape(clone))
                assert all(e == ends[-1] for e in ends), f"the end depends on where {plan.actions} stops"
                world.apply(plan)
                world.settle()
                held = held or bool((world.objects.get(T) or {"metadata": {}})["metadata"].get("finalizers"))
    assert held
    assert T not in world.objects
