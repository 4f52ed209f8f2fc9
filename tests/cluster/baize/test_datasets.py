"""Versions kept as Datasets, with the real Dataset controller: only the kubelet is played by the test."""

from __future__ import annotations

import signal
import time
from typing import Any

from localcluster import ControlPlane
from modelyard.resources.meta import DATASET, JOB, MODEL, MODELSOURCE, PVC, SECRET
from support.audit import Audit
from support.build import make_claim, make_model, make_secret, make_source, make_version
from support.cluster import CRD, path_of, wait_for
from support.downloads import failure
from support.operator import OperatorProcess
from support.strangers import make_job, orphan, settled

World = Any
COMMIT = "c0ffee" + "0" * 34


def test_a_version_becomes_a_dataset_and_then_nothing_is_written(world: World, control_plane: ControlPlane) -> None:
    world.create(make_secret("token", {"token": "hf_canary"}), SECRET)
    world.create(make_source("private", secret="token"), MODELSOURCE)
    assert control_plane.audit_log is not None
    audit = Audit(control_plane.audit_log)
    version = make_version(
        revision=COMMIT, include=["*.json", "*.safetensors"], storage={"accessModes": ["ReadWriteMany"]}
    )
    world.create(make_model("m", version, source="private"), MODEL)
    dataset = world.dataset("mdl-m-v1")
    assert dataset["spec"]["source"] == {
        "type": "HUGGING_FACE",
        "uri": "huggingface://org/repo",
        "options": {"include": "*.json,*.safetensors", "revision": COMMIT},
    }
    assert dataset["spec"]["secretRef"] == "token"
    assert dataset["spec"]["mountOptions"] == {"path": "/data", "mode": "0755", "uid": 1000, "gid": 1000}
    world.end("mdl-m-v1")
    entry = world.wait_for_entry(phase="Ready")
    assert (entry["pvcName"], entry["activeDataset"], entry["path"]) == ("mdl-m-v1", "mdl-m-v1", "data")
    assert (entry["resolvedRevision"], entry["bytes"], entry["observedStorage"]) == ("c0ffee", 12, "12")
    assert world.kube.get(PVC, world.namespace, "mdl-m-v1")["spec"]["accessModes"] == ["ReadWriteMany"]
    arguments = world.kube.get(JOB, world.namespace, "dataset-mdl-m-v1-round-1")["spec"]["template"]["spec"]
    assert f"revision={COMMIT}" in str(arguments["containers"][0]["args"])
    (loader,) = arguments["containers"]
    assert "MODELYARD_DATASET_JOB" in str(loader["env"]), "what the loader needs to tell its progress is kept"
    assert "/var/run/modelyard" in str(loader["volumeMounts"])
    assert "modelyard.dev/datasets" in str(arguments["volumes"])
    assert "hf_canary" not in str([world.kube.list(kind, world.namespace) for kind in (DATASET, JOB, MODEL)])
    audit.wait_for_rest(world.namespace)
    written = audit.written(namespace=world.namespace)
    before = audit.writes(namespace=world.namespace)
    assert before["create", "datasets"] == 1
    assert before["patch", "datasets"] == 0
    # What takes long, on a machine that stands still, may be told once more.
    assert before["patch", "models/status"] <= 3 + (written[-1].time - written[0].time) // 10, written


def test_a_refused_token_fails_and_a_new_one_is_tried(world: World) -> None:
    world.create(make_secret("token", {"token": "wrong"}), SECRET)
    world.create(make_source("private", secret="token"), MODELSOURCE)
    world.create(make_model("m", source="private"), MODEL)
    world.end("mdl-m-v1", said=failure("Unauthorized", "the hub refused the token (401)"), exit_code=64)
    entry = world.wait_for_entry(phase="Failed", reason="Unauthorized")
    assert entry["message"].startswith("The hub refused the token (401). Not tried again until")
    world.kube.merge(SECRET, world.namespace, "token", {"stringData": {"token": "right"}})
    world.end("mdl-m-v1", 2)
    world.wait_for_entry(phase="Ready")
    assert world.dataset("mdl-m-v1")["spec"]["dataSyncRound"] == 2


def test_resync_raises_the_round_by_one_and_once_per_value(ready: World) -> None:
    name = "mdl-resynced-v1"
    ready.resync("resynced", "a")
    wait_for(lambda: ready.dataset(name)["spec"]["dataSyncRound"] == 2, "the second round")
    assert ready.wait_for_entry("resynced", phase="Processing")["pvcName"] == name
    ready.end(name, 2)
    ready.wait_for_entry("resynced", phase="Ready", resync="a")
    ready.edit("resynced", metadata={"annotations": {"touched": "yes"}})
    time.sleep(2)
    assert ready.dataset(name)["spec"]["dataSyncRound"] == 2
    assert ready.names(DATASET, "resynced") == [name]


def test_other_content_is_a_second_dataset_that_takes_over(ready: World) -> None:
    name = "mdl-switched-v1"
    ready.edit("switched", spec={"versions": [make_version(repo="org/other")]})
    second = wait_for(lambda: [d for d in ready.names(DATASET, "switched") if d != name], "the second Dataset")[0]
    assert ready.wait_for_entry("switched", phase="Processing")["activeDataset"] == name
    ready.end(second)
    ready.wait_for_entry("switched", phase="Ready", activeDataset=second, pvcName=second)
    wait_for(lambda: ready.names(DATASET, "switched") == [second], "the first to go")
    wait_for(lambda: ready.names(PVC, "switched") == [second], "its claim to go")


def test_absent_then_present_again_trusts_nothing_old_and_a_model_goes_whole(ready: World) -> None:
    name = "mdl-absent-v1"
    old = ready.dataset(name)["metadata"]["uid"]

    def nothing_is_left() -> bool:
        return not any(ready.names(kind, "absent") for kind in (DATASET, PVC, JOB))

    ready.edit("absent", spec={"versions": [make_version(state="ABSENT")]})
    wait_for(lambda: name not in ready.names(DATASET), "the Dataset to go")
    ready.edit("absent", spec={"versions": [make_version()]})
    assert ready.dataset(name)["metadata"]["uid"] != old
    ready.end(name)
    ready.wait_for_entry("absent", phase="Ready")
    ready.edit("absent", spec={"versions": [make_version(state="ABSENT")]})
    ready.wait_for_entry("absent", observedState="ABSENT", phase=None)
    wait_for(nothing_is_left, "everything to go")
    ready.kube.delete(MODEL, ready.namespace, "switched")
    wait_for(lambda: not any(ready.names(kind, "switched") for kind in (DATASET, PVC, JOB)), "the Model's to go")


def test_long_names_are_cut_and_still_work(world: World) -> None:
    world.create(make_model("m" * 60, make_version()), MODEL)
    name = wait_for(lambda: world.names(DATASET), "a Dataset")[0]
    assert len(name) <= 45
    world.end(name)
    world.wait_for_entry("m" * 60, phase="Ready", pvcName=name)


def test_a_strangers_claim_and_dataset_are_left_alone(world: World) -> None:
    world.create({**make_claim("mdl-m-v1"), "status": {}}, PVC)
    spec = {"source": {"type": "MANUAL", "uri": "manual://"}}
    world.create(
        {"apiVersion": DATASET.api_version, "kind": "Dataset", "metadata": {"name": "mdl-n-v1"}, "spec": spec}, DATASET
    )
    world.create(make_model("m"), MODEL)
    world.create(make_model("n"), MODEL)
    entry = world.wait_for_entry("m", phase="Failed", reason="NameTaken")
    assert entry["message"].startswith("Volume claim mdl-m-v1 is there already and was not made by Modelyard")
    world.wait_for_entry("n", phase="Failed", reason="NameTaken")
    assert world.names(DATASET) == ["mdl-n-v1"]
    world.kube.delete(MODEL, world.namespace, "n")
    world.kube.delete(PVC, world.namespace, "mdl-m-v1")
    world.end("mdl-m-v1")
    world.wait_for_entry("m", phase="Ready")
    assert "mdl-n-v1" in world.names(DATASET)


def test_a_strangers_job_under_the_name_of_a_round_is_told_of_and_left_alone(world: World) -> None:
    name = "dataset-mdl-m-v1-round-1"
    theirs = settled(world.kube, JOB, world.create(make_job(name), JOB))
    world.create(make_model("m"), MODEL)
    wait_for(
        lambda: world.entry().get("reason") == "NameTaken", "the Job to be told of", said=lambda: str(world.entry())
    )
    said = f"Job {name} is there already and was not made by Modelyard for this object"
    assert said in world.entry()["message"]
    assert world.kube.get(JOB, world.namespace, name) == theirs
    world.kube.delete(JOB, world.namespace, name)
    wait_for(lambda: world.kube.find(JOB, world.namespace, name), "the Dataset's own Job")
    world.end("mdl-m-v1")
    world.wait_for_entry("m", phase="Ready")


def test_what_a_model_left_orphaned_is_a_strangers_to_the_next_of_its_name(world: World) -> None:
    name = "mdl-m-v1"
    world.create(make_model("m"), MODEL)
    world.end(name)
    world.wait_for_entry("m", phase="Ready")
    orphan(world.kube, MODEL, world.namespace, "m")

    def left() -> tuple[Any, ...]:
        dataset, claim = (world.kube.get(kind, world.namespace, name) for kind in (DATASET, PVC))
        return dataset["metadata"]["uid"], dataset["metadata"].get("ownerReferences"), dataset["spec"], claim

    before = left()
    assert before[1] is None
    for _ in range(2):
        world.create(make_model("m"), MODEL)
        entry = world.wait_for_entry("m", phase="Failed", reason="NameTaken")
        assert f"Dataset {name} is there already and was not made by Modelyard for this object" in entry["message"]
        world.kube.delete(MODEL, world.namespace, "m")
        wait_for(lambda: world.kube.find(MODEL, world.namespace, "m") is None, "the Model to go")
    time.sleep(2)
    assert left() == before
    world.kube.delete(DATASET, world.namespace, name)
    wait_for(lambda: not world.names(PVC) and not world.names(JOB), "what the Dataset had to go")
    world.create(make_model("m"), MODEL)
    world.end(name)
    world.wait_for_entry("m", phase="Ready")


def test_a_claim_that_took_the_name_of_a_dataset_holds_it(ready: World, operator: OperatorProcess) -> None:
    name = "mdl-hostage-v1"
    operator.signal(signal.SIGSTOP)
    ready.kube.delete(PVC, ready.namespace, name)
    wait_for(lambda: ready.kube.find(PVC, ready.namespace, name) is None, "the claim to go")
    ready.create({**make_claim(name), "status": {}}, PVC)
    operator.signal(signal.SIGCONT)
    ready.wait_for_entry("hostage", phase="Failed", reason="NameTaken")
    ready.edit("hostage", spec={"versions": [make_version(state="ABSENT")]})
    ready.wait_for_entry("hostage", observedState="ABSENT", reason="Deleting")
    ready.kube.delete(MODEL, ready.namespace, "hostage")

    def waits() -> bool:
        model = ready.kube.get(MODEL, ready.namespace, "hostage")
        return f"claim {name}, which is not Modelyard's" in str(model["status"].get("conditions"))

    wait_for(waits, "the Model to say what it waits for")
    assert ready.kube.get(PVC, ready.namespace, name)["metadata"].get("deletionTimestamp") is None
    assert ready.names(DATASET, "hostage") == [name]
    ready.kube.delete(PVC, ready.namespace, name)
    wait_for(lambda: ready.kube.find(MODEL, ready.namespace, "hostage") is None, "the Model to go")
    wait_for(lambda: not ready.names(DATASET, "hostage"), "its Dataset to go")


def test_a_lost_claim_is_filled_again(ready: World) -> None:
    ready.kube.delete(PVC, ready.namespace, "mdl-lost-v1")
    ready.wait_for_entry("lost", phase="Processing", reason="VolumeLost")
    ready.end("mdl-lost-v1", 2)
    ready.wait_for_entry("lost", phase="Ready", pvcName="mdl-lost-v1")


def test_what_was_fetched_before_stays_where_it_is(before: World, datasets: None) -> None:
    entry = before.wait_for_entry("old", phase="Ready")
    assert "activeDataset" not in entry
    before.edit("old", spec={"versions": [make_version(repo="org/other")]})
    wait_for(lambda: len([j for j in before.names(JOB) if j.startswith("fetch-")]) == 2, "our own second download")
    assert before.names(DATASET) == []


def test_without_datasets_a_version_says_so_and_new_ones_do_without(ready: World, operator: OperatorProcess) -> None:
    ready.kube.request("DELETE", path_of(CRD, "", "datasets.dataset.baizeai.io"))
    wait_for(lambda: "Datasets are now gone" in operator.log.read_text(), "the operator to notice")
    operator.wait_until_leading()
    ready.wait_for_entry("last", phase="Failed", reason="DatasetsNotServed")
    ready.create(make_model("new"), MODEL)
    wait_for(lambda: ready.kube.find(JOB, ready.namespace, "fetch-mdl-new-v1-1"), "our own download")
    ready.edit("last", spec={"versions": [make_version(state="ABSENT")]})
    ready.wait_for_entry("last", observedState="ABSENT", phase=None)
    ready.edit("last", spec={"versions": [make_version()]})
    wait_for(lambda: ready.kube.find(JOB, ready.namespace, "fetch-mdl-last-v1-1"), "our own download")
