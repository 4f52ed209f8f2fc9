"""Versions kept as Datasets: wherever a plan is cut off, the decisions end in one state and are silent there.

The Dataset controller is played, with the manners of the real one: it takes the claim of a Dataset's name along,
makes a lost one anew and empty, and never looks at who made a Job.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modelyard.plan import Ref
from modelyard.resources import sources
from modelyard.resources.meta import DATASET, JOB, MODEL, PVC
from modelyard.resources.times import format_time
from modelyard.settings import Baize, Settings
from support.build import make_model, make_source, make_version
from support.models import Cluster, M
from support.world import World, finish_job, jobs_of

OURS = Settings(namespace="modelyard-system", baize=Baize(loader="modelyard"))
FAILED = '{"result":"failed","reason":"NotFound","message":"m"}'

steps = st.one_of(
    st.tuples(st.just("repo"), st.sampled_from(["org/a", "org/b"])),
    st.tuples(st.just("state"), st.sampled_from(["PRESENT", "ABSENT"])),
    st.tuples(st.just("resync"), st.sampled_from(["1", "2"])),
    st.tuples(st.just("end"), st.sampled_from(["well", "well", "badly"])),
    st.tuples(st.just("delete"), st.sampled_from(["claim", "dataset", "model"])),
    st.tuples(st.just("wait"), st.sampled_from([1, 60, 3600])),
)


def controller(world: World) -> None:
    """One look at every Dataset."""
    for ref in [r for r in world.objects if r.kind == DATASET]:
        live, claim = world.objects[ref], Ref(PVC, ref.namespace, ref.name)
        if live["metadata"].get("deletionTimestamp"):
            world.remove(claim)
            world.edit(ref, lambda o: o["metadata"].update(finalizers=[]))
            continue
        meta = live["metadata"]
        owner = {"apiVersion": DATASET.api_version, "kind": "Dataset", "name": ref.name, "controller": True}
        labels = {**meta["labels"], "baize.io/dataset-name": ref.name}
        made = {"namespace": ref.namespace, "labels": labels, "ownerReferences": [{**owner, "uid": meta["uid"]}]}
        world.edit(ref, lambda o: o["metadata"].update(finalizers=["dataset-controller"]))
        if claim not in world.objects:
            spec = live["spec"]["volumeClaimTemplate"]["spec"]
            world.put(PVC, {"kind": "PersistentVolumeClaim", "metadata": {"name": ref.name, **made}, "spec": spec})
            world.edit(claim, lambda o: o.update(status={"phase": "Bound"}))
        status, number = dict(live.get("status") or {}), live["spec"]["dataSyncRound"]
        job = Ref(JOB, ref.namespace, f"dataset-{ref.name}-round-{number}")
        if number > status.get("lastSucceedRound", 0):
            if job not in world.objects:
                template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "loader"}]}}
                world.put(JOB, {"kind": "Job", "metadata": {"name": job.name, **made}, "spec": {"template": template}})
            ended = {c["type"] for c in (world.objects[job].get("status") or {}).get("conditions") or ()}
            status["phase"] = "FAILED" if "Failed" in ended else "PROCESSING"
            if "Complete" in ended:
                status |= {"phase": "READY", "lastSucceedRound": number, "lastSyncTime": format_time(world.now)}
        world.edit(ref, lambda o, s=status: o.update(status=s))  # type: ignore[misc]


def happen(world: World, what: str, value: Any) -> None:
    model = M in world.objects
    match what:
        case "repo" if model:
            world.edit(M, lambda o: o["spec"]["versions"][0].update(repo=value))
        case "state" if model:
            world.edit(M, lambda o: o["spec"]["versions"][0].update(state=value))
        case "resync" if model:
            world.edit(M, lambda o: o["metadata"].update(annotations={"modelyard.dev/resync": value}))
        case "end" if jobs_of(world):
            how = {"failed": True, "exit_code": 64, "message": FAILED} if value == "badly" else {}
            finish_job(world, jobs_of(world)[0], **how)
        case "delete":
            kind = {"claim": PVC, "dataset": DATASET, "model": MODEL}[value]
            for ref in [r for r in world.objects if r.kind == kind][:1]:
                world.remove(ref)
        case "wait":
            world.wait(value)


def calm(cluster: Cluster) -> None:
    """Nobody interferes any more, and every download ends well."""
    for round in range(14):
        cluster.settle()
        controller(cluster.world)
        for job in jobs_of(cluster.world):
            finish_job(cluster.world, job)
        cluster.world.wait(3600 if round % 3 else 1)
    for _ in range(3):
        controller(cluster.world)
        assert cluster.settle() == 0, "not silent at rest"
    assert not jobs_of(cluster.world)


def check(cluster: Cluster) -> None:
    """What must hold when all is calm."""
    world = cluster.world
    left = sorted(r.name for r in world.objects if r.kind in (DATASET, PVC))
    if M not in world.objects:
        assert not left
        return
    version = world.objects[M]["spec"]["versions"][0]
    entry = cluster.entry()
    if version.get("state") == "ABSENT":
        assert "phase" not in entry
        assert not left
    elif entry["phase"] != "Ready":
        assert entry["reason"] == "NotFound"
    else:
        assert left == [entry["activeDataset"]] * 2
        assert entry["pvcName"] == entry["activeDataset"]
        assert entry["observedVersionHash"] == sources.content("HUGGING_FACE", {}, version["repo"]).hash


def begin() -> Cluster:
    return Cluster(make_source(), make_model("m", make_version("v1", "org/a")), settings=OURS, datasets=True)


READY = [("wait", 1)] * 3 + [("end", "well"), ("wait", 1)]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(steps, st.integers(0, 4)), min_size=2, max_size=12))
@example([(step, 8) for step in (*READY, ("repo", "org/b"), ("wait", 1), ("end", "well"), ("repo", "org/a"))])
@example([(step, 8) for step in (*READY, ("resync", "1"), ("wait", 1), ("end", "badly"), ("resync", "2"))])
@example([(step, 8) for step in (*READY, ("state", "ABSENT"), ("state", "PRESENT"), ("delete", "claim"))])
def test_every_interrupted_life_comes_to_rest_where_it_should(life: list[tuple[tuple[str, Any], int]]) -> None:
    cluster = begin()
    for (what, value), upto in life:
        for ref in cluster.roots():
            cluster.world.apply(cluster.plan(ref), upto)
            cluster.world.settle()
        controller(cluster.world)
        happen(cluster.world, what, value)
        cluster.world.settle()
    for ref in cluster.roots():
        for upto in range(len(cluster.plan(ref).actions) + 1):
            other = cluster.over(cluster.world.copy())
            other.world.apply(other.plan(ref), upto)
            calm(other)
            check(other)
