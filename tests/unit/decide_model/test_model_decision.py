"""Model: from versions to volumes, and what the status says about each turn of their life."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from modelyard.observed import DownloadFact
from modelyard.plan import Create, Kind, Ref
from modelyard.resources.meta import FINALIZER, JOB, MODEL, POD, PVC, SECRET, STORAGECLASS, TRAINING
from support.build import (
    NS,
    make_claim,
    make_model,
    make_pod,
    make_saved_claim,
    make_secret,
    make_source,
    make_training,
    make_version,
)
from support.models import HUB, Cluster, M, ready_model
from support.world import finish_job, jobs_of

DONE = json.dumps({"result": "done", "resolvedRevision": "c0ffee", "bytes": 12, "files": 2, "digest": "sha256:ab"})
CRONJOB = Kind("batch/v1", "CronJob", "cronjobs")
LABELS = {"app.kubernetes.io/managed-by": "modelyard"}


def failed(reason: str, message: str = "the loader's words") -> str:
    return json.dumps({"result": "failed", "reason": reason, "message": message, "retryable": False})


def test_two_versions_cost_six_requests() -> None:
    cluster = Cluster(make_source())
    cluster.settle()
    cluster.put(make_model("m", make_version("v1"), make_version("v2", "org/other")))
    before = cluster.world.writes
    plan = cluster.plan(M)
    assert [type(a).__name__ for a in plan.actions] == ["Create"] * 4 + ["PatchStatus"]
    cluster.world.apply(plan)
    cluster.finish(message=DONE)
    cluster.world.apply(cluster.plan(M))
    assert cluster.world.writes - before == 6
    assert cluster.plan(M).actions == ()
    assert cluster.status()["phase"] == "Ready"


def test_a_version_is_fetched_and_its_result_is_told() -> None:
    cluster = Cluster(make_source(), make_model("m"))
    cluster.settle()
    assert cluster.status()["phase"] == "Processing"
    assert "pvcName" not in cluster.entry()
    cluster.finish(message=DONE)
    cluster.settle()
    entry = cluster.entry()
    assert (entry["phase"], entry["pvcName"], entry["path"], entry["kind"]) == ("Ready", "mdl-m-v1", "data", "Full")
    assert (entry["resolvedRevision"], entry["bytes"], entry["files"]) == ("c0ffee", 12, 2)
    assert cluster.condition("Ready")["status"] == "True"
    assert cluster.status()["versionsReady"] == cluster.status()["versionsTotal"] == 1


def test_a_result_outlives_its_job() -> None:
    cluster = Cluster(make_source(), make_model("m"))
    cluster.settle()
    cluster.finish(message=DONE)
    cluster.settle()
    before = cluster.entry()
    cluster.world.remove(Ref(JOB, NS, "fetch-mdl-m-v1-1"))
    assert cluster.settle() == 0
    assert cluster.entry() == before


@pytest.mark.parametrize("reason", ["Unauthorized", "Forbidden", "NotFound", "HashMismatch", "DiskFull"])
def test_what_another_try_cannot_mend_is_not_tried_again(reason: str) -> None:
    cluster = Cluster(make_source(), make_model("m"))
    cluster.settle()
    cluster.finish(failed=True, exit_code=64, message=failed(reason))
    cluster.settle()
    cluster.world.wait(86_400)
    assert cluster.settle() == 0
    entry = cluster.entry()
    assert (entry["phase"], entry["reason"]) == ("Failed", reason)
    assert entry["message"].startswith("The loader's words. Not tried again until")
    assert cluster.condition("Stalled")["status"] == "True"
    assert "v1: The loader's words." in cluster.condition("Ready")["message"]


def test_what_may_pass_is_tried_again_later_and_later() -> None:
    cluster = Cluster(make_source(), make_model("m"))
    cluster.settle()
    waits = []
    for _ in range(9):
        cluster.finish(failed=True, exit_code=75, message=failed("RateLimited"))
        cluster.settle()
        assert cluster.entry()["phase"] == "Processing"
        waits.append(cluster.plan(M).requeue_after)
        cluster.world.wait(waits[-1] or 0)
        cluster.settle()
    assert waits == [10, 20, 40, 80, 160, 320, 600, 600, 600]
    assert cluster.jobs() == ["fetch-mdl-m-v1-10"]
    cluster.finish(message=DONE)
    cluster.settle()
    assert cluster.entry()["phase"] == "Ready"


def test_what_nobody_foresaw_is_tried_a_few_times() -> None:
    cluster = Cluster(make_source(), make_model("m"))
    cluster.settle()
    for _ in range(20):
        cluster.finish(failed=True, exit_code=1)
        cluster.settle()
        cluster.world.wait(3600)
        cluster.settle()
    assert cluster.entry()["phase"] == "Failed"
    assert cluster.entry()["attempts"] == 6


def test_a_new_secret_is_worth_a_try() -> None:
    cluster = Cluster(make_source(secret="token"), make_secret("token", {"token": "wrong"}), make_model("m"))
    cluster.settle()
    cluster.finish(failed=True, exit_code=64, message=failed("Unauthorized"))
    cluster.settle()
    assert cluster.entry()["phase"] == "Failed"
    cluster.world.edit(Ref(SECRET, NS, "token"), lambda o: o.update(stringData={"token": "right"}))
    cluster.settle()
    assert cluster.jobs() == ["fetch-mdl-m-v1-2"]
    cluster.finish()
    cluster.settle()
    assert cluster.entry()["phase"] == "Ready"


def test_the_upstreams_text_is_not_taken_over() -> None:
    cluster = Cluster(make_source(), make_model("m"))
    cluster.settle()
    cluster.finish(failed=True, exit_code=64, message='{"result":"failed","reason":"Pwned","message":"secret body"}')
    cluster.settle()
    assert "secret body" not in json.dumps(cluster.status())


def test_a_changed_revision_serves_the_old_files_until_the_new_are_there() -> None:
    cluster = ready_model(make_version("v1", revision="a"))
    old = cluster.entry()
    cluster.edit_version(revision="b")
    cluster.settle()
    entry = cluster.entry()
    assert (entry["phase"], entry["pvcName"]) == ("Processing", old["pvcName"])
    assert entry["observedVersionHash"] == old["observedVersionHash"]
    assert "The files from before are served until then" in entry["message"]
    assert len(cluster.claims()) == 2
    cluster.finish(message=DONE)
    cluster.settle()
    assert cluster.entry()["phase"] == "Ready"
    assert cluster.claims() == [cluster.entry()["pvcName"]] != [old["pvcName"]]
    assert cluster.jobs() == [f"fetch-{cluster.entry()['pvcName']}-1"]


def test_changing_back_midway_leaves_no_orphan() -> None:
    cluster = ready_model(make_version("v1", revision="a"))
    before = cluster.entry()
    cluster.edit_version(revision="b")
    cluster.settle()
    cluster.edit_version(revision="a")
    cluster.settle()
    assert cluster.claims() == ["mdl-m-v1"]
    after = cluster.entry()
    assert {**after, "conditions": None} == {**before, "conditions": None}


CLAIM = Ref(PVC, NS, "mdl-m-v1")


def sized(size: str, **more: Any) -> Any:
    return {"resources": {"requests": {"storage": size}}, **more}


def with_volume(*, expands: bool | None, size: str = "2Gi") -> Cluster:
    """A version that is there, in a bound volume of a class that can or cannot expand it."""
    cluster = ready_model(make_version("v1", storage=sized(size)))
    bound = {"phase": "Bound", "capacity": {"storage": size}}
    cluster.world.edit(CLAIM, lambda o: (o["spec"].update(storageClassName="fast"), o.update(status=bound)))
    if expands is not None:
        made = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "fast"}}
        cluster.world.put(STORAGECLASS, made | {"allowVolumeExpansion": expands})
    cluster.settle()
    return cluster


@pytest.mark.parametrize(
    ("expands", "storage", "words"),
    [
        (False, sized("4Gi"), "StorageClass fast has no allowVolumeExpansion"),
        (None, sized("4Gi"), "StorageClass fast has no allowVolumeExpansion"),
        (True, sized("1Gi"), "A volume cannot shrink: this one has 2Gi"),
        (True, sized("2Gi", accessModes=["ReadWriteMany"]), "accessModes cannot be changed"),
        (True, sized("2Gi", storageClassName="slow"), "storageClassName cannot be changed: the volume has fast"),
    ],
)
def test_what_a_volume_cannot_become_is_said_with_what_to_do(expands: bool | None, storage: Any, words: str) -> None:
    cluster = with_volume(expands=expands)
    cluster.edit_version(storage=storage)
    cluster.settle()
    assert cluster.entry()["phase"] == "Ready"
    message = cluster.entry()["conditions"][0]["message"]
    assert words in message
    assert "modelyard.dev/resync" in message
    assert cluster.world.objects[CLAIM]["spec"]["resources"]["requests"]["storage"] == "2Gi"
    assert cluster.claims() == ["mdl-m-v1"]


def test_a_volume_grows_where_its_class_can() -> None:
    cluster = with_volume(expands=True)
    cluster.edit_version(storage=sized("4Gi"))
    cluster.settle()
    assert cluster.world.objects[CLAIM]["spec"]["resources"]["requests"]["storage"] == "4Gi"
    assert "being expanded from 2Gi to 4Gi" in cluster.entry()["conditions"][0]["message"]
    pending = {"type": "FileSystemResizePending", "status": "True"}
    cluster.world.edit(CLAIM, lambda o: o["status"].update(conditions=[pending]))
    cluster.settle()
    assert "when the next pod mounts it" in cluster.entry()["conditions"][0]["message"]
    cluster.world.edit(CLAIM, lambda o: o["status"].update(capacity={"storage": "4Gi"}, conditions=[]))
    cluster.settle()
    assert cluster.entry()["conditions"][0]["message"] == "All files are there."


def test_a_full_volume_is_tried_again_once_it_has_grown() -> None:
    cluster = with_volume(expands=True)
    cluster.edit_version(repo="org/larger")
    cluster.settle()
    full = '{"result":"failed","reason":"DiskFull","message":"no room"}'
    cluster.finish(failed=True, exit_code=64, message=full)
    cluster.settle()
    assert cluster.entry()["reason"] == "DiskFull"
    second = next(Ref(PVC, NS, name) for name in cluster.claims() if name != "mdl-m-v1")
    bound = {"phase": "Bound", "capacity": {"storage": "2Gi"}}
    cluster.world.edit(second, lambda o: (o["spec"].update(storageClassName="fast"), o.update(status=bound)))
    cluster.edit_version(storage=sized("4Gi"))
    cluster.settle()
    assert cluster.entry()["reason"] == "DiskFull"
    cluster.world.edit(second, lambda o: o["status"].update(capacity={"storage": "4Gi"}))
    cluster.settle()
    assert cluster.entry()["phase"] == "Processing"
    cluster.finish()
    cluster.settle()
    assert cluster.entry()["phase"] == "Ready"


def test_a_volume_in_use_outlives_its_replacement() -> None:
    cluster = ready_model(make_version("v1", revision="a"))
    pod = Ref(POD, NS, "reader")
    cluster.world.put(POD, make_pod("reader", claims=("mdl-m-v1",), labels=LABELS))
    cluster.edit_version(revision="b")
    cluster.settle()
    cluster.finish()
    cluster.settle()
    assert "mdl-m-v1" in cluster.claims()
    assert "An older volume is kept while it is used: Pod reader." in cluster.entry()["conditions"][0]["message"]
    cluster.world.edit(pod, lambda o: o.update(status={"phase": "Succeeded"}))
    cluster.settle()
    assert "mdl-m-v1" not in cluster.claims()


def test_resync_fetches_once_per_value() -> None:
    cluster = ready_model()
    for value in ("1", "2"):
        old = cluster.entry()["pvcName"]
        cluster.world.edit(M, lambda o, v=value: o["metadata"].update(annotations={"modelyard.dev/resync": v}))
        cluster.settle()
        assert len(cluster.claims()) == 2
        cluster.finish()
        cluster.settle()
        assert cluster.entry()["resync"] == value
        assert cluster.claims() == [cluster.entry()["pvcName"]] != [old]
    cluster.world.edit(M, lambda o: o["metadata"].update(annotations={}))
    assert cluster.settle() == 0


def test_absent_deletes_and_present_fetches_again() -> None:
    cluster = ready_model()
    cluster.edit_version(state="ABSENT")
    cluster.settle()
    assert cluster.claims() == cluster.jobs() == []
    assert cluster.entry()["observedState"] == "ABSENT"
    assert "phase" not in cluster.entry()
    assert cluster.status()["versionsTotal"] == cluster.status().get("versionsReady", 0) == 0
    cluster.edit_version(state="PRESENT")
    cluster.settle()
    assert cluster.claims() == ["mdl-m-v1"]


def test_a_removed_entry_deletes_what_was_fetched() -> None:
    cluster = ready_model(make_version("v1"), make_version("v2"))
    cluster.edit_spec(versions=[make_version("v2")])
    cluster.settle()
    assert cluster.claims() == ["mdl-m-v2"]
    assert [e["name"] for e in cluster.status()["syncedVersions"]] == ["v2"]


def test_a_removed_entry_is_kept_where_retention_says_so() -> None:
    cluster = ready_model(make_version("v1"), make_version("v2"), retention={"fetched": "Retain"})
    cluster.edit_spec(versions=[make_version("v2")])
    cluster.settle()
    assert cluster.claims() == ["mdl-m-v1", "mdl-m-v2"]


def test_retained_volumes_outlive_the_model_and_are_taken_back() -> None:
    cluster = ready_model(retention={"fetched": "Retain"})
    cluster.world.remove(M)
    cluster.settle()
    assert M not in cluster.world.objects
    assert cluster.claims() == ["mdl-m-v1"]
    cluster.put(make_model("m", retention={"fetched": "Retain"}))
    cluster.settle()
    cluster.finish()
    cluster.settle()
    assert (cluster.entry()["phase"], cluster.claims()) == ("Ready", ["mdl-m-v1"])
    assert "modelyard.dev/retained" not in cluster.world.objects[Ref(PVC, NS, "mdl-m-v1")]["metadata"]["annotations"]


def test_an_orphaned_volume_is_not_taken_back() -> None:
    cluster = ready_model()
    volume = Ref(PVC, NS, "mdl-m-v1")
    cluster.world.edit(volume, lambda o: o["metadata"].pop("ownerReferences"))
    cluster.world.remove(M)
    cluster.world.settle()
    before = cluster.world.objects[volume]
    cluster.put(make_model("m"))
    cluster.settle()
    assert cluster.entry()["reason"] == "NameTaken"
    assert cluster.world.objects[volume] == before


def test_a_plain_model_goes_at_once_with_its_volumes() -> None:
    cluster = ready_model()
    assert FINALIZER not in cluster.world.objects[M]["metadata"].get("finalizers", [])
    cluster.world.remove(M)
    cluster.settle()
    assert cluster.claims() == cluster.jobs() == []


def test_a_model_in_use_says_what_its_deletion_waits_for() -> None:
    cluster = ready_model()
    training = Ref(TRAINING, NS, "t")
    using = make_training("t", spec={"model": {"ref": {"name": "m", "version": "v1"}}})
    cluster.world.put(TRAINING, {**using, "status": {"frozen": True, "phase": "Running"}})
    cluster.settle()
    assert cluster.world.objects[M]["metadata"]["finalizers"] == [FINALIZER]
    cluster.world.remove(M)
    cluster.settle()
    assert cluster.condition("Ready")["message"] == "Deletion waits until nobody uses the versions: Training t."
    assert cluster.claims() == ["mdl-m-v1"]
    cluster.world.edit(training, lambda o: o.update(status={"frozen": True, "phase": "Succeeded"}))
    cluster.settle()
    assert M not in cluster.world.objects


def saved_world(**fields: Any) -> Cluster:
    record = {"origin": "Training/t", "path": "model", "kind": "Tabular", "bytes": 7, "digest": "sha256:cd"}
    claim = make_saved_claim("trn-t-output", "m", "tuned", record)
    cluster = Cluster(claim, make_model("m", source=None, **fields))
    cluster.world.objects[M]["spec"]["versions"] = []
    cluster.settle()
    return cluster


def test_a_saved_version_is_shown_without_an_entry_in_the_spec() -> None:
    entry = saved_world().entry("tuned")
    assert (entry["phase"], entry["origin"], entry["pvcName"]) == ("Ready", "Training/t", "trn-t-output")
    assert (entry["path"], entry["kind"], entry["bytes"]) == ("model", "Tabular", 7)


def test_a_saved_version_outlives_its_model_unless_told_otherwise() -> None:
    kept = saved_world()
    kept.world.remove(M)
    kept.settle()
    assert kept.claims() == ["trn-t-output"]
    gone = saved_world(retention={"saved": "Delete"})
    gone.world.remove(M)
    gone.settle()
    assert gone.claims() == []


def test_changing_the_retention_changes_the_owner() -> None:
    cluster = saved_world(retention={"saved": "Delete"})
    cluster.edit_spec(retention={"saved": "Retain"})
    cluster.settle()
    cluster.world.remove(M)
    cluster.settle()
    assert cluster.claims() == ["trn-t-output"]


def test_absent_deletes_a_saved_version() -> None:
    cluster = saved_world()
    cluster.edit_spec(versions=[make_version("tuned", None, state="ABSENT")])
    cluster.settle()
    assert cluster.claims() == []
    assert cluster.entry("tuned")["observedState"] == "ABSENT"


def test_a_version_without_repo_waits_for_a_training() -> None:
    cluster = Cluster(make_model("m", make_version("tuned", None), source=None))
    cluster.settle()
    assert (cluster.status()["phase"], cluster.entry("tuned")["reason"]) == ("Pending", "NotSaved")
    assert cluster.condition("Reconciling")["status"] == "False"


def test_a_fetched_and_a_saved_version_of_one_name_are_told_apart() -> None:
    cluster = saved_world()
    cluster.put(make_source())
    cluster.edit_spec(sourceRef="hub", versions=[make_version("tuned")])
    cluster.settle()
    assert cluster.entry("tuned")["reason"] == "NameTaken"
    assert cluster.claims() == ["trn-t-output"]


def test_a_base_of_a_saved_adapter_is_held() -> None:
    cluster = ready_model()
    record = {"origin": "Training/t", "path": "model", "kind": "Adapter", "baseRef": {"name": "m", "version": "v1"}}
    cluster.put(make_saved_claim("trn-t-output", "tuned", "v1", record))
    cluster.settle()
    cluster.world.remove(M)
    cluster.settle()
    assert "version tuned/v1" in cluster.condition("Ready")["message"]


@pytest.mark.parametrize("labels", [None, {**LABELS, "modelyard.dev/model": "m", "modelyard.dev/version": "v1"}])
def test_a_strangers_claim_is_left_alone(labels: dict[str, str] | None) -> None:
    stranger = Ref(PVC, NS, "mdl-m-v1")
    cluster = Cluster(make_source(), make_claim("mdl-m-v1", labels=labels), make_model("m"))
    before = cluster.world.objects[stranger]
    cluster.settle()
    entry = cluster.entry()
    assert (entry["phase"], entry["reason"]) == ("Failed", "NameTaken")
    assert "Volume claim mdl-m-v1 is there already and was not made by Modelyard for this object" in entry["message"]
    assert cluster.world.objects[stranger] == before
    assert cluster.plan(M).requeue_after == 30
    cluster.world.remove(stranger)
    cluster.settle()
    cluster.finish()
    cluster.settle()
    assert cluster.entry()["phase"] == "Ready"


def test_a_strangers_job_is_left_alone() -> None:
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "other", "controller": True}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "fetch-mdl-m-v1-1", "namespace": NS, "ownerReferences": [owner]},
    }
    cluster = Cluster(make_source(), job, make_model("m"))
    cluster.world.put(CRONJOB, {"metadata": {"name": "nightly", "namespace": NS}})
    cluster.world.objects[Ref(CRONJOB, NS, "nightly")]["metadata"]["uid"] = "other"
    cluster.settle()
    assert cluster.entry()["reason"] == "NameTaken"
    assert "belongs to CronJob nightly" in cluster.entry()["message"]
    assert "fetch-mdl-m-v1-1" in cluster.jobs()


def test_a_source_that_is_missing_or_wrong_is_named() -> None:
    cluster = Cluster(make_model("m"))
    cluster.settle()
    assert cluster.entry()["reason"] == "SourceNotFound"
    assert "There is no ModelSource 'hub' in namespace 'team-a'" in cluster.entry()["message"]
    cluster.put(make_source(secret="token"))
    cluster.settle()
    assert (cluster.status()["phase"], cluster.entry()["reason"]) == ("Pending", "SourceNotReady")
    assert "There is no Secret 'token' in namespace 'team-a'" in cluster.entry()["message"]
    assert cluster.claims() == []


def test_a_source_that_breaks_does_not_unmake_what_is_there() -> None:
    cluster = ready_model()
    cluster.edit_spec(HUB, secretRef="gone")
    cluster.settle()
    assert cluster.condition("Ready", HUB)["status"] == "False"
    assert cluster.entry()["phase"] == "Ready"
    cluster.put(make_secret("gone", {"token": "x"}))
    cluster.settle()
    assert cluster.entry()["phase"] == "Ready"
    assert cluster.claims() == ["mdl-m-v1"]


def test_a_bad_repo_is_a_failed_version_and_nothing_is_made() -> None:
    cluster = Cluster(make_source(), make_model("m", make_version("v1", "a b; rm -rf /")))
    cluster.settle()
    assert (cluster.entry()["phase"], cluster.entry()["reason"]) == ("Failed", "InvalidVersion")
    assert cluster.entry()["message"].startswith("spec.versions[0].repo: ")
    assert cluster.claims() == []


def test_a_pvc_source_copies_nothing() -> None:
    source = make_source(type="PVC", config={"pvcName": "mine"})
    cluster = Cluster(source, make_claim("mine"), make_model("m", make_version("v1", "models/llama")))
    cluster.settle()
    entry = cluster.entry()
    assert (entry["phase"], entry["pvcName"], entry["path"]) == ("Ready", "mine", "models/llama")
    assert cluster.claims() == ["mine"]
    assert cluster.jobs() == []
    cluster.world.remove(M)
    cluster.settle()
    assert cluster.claims() == ["mine"]


def test_a_lost_volume_is_fetched_again_and_an_old_job_does_not_vouch_for_it() -> None:
    cluster = ready_model()
    cluster.world.remove(Ref(PVC, NS, "mdl-m-v1"))
    cluster.settle()
    assert cluster.entry()["phase"] == "Processing"
    assert len(jobs_of(cluster.world)) == 1
    cluster.finish()
    cluster.settle()
    assert cluster.entry()["phase"] == "Ready"


def test_the_status_is_taken_back_before_a_lost_volume_is_made_again() -> None:
    cluster = ready_model()
    for ref in (Ref(PVC, NS, "mdl-m-v1"), Ref(JOB, NS, "fetch-mdl-m-v1-1")):
        cluster.world.remove(ref)
    cluster.world.settle()
    plan = cluster.plan(M)
    assert not any(isinstance(a, Create) for a in plan.actions)
    cluster.world.apply(plan)
    assert "pvcName" not in cluster.entry()
    cluster.settle()
    assert cluster.claims() == ["mdl-m-v1"]


def test_a_pod_that_no_node_takes_is_told() -> None:
    cluster = Cluster(make_source(), make_model("m"))
    cluster.settle()
    job = jobs_of(cluster.world)[0]
    uid = cluster.world.objects[job]["metadata"]["uid"]
    pod = make_pod("p", phase="Pending", owners=[{"kind": "Job", "name": job.name, "uid": uid, "controller": True}])
    pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]
    cluster.world.put(POD, pod)
    assert cluster.settle() == 0
    assert cluster.plan(M).requeue_after == 30
    cluster.world.wait(30)
    cluster.settle()
    assert (cluster.entry()["phase"], cluster.entry()["reason"]) == ("Processing", "Unschedulable")


def test_progress_is_shown_at_a_bounded_rate_and_goes_at_the_end() -> None:
    cluster = Cluster(make_source(), make_model("m"))
    cluster.settle()

    def report(bytes: int) -> int:
        fact = DownloadFact("p", bytes, 1000, 0, 2, 10.0, 99.0, cluster.world.now)
        cluster.facts.downloads = {(NS, "mdl-m-v1"): fact}
        return cluster.settle()

    assert report(100) == 1
    assert cluster.entry()["progress"]["percent"] == 10
    cluster.world.now += timedelta(seconds=1)
    assert report(200) == 0
    cluster.world.now += timedelta(seconds=1)
    assert report(201) == 1
    cluster.world.now += timedelta(seconds=9)
    assert report(202) == 0
    cluster.finish()
    cluster.settle()
    assert "progress" not in cluster.entry()


def test_events_tell_of_ready_and_failed_versions_once() -> None:
    cluster = Cluster(make_source(), make_model("m", make_version("v1"), make_version("v2")))
    cluster.settle()
    first, second = sorted(jobs_of(cluster.world), key=lambda r: r.name)
    finish_job(cluster.world, first)
    finish_job(cluster.world, second, failed=True, exit_code=64, message=failed("NotFound"))
    cluster.settle()
    assert [(e.reason, e.type) for e in cluster.world.events] == [("VersionReady", "Normal"), ("NotFound", "Warning")]
    assert cluster.status()["phase"] == "Failed"


def test_names_that_would_meet_do_not() -> None:
    cluster = Cluster(make_source(), make_model("a-b", make_version("c")), make_model("a", make_version("b-c")))
    cluster.settle()
    assert len(cluster.claims()) == 2
    for name in ("a-b", "a"):
        assert cluster.status(Ref(MODEL, NS, name))["phase"] == "Processing"


def test_a_users_own_pod_holds_a_deleted_model_visibly_and_an_old_volume() -> None:
    cluster = ready_model(make_version("v1", revision="a"))
    cluster.world.put(POD, make_pod("mine", claims=("mdl-m-v1",)))
    cluster.settle()
    cluster.edit_version(revision="b")
    cluster.settle()
    cluster.finish()
    cluster.settle()
    assert "An older volume is kept while it is used: Pod mine" in cluster.entry()["conditions"][0]["message"]
    cluster.world.remove(M)
    cluster.settle()
    assert "waits until nobody uses the versions: Pod mine" in cluster.condition("Ready")["message"]
    cluster.world.remove(Ref(POD, NS, "mine"))
    cluster.settle()
    assert M not in cluster.world.objects
    assert cluster.claims() == []
