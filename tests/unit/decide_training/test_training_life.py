"""A run from its spec to its saved result, one stage at a time, in the in-memory world."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from modelyard.plan import Create, Event, Key, PatchStatus, Ref
from modelyard.resources.meta import JOB, MODEL, NODE, POD, PVC, TRAINING
from modelyard.resources.times import format_time
from modelyard.settings import Settings
from support.build import NS, make_claim, make_model, make_training, make_version
from support.trainings import (
    BAD,
    DONE,
    SUMMARY,
    Yard,
    add_ready_model,
    claim,
    condition,
    decide,
    disruption,
    end,
    job_ref,
    make_pod,
    pod_ref,
    release,
    run,
    schedule,
    set_version,
    start,
    status,
    tabular,
    training,
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


def test_a_run_records_its_intent_before_its_job(world: Yard) -> None:
    world.put(TRAINING, tabular())
    plan = decide(world, Key(NS, "t"))
    assert plan is not None
    first, *rest = [a for a in plan.actions if not isinstance(a, Event)]
    assert isinstance(first, PatchStatus)
    assert first.status["frozen"] is True
    assert first.status["attempts"]["number"] == 1
    assert [(type(a), a.kind) for a in rest if isinstance(a, Create)] == [(Create, PVC), (Create, JOB)]
    assert rest[-1].irrevocable


def test_from_spec_to_success(world: Yard) -> None:
    begin(world)
    assert status(world)["phase"] == "Queued"
    assert condition(world, "Validated")[0] == "True"
    assert condition(world, "DataReady")[0] == "True"
    assert condition(world, "Reconciling")[0] == "False"
    assert status(world)["inputs"] == [
        {
            "name": "dataset",
            "model": "rows",
            "version": "v1",
            "phase": "Ready",
            "pvcName": "mdl-rows-v1",
            "path": "data",
            "kind": "Data",
            "resolvedRevision": "c0ffee",
        }
    ]
    assert status(world)["effectiveParams"]["epochs"] > 0
    pod = make_pod(world, job_ref())
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Queued", "Unschedulable")
    assert "0/3 nodes are available: 3 Insufficient nvidia.com/gpu" in status(world)["message"]
    schedule(world, pod)
    run(world)
    assert status(world)["phase"] == "Provisioning"
    assert status(world)["placement"]["nodes"] == ["node-a"]
    world.wait(5)
    start(world, pod)
    run(world)
    assert status(world)["phase"] == "Running"
    assert condition(world, "Running")[0] == "True"
    assert status(world)["runningSince"]
    world.wait(60)
    end(world, pod, 0, DONE)
    run(world)
    done = status(world)
    assert (done["phase"], done["message"]) == ("Succeeded", "Trained.")
    assert condition(world, "Succeeded")[0] == "True"
    assert condition(world, "CleanedUp")[0] == "False"
    assert done["output"] == {
        "pvc": "trn-t-output",
        "path": "model",
        "kind": "Tabular",
        "bytes": 2048,
        "files": 3,
        "digest": SUMMARY["digest"],
        "metrics": {"accuracy": 0.97},
        "metadata": {
            "recipe": "tabular-classification",
            "determinism": "Reproducible",
            "algorithm": "MLP",
            "features": ["a", "b"],
            "target": "kind",
            "classes": ["x", "y"],
            "trainSamples": 120,
            "testSamples": 30,
            "trainingSeconds": 1.5,
        },
    }
    assert done["activeSeconds"] == 60
    assert [(e["attempt"], e["cause"], e["exitCode"], e["step"]) for e in done["history"]] == [(1, "Succeeded", 0, 40)]
    assert "runningSince" not in done
    release(world, job_ref())
    run(world)
    assert condition(world, "CleanedUp")[0] == "True"
    assert job_ref() not in world.objects
    assert status(world)["phase"] == "Succeeded"


def test_terminal_state_is_written_before_anything_is_deleted(world: Yard) -> None:
    begin(world)
    end(world, running(world), 0, DONE)
    plan = decide(world, Key(NS, "t"))
    assert plan is not None
    assert isinstance(plan.actions[0], PatchStatus)
    assert plan.actions[0].status["phase"] == "Succeeded"


def test_bad_input_is_final_with_the_agents_words(world: Yard) -> None:
    begin(world)
    end(world, running(world), 64, BAD)
    run(world)
    assert status(world)["phase"] == "Failed"
    assert (status(world)["reason"], status(world)["message"]) == ("BadInput", "Column kind is not in the data set.")
    assert condition(world, "Stalled") == ("True", "BadInput", "Column kind is not in the data set.")
    assert condition(world, "Succeeded")[0] == "False"
    assert job_ref() in world.objects, "the log of a failed run can be read"
    assert condition(world, "CleanedUp")[0] == "True"


def test_infrastructure_and_errors_are_counted_apart_and_resumed(world: Yard) -> None:
    begin(world, retry={"onError": 1})
    end(world, running(world), 137, condition=disruption("PreemptionByScheduler"))
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Retrying", "Preempted")
    assert status(world)["attempts"] == {"number": 1, "infrastructure": 1, "error": 0}
    release(world, job_ref(1))
    world.wait(300)
    run(world)
    assert status(world)["attempts"]["number"] == 2
    end(world, running(world, 2), 1)
    run(world)
    release(world, job_ref(2))
    world.wait(300)
    run(world)
    assert status(world)["attempts"] == {"number": 3, "infrastructure": 1, "error": 1}
    end(world, running(world, 3), 1)
    run(world)
    assert status(world)["phase"] == "Failed"
    assert status(world)["message"] == (
        "The trainer ended with exit code 1. Not tried again: spec.retry.onError allows 1."
    )
    assert [e["cause"] for e in status(world)["history"]] == ["Infrastructure", "Error", "Error"]


def test_the_next_attempt_waits_for_its_time_and_for_the_old_pod(world: Yard) -> None:
    begin(world)
    end(world, running(world), 1)
    plan = run(world)
    assert plan.requeue_after is not None
    assert status(world)["phase"] == "Retrying"
    world.wait(600)
    run(world)
    assert job_ref(2) not in world.objects, "the old Job is still there"
    release(world, job_ref(1))
    run(world)
    assert job_ref(2) in world.objects


@pytest.mark.parametrize(
    ("change", "phase", "reason", "words"),
    [
        ({"reason": "OOMKilled"}, "Retrying", "OutOfMemory", "more memory than its limit"),
        ({}, "Retrying", "Killed", "killed by signal 9"),
    ],
)
def test_causes_in_words(world: Yard, change: Any, phase: str, reason: str, words: str) -> None:
    begin(world)
    end(world, running(world), 137, **change)
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == (phase, reason)
    assert words in status(world)["message"]


def test_a_deleted_job_is_never_made_again_under_its_number(world: Yard) -> None:
    begin(world)
    running(world)
    world.objects.pop(job_ref())
    run(world)
    assert status(world)["reason"] == "JobDeleted"
    assert job_ref(2) not in world.objects, "its pod still runs"
    world.objects.pop(pod_ref())
    run(world)
    world.wait(60)
    run(world)
    assert job_ref(1) not in world.objects
    assert job_ref(2) in world.objects
    assert status(world)["history"][0]["reason"] == "JobDeleted"


def test_pause_and_go_on(world: Yard) -> None:
    begin(world)
    running(world)
    world.wait(100)
    edit_spec(world, suspend=True)
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Running", "Suspending")
    assert "endTime" not in status(world)["history"][0]
    world.wait(7)
    release(world, job_ref())
    run(world)
    paused = status(world)
    assert paused["phase"] == "Suspended"
    assert condition(world, "Suspended")[0] == "True"
    assert condition(world, "Reconciling")[0] == "False"
    assert paused["attempts"] == {"number": 1, "infrastructure": 0, "error": 0}, "a pause is no retry"
    assert paused["history"][0]["cause"] == "Suspended"
    assert paused["activeSeconds"] == 107
    edit_spec(world, suspend=False)
    run(world)
    assert status(world)["attempts"]["number"] == 2
    end(world, running(world, 2), 0, DONE)
    run(world)
    assert status(world)["phase"] == "Succeeded"


def test_a_run_that_ends_while_it_is_paused_has_succeeded(world: Yard) -> None:
    begin(world)
    pod = running(world)
    edit_spec(world, suspend=True)
    run(world)
    end(world, pod, 0, DONE)
    run(world)
    assert status(world)["phase"] == "Succeeded"


def test_suspended_from_the_start_holds_nothing(world: Yard) -> None:
    begin(world, suspend=True)
    assert status(world)["phase"] == "Suspended"
    assert not status(world).get("frozen")
    assert not [r for r in world.objects if r.kind in (JOB, PVC)]
    edit_spec(world, suspend=False)
    run(world)
    assert job_ref() in world.objects


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


LOST = {"result": "failed", "reason": "GPULost", "message": "The GPU is gone.", "lastLines": ["a", "b" * 900, "", 3]}


def test_a_lost_gpu_is_nobodys_fault(world: Yard) -> None:
    begin(world, retry={"onError": 0})
    end(world, running(world), 1, json.dumps(LOST))
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Retrying", "GPULost")
    assert status(world)["attempts"]["infrastructure"] == 1


@pytest.mark.parametrize(("spec", "count"), [({}, 2), ({"compute": {"image": "mine:1"}}, 0)])
def test_the_last_lines_of_our_own_trainer_are_kept(world: Yard, spec: Any, count: int) -> None:
    begin(world, **spec)
    end(world, running(world), 1, json.dumps({**LOST, "reason": "Error"}))
    run(world)
    (entry,) = status(world)["history"]
    assert len(entry.get("lastLines", [])) == count
    assert all(len(line) <= 256 for line in entry.get("lastLines", []))


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


def saving(model: str = "kept", version: str = "v1") -> dict[str, Any]:
    return {"save": {"model": model, "version": version, "description": "Good.", "tags": ["iris"]}}


def succeed(world: Yard) -> None:
    end(world, running(world), 0, DONE)
    run(world)


def test_save_is_one_write_on_the_volume_and_makes_a_missing_model(world: Yard) -> None:
    begin(world, **saving())
    assert condition(world, "Saved")[:2] == ("False", "Waiting")
    succeed(world)
    assert world.objects[Ref(MODEL, NS, "kept")]["spec"] == {}
    kept = claim(world, "trn-t-output")
    assert kept["metadata"]["ownerReferences"] == []
    assert kept["metadata"]["labels"]["modelyard.dev/model"] == "kept"
    assert kept["metadata"]["labels"]["modelyard.dev/version"] == "v1"
    record = json.loads(kept["metadata"]["annotations"]["modelyard.dev/saved"])
    assert record["origin"] == "Training/t"
    assert record["uid"] == training(world)["metadata"]["uid"]
    assert (record["path"], record["kind"], record["digest"]) == ("model", "Tabular", SUMMARY["digest"])
    assert record["metadata"]["features"] == ["a", "b"]
    assert record["metadata"]["metrics"] == {"accuracy": 0.97}
    assert record["description"] == "Good."
    assert condition(world, "Saved")[:2] == ("True", "Saved")
    assert status(world)["saved"]["model"] == "kept"
    world.remove(T)
    world.settle()
    assert T not in world.objects
    assert Ref(PVC, NS, "trn-t-output") in world.objects


def test_retention_delete_gives_the_volume_to_the_model(world: Yard) -> None:
    world.put(MODEL, make_model("kept", make_version("base"), retention={"saved": "Delete"}))
    begin(world, **saving())
    succeed(world)
    (owner,) = claim(world, "trn-t-output")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("Model", "kept", True)


def test_save_can_be_chosen_after_the_end(world: Yard) -> None:
    begin(world)
    succeed(world)
    assert condition(world, "Saved") == ("", "", "")
    edit_spec(world, **saving())
    run(world)
    assert condition(world, "Saved")[:2] == ("True", "Saved")


def test_a_form_that_was_not_made_is_refused_and_mended(world: Yard) -> None:
    begin(world)
    succeed(world)
    edit_spec(world, save={"model": "kept", "version": "v1", "form": "Adapter"})
    run(world)
    refused = condition(world, "Saved")
    assert refused[:2] == ("False", "FormNotAvailable")
    assert "spec.save.form Adapter is not there" in refused[2]
    edit_spec(world, save={"model": "kept", "version": "v1"})
    run(world)
    assert condition(world, "Saved")[:2] == ("True", "Saved")


PICKED = {**SUMMARY, "weights": {"step": 40, "bestStep": 30, "lastStep": 40, "samples": [40, 20]}}


def picture_run(world: Yard, checkpoint: str | None) -> None:
    """An image adapter that kept steps 20 and 40, to be saved."""
    add_ready_model(world, "flux", kind="Full")
    save = {"model": "kept", "version": "v1", **({"checkpoint": checkpoint} if checkpoint else {})}
    recipe = {"name": "text-to-image-lora", "textToImageLoRA": {"prompt": "a cat"}}
    spec = {"model": {"ref": {"name": "flux", "version": "v1"}}, "recipe": recipe, "save": save}
    world.put(TRAINING, make_training("t", spec=spec))
    run(world)
    end(world, running(world), 0, json.dumps({"result": "done", "summary": {**PICKED, "kind": "Adapter"}}))
    run(world)


def kept_record(world: Yard) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(claim(world, "trn-t-output")["metadata"]["annotations"]["modelyard.dev/saved"])
    return found


@pytest.mark.parametrize(
    ("checkpoint", "path", "step"),
    [(None, "model", None), ("Last", "model", 40), ("step-40", "model", 40), ("step-20", "samples/step-00000020", 20)],
)
def test_the_chosen_weights_are_saved(world: Yard, checkpoint: str | None, path: str, step: int | None) -> None:
    picture_run(world, checkpoint)
    record = kept_record(world)
    assert (record["path"], record["metadata"].get("step")) == (path, step)
    assert ("digest" in record) == (path == "model")
    assert record["baseRef"]["name"] == "flux"


def test_weights_that_are_not_there_are_refused_and_another_choice_mends_it(world: Yard) -> None:
    picture_run(world, "step-30")
    assert condition(world, "Saved") == (
        "False",
        "CheckpointNotAvailable",
        "spec.save.checkpoint step-30: the weights of step 30 are not there; there are: step-40 (Last), step-20.",
    )
    edit_spec(world, save={"model": "kept", "version": "v1", "checkpoint": "Best"})
    run(world)
    assert condition(world, "Saved")[1] == "CheckpointNotAvailable"
    assert "Before a run begins, spec.save.checkpoint Best makes it keep them." in condition(world, "Saved")[2]
    edit_spec(world, save={"model": "kept", "version": "v1", "checkpoint": "step-20"})
    run(world)
    assert kept_record(world)["path"] == "samples/step-00000020"


def test_a_step_that_no_run_of_the_recipe_keeps_is_refused_at_once(world: Yard) -> None:
    begin(world, save={"model": "kept", "version": "v1", "checkpoint": "step-5"})
    assert condition(world, "Saved")[1] == "CheckpointNotAvailable"
    assert "keeps no weights of single steps" in condition(world, "Saved")[2]


def test_the_trainer_is_told_what_will_be_saved(world: Yard) -> None:
    begin(world, save={"model": "kept", "version": "v1", "checkpoint": "Last", "keepCheckpoints": True})
    env = world.objects[job_ref()]["spec"]["template"]["spec"]["containers"][0]["env"]
    config = json.loads(next(e["value"] for e in env if e["name"] == "MODELYARD_CONFIG"))
    assert (config["weights"], config["keepCheckpoints"]) == ("Last", True)


@pytest.mark.parametrize("early", [True, False])
def test_a_name_that_the_spec_fetches_is_refused(world: Yard, early: bool) -> None:
    world.put(MODEL, make_model("kept", make_version("v1")))
    begin(world, **saving())
    if not early:
        succeed(world)
    refused = condition(world, "Saved")
    assert refused[:2] == ("False", "VersionExists")
    assert "is one that its spec fetches" in refused[2]
    assert claim(world, "trn-t-output")["metadata"]["ownerReferences"][0]["kind"] == "Training"


def test_a_name_that_another_training_saved_is_refused(world: Yard) -> None:
    begin(world, **saving())
    succeed(world)
    world.put(TRAINING, tabular("u", **saving()))
    run(world, "u")
    assert condition(world, "Saved", "u")[:2] == ("False", "VersionExists")
    edit = Ref(TRAINING, NS, "u")
    world.edit(edit, lambda o: o["spec"]["save"].update(version="v2"))
    run(world, "u")
    assert condition(world, "Saved", "u")[:2] == ("False", "Waiting")


def test_of_two_runs_that_want_one_name_the_older_gets_it(world: Yard) -> None:
    begin(world, **saving())
    world.wait(1)
    world.put(TRAINING, tabular("u", **saving()))
    run(world, "u")
    assert condition(world, "Saved", "u")[:2] == ("False", "NameTaken")
    assert condition(world, "Saved", "t")[:2] == ("False", "Waiting")


def test_a_failed_run_has_nothing_to_save(world: Yard) -> None:
    begin(world, **saving())
    end(world, running(world), 64, BAD)
    run(world)
    assert condition(world, "Saved")[:2] == ("False", "NothingToSave")


def test_a_training_made_again_does_not_touch_the_saved_result(world: Yard) -> None:
    begin(world, **saving())
    succeed(world)
    release(world, job_ref())
    run(world)
    world.remove(T)
    world.settle()
    begin(world, **saving("kept", "v2"))
    uid = training(world)["metadata"]["uid"]
    assert status(world)["output"]["pvc"] == f"trn-t-output-{uid[:8]}"
    succeed(world)
    assert condition(world, "Saved")[:2] == ("True", "Saved")


def test_unsaved_output_goes_after_its_time_with_a_warning(world: Yard) -> None:
    begin(world)
    succeed(world)
    release(world, job_ref())
    edit_spec(world, output={"unsavedTTLSeconds": 1000})
    run(world)
    assert status(world)["output"]["expiresTime"]
    world.wait(950)
    run(world)
    assert condition(world, "Saved")[:2] == ("False", "OutputExpires")
    assert [e.reason for e in world.events if e.reason == "OutputExpires"] == ["OutputExpires"]
    world.wait(51)
    run(world)
    world.settle()
    run(world)
    assert Ref(PVC, NS, "trn-t-output") not in world.objects
    assert T in world.objects
    edit_spec(world, **saving())
    run(world)
    assert condition(world, "Saved")[:2] == ("False", "OutputExpired")


def test_a_strangers_volume_is_left_alone(world: Yard) -> None:
    world.put(PVC, make_claim("trn-t-output"))
    before = claim(world, "trn-t-output")
    begin(world)
    assert status(world)["reason"] == "NameTaken"
    assert condition(world, "Stalled")[0] == "True"
    assert claim(world, "trn-t-output") == before
    assert job_ref() not in world.objects
    world.objects.pop(Ref(PVC, NS, "trn-t-output"))
    run(world)
    assert job_ref() in world.objects


def test_a_strangers_job_is_left_alone(world: Yard) -> None:
    stranger = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "t-1", "namespace": NS}, "spec": {}}
    world.put(JOB, stranger)
    begin(world)
    assert status(world)["reason"] == "NameTaken"
    assert "Job t-1" in status(world)["message"]


def test_the_collectors_fields_are_left_alone(world: Yard) -> None:
    begin(world)
    running(world)
    reported = {"progress": {"percent": 40}, "metrics": {"loss": 0.5}, "checkpoint": {"lastReported": {"step": 8}}}
    world.edit(T, lambda o: o["status"].update(reported))
    assert not run(world).actions
    end(world, pod_ref(), 75, json.dumps({"checkpoint": {"step": 9, "path": "checkpoints/step-00000009"}}))
    run(world)
    assert status(world)["progress"] == {"percent": 40}
    assert status(world)["metrics"] == {"loss": 0.5}
    assert status(world)["checkpoint"]["lastReported"] == {"step": 8}
    assert status(world)["checkpoint"]["last"] == {"step": 9, "path": "checkpoints/step-00000009"}


def test_deleting_the_training_asks_for_nothing(world: Yard) -> None:
    begin(world)
    running(world)
    world.edit(T, lambda o: o["metadata"].update(deletionTimestamp="2026-11-21T12:00:00Z", finalizers=["x"]))
    plan = decide(world, Key(NS, "t"))
    assert plan is not None
    assert not plan.actions


def test_waits_for_a_model_version(world: Yard) -> None:
    world.put(MODEL, make_model("slow"))
    world.put(TRAINING, tabular(dataset={"ref": {"model": "slow", "version": "v1"}}))
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Preparing", "WaitingForModel")
    assert condition(world, "DataReady")[0] == "False"
    assert condition(world, "Reconciling")[0] == "True"
    set_version(world, "slow", "v1", phase="Failed", message="The token was refused.")
    run(world)
    assert status(world)["message"] == "version v1 of Model slow failed: The token was refused."
    assert condition(world, "Stalled")[0] == "True"
    set_version(world, "slow", "v1", phase="Ready")
    run(world)
    assert job_ref() in world.objects


def test_events_tell_each_change_once(world: Yard) -> None:
    begin(world)
    end(world, running(world), 0, DONE)
    run(world)
    assert [e.reason for e in world.events] == ["Unschedulable", "Running", "Succeeded"]


def test_a_persons_own_acts_and_what_it_costs_are_told_too(world: Yard) -> None:
    begin(world, **GPU)
    running(world)
    edit_spec(world, suspend=True)
    run(world)
    release(world, job_ref())
    run(world)
    edit_spec(world, suspend=False, budget={"maxUSD": "0.10"})
    run(world)
    running(world, 2)
    world.wait(200)
    run(world)
    run(world)
    told = [(e.reason, e.type) for e in world.events]
    assert told == [
        ("Unschedulable", "Warning"),
        ("Running", "Normal"),
        ("Suspended", "Normal"),
        ("Unschedulable", "Warning"),
        ("Running", "Normal"),
        ("BudgetExceeded", "Warning"),
    ]


def mounted(world: Yard) -> dict[str, tuple[str, str]]:
    """Of each input of attempt 1: the claim, and where it is mounted."""
    pod = world.objects[job_ref()]["spec"]["template"]["spec"]
    at = {m["name"]: m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
    claims = {v["name"]: v["persistentVolumeClaim"] for v in pod["volumes"] if "persistentVolumeClaim" in v}
    return {name: (c["claimName"], at[name]) for name, c in claims.items() if c.get("readOnly")}


def chat(ref: str) -> dict[str, Any]:
    return make_training(
        "t",
        spec={
            "model": {"ref": {"name": ref, "version": "v1"}},
            "dataset": {"ref": {"model": "rows", "version": "v1"}},
            "recipe": {"name": "causal-lm"},
        },
    )


def add_adapter(world: Yard) -> None:
    add_ready_model(world, "llama", kind="Full")
    add_ready_model(world, "tuned", kind="Adapter")
    base = {"name": "llama", "version": "v1", "resolvedRevision": "c0ffee"}
    set_version(world, "tuned", "v1", phase="Ready", kind="Adapter", baseRef=base)


def test_an_adapter_brings_its_base(world: Yard) -> None:
    add_adapter(world)
    world.put(TRAINING, chat("tuned"))
    run(world)
    assert mounted(world) == {
        "model": ("mdl-llama-v1", "/modelyard/model"),
        "adapter": ("mdl-tuned-v1", "/modelyard/adapter"),
        "dataset": ("mdl-rows-v1", "/modelyard/dataset"),
    }
    assert [(i["name"], i["kind"]) for i in status(world)["inputs"][:2]] == [("model", "Full"), ("adapter", "Adapter")]
    said = json.dumps({"result": "done", "summary": {**SUMMARY, "kind": "Adapter"}})
    end(world, running(world), 0, said)
    run(world)
    base = {"name": "llama", "version": "v1", "resolvedRevision": "c0ffee"}
    assert status(world)["output"]["baseRef"] == base, "its base is the adapter's, not the adapter"


def test_an_adapter_whose_base_moved_on_is_refused(world: Yard) -> None:
    add_adapter(world)
    set_version(world, "llama", "v1", phase="Ready", kind="Full", resolvedRevision="decaf")
    world.put(TRAINING, chat("tuned"))
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Preparing", "BaseChanged")
    assert "was trained on revision c0ffee" in status(world)["message"]
    set_version(world, "llama", "v1", phase="Ready", kind="Full")
    run(world)
    assert job_ref() in world.objects


@pytest.mark.parametrize(
    ("base", "reason", "words"),
    [
        (None, "BaseUnknown", "does not say which base it was trained on"),
        ({"name": "gone", "version": "v1"}, "ModelNotFound", "needs its base: there is no Model gone"),
        ({"name": "rows", "version": "v1"}, "WrongKind", "has a base of kind Data"),
    ],
)
def test_an_adapter_without_its_base_is_refused(world: Yard, base: Any, reason: str, words: str) -> None:
    add_ready_model(world, "tuned", kind="Adapter")
    set_version(world, "tuned", "v1", phase="Ready", kind="Adapter", **({"baseRef": base} if base else {}))
    world.put(TRAINING, chat("tuned"))
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Validating", reason)
    assert words in status(world)["message"]


def test_an_assistant_is_mounted_beside_the_base(world: Yard) -> None:
    add_ready_model(world, "flux", kind="Full")
    add_ready_model(world, "helper", kind="Full")
    models = {"ref": {"name": "flux", "version": "v1"}, "assistantRef": {"name": "helper", "version": "v1"}}
    recipe = {"name": "text-to-image-lora", "textToImageLoRA": {"prompt": "a cat"}}
    world.put(TRAINING, make_training("t", spec={"model": models, "recipe": recipe}))
    run(world)
    assert mounted(world)["assistant"] == ("mdl-helper-v1", "/modelyard/assistant")
    env = world.objects[job_ref()]["spec"]["template"]["spec"]["containers"][0]["env"]
    values = {e["name"]: e.get("value") for e in env}
    assert values["MODELYARD_ASSISTANT"] == "/modelyard/assistant"
    assert json.loads(str(values["MODELYARD_CONFIG"]))["assistant"]["name"] == "helper"


def test_an_assistant_that_nobody_asks_is_refused(world: Yard) -> None:
    begin(world, model={"assistantRef": {"name": "rows", "version": "v1"}})
    assert status(world)["reason"] == "InvalidSpec"
    assert "has no use for a second model" in status(world)["message"]


def test_a_fine_tuning_mounts_model_and_data(world: Yard) -> None:
    add_ready_model(world, "minilm", kind="Full")
    spec = {
        "model": {"ref": {"name": "minilm", "version": "v1"}},
        "dataset": {"pvc": {"claimName": "mine"}, "path": "texts.csv", "columns": {"text": "t", "label": "l"}},
        "recipe": {"name": "text-classification", "text": {"epochs": 2}},
    }
    world.put(PVC, make_claim("mine"))
    world.put(TRAINING, make_training("t", spec=spec))
    run(world)
    pod = world.objects[job_ref()]["spec"]["template"]["spec"]
    claims = {v["name"]: v["persistentVolumeClaim"] for v in pod["volumes"] if "persistentVolumeClaim" in v}
    assert claims["model"] == {"claimName": "mdl-minilm-v1", "readOnly": True}
    assert claims["dataset"] == {"claimName": "mine", "readOnly": True}
    env = {e["name"]: e.get("value") for e in pod["containers"][0]["env"]}
    config = json.loads(env["MODELYARD_CONFIG"])
    assert config["model"]["resolvedRevision"] == "c0ffee"
    assert config["dataset"] == {"path": "texts.csv", "columns": {"text": "t", "label": "l"}}
    assert config["params"] == {"epochs": 2}
    assert POD not in {r.kind for r in world.objects}


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
