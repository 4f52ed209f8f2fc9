"""Trainings on a real control plane: the API server, the Job controller and the garbage collector are real; pods are
moved by the test.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from localcluster import ControlPlane
from modelyard.resources.meta import EVENT, JOB, MODEL, MODELSOURCE, POD, PVC, TRAINING
from modelyard.resources.times import format_time
from support.audit import Audit
from support.build import make_model, make_source, make_training
from support.cluster import Kube, Refused, path_of, wait_for
from support.kubelet import Ending, PretendKubelet
from support.live_trainings import (
    TABULAR,
    add_claim,
    condition,
    edit,
    put,
    status_of,
    until,
    until_condition,
    until_reason,
)
from support.operator import OperatorProcess
from support.trainings import ANALYZED, BAD, DONE, STOPPED

Obj = dict[str, Any]


def forever(pod: Obj) -> Ending | None:
    return None


def at_once(code: int, message: str = "") -> Any:
    return lambda pod: Ending(code, message)


@pytest.mark.usefixtures("operator")
def test_from_spec_to_a_saved_version_that_outlives_its_training(
    kube: Kube, namespace: str, control_plane: ControlPlane
) -> None:
    add_claim(kube, namespace)
    with PretendKubelet(kube, namespace, at_once(0, DONE)):
        put(kube, namespace, save={"model": "flowers", "version": "v1"})
        until(kube, namespace, "Succeeded")
        until_condition(kube, namespace, "Saved", "True")
        found = until_condition(kube, namespace, "CleanedUp", "True")
    assert found["saved"]["model"] == "flowers"
    assert found["output"]["metrics"] == {"accuracy": 0.97}
    assert found["output"]["metadata"]["features"] == ["a", "b"]
    assert found["history"][0]["exitCode"] == 0
    assert found["effectiveParams"]["epochs"] > 0
    assert not kube.list(JOB, namespace)

    def events() -> list[Obj] | None:
        found = [e for e in kube.list(EVENT, namespace) if e["involvedObject"]["kind"] == TRAINING.kind]
        return found if {"Succeeded", "Saved"} <= {e["reason"] for e in found} else None

    told = wait_for(events, "the Events of its end")
    assert {(e["reason"], e["count"]) for e in told} == {(e["reason"], 1) for e in told}
    assert len({e["reason"] for e in told}) == len(told), [(e["reason"], e["message"]) for e in told]
    volume = kube.get(PVC, namespace, "trn-t-output")
    assert "ownerReferences" not in volume["metadata"]

    def version() -> Obj | None:
        model = kube.find(MODEL, namespace, "flowers") or {}
        entries = (model.get("status") or {}).get("syncedVersions") or [{}]
        return entries[0] if entries[0].get("phase") == "Ready" else None

    entry = wait_for(version, "the Model to show the version")
    assert (entry["origin"], entry["path"], entry["kind"]) == ("Training/t", "model", "Tabular")

    assert control_plane.audit_log
    # Two re-lists, in which everything is looked at again.
    Audit(control_plane.audit_log).wait_for_rest(namespace, renewals=14)

    kube.delete(TRAINING, namespace, "t")
    wait_for(lambda: kube.find(TRAINING, namespace, "t") is None, "the Training to go")
    time.sleep(2)
    assert "deletionTimestamp" not in kube.get(PVC, namespace, "trn-t-output")["metadata"]


@pytest.mark.usefixtures("operator")
def test_the_job_is_what_was_designed(kube: Kube, namespace: str) -> None:
    add_claim(kube, namespace)
    put(kube, namespace, compute={"gpu": "H100:2", "memory": "8Gi"})
    job = wait_for(lambda: kube.find(JOB, namespace, "t-1"), "the Job")
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["podReplacementPolicy"] == "Failed"
    rules = job["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["onPodConditions"][0]["type"] == "DisruptionTarget"
    codes = [(r["onExitCodes"]["operator"], r["onExitCodes"]["values"]) for r in rules[1:]]
    assert codes == [("In", [64]), ("In", [75]), ("NotIn", [0])]
    assert {r["action"] for r in rules} == {"FailJob"}
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["containers"][0]["resources"]["limits"] == {"memory": "8Gi", "nvidia.com/gpu": "2"}
    until(kube, namespace, "Queued")
    until_condition(kube, namespace, "Reconciling", "False")
    with pytest.raises(Refused) as refused:
        edit(kube, namespace, recipe={"name": "tabular-regression"})
    assert "spec.recipe cannot be changed once the run is committed" in refused.value.message


@pytest.mark.usefixtures("operator")
def test_pause_retry_and_resume(kube: Kube, namespace: str) -> None:
    add_claim(kube, namespace)
    plan = {"t-1": None, "t-2": Ending(1), "t-3": Ending(0, DONE)}

    def script(pod: Obj) -> Ending | None:
        return plan[pod["metadata"]["labels"]["batch.kubernetes.io/job-name"]]

    with PretendKubelet(kube, namespace, script, stopped=Ending(75, STOPPED)):
        put(kube, namespace, retry={"onError": 1})
        until(kube, namespace, "Running")
        edit(kube, namespace, suspend=True)
        paused = until(kube, namespace, "Suspended")
        assert condition(paused, "Suspended")["status"] == "True"
        wait_for(lambda: not kube.list(JOB, namespace), "the Job to go")
        edit(kube, namespace, suspend=False)
        found = until(kube, namespace, "Succeeded")
    assert [(e["attempt"], e["cause"]) for e in found["history"]] == [(1, "Suspended"), (2, "Error"), (3, "Succeeded")]
    assert found["attempts"] == {"number": 3, "infrastructure": 0, "error": 1}


@pytest.mark.usefixtures("operator")
def test_bad_input_of_the_data_is_told_in_the_agents_words(kube: Kube, namespace: str) -> None:
    add_claim(kube, namespace)
    with PretendKubelet(kube, namespace, at_once(64, BAD)):
        put(kube, namespace)
        found = until(kube, namespace, "Failed")
    assert (found["reason"], found["message"]) == ("BadInput", "Column kind is not in the data set.")
    assert condition(found, "Stalled")["status"] == "True"


@pytest.mark.usefixtures("operator")
def test_a_preempted_run_goes_on_and_keeps_its_error_budget(kube: Kube, namespace: str) -> None:
    add_claim(kube, namespace)
    with PretendKubelet(kube, namespace, forever):
        put(kube, namespace, retry={"onError": 0})
        until(kube, namespace, "Running")
        (pod,) = kube.list(POD, namespace)
        disrupted = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "PreemptionByScheduler",
            "lastTransitionTime": format_time(datetime.now(UTC)),
        }
        conditions = [*pod["status"]["conditions"], disrupted]
        name = pod["metadata"]["name"]
        kube.merge(POD, namespace, name, {"status": {"conditions": conditions}}, "status")
        wait_for(lambda: status_of(kube, namespace)["reason"] == "Preempted", "the preemption to be seen")
        kube.delete(POD, namespace, name)
        found = wait_for(
            lambda: (s := status_of(kube, namespace)).get("attempts", {}).get("number") == 2 and s, "attempt 2"
        )
    assert found["attempts"] == {"number": 2, "infrastructure": 1, "error": 0}
    assert found["history"][0]["reason"] == "Preempted"


@pytest.mark.usefixtures("operator")
def test_deleting_a_training_leaves_nothing(kube: Kube, namespace: str) -> None:
    add_claim(kube, namespace)
    with PretendKubelet(kube, namespace, forever):
        put(kube, namespace)
        until(kube, namespace, "Running")
        kube.delete(TRAINING, namespace, "t")
        wait_for(lambda: not kube.list(JOB, namespace) and not kube.list(POD, namespace), "Job and pod to go")
        wait_for(lambda: [c["metadata"]["name"] for c in kube.list(PVC, namespace)] == ["rows"], "the volume to go")


def looked_at(ending: Ending) -> Any:
    """Pods of analyses end so, those of attempts go on."""

    def script(pod: Obj) -> Ending | None:
        return ending if pod["metadata"]["labels"]["app.kubernetes.io/component"] == "analysis" else None

    return script


@pytest.mark.usefixtures("operator")
def test_a_person_is_asked_before_the_run(kube: Kube, namespace: str, control_plane: ControlPlane) -> None:
    add_claim(kube, namespace)
    with PretendKubelet(kube, namespace, looked_at(Ending(0, ANALYZED))):
        for name in ("annotated", "edited"):
            put(kube, namespace, name, pauseAfter="Analysis")
        for name in ("annotated", "edited"):
            found = until(kube, namespace, "AwaitingApproval", name)
            assert found["analysis"]["profile"]["columns"][0] == {
                "name": "a",
                "type": "number",
                "distinct": 40,
                "min": 0.5,
                "max": 7,
            }
            assert found["analysis"]["estimate"]["steps"] == 120
            assert condition(found, "Stalled")["status"] == condition(found, "Reconciling")["status"] == "False"
        wait_for(lambda: not kube.list(JOB, namespace), "the analyses to go")
        assert control_plane.audit_log
        Audit(control_plane.audit_log).wait_for_rest(namespace)
        approved = {"metadata": {"annotations": {"modelyard.dev/approve": found["analysis"]["digest"]}}}
        kube.merge(TRAINING, namespace, "annotated", approved)
        kube.merge(
            TRAINING, namespace, "edited", {"spec": {"pauseAfter": None, "recipe": {"unsetParams": "Suggested"}}}
        )
        for name in ("annotated", "edited"):
            found = until(kube, namespace, "Running", name)
            assert found["frozen"]
        assert status_of(kube, namespace, "annotated")["effectiveParams"]["batchSize"] == 64
        assert status_of(kube, namespace, "edited")["effectiveParams"]["batchSize"] == 32


@pytest.mark.usefixtures("operator")
def test_bad_data_are_refused_before_the_run_and_never_fail_it(kube: Kube, namespace: str) -> None:
    add_claim(kube, namespace)
    with PretendKubelet(kube, namespace, looked_at(Ending(64, BAD))):
        put(kube, namespace, pauseAfter="Analysis")
        found = until_reason(kube, namespace, "BadInput")
        assert found["phase"] == "Validating"
        assert found["message"].startswith("Column kind is not in the data set.")
        assert condition(found, "Stalled")["status"] == "True"
    with PretendKubelet(kube, namespace, looked_at(Ending(0, ANALYZED))):
        edit(kube, namespace, dataset={"path": "mended.csv"})
        until(kube, namespace, "AwaitingApproval")


REFUSED: list[tuple[str, Obj, str, str]] = [
    (
        "no-model",
        {"model": {"ref": {"name": "bert", "version": "v1"}}, "recipe": {"name": "text-classification"}},
        "ModelNotFound",
        "spec.model.ref: there is no Model bert in this namespace; create it (models.modelyard.dev), or name another.",
    ),
    (
        "no-claim",
        {"dataset": {"pvc": {"claimName": "mine"}}},
        "ClaimNotFound",
        "spec.dataset.pvc.claimName: there is no PersistentVolumeClaim mine in this namespace; create it, or name "
        "another.",
    ),
    (
        "no-version",
        {"dataset": {"ref": {"model": "empty", "version": "v1"}}},
        "VersionNotFound",
        "spec.dataset.ref: Model empty has no version v1; it has: none.",
    ),
    (
        "no-source",
        {"dataset": {"source": {"sourceRef": "hub", "repo": "org/rows"}}},
        "SourceNotFound",
        "spec.dataset.source.sourceRef: there is no ModelSource hub in this namespace; create it, or name another.",
    ),
    (
        "no-base",
        {"recipe": {"name": "text-classification"}},
        "InvalidSpec",
        "spec.model.ref: is required: recipe text-classification fine-tunes a base model; name its Model.",
    ),
    (
        "later",
        {"compute": {"secretRef": "key"}},
        "NotSupported",
        "spec.compute.secretRef: is not supported yet by this version of Modelyard; remove it.",
    ),
]


@pytest.mark.usefixtures("operator")
def test_bad_input_is_told_and_mended(kube: Kube, namespace: str) -> None:
    add_claim(kube, namespace)
    kube.create({**make_model("empty", namespace=namespace), "spec": {}}, MODEL)
    for name, spec, _, _ in REFUSED:
        put(kube, namespace, name, **{"dataset": TABULAR["dataset"], **spec})
    for name, _, reason, message in REFUSED:
        found = until_reason(kube, namespace, reason, name)
        assert (found["phase"], found["message"]) == ("Validating", message)
        assert condition(found, "Validated")["status"] == "False"
        assert condition(found, "Stalled")["status"] == "True"
    assert not kube.list(JOB, namespace)
    kube.merge(TRAINING, namespace, "later", {"spec": {"compute": None}})
    wait_for(lambda: kube.find(JOB, namespace, "later-1"), "the Job after the edit")
    add_claim(kube, namespace, "mine")
    wait_for(lambda: kube.find(JOB, namespace, "no-claim-1"), "the Job after the claim appeared")


def test_an_unknown_parameter_is_refused_by_the_server(kube: Kube, namespace: str) -> None:
    spec = {**TABULAR, "recipe": {"name": "tabular-classification", "tabular": {"epoch": 3}}}
    path = path_of(TRAINING, namespace) + "?fieldValidation=Strict"
    with pytest.raises(Refused) as refused:
        kube.request("POST", path, make_training("t", namespace=namespace, spec=spec))
    assert 'unknown field "spec.recipe.tabular.epoch"' in refused.value.message


@pytest.mark.usefixtures("operator")
def test_data_is_fetched_once_for_two_runs(kube: Kube, namespace: str) -> None:
    kube.create(make_source("hub", namespace=namespace), MODELSOURCE)
    fetched = json.dumps({"result": "done", "resolvedRevision": "c0ffee", "bytes": 9, "files": 1})

    def script(pod: Obj) -> Ending | None:
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        return Ending(0, fetched if component == "download" else DONE)

    source = {"dataset": {"source": {"sourceRef": "hub", "repo": "org/rows"}, "path": "iris.csv"}}
    with PretendKubelet(kube, namespace, script):
        for name in ("t", "u"):
            put(kube, namespace, name, **source)
        for name in ("t", "u"):
            found = until(kube, namespace, "Succeeded", name)
            assert found["inputs"][0]["resolvedRevision"] == "c0ffee"
        volumes = [c for c in kube.list(PVC, namespace) if c["metadata"]["name"].startswith("data-")]
        assert len(volumes) == 1
        assert {o["name"] for o in volumes[0]["metadata"]["ownerReferences"]} == {"t", "u"}
        for name in ("t", "u"):
            kube.delete(TRAINING, namespace, name)
        wait_for(lambda: not kube.list(PVC, namespace), "the data to go with its last user")


def test_what_an_operator_began_another_one_finishes(kube: Kube, namespace: str, operator: OperatorProcess) -> None:
    add_claim(kube, namespace)
    put(kube, namespace)
    wait_for(lambda: kube.find(JOB, namespace, "t-1"), "the Job")
    operator.kill()

    def done() -> bool:
        conditions = kube.get(JOB, namespace, "t-1")["status"].get("conditions") or ()
        return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)

    with PretendKubelet(kube, namespace, at_once(0, DONE)):
        wait_for(done, "the Job to be complete")
    operator.start()
    found = until(kube, namespace, "Succeeded")
    assert found["attempts"]["number"] == 1
