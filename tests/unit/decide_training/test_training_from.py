"""A run that goes on from what another one has paid for."""

from __future__ import annotations

import json
from typing import Any

from modelyard.plan import Ref
from modelyard.resources.meta import PVC, TRAINING
from support.build import NS
from support.training_life import T, begin, running, running_of
from support.trainings import (
    DONE,
    Yard,
    condition,
    end,
    job_ref,
    release,
    run,
    status,
    tabular,
    training,
)


def settle_two(world: Yard) -> None:
    """The operator looks at both Trainings until neither asks for anything."""
    for _ in range(3):
        run(world, "u")
        run(world)


def ended(world: Yard, checkpoint: bool = True, **spec: Any) -> None:
    """Training `t` has succeeded, and left a checkpoint."""
    begin(world, **spec)
    left = {"checkpoint": {"step": 40, "path": "checkpoints/step-00000040"}} if checkpoint else {}
    end(world, running(world), 0, json.dumps({**json.loads(DONE), **left}))
    run(world)
    release(world, job_ref())
    run(world)


FROM = {"checkpoint": {"from": {"training": "t"}}}


def test_a_run_goes_on_from_another_that_is_held_meanwhile(world: Yard) -> None:
    ended(world)
    world.put(TRAINING, tabular("u", **FROM))
    settle_two(world)
    assert status(world, "u")["phase"] == "Queued"
    entry = next(i for i in status(world, "u")["inputs"] if i["name"] == "checkpoint")
    assert (entry["training"], entry["pvcName"], entry["resolvedRevision"]) == ("t", "trn-t-output", "step-40")
    pod = world.objects[job_ref(1, "u")]["spec"]["template"]["spec"]
    assert {"name": "checkpoint", "mountPath": "/modelyard/checkpoint", "readOnly": True} in (
        pod["containers"][0]["volumeMounts"]
    )
    assert training(world)["metadata"]["finalizers"] == ["modelyard.dev/guard"]
    world.remove(T)
    settle_two(world)
    assert condition(world, "CleanedUp") == (
        "False",
        "InUse",
        "Deletion waits for the Trainings that go on from this one: u.",
    )
    end(world, running_of(world, "u"), 0, DONE)
    run(world, "u")
    assert status(world, "u")["phase"] == "Succeeded"
    run(world)
    world.settle()
    assert T not in world.objects


def test_a_run_waits_for_the_end_of_the_one_to_go_on_from(world: Yard) -> None:
    begin(world)
    world.put(TRAINING, tabular("u", **FROM))
    settle_two(world)
    assert (status(world, "u")["phase"], status(world, "u")["reason"]) == ("Preparing", "WaitingForTraining")
    failed = {"checkpoint": {"step": 9, "path": "c"}, "message": "Too few rows.", "reason": "BadInput"}
    end(world, running(world), 64, json.dumps(failed))
    run(world)
    settle_two(world)
    assert job_ref(1, "u") in world.objects, "a failed run's checkpoint is as good"


def test_what_can_not_be_gone_on_from_is_refused(world: Yard) -> None:
    world.put(TRAINING, tabular("u", **FROM))
    run(world, "u")
    assert status(world, "u")["reason"] == "TrainingNotFound"
    ended(world, checkpoint=False)
    run(world, "u")
    assert status(world, "u")["reason"] == "NoCheckpoint"
    assert "unless save.keepCheckpoints is true" in status(world, "u")["message"]
    world.put(TRAINING, tabular("v", recipe={"name": "tabular-regression"}, **FROM))
    run(world, "v")
    assert status(world, "v")["reason"] == "CheckpointIncompatible"
    assert "has another recipe" in status(world, "v")["message"]
    world.put(TRAINING, tabular("w", checkpoint={"from": {"training": "w"}}))
    run(world, "w")
    assert status(world, "w")["reason"] == "InvalidSpec"
    assert "finalizers" not in training(world)["metadata"], "nobody relies on it"


def test_output_that_is_gone_on_from_does_not_expire(world: Yard) -> None:
    ended(world, output={"unsavedTTLSeconds": 1000})
    world.put(TRAINING, tabular("u", **FROM))
    settle_two(world)
    world.wait(2000)
    settle_two(world)
    assert Ref(PVC, NS, "trn-t-output") in world.objects
    end(world, running_of(world, "u"), 0, DONE)
    settle_two(world)
    world.settle()
    assert Ref(PVC, NS, "trn-t-output") not in world.objects
