"""Models and ModelSources on a real API server: the Job controller is real, only the kubelet is played by the test."""

from __future__ import annotations

from typing import Any

import pytest

from localcluster import ControlPlane
from modelyard.resources.meta import JOB, MODEL, MODELSOURCE, PVC, SECRET
from support.audit import Audit
from support.build import make_claim, make_model, make_secret, make_source, make_version
from support.cluster import wait_for
from support.downloads import DONE, claims, end_download, failure, jobs
from support.operator import OperatorProcess

World = Any


def fetched(world: World, *versions: Any, **fields: Any) -> None:
    """A public hub and Model `m`, all of whose versions are there."""
    world.create(make_source(), MODELSOURCE)
    world.create(make_model("m", *versions, **fields), MODEL)
    for version in versions or (make_version(),):
        world.wait_for_entry(version["name"], phase="Processing")
    for job in jobs(world.kube, world.namespace):
        end_download(world.kube, world.namespace, job)
    world.wait_for_reason("Ready", "Ready")


def test_two_versions_cost_at_most_six_requests_and_then_nothing_is_written(
    world: World, control_plane: ControlPlane
) -> None:
    world.create(make_source(), MODELSOURCE)
    world.source_reason("Ready", "Ready")
    assert control_plane.audit_log is not None
    audit = Audit(control_plane.audit_log)
    world.create(make_model("m", make_version("v1"), make_version("v2", "org/other")), MODEL)
    wait_for(lambda: len(jobs(world.kube, world.namespace)) == 2, "two download Jobs")
    for job in jobs(world.kube, world.namespace):
        end_download(world.kube, world.namespace, job)
    world.wait_for_reason("Ready", "Ready")
    entry = world.entry("v2")
    assert entry["pvcName"] == "mdl-m-v2"
    assert (entry["path"], entry["resolvedRevision"], entry["bytes"]) == ("data", "c0ffee", 12)

    def counted() -> dict[tuple[str, str], int]:
        found = audit.writes(namespace=world.namespace)
        return {k: n for k, n in found.items() if k[1] not in ("events", "modelsources", "modelsources/status")}

    audit.wait_for_rest(world.namespace)
    spent = counted()
    assert spent[("create", "persistentvolumeclaims")] == spent[("create", "jobs")] == 2
    # Two Jobs that end in two different moments may each be worth a status of their own.
    # And what takes long, on a machine that stands still, may be told once more.
    written = [r for r in audit.written(namespace=world.namespace) if r.resource == "models/status"]
    assert spent[("patch", "models/status")] <= 3 + (written[-1].time - written[0].time) // 10, written


def test_what_was_found_outlives_a_restart_and_nothing_is_written_then(
    world: World, control_plane: ControlPlane, operator: OperatorProcess
) -> None:
    assert control_plane.audit_log is not None
    audit = Audit(control_plane.audit_log)
    fetched(world)
    audit.wait_for_rest(world.namespace)
    before = world.status("m")
    operator.kill()
    audit = Audit(control_plane.audit_log)
    operator.start()
    operator.wait_until_leading()
    wait_for(lambda: operator.metric("modelyard_workqueue_depth") == 0, "the queue to be empty")
    audit.wait_for_renewals()
    assert world.status("m") == before
    assert not audit.written(namespace=world.namespace)


def test_a_missing_then_wrong_then_right_secret(world: World) -> None:
    world.create(make_source(secret="token"), MODELSOURCE)
    world.create(make_model("m"), MODEL)
    words = f"There is no Secret 'token' in namespace '{world.namespace}'"
    wait_for(lambda: words in world.entry().get("message", ""), "the missing Secret to be named")
    assert (world.entry()["phase"], world.entry()["reason"]) == ("Pending", "SourceNotReady")
    world.create(make_secret("token", {"tokn": "hf_canary"}), SECRET)
    found = world.source_reason("CredentialsReady", "SecretInvalid")
    assert "has not the keys that type HUGGING_FACE needs: `token`; it has only `tokn`" in found["message"]
    world.kube.merge(SECRET, world.namespace, "token", {"stringData": {"token": ""}})
    wait_for(
        lambda: "`token` is empty" in world.condition("CredentialsReady", "hub", MODELSOURCE)["message"],
        "the empty value to be named",
    )
    world.kube.merge(SECRET, world.namespace, "token", {"stringData": {"token": "hf_canary"}})
    world.source_reason("CredentialsReady", "Valid")
    world.wait_for_entry(phase="Processing")
    assert "hf_canary" not in str(world.kube.list(JOB, world.namespace))
    assert "hf_canary" not in str(world.kube.list(MODELSOURCE, world.namespace))


def test_a_refused_token_fails_and_a_new_one_is_tried(world: World) -> None:
    world.create(make_source(secret="token"), MODELSOURCE)
    world.create(make_secret("token", {"token": "wrong"}), SECRET)
    world.create(make_model("m"), MODEL)
    said = failure("Unauthorized", "the hub refused the token in Secret key token (401)")
    wait_for(lambda: jobs(world.kube, world.namespace), "a download")
    end_download(world.kube, world.namespace, "fetch-mdl-m-v1-1", said, 64)
    entry = world.wait_for_entry(phase="Failed")
    assert entry["reason"] == "Unauthorized"
    assert entry["message"].startswith("The hub refused the token in Secret key token (401). Not tried again until")
    assert world.condition("Stalled", "m")["status"] == "True"
    world.kube.merge(SECRET, world.namespace, "token", {"stringData": {"token": "right"}})
    wait_for(lambda: jobs(world.kube, world.namespace) == ["fetch-mdl-m-v1-2"], "the second try")
    end_download(world.kube, world.namespace, "fetch-mdl-m-v1-2")
    world.wait_for_entry(phase="Ready", attempts=2)


def test_what_may_pass_is_tried_again(world: World) -> None:
    world.create(make_source(), MODELSOURCE)
    world.create(make_model("m"), MODEL)
    for n in (1, 2):
        job = f"fetch-mdl-m-v1-{n}"
        wait_for(lambda job=job: job in jobs(world.kube, world.namespace), job)
        end_download(world.kube, world.namespace, job, failure("RateLimited", "the hub answered 429"), 75)
    wait_for(lambda: jobs(world.kube, world.namespace) == ["fetch-mdl-m-v1-3"], "the third try")
    end_download(world.kube, world.namespace, "fetch-mdl-m-v1-3")
    world.wait_for_entry(phase="Ready")


def test_a_changed_revision_switches_when_it_is_ready(world: World) -> None:
    fetched(world, make_version("v1", revision="a"))
    world.kube.merge(MODEL, world.namespace, "m", {"spec": {"versions": [make_version("v1", revision="b")]}})
    entry = world.wait_for_entry(phase="Processing")
    assert entry["pvcName"] == "mdl-m-v1"
    job = wait_for(
        lambda: [j for j in jobs(world.kube, world.namespace) if j != "fetch-mdl-m-v1-1"], "the second download"
    )[0]
    end_download(world.kube, world.namespace, job, {**DONE, "resolvedRevision": "decaf"})
    entry = world.wait_for_entry(phase="Ready", resolvedRevision="decaf")
    assert entry["pvcName"] != "mdl-m-v1"
    wait_for(lambda: claims(world.kube, world.namespace) == [entry["pvcName"]], "the old volume to go")


def test_resync_fetches_once_per_value(world: World) -> None:
    fetched(world)
    world.kube.merge(MODEL, world.namespace, "m", {"metadata": {"annotations": {"modelyard.dev/resync": "1"}}})
    job = wait_for(
        lambda: [j for j in jobs(world.kube, world.namespace) if j != "fetch-mdl-m-v1-1"], "the second download"
    )[0]
    end_download(world.kube, world.namespace, job)
    entry = world.wait_for_entry(phase="Ready", resync="1")
    wait_for(lambda: claims(world.kube, world.namespace) == [entry["pvcName"]], "the old volume to go")


def test_absent_removes_and_a_plain_model_goes_with_all_it_has(world: World) -> None:
    fetched(world, make_version("v1"), make_version("v2"))
    absent = [make_version("v1", state="ABSENT"), make_version("v2")]
    world.kube.merge(MODEL, world.namespace, "m", {"spec": {"versions": absent}})
    wait_for(lambda: claims(world.kube, world.namespace) == ["mdl-m-v2"], "v1's volume to go")
    world.wait_for_entry("v1", observedState="ABSENT", phase=None)
    world.kube.delete(MODEL, world.namespace, "m")
    world.gone(MODEL, "m")
    wait_for(lambda: claims(world.kube, world.namespace) == [], "all volumes to go")
    wait_for(lambda: jobs(world.kube, world.namespace) == [], "all Jobs to go")


def test_a_source_in_use_stays_says_why_and_goes_with_the_last_model(world: World) -> None:
    fetched(world)
    wait_for(lambda: world.status("hub", MODELSOURCE).get("referencedBy") == [f"{world.namespace}/m"], "the reference")
    world.kube.delete(MODELSOURCE, world.namespace, "hub")
    found = world.source_reason("Ready", "Deleting")
    assert found["message"] == f"Deletion waits until nobody uses the source: {world.namespace}/m."
    world.kube.delete(MODEL, world.namespace, "m")
    world.gone(MODELSOURCE, "hub")


def test_a_strangers_claim_is_left_alone_until_it_goes(world: World) -> None:
    claim = make_claim("mdl-m-v1")
    world.create({**claim, "status": {}}, PVC)
    uid = world.kube.get(PVC, world.namespace, "mdl-m-v1")["metadata"]["uid"]
    world.create(make_source(), MODELSOURCE)
    world.create(make_model("m"), MODEL)
    entry = world.wait_for_entry(phase="Failed", reason="NameTaken")
    assert "Volume claim mdl-m-v1 is there already and was not made by Modelyard" in entry["message"]
    found = world.kube.get(PVC, world.namespace, "mdl-m-v1")
    assert found["metadata"]["uid"] == uid
    assert "ownerReferences" not in found["metadata"]
    world.kube.delete(PVC, world.namespace, "mdl-m-v1")
    world.wait_for_entry(phase="Processing")


def test_retained_volumes_outlive_the_model(world: World) -> None:
    fetched(world, retention={"fetched": "Retain"})
    world.kube.delete(MODEL, world.namespace, "m")
    world.gone(MODEL, "m")
    assert claims(world.kube, world.namespace) == ["mdl-m-v1"]
    assert "ownerReferences" not in world.kube.get(PVC, world.namespace, "mdl-m-v1")["metadata"]
    world.create(make_model("m"), MODEL)
    wait_for(lambda: "fetch-mdl-m-v1-1" in jobs(world.kube, world.namespace), "the download into it")
    owners = world.kube.get(PVC, world.namespace, "mdl-m-v1")["metadata"]["ownerReferences"]
    assert [o["kind"] for o in owners] == ["Model"]


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        (
            {"type": "HUGGING_FACE", "config": {"endpiont": "https://hub.example"}},
            "InvalidConfig",
            "spec.config.endpiont: is not a key of type HUGGING_FACE; "
            "allowed: `endpoint`, `exclude`, `include`, `repoType`.",
        ),
        ({"type": "PVC"}, "InvalidConfig", "spec.config.pvcName: is required for type PVC"),
        ({"type": "CONDA"}, "InvalidConfig", "spec.config: must hold one of `pythonVersion`"),
        ({"type": "PVC", "config": {"pvcName": "none"}}, "ClaimNotFound", "There is no PersistentVolumeClaim 'none'"),
    ],
)
def test_a_wrong_source_says_what_is_wrong(world: World, spec: Any, reason: str, words: str) -> None:
    world.create({**make_source(), "spec": spec}, MODELSOURCE)
    found = world.source_reason("Ready", reason)
    assert words in found["message"]
    assert world.condition("Stalled", "hub", MODELSOURCE)["status"] == "True"


def test_a_download_runs_under_the_restricted_standard(world: World) -> None:
    level = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    world.kube.request("PATCH", f"/api/v1/namespaces/{world.namespace}", level, "application/merge-patch+json")
    world.create(make_secret("token", {"token": "x"}), SECRET)
    world.create(make_source(secret="token"), MODELSOURCE)
    world.create(make_model("m"), MODEL)
    wait_for(lambda: jobs(world.kube, world.namespace), "a download")
    end_download(world.kube, world.namespace, "fetch-mdl-m-v1-1")
    world.wait_for_entry(phase="Ready")
