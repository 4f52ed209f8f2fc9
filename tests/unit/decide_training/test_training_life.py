"""A run from its spec to its end, one stage at a time, in the in-memory world."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelyard.plan import Create, Event, Key, PatchStatus, Ref
from modelyard.resources.meta import JOB, MODEL, PVC, TRAINING
from support.build import NS, make_claim, make_model
from support.training_life import GPU, T, begin, edit_spec, running
from support.trainings import (
    BAD,
    DONE,
    SUMMARY,
    Yard,
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
)


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


def test_a_run_whose_job_was_deleted_just_as_it_was_done_is_done(world: Yard) -> None:
    begin(world)
    pod = running(world)
    world.objects.pop(job_ref())
    end(world, pod, 0, DONE)
    world.last_seen.append(world.objects.pop(pod))
    run(world)
    assert (status(world)["phase"], status(world)["attempts"]["infrastructure"]) == ("Succeeded", 0)


def test_the_words_of_a_run_that_is_done_are_waited_for(world: Yard) -> None:
    begin(world)
    pod = running(world)
    seen = world.objects[pod]
    end(world, pod, 0, DONE)
    ended = world.objects.pop(pod)
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Running", "Ending")
    world.objects[pod] = seen
    run(world)
    assert status(world)["phase"] == "Running"
    world.objects[pod] = ended
    run(world)
    assert (status(world)["phase"], status(world)["message"]) == ("Succeeded", "Trained.")
    assert status(world)["output"]["metrics"]


def test_the_words_of_a_run_that_failed_by_itself_are_waited_for(world: Yard) -> None:
    begin(world)
    pod = running(world)
    end(world, pod, 64, BAD)
    ended = world.objects.pop(pod)  # the watch of Jobs is ahead of the one of pods
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Running", "Ending")
    world.objects[pod] = ended
    run(world)
    assert (status(world)["phase"], status(world)["message"]) == ("Failed", "Column kind is not in the data set.")


def test_a_run_has_failed_though_its_pod_went_with_its_words(world: Yard) -> None:
    begin(world)
    pod = running(world)
    end(world, pod, 64, BAD)
    del world.objects[pod]
    world.wait(30)
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Failed", "BadInput")


def test_a_run_is_done_though_its_pod_says_nothing(world: Yard) -> None:
    begin(world)
    end(world, running(world), 0, "")
    run(world)
    assert status(world)["reason"] == "Ending"
    world.wait(30)
    run(world)
    assert status(world)["phase"] == "Succeeded"


def test_what_an_attempt_left_is_known_though_its_job_and_pod_are_gone(world: Yard) -> None:
    begin(world)
    pod = running(world)
    edit_spec(world, suspend=True)
    run(world)
    world.wait(5)
    end(world, pod, 75, json.dumps({"step": 9, "checkpoint": {"step": 9, "path": "checkpoints/step-00000009"}}))
    world.last_seen.append(world.objects.pop(pod))
    world.objects.pop(job_ref())
    run(world)
    assert status(world)["phase"] == "Suspended"
    assert status(world)["history"][0]["step"] == 9
    assert status(world)["checkpoint"]["last"]["step"] == 9


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
