"""The look before the run: made once for what it is about, judged, approved, and never in the way for long."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from modelyard.decide.training.findings import read_findings
from modelyard.plan import Create, Delete, Key, PatchStatus, Ref
from modelyard.resources.meta import ANNOTATION_APPROVE, ANNOTATION_RESYNC, JOB, PVC, TRAINING
from modelyard_training.params.analysis import pack, unpack
from support.build import NS
from support.training_life import T
from support.trainings import (
    ANALYSED,
    ANALYZED,
    BAD,
    FINDINGS,
    SETTINGS,
    Yard,
    condition,
    decide,
    end,
    job_ref,
    make_pod,
    run,
    schedule,
    start,
    status,
    tabular,
)

VOLUME = Ref(PVC, NS, "trn-t-output")


def put(world: Yard, **spec: Any) -> None:
    world.put(TRAINING, tabular(**spec))
    run(world, settings=ANALYSED)


def looks(world: Yard) -> list[Ref]:
    return [r for r in world.objects if r.kind == JOB and "-analysis-" in r.name]


def look(world: Yard, code: int = 0, message: str = ANALYZED) -> None:
    """The analysis runs and ends, and the operator has seen it."""
    (job,) = looks(world)
    pod = make_pod(world, job)
    schedule(world, pod)
    start(world, pod)
    run(world, settings=ANALYSED)
    assert status(world)["phase"] == "Analyzing"
    end(world, pod, code, message)
    run(world, settings=ANALYSED)


def edit(world: Yard, **fields: Any) -> None:
    world.edit(T, lambda o: o["spec"].update(fields))
    run(world, settings=ANALYSED)


def annotate(world: Yard, name: str, value: str) -> None:
    world.edit(T, lambda o: o["metadata"].setdefault("annotations", {}).update({name: value}))
    run(world, settings=ANALYSED)


def findings(**profile: Any) -> str:
    """Last words of an analysis that found something else."""
    said = copy.deepcopy(FINDINGS)
    said["profile"].update(profile)
    return json.dumps({"result": "done", "reason": "Analyzed", "message": "m", "analysis": pack(said)})


def test_a_run_is_looked_at_and_goes_on_by_itself(world: Yard) -> None:
    world.put(TRAINING, tabular())
    plan = decide(world, Key(NS, "t"), ANALYSED)
    assert plan is not None
    first, *rest = plan.actions
    assert isinstance(first, PatchStatus)
    assert first.status["analysis"]["job"] == rest[-1].obj["metadata"]["name"]  # type: ignore[union-attr]
    assert [a.kind for a in rest if isinstance(a, Create)] == [PVC, JOB]
    run(world, settings=ANALYSED)
    assert (status(world)["phase"], status(world)["reason"]) == ("Analyzing", "WaitingForPod")
    assert condition(world, "Reconciling")[0] == "True"
    assert condition(world, "DataReady")[0] == "True"
    look(world)
    found = status(world)
    assert found["frozen"]
    assert found["phase"] == "Queued"
    assert found["analysis"]["profile"]["rows"] == 150
    assert found["analysis"]["warnings"] == ["3 of 150 rows are copies of others."]
    assert found["analysis"]["estimate"]["steps"] == 120
    assert found["effectiveParams"]["batchSize"] == 64, "suggestions are taken only where they are asked for"
    assert not looks(world)
    assert job_ref() in world.objects
    told = [(e.reason, e.type) for e in world.events]
    assert told == [("Analyzing", "Normal"), ("Analyzed", "Normal"), ("AnalysisWarnings", "Warning")]


def test_its_pod_has_no_gpu_no_token_and_none_of_the_users_variables(world: Yard) -> None:
    env = [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}]
    compute = {"gpu": "H100:8", "env": env, "image": "mine", "nodeSelector": {"zone": "a"}}
    put(world, compute=compute)
    (job,) = looks(world)
    pod = world.objects[job]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert not any("nvidia" in name for kind in container["resources"].values() for name in kind)
    assert {v["name"]: v.get("value") for v in container["env"]}["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert not {"HF_TOKEN", "MODELYARD_TOKEN_FILE", "MODELYARD_COLLECTOR_URL"} & {v["name"] for v in container["env"]}
    assert container["image"] == SETTINGS.images.trainer
    assert pod["nodeSelector"] == {"zone": "a"}
    assert pod["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert list(pod["affinity"]["nodeAffinity"]) == ["preferredDuringSchedulingIgnoredDuringExecution"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    mounts = {m["name"]: m.get("readOnly", False) for m in container["volumeMounts"]}
    assert mounts == {"output": False, "tmp": False, "shm": False, "dataset": True}


def test_a_person_is_asked_and_approves_by_the_digest(world: Yard) -> None:
    put(world, pauseAfter="Analysis")
    look(world)
    found = status(world)
    assert found["phase"] == "AwaitingApproval"
    digest = found["analysis"]["digest"]
    assert digest in found["message"]
    assert condition(world, "Reconciling")[0] == condition(world, "Stalled")[0] == "False"
    assert not looks(world)
    annotate(world, ANNOTATION_APPROVE, "another")
    assert status(world)["phase"] == "AwaitingApproval"
    assert "names another analysis" in status(world)["message"]
    annotate(world, ANNOTATION_APPROVE, digest)
    assert status(world)["frozen"]
    assert job_ref() in world.objects


def test_an_edit_that_drops_the_field_goes_on_with_its_parameters(world: Yard) -> None:
    put(world, pauseAfter="Analysis")
    look(world)
    recipe = {"name": "tabular-classification", "tabular": {"batchSize": 16}}
    world.edit(T, lambda o: o["spec"].pop("pauseAfter"))
    edit(world, recipe=recipe)
    assert status(world)["frozen"]
    assert status(world)["effectiveParams"]["batchSize"] == 16
    assert not looks(world), "parameters that the data say nothing about need no other look"


def test_other_data_are_looked_at_again(world: Yard) -> None:
    put(world, pauseAfter="Analysis")
    look(world)
    digest = status(world)["analysis"]["digest"]
    annotate(world, ANNOTATION_APPROVE, "no")
    edit(world, dataset={"ref": {"model": "rows", "version": "v1"}, "path": "other.csv"})
    assert status(world)["phase"] == "Analyzing"
    assert "profile" not in status(world)["analysis"]
    look(world, message=findings(rows=7))
    assert status(world)["phase"] == "AwaitingApproval"
    assert status(world)["analysis"]["digest"] != digest


def test_a_look_at_what_is_no_longer_asked_goes_before_another_begins(world: Yard) -> None:
    put(world)
    (first,) = looks(world)
    make_pod(world, first)
    world.edit(first, lambda o: o["metadata"].update(finalizers=["x"]))
    edit(world, dataset={"ref": {"model": "rows", "version": "v1"}, "path": "other.csv"})
    assert looks(world) == [first]
    world.edit(first, lambda o: o["metadata"].pop("finalizers"))
    run(world, settings=ANALYSED)
    (second,) = looks(world)
    assert second != first


def test_suggestions_are_taken_where_they_are_asked_for_and_fit(world: Yard) -> None:
    put(world, recipe={"name": "tabular-classification", "unsetParams": "Suggested", "tabular": {"epochs": 2}})
    look(world)
    used = status(world)["effectiveParams"]
    assert (used["batchSize"], used["epochs"], used["dropout"]) == (32, 2, 0.1)
    env = world.objects[job_ref()]["spec"]["template"]["spec"]["containers"][0]["env"]
    config = json.loads(next(v["value"] for v in env if v["name"] == "MODELYARD_CONFIG"))
    assert config["params"] == {"epochs": 2, "batchSize": 32}


def test_bad_data_is_told_in_words_and_mended_by_an_edit_or_another_look(world: Yard) -> None:
    put(world)
    look(world, 64, BAD)
    found = status(world)
    assert (found["phase"], found["reason"]) == ("Validating", "BadInput")
    assert found["message"].startswith("Column kind is not in the data set.")
    assert condition(world, "Stalled")[0] == "True"
    assert condition(world, "Validated")[0] == "False"
    assert not found.get("frozen")
    assert not looks(world)
    annotate(world, ANNOTATION_RESYNC, "1")
    assert status(world)["phase"] == "Analyzing"
    look(world)
    assert status(world)["frozen"]
    assert condition(world, "Stalled")[0] == "False"


@pytest.mark.parametrize("code", [1, 137])
def test_a_look_that_breaks_does_not_keep_the_run_from_beginning(world: Yard, code: int) -> None:
    put(world)
    look(world, code, "")
    world.wait(60)
    run(world, settings=ANALYSED)
    found = status(world)
    assert found["frozen"]
    assert found["analysis"]["reason"] in ("Error", "Killed")
    assert "profile" not in found["analysis"]
    assert ("AnalysisFailed", "Warning") in [(e.reason, e.type) for e in world.events]


def test_without_findings_there_are_no_suggestions_to_take(world: Yard) -> None:
    put(world, recipe={"name": "tabular-classification", "unsetParams": "Suggested"})
    look(world, 0, json.dumps({"result": "done", "analysis": "nonsense"}))
    found = status(world)
    assert (found["phase"], found["reason"]) == ("Validating", "NoSuggestions")
    edit(world, recipe={"name": "tabular-classification"})
    assert status(world)["frozen"]


def test_last_words_may_come_after_the_jobs_end(world: Yard) -> None:
    put(world)
    (job,) = looks(world)
    pod = make_pod(world, job)
    schedule(world, pod)
    start(world, pod)
    end(world, pod, 0, "")
    plan = run(world, settings=ANALYSED)
    assert status(world)["phase"] == "Analyzing"
    assert plan.requeue_after
    last = world.objects[pod]["status"]["containerStatuses"]
    last[0]["state"]["terminated"]["message"] = ANALYZED
    run(world, settings=ANALYSED)
    assert status(world)["analysis"]["profile"]


def test_other_storage_makes_the_volume_anew_while_nothing_is_in_it(world: Yard) -> None:
    put(world, pauseAfter="Analysis")
    look(world)
    before = world.objects[VOLUME]["metadata"]["uid"]
    edit(world, output={"storage": {"resources": {"requests": {"storage": "33Gi"}}}})
    world.wait(60)
    run(world, settings=ANALYSED)
    assert world.objects[VOLUME]["spec"]["resources"]["requests"]["storage"] == "33Gi"
    assert world.objects[VOLUME]["metadata"]["uid"] != before
    look(world)
    assert status(world)["phase"] == "AwaitingApproval"


def test_a_pause_before_the_run_holds_nothing(world: Yard) -> None:
    put(world)
    edit(world, suspend=True)
    assert status(world)["phase"] == "Suspended"
    assert not looks(world)
    edit(world, suspend=False)
    assert looks(world)


def test_a_strangers_job_is_left_alone(world: Yard) -> None:
    put(world)
    (job,) = looks(world)
    world.objects[job]["metadata"]["ownerReferences"][0]["uid"] = "somebody"
    run(world, settings=ANALYSED)
    assert (status(world)["phase"], status(world)["reason"]) == ("Analyzing", "NameTaken")
    assert condition(world, "Stalled")[0] == "True"


def test_at_rest_while_a_person_thinks(world: Yard) -> None:
    put(world, pauseAfter="Analysis")
    look(world)
    before = world.writes
    world.wait(100_000)
    plan = decide(world, Key(NS, "t"), ANALYSED)
    assert plan is not None
    assert not plan.actions
    assert plan.requeue_after is None
    assert world.writes == before


def test_a_look_that_is_left_over_goes_when_the_run_is_committed(world: Yard) -> None:
    put(world)
    (job,) = looks(world)
    left = copy.deepcopy(world.objects[job])
    look(world)
    world.objects[job] = left
    plan = decide(world, Key(NS, "t"), ANALYSED)
    assert plan is not None
    assert [a.ref for a in plan.actions if isinstance(a, Delete)] == [job]


def test_what_comes_from_a_pod_is_bounded() -> None:
    assert unpack(pack({"a": 1})) == {"a": 1}
    assert unpack(pack({"a": "x" * 100_000})) is None
    assert unpack("}{") is None
    assert unpack(None) is None


def test_findings_that_do_not_fit_a_status_are_left_out() -> None:
    deep: dict[str, Any] = {}
    inner = deep
    for _ in range(20):
        inner["a"] = {}
        inner = inner["a"]
    said = {
        "profile": {"rows": 10**30, "none": None, "deep": deep, "long": "x" * 5000, "many": list(range(5000))},
        "model": "not a map",
        "warnings": ["w" * 5000, 7, *(["more"] * 50)],
        "digest": "of its own",
        "estimate": {"hours": -1},
        "unknown": 1,
    }
    found = read_findings(pack(said))
    assert found is not None
    assert set(found) == {"profile", "warnings"}
    assert found["profile"]["rows"] == 1e30
    assert set(found["profile"]) == {"rows", "deep", "long", "many"}
    assert len(found["profile"]["long"]) == 512
    assert len(found["profile"]["many"]) == 256
    assert len(found["warnings"]) == 16
    assert len(json.dumps(found["profile"]["deep"])) < 200
    assert read_findings(pack({"message": "no profile"})) is None
