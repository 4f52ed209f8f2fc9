"""Runs of several nodes: all or nothing, what they need, and what they cost; and runs that a queue admits."""

from __future__ import annotations

from typing import Any

from modelyard.cluster.inventory import INVENTORY
from modelyard.observed import RefusalFact
from modelyard.plan import Key, Ref
from modelyard.resources.meta import EVENT, JOB, POD, PVC, SERVICE, TRAINING, WORKLOAD
from modelyard.resources.names import queue_workload
from modelyard.resources.objects import uid_of
from modelyard.resources.times import format_time
from support.build import NS, make_claim, make_object
from support.training_life import begin, running_of
from support.trainings import (
    DONE,
    STOPPED,
    Yard,
    condition,
    container,
    controller,
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
    training,
)
from support.world_facts import WorldFacts

SHARED = {"storage": {"accessModes": ["ReadWriteMany"]}}
TWO: dict[str, Any] = {"compute": {"nodes": 2, "gpu": "H100:4"}, "output": SHARED}
QUEUED = {"compute": {"queueName": "team", "gpu": "H100:8"}}


def make_node_pod(world: Yard, index: int, number: int = 1) -> Ref:
    """One of the pods of an Indexed Job."""
    job = world.objects[job_ref(number)]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": f"t-{number}", "uid": job["metadata"]["uid"]}
    pod = make_object(
        "v1",
        "Pod",
        f"t-{number}-{index}-x",
        labels=job["spec"]["template"]["metadata"]["labels"],
        annotations={"batch.kubernetes.io/job-completion-index": str(index)},
        owners=[{**owner, "controller": True}],
        spec=dict(job["spec"]["template"]["spec"]),
        status={"phase": "Pending", "conditions": []},
    )
    world.put(POD, pod)
    return Ref(POD, NS, pod["metadata"]["name"])


def test_an_indexed_job_with_names_for_its_pods(world: Yard) -> None:
    begin(world, **TWO)
    job = world.objects[job_ref()]["spec"]
    assert (job["completionMode"], job["completions"], job["parallelism"]) == ("Indexed", 2, 2)
    service = world.objects[Ref(SERVICE, NS, "trn-t")]
    assert service["spec"]["clusterIP"] == "None"
    labels = job["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    pod = job["template"]["spec"]
    assert pod["subdomain"] == "trn-t"
    env = {v["name"]: v.get("value") for v in pod["containers"][0]["env"]}
    assert (env["MODELYARD_NODES"], env["MODELYARD_PROCESSES_PER_NODE"]) == ("2", "4")
    assert env["MODELYARD_MASTER_ADDR"] == "t-1-0.trn-t"
    run(world)  # the service is there now
    assert len([r for r in world.objects if r.kind == SERVICE]) == 1


def test_a_service_of_somebody_else_is_left_alone(world: Yard) -> None:
    theirs = world.put(SERVICE, make_object("v1", "Service", "trn-t", spec={}))
    begin(world, **TWO)
    assert (status(world)["phase"], status(world)["reason"]) == ("Queued", "NameTaken")
    assert "Service trn-t" in status(world)["message"]
    assert world.objects[Ref(SERVICE, NS, "trn-t")] == theirs
    assert job_ref() not in world.objects


def test_several_nodes_need_shared_volumes(world: Yard) -> None:
    begin(world, compute={"nodes": 2})
    assert status(world)["reason"] == "InvalidSpec"
    assert "2 nodes write to one volume, so it must be ReadWriteMany" in status(world)["message"]
    world.edit(Ref(TRAINING, NS, "t"), lambda o: o["spec"].update(output=SHARED))
    world.put(PVC, make_claim("mdl-rows-v1"))
    run(world)
    assert status(world)["reason"] == "VolumeNotShared"
    assert "volume mdl-rows-v1 of the dataset, which is ReadWriteOnce" in status(world)["message"]
    assert condition(world, "Validated")[0] == "False"
    world.edit(Ref(PVC, NS, "mdl-rows-v1"), lambda o: o["spec"].update(accessModes=["ReadOnlyMany"]))
    run(world)
    assert status(world)["phase"] == "Queued"


def test_dots_in_the_name_of_several_nodes(world: Yard) -> None:
    world.put(TRAINING, tabular("t.v1", **TWO))
    run(world, "t.v1")
    assert "can't have dots" in status(world, "t.v1")["message"]


def test_all_nodes_run_or_none(world: Yard) -> None:
    begin(world, **TWO)
    first, second = make_node_pod(world, 0), make_node_pod(world, 1)
    run(world)
    schedule(world, first)
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Queued", "PartlyPlaced")
    assert "1 of 2 pods have a node" in status(world)["message"]
    start(world, first)
    world.wait(599)
    run(world)
    assert status(world)["attempts"]["infrastructure"] == 0
    world.wait(2)
    run(world)
    assert status(world)["history"][0]["reason"] == "PartlyPlaced"
    assert status(world)["attempts"]["infrastructure"] == 1
    for pod in (first, second):
        world.objects.pop(pod)
    release(world, job_ref())
    run(world)
    assert status(world)["phase"] == "Retrying"
    world.wait(130)
    run(world)
    assert job_ref(2) in world.objects
    assert status(world).get("cost", {}).get("gpuSeconds", 0) == 0


def test_nodes_that_came_one_after_the_other_are_paid_from_when_each_came(world: Yard) -> None:
    begin(world, **TWO)
    first, second = make_node_pod(world, 0), make_node_pod(world, 1)
    schedule(world, first, "node-a")
    run(world)
    world.wait(100)
    schedule(world, second, "node-b")
    run(world)
    world.wait(10)
    for pod in (first, second):
        start(world, pod)
    run(world)
    assert status(world)["phase"] == "Running"
    assert status(world)["placement"]["nodes"] == ["node-a", "node-b"]
    assert status(world)["placement"]["pod"] == "t-1-0-x"
    world.wait(90)
    for pod, message in ((second, ""), (first, DONE)):
        done = container({"terminated": {"exitCode": 0, "message": message, "finishedAt": format_time(world.now)}})
        world.edit(pod, lambda o, done=done: o["status"].update(phase="Succeeded", containerStatuses=done))
    complete = {"type": "Complete", "status": "True", "lastTransitionTime": format_time(world.now)}
    world.edit(job_ref(), lambda o: o.update(status={"conditions": [complete]}))
    run(world)
    assert status(world)["phase"] == "Succeeded"
    assert status(world)["output"]["kind"] == "Tabular"  # the words of the first node
    assert status(world)["cost"]["gpuSeconds"] == 4 * 200 + 4 * 100


def admit(world: Yard, number: int = 1, *, suspend: bool = False) -> None:
    """What a queue does."""
    world.edit(job_ref(number), lambda o: o["spec"].update(suspend=suspend))


def test_a_queue_admits_evicts_and_admits_again(world: Yard) -> None:
    begin(world, **QUEUED)
    job = world.objects[job_ref()]
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team"
    assert (status(world)["phase"], status(world)["reason"]) == ("Queued", "WaitingForQueue")
    assert condition(world, "Reconciling")[0] == "False"
    admit(world)
    run(world)
    pod = running_of(world, "t")
    assert status(world)["phase"] == "Running"
    world.wait(50)
    admit(world, suspend=True)
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Running", "EvictedByQueue")
    assert status(world)["attempts"]["infrastructure"] == 0
    end(world, pod, 75, STOPPED)
    world.edit(job_ref(), lambda o: o.pop("status", None))  # a suspended Job does not say that it failed
    run(world)
    (entry,) = status(world)["history"]
    assert (entry["cause"], entry["reason"], entry["exitCode"], entry["step"]) == (
        "Infrastructure",
        "EvictedByQueue",
        75,
        9,
    )
    release(world, job_ref())
    world.wait(60)
    run(world)
    assert world.objects[job_ref(2)]["spec"]["suspend"] is True
    assert status(world)["reason"] == "WaitingForQueue"
    assert status(world)["attempts"] == {"number": 2, "infrastructure": 1, "error": 0}


def test_an_eviction_that_nobody_saw(world: Yard) -> None:
    begin(world, **QUEUED)
    admit(world)
    running_of(world, "t")
    admit(world, suspend=True)
    world.objects.pop(pod_ref())
    run(world)
    assert status(world)["history"][0]["reason"] == "EvictedByQueue"
    assert world.objects[job_ref()]["metadata"]["deletionTimestamp"]


def test_a_place_that_is_taken_back_before_a_node_came_is_waited_for_again(world: Yard) -> None:
    begin(world, **QUEUED)
    admit(world)
    make_pod(world, job_ref())
    run(world)
    admit(world, suspend=True)
    world.objects.pop(pod_ref())
    run(world)
    assert status(world)["reason"] == "WaitingForQueue"
    assert not status(world).get("history")
    assert [r.name for r in world.objects if r.kind == JOB] == ["t-1"]


def workload(world: Yard, *, active: bool = True, **conditions: tuple[str, str]) -> None:
    """What Kueue keeps of the first attempt: its conditions are (status, message) by type."""
    name = queue_workload("t-1", uid_of(world.objects[job_ref()]))
    ref = Ref(WORKLOAD, NS, name)
    if ref not in world.objects:
        world.put(WORKLOAD, make_object(WORKLOAD.api_version, WORKLOAD.kind, name))
    said = [{"type": t, "status": s, "message": m, "reason": "Said"} for t, (s, m) in conditions.items()]
    world.edit(ref, lambda o: o.update(spec={"active": active}, status={"conditions": said}))


def test_what_the_queue_says_is_passed_on(world: Yard) -> None:
    begin(world, **QUEUED)
    workload(world, QuotaReserved=("False", "8 more needed."))
    run(world)
    assert status(world)["message"] == "Waiting for queue team to admit the run. Kueue says: 8 more needed."
    workload(world, QuotaReserved=("True", "Fits."), Admitted=("False", "Checks to do."))
    run(world)
    assert status(world)["message"].endswith("Kueue says: Checks to do.")
    workload(world, active=False)
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Queued", "SwitchedOffInQueue")


def stopped_by_the_queue(world: Yard, *, active: bool) -> None:
    begin(world, **QUEUED)
    admit(world)
    pod = running_of(world, "t")
    admit(world, suspend=True)
    workload(world, active=active, Evicted=("True", "Somebody is in a hurry."))
    end(world, pod, 75, STOPPED)
    world.edit(job_ref(), lambda o: o.pop("status", None))
    run(world)


def test_why_the_queue_took_the_place_back_is_in_the_history(world: Yard) -> None:
    stopped_by_the_queue(world, active=True)
    assert status(world)["history"][0]["message"].endswith("another. Kueue says: Somebody is in a hurry.")
    assert "deletionTimestamp" in world.objects[job_ref()]["metadata"]


def test_no_new_job_gets_round_an_administrator(world: Yard) -> None:
    stopped_by_the_queue(world, active=False)
    assert (status(world)["phase"], status(world)["reason"]) == ("Queued", "SwitchedOffInQueue")
    assert condition(world, "Reconciling")[0] == condition(world, "Stalled")[0] == "False"
    world.wait(3600)
    run(world)
    assert "deletionTimestamp" not in world.objects[job_ref()]["metadata"]
    assert status(world)["attempts"] == {"number": 1, "infrastructure": 1, "error": 0}
    workload(world, active=True)
    run(world)
    release(world, job_ref())
    run(world)
    assert status(world)["reason"] == "WaitingForQueue"
    assert status(world)["attempts"] == {"number": 2, "infrastructure": 1, "error": 0}


def test_a_run_that_is_switched_off_can_be_paused(world: Yard) -> None:
    stopped_by_the_queue(world, active=False)
    world.edit(Ref(TRAINING, NS, "t"), lambda o: o["spec"].update(suspend=True))
    run(world)
    assert status(world)["phase"] == "Suspended"
    assert "deletionTimestamp" in world.objects[job_ref()]["metadata"]


def decided(world: Yard, facts: WorldFacts) -> None:
    """One decision with these facts, carried out."""
    trainings = controller(world)
    scene = trainings.view(world, facts, Key(NS, "t"))  # type: ignore[arg-type]
    assert scene is not None
    world.apply(trainings.decide(scene, world.now))


def reads(world: Yard) -> set[Ref]:
    return set(controller(world).reads(training(world), world))  # type: ignore[arg-type]


def test_a_job_that_is_refused_says_why_and_is_tried_again(world: Yard) -> None:
    facts = WorldFacts(world)
    facts.refused[job_ref()] = RefusalFact("QuotaExceeded", "ResourceQuota gpus does not allow it.", world.now)
    world.put(TRAINING, tabular())
    decided(world, facts)
    assert (status(world)["phase"], status(world)["reason"]) == ("Queued", "QuotaExceeded")
    assert status(world)["message"] == "ResourceQuota gpus does not allow it. It is tried again by itself."
    assert job_ref() in world.objects  # the next try was the same plan's
    run(world)
    assert status(world)["reason"] == "WaitingForPod"


def test_a_job_without_pods_is_asked_why(world: Yard) -> None:
    begin(world)
    events = Ref(EVENT, NS, "t-1")
    assert events not in reads(world)
    world.wait(11)
    run(world)
    assert status(world)["reason"] == "PodMissing"
    assert events in reads(world)
    facts = WorldFacts(world)
    facts.refused[events] = RefusalFact("QuotaExceeded", "ResourceQuota gpus does not allow it.", world.now)
    decided(world, facts)
    assert status(world)["reason"] == "QuotaExceeded"
    assert status(world)["message"].startswith("The Job gets no pods. ResourceQuota gpus")
    assert events in reads(world)
    pod = make_pod(world, job_ref())
    run(world)
    assert status(world)["reason"] == "Unschedulable"
    assert events not in reads(world)
    assert INVENTORY in reads(world)
    facts.inventory = ()
    decided(world, facts)
    assert status(world)["reason"] == "NoNodeFits"
    assert INVENTORY in reads(world)
    schedule(world, pod)
    run(world)
    assert INVENTORY not in reads(world)
