"""How long a run may take, wait and stand still, and what becomes of it then."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from modelyard.resources.times import format_time
from support.training_life import T, begin, edit_spec, running
from support.trainings import (
    Yard,
    condition,
    job_ref,
    make_pod,
    release,
    run,
    status,
)


def test_run_seconds_count_running_time_only_and_can_be_changed(world: Yard) -> None:
    begin(world, timeouts={"runSeconds": 100})
    running(world)
    plan = run(world)
    assert plan.requeue_after == 100
    world.wait(60)
    edit_spec(world, suspend=True)
    run(world)
    release(world, job_ref())
    run(world)
    world.wait(10_000)
    edit_spec(world, suspend=False)
    run(world)
    running(world, 2)
    world.wait(39)
    run(world)
    assert status(world)["phase"] == "Running"
    world.wait(1)
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Failed", "RunTimeout")
    assert condition(world, "CleanedUp")[0] == "False"
    release(world, job_ref(2))
    run(world)
    assert condition(world, "CleanedUp")[0] == "True"
    assert status(world)["activeSeconds"] == 100


@pytest.mark.parametrize(
    ("spec", "bound", "reason", "words"),
    [
        ({"compute": {"queueName": "q"}}, "queueSeconds", "QueueTimeout", "No place in the queue within the 100 s"),
        ({}, "provisionSeconds", "ProvisionTimeout", "Not running within the 100 s of"),
    ],
)
def test_waiting_is_bounded_and_the_bound_can_be_changed(
    world: Yard, spec: Any, bound: str, reason: str, words: str
) -> None:
    begin(world, timeouts={bound: 5000}, **spec)
    if not spec:
        make_pod(world, job_ref())
        run(world)
    world.wait(99)
    edit_spec(world, timeouts={bound: 100})
    assert run(world).requeue_after == 1
    assert status(world)["phase"] == "Queued"
    world.wait(1)
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Failed", reason)
    assert words in status(world)["message"]
    assert ("3 Insufficient nvidia.com/gpu" in status(world)["message"]) == (not spec), "what it waited for is told"


def report(world: Yard, **progress: Any) -> None:
    """The collector writes what the pod has told."""
    said = {"attempt": 1, "lastReportTime": format_time(world.now), **progress}
    world.edit(T, lambda o: o["status"].update(progress={**(o["status"].get("progress") or {}), **said}))
    run(world)


def test_a_run_that_stands_still_is_stopped_and_tried_again(world: Yard) -> None:
    begin(world, timeouts={"stallSeconds": 600}, retry={"onError": 1})
    running(world)
    world.wait(100)
    report(world, step=5, lastAdvanceTime=format_time(world.now))
    world.wait(599)
    report(world)
    assert status(world)["phase"] == "Running"
    world.wait(1)
    report(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Running", "StallTimeout")
    assert "Nothing was finished after step 5 within the 600 s" in status(world)["message"]
    assert status(world)["attempts"] == {"number": 1, "infrastructure": 0, "error": 1}
    release(world, job_ref(), 137, "")
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Retrying", "StallTimeout")
    world.wait(300)
    run(world)
    running(world, 2)
    world.wait(600)
    run(world)
    assert status(world)["phase"] == "Running", "what the first attempt reported is not the second's"
    world.edit(T, lambda o: o["status"].update(progress={}))
    report(world, attempt=2)
    assert (status(world)["phase"], status(world)["reason"]) == ("Running", "StallTimeout"), "it never took a step"
    release(world, job_ref(2), 137, "")
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Failed", "StallTimeout")
    assert "spec.retry.onError allows 1" in status(world)["message"]
    assert status(world)["attempts"]["error"] == 2


def test_silence_is_no_standstill_and_a_new_bound_acts_at_once(world: Yard) -> None:
    begin(world, timeouts={"stallSeconds": 60})
    running(world)
    report(world, step=5, lastAdvanceTime=format_time(world.now))
    world.wait(10_000)
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Running", "Running"), "the collector may be away"
    edit_spec(world, timeouts={"stallSeconds": 3600})
    report(world, lastAdvanceTime=format_time(world.now - timedelta(seconds=3000)))
    assert status(world)["reason"] == "Running"
    edit_spec(world, timeouts={"stallSeconds": 2000})
    run(world)
    assert status(world)["reason"] == "StallTimeout"
