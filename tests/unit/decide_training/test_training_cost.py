"""What a run held and what that cost: prices, attempts, budgets."""

from __future__ import annotations

import pytest

from modelyard.plan import Ref
from modelyard.resources.meta import NODE, TRAINING
from modelyard.settings import Settings
from support.training_life import GPU, begin, edit_spec, running
from support.trainings import (
    DONE,
    Yard,
    end,
    job_ref,
    make_pod,
    pod_ref,
    release,
    run,
    schedule,
    start,
    status,
    tabular,
)


def test_cost_is_what_was_held_from_placed_to_released(world: Yard) -> None:
    begin(world, **GPU)
    pod = running(world)  # placed 10 s before it runs
    assert status(world)["cost"]["gpuSeconds"] == 0
    world.wait(90)
    run(world)
    assert status(world)["cost"]["gpuSeconds"] == 8 * 100
    run(world)
    world.wait(20)
    end(world, pod, 75)
    world.wait(50)
    run(world)
    assert status(world)["cost"] | {"asOf": ""} == {
        "gpuSeconds": 8 * 120,
        "estimatedUSD": "0.96",
        "pricePerGPUHour": "3.60",
        "hourlyRate": "28.80",
        "priceSource": "settings.prices.H100",
        "asOf": "",
    }
    release(world, job_ref())
    world.wait(1000)
    run(world)
    end(world, running(world, 2), 0, DONE)
    run(world)
    assert status(world)["cost"]["gpuSeconds"] == 8 * 130


def test_a_nodes_label_may_be_the_price(world: Yard) -> None:
    settings = Settings.model_validate(
        {"namespace": "x", "priceLabel": "acme.com/usd", "training": {"analysis": "WhenAsked"}}
    )
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a", "labels": {"acme.com/usd": "1.25"}}}
    world.put(NODE, node)
    world.put(TRAINING, tabular(**GPU))
    run(world, settings=settings)
    pod = make_pod(world, job_ref())
    schedule(world, pod)
    start(world, pod)
    run(world, settings=settings)
    world.wait(360)
    run(world, settings=settings)
    assert status(world)["cost"]["estimatedUSD"] == "1.00"
    assert status(world)["cost"]["priceSource"] == "label acme.com/usd of node node-a"
    world.objects.pop(Ref(NODE, "", "node-a"))
    world.wait(360)
    end(world, pod, 0, DONE)
    run(world, settings=settings)
    assert (status(world)["phase"], status(world)["cost"]["estimatedUSD"]) == ("Succeeded", "2.00")


def test_each_attempt_says_what_it_held(world: Yard) -> None:
    begin(world, **GPU)
    pod = running(world)
    world.wait(90)
    end(world, pod, 75)
    run(world)
    release(world, job_ref())
    world.wait(1000)
    run(world)
    running(world, 2)
    world.wait(30)
    world.objects.pop(pod_ref(2))  # its node is gone, and with it all that says when it was placed
    world.objects.pop(job_ref(2))
    run(world)
    world.wait(1000)
    run(world)
    end(world, running(world, 3), 0, DONE)
    run(world)
    held = [(e["attempt"], e["gpuSeconds"]) for e in status(world)["history"]]
    assert held == [(1, 8 * 100), (2, 8 * 40), (3, 8 * 10)]
    assert status(world)["cost"]["gpuSeconds"] == sum(seconds for _, seconds in held)


def test_the_trainings_own_price_wins(world: Yard) -> None:
    begin(world, **GPU)
    edit_spec(world, budget={"pricePerGPUHour": "1.00"})
    end(world, running(world), 0, DONE)
    run(world)
    assert status(world)["cost"]["priceSource"] == "spec.budget.pricePerGPUHour"
    assert status(world)["cost"]["hourlyRate"] == "8.00"


@pytest.mark.parametrize(("action", "phase"), [("Fail", "Failed"), ("Suspend", "Suspended"), (None, "Running")])
def test_budget(world: Yard, action: str | None, phase: str) -> None:
    begin(world, **GPU)
    edit_spec(world, budget={"maxUSD": "0.80", **({"onExceed": action} if action else {})})
    running(world)
    plan = run(world)
    assert plan.requeue_after is not None
    world.wait(200)
    run(world)
    if phase != "Running":
        release(world, job_ref())
        run(world)
    assert (status(world)["phase"], status(world)["reason"]) == (phase, "BudgetExceeded")
    assert "of the 0.80 US dollars" in status(world)["message"]


def test_raising_the_budget_goes_on(world: Yard) -> None:
    begin(world, **GPU)
    edit_spec(world, budget={"maxUSD": "0.80", "onExceed": "Suspend"})
    running(world)
    world.wait(200)
    run(world)
    release(world, job_ref())
    run(world)
    edit_spec(world, budget={"maxUSD": "80"})
    run(world)
    assert job_ref(2) in world.objects
