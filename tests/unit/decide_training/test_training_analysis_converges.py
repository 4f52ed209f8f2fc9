"""Whatever happens while a run is looked at, and wherever a plan stops: it converges, and then nothing is written.

What must hold in between: no Job of an attempt before the findings are on record, no run before its approval, and one
look at a time.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelyard.plan import Key, Ref
from modelyard.resources.meta import ANNOTATION_APPROVE, ANNOTATION_RESYNC, JOB, POD, TRAINING
from support.build import NS
from support.training_life import T, move_jobs, set_spec
from support.trainings import (
    ANALYSED,
    ANALYZED,
    BAD,
    Yard,
    add_ready_model,
    decide,
    end,
    run,
    status,
    tabular,
)

KEY = Key(NS, "t")
STEPS = st.one_of(
    st.tuples(st.just("operator"), st.integers(0, 5)),
    st.tuples(st.just("cluster"), st.just(0)),
    st.tuples(st.just("end"), st.sampled_from([0, 1, 64])),
    st.tuples(st.just("lost"), st.just(0)),
    st.tuples(st.just("suspend"), st.booleans()),
    st.tuples(st.just("pause"), st.booleans()),
    st.tuples(st.just("approve"), st.booleans()),
    st.tuples(st.just("suggested"), st.booleans()),
    st.tuples(st.just("data"), st.sampled_from(["a.csv", "b.csv"])),
    st.tuples(st.just("storage"), st.sampled_from(["1Gi", "2Gi"])),
    st.tuples(st.just("again"), st.sampled_from(["1", "2"])),
    st.tuples(st.just("delete-job"), st.just(0)),
    st.tuples(st.just("wait"), st.sampled_from([1, 40])),
)
QUIET = [HealthCheck.too_slow]


def is_look(ref: Ref) -> bool:
    return "-analysis-" in ref.name


def act(world: Yard, step: tuple[str, Any]) -> None:
    what, value = step
    looks = [r for r in world.objects if r.kind == JOB and is_look(r)]
    pods = [r for r in world.objects if r.kind == POD and is_look(r)]
    live = [p for p in pods if world.objects[p]["status"].get("phase") == "Running"]
    frozen = status(world).get("frozen")
    match what:
        case "operator":
            plan = decide(world, KEY, ANALYSED)
            assert plan is not None
            world.apply(plan, value)
        case "cluster":
            move_jobs(world, is_look)
        case "end" if live:
            end(world, live[0], value, {0: ANALYZED, 64: BAD}.get(value, ""))
        case "lost" if pods:
            world.objects.pop(pods[0])
        case "suspend":
            set_spec(world, suspend=value)
        case "pause" if not frozen:
            set_spec(world, pauseAfter="Analysis" if value else None)
        case "approve":
            digest = (status(world).get("analysis") or {}).get("digest") or "none"
            annotate(world, ANNOTATION_APPROVE, digest if value else "none")
        case "suggested" if not frozen:
            unset = {"unsetParams": "Suggested"} if value else {}
            set_spec(world, recipe={"name": "tabular-classification", **unset})
        case "data" if not frozen:
            set_spec(world, dataset={"ref": {"model": "rows", "version": "v1"}, "path": value})
        case "storage" if not frozen:
            set_spec(world, output={"storage": {"resources": {"requests": {"storage": value}}}})
        case "again":
            annotate(world, ANNOTATION_RESYNC, value)
        case "delete-job" if looks:
            world.remove(looks[0])
        case "wait":
            world.wait(value)


def annotate(world: Yard, name: str, value: str) -> None:
    world.edit(T, lambda o: o["metadata"].setdefault("annotations", {}).update({name: value}))


def check(world: Yard) -> None:
    found = status(world)
    live = [r for r, o in world.objects.items() if r.kind == JOB and is_look(r) and not o.get("status")]
    assert len(live) <= 1, f"looked at twice at a time: {live}"
    for ref in world.objects:
        if ref.kind == JOB and is_look(ref):
            assert (found.get("analysis") or {}).get("key"), "a look that is not on record"
    if found.get("frozen"):
        assert found["analysis"].get("time"), "begun without having been looked at"
        assert found["analysis"].get("reason") != "BadInput"


@settings(max_examples=120, deadline=None, suppress_health_check=QUIET)
@given(st.lists(STEPS, max_size=30), st.booleans())
def test_every_history_comes_to_the_run(steps: list[tuple[str, Any]], pause: bool) -> None:
    world = Yard()
    add_ready_model(world)
    world.put(TRAINING, tabular(**({"pauseAfter": "Analysis"} if pause else {})))
    for step in steps:
        act(world, step)
        world.settle()
        check(world)
    if not status(world).get("frozen"):
        annotate(world, ANNOTATION_RESYNC, "last")
    set_spec(world, suspend=False)
    for _ in range(20):
        run(world, settings=ANALYSED)
        check(world)
        found = status(world)
        if found.get("frozen"):
            break
        if found["phase"] == "AwaitingApproval":
            annotate(world, ANNOTATION_APPROVE, found["analysis"]["digest"])
        for ref in [r for r in world.objects if r.kind == POD and is_look(r)]:
            if world.objects[ref]["status"]["phase"] == "Running":
                end(world, ref, 0, ANALYZED)
        move_jobs(world, is_look)
        world.wait(40)
    assert status(world).get("frozen"), json.dumps(status(world), indent=1)
    run(world, settings=ANALYSED)
    assert not [r for r in world.objects if r.kind == JOB and is_look(r)]
    before = world.writes
    plan = decide(world, KEY, ANALYSED)
    assert plan is not None
    assert not plan.actions
    assert world.writes == before


@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
@given(st.lists(STEPS, max_size=20))
def test_from_every_prefix_of_every_plan_the_same_end_is_reached(steps: list[tuple[str, Any]]) -> None:
    world = Yard()
    add_ready_model(world)
    world.put(TRAINING, tabular())
    for step in steps:
        act(world, step)
        world.settle()
        plan = decide(world, KEY, ANALYSED)
        assert plan is not None
        ends = []
        for upto in range(len(plan.actions) + 1):
            clone = world.copy()
            clone.apply(plan, upto)
            run(clone, settings=ANALYSED)  # type: ignore[arg-type]
            ends.append(json.dumps(status(clone), sort_keys=True) + str(sorted(map(str, clone.objects))))
        assert all(e == ends[-1] for e in ends), f"the end depends on where {plan.actions} stops"
