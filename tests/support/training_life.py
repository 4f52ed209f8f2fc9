"""A Training in the in-memory world, brought to the stage that a test is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from modelyard.plan import Ref
from modelyard.resources.meta import JOB, POD, TRAINING
from support.build import NS
from support.trainings import (
    DONE,
    Yard,
    add_ready_model,
    end,
    job_ref,
    make_pod,
    run,
    schedule,
    start,
    tabular,
)

GPU = {"compute": {"gpu": "H100:8"}}

T = Ref(TRAINING, NS, "t")


@pytest.fixture
def world() -> Yard:
    made = Yard()
    add_ready_model(made)
    return made


def begin(world: Yard, **spec: Any) -> None:
    world.put(TRAINING, tabular(**spec))
    run(world)


def running(world: Yard, number: int = 1) -> Ref:
    pod = make_pod(world, job_ref(number))
    run(world)
    world.wait(20)
    schedule(world, pod)
    run(world)
    world.wait(10)
    start(world, pod)
    run(world)
    return pod


def running_of(world: Yard, name: str) -> Ref:
    """The pod of the first attempt of that Training, which runs."""
    pod = make_pod(world, job_ref(1, name))
    schedule(world, pod)
    start(world, pod)
    run(world, name)
    return pod


def edit_spec(world: Yard, **fields: Any) -> None:
    world.edit(T, lambda o: o["spec"].update(fields))


def set_spec(world: Yard, **fields: Any) -> None:
    """Sets fields of the spec; None takes one out."""

    def change(obj: dict[str, Any]) -> None:
        for name, value in fields.items():
            if value is None:
                obj["spec"].pop(name, None)
            else:
                obj["spec"][name] = value

    world.edit(T, change)


def move_jobs(world: Yard, of: Callable[[Ref], bool] = lambda job: True) -> None:
    """The cluster does the next thing for each of those Jobs: its pod comes, finds a node and starts."""
    for ref, obj in list(world.objects.items()):
        if ref.kind != JOB or not of(ref) or obj.get("status") or obj["metadata"].get("deletionTimestamp"):
            continue
        pod = Ref(POD, NS, f"{ref.name}-pod")
        if obj["spec"].get("suspend"):
            continue
        if pod not in world.objects:
            make_pod(world, ref)
        elif not world.objects[pod]["spec"].get("nodeName"):
            schedule(world, pod)
        elif world.objects[pod]["status"]["phase"] == "Pending":
            start(world, pod)


def saving(model: str = "kept", version: str = "v1") -> dict[str, Any]:
    return {"save": {"model": model, "version": version, "description": "Good.", "tags": ["iris"]}}


def succeed(world: Yard) -> None:
    end(world, running(world), 0, DONE)
    run(world)
