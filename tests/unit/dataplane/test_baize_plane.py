"""Datasets: what is asked of their controller, and how its words are read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelyard.dataplane.baize import BaizePlane
from modelyard.dataplane.either import EitherPlane
from modelyard.plan import Apply, Create, Delete
from modelyard.resources.meta import DATASET, PVC
from modelyard.resources.sources import Content, content
from modelyard.resources.times import format_time
from modelyard.resources.volumes import Claim, Reporter, Seen, Stage, Want
from modelyard.settings import Baize, Download, Settings

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
OWNER = {"apiVersion": "modelyard.dev/v1alpha1", "kind": "Model", "name": "m", "uid": "u", "controller": True}
OURS = Settings(baize=Baize(loader="modelyard"), download=Download(backoff_seconds=10, max_retries=2))
NAME = "mdl-m-v1"


def ago(seconds: float) -> str:
    return format_time(NOW - timedelta(seconds=seconds))


def want(**fields: Any) -> Want:
    given: dict[str, Any] = {
        "namespace": "team-a",
        "name": NAME,
        "owner": OWNER,
        "labels": {"modelyard.dev/model": "m"},
        "content": content("HUGGING_FACE", {}, "org/repo"),
        "claim": Claim(),
        "reporter": Reporter("model", "m", "v1"),
        "known": True,
        **fields,
    }
    return Want(**given)


def dataset(phase: str | None = None, round: int = 1, succeeded: int = 0, **fields: Any) -> Any:
    annotations = {"modelyard.dev/secret-version": "", **fields.pop("annotations", {})}
    status = {"phase": phase, "lastSucceedRound": succeeded, "lastSyncTime": ago(50), **fields.pop("status", {})}
    metadata = {
        "name": NAME,
        "namespace": "team-a",
        "uid": "d",
        "resourceVersion": "7",
        "creationTimestamp": ago(100),
        "annotations": annotations,
        "ownerReferences": [OWNER],
        **fields,
    }
    return {"kind": "Dataset", "metadata": metadata, "spec": {"dataSyncRound": round}, "status": status}


def child(kind: str, name: str, made: float = 90, owner: str = "d", **fields: Any) -> Any:
    owners = [{"kind": "Dataset", "name": NAME, "uid": owner, "controller": True}]
    metadata = {"name": name, "uid": name, "creationTimestamp": ago(made), "ownerReferences": owners}
    return {"kind": kind, "metadata": metadata, **fields}


def claim(**fields: Any) -> Any:
    return child("PersistentVolumeClaim", NAME, **fields)


def failed_job(round: int = 1, since: float = 1) -> Any:
    condition = {"type": "Failed", "status": "True", "lastTransitionTime": ago(since)}
    return child("Job", f"dataset-{NAME}-round-{round}", status={"conditions": [condition]})


def pod_of(round: int, code: int, reason: str) -> Any:
    said = json.dumps({"result": "failed", "reason": reason, "message": "words"})
    owner = [{"kind": "Job", "uid": f"dataset-{NAME}-round-{round}", "controller": True}]
    ended = {"state": {"terminated": {"exitCode": code, "message": said}}}
    return {"metadata": {"ownerReferences": owner}, "status": {"phase": "Failed", "containerStatuses": [ended]}}


def step(seen: Seen, settings: Settings = OURS, **fields: Any) -> Any:
    return BaizePlane(settings).step(want(**fields), seen, NOW)


def raised(result: Any) -> int:
    """The round that the only action asks for."""
    (action,) = result.actions
    assert isinstance(action, Apply)
    assert (action.obj["metadata"]["uid"], action.obj["metadata"]["resourceVersion"]) == ("d", "7")
    return int(action.obj["spec"]["dataSyncRound"])


def test_a_dataset_says_all_that_its_controller_would_otherwise_fill_in() -> None:
    result = step(Seen(), secret="token", resync="a", claim=Claim("5Gi", ("ReadWriteMany",), "fast"))
    (create,) = result.actions
    assert isinstance(create, Create)
    assert "finalizers" not in create.obj["metadata"]
    assert create.obj["metadata"]["annotations"]["modelyard.dev/resync"] == "a"
    assert create.obj["spec"] == {
        "source": {"type": "HUGGING_FACE", "uri": "huggingface://org/repo"},
        "dataSyncRound": 1,
        "secretRef": "token",
        "mountOptions": {"path": "/data", "mode": "0755", "uid": 1000, "gid": 1000},
        "volumeClaimTemplate": {
            "spec": {
                "accessModes": ["ReadWriteMany"],
                "resources": {"requests": {"storage": "5Gi"}},
                "storageClassName": "fast",
            }
        },
    }


@pytest.mark.parametrize(
    "left",
    [{"claim": claim(owner="old")}, {"rounds": (failed_job(),)}, {"jobs": (failed_job(),)}],
    ids=lambda o: next(iter(o)),
)
def test_a_name_is_not_used_again_before_claim_and_jobs_are_gone(left: Any) -> None:
    result = step(Seen(**left))
    assert (result.stage, result.reason, result.actions) == (Stage.WAITING, "VolumeTerminating", ())


@pytest.mark.parametrize("kind", ["PersistentVolumeClaim", "Dataset", "Job"])
def test_a_strangers_object_stops_it(kind: str) -> None:
    stranger = {"kind": kind, "metadata": {"name": NAME, "uid": "x"}}
    result = step(Seen(strangers=(stranger,)))
    assert (result.stage, result.reason, result.actions) == (Stage.FAILED, "NameTaken", ())


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (content("HUGGING_FACE", {}, "org/repo", revision="main"), "RevisionNotSupported"),
        (content("HUGGING_FACE", {}, "org/repo", include=["a", "b"]), "PatternsNotSupported"),
        (content("HTTP", {"url": "https://x.example"}, "a", include=["*.json"]), "PatternsNotSupported"),
        (content("HUGGING_FACE", {}, "org/repo", include=["*.json"]), None),
        (content("GIT", {}, "https://x.example/a", revision="main"), None),
        (content("MODEL_SCOPE", {"endpoint": "http://hub.example"}, "a/b"), "EndpointNotSupported"),
        (content("HTTP", {"unpack": "true"}, "https://x.example/a.zip"), "UnpackNotSupported"),
        (Content("KAGGLE", "kaggle://a/b"), "TypeNotSupported"),
    ],
)
def test_what_the_stock_loader_would_do_wrong_is_refused(what: Content, reason: str | None) -> None:
    result = step(Seen(), Settings(), content=what)
    assert result.reason == (reason or "Downloading")
    assert bool(result.actions) == (reason is None)
    if reason in ("RevisionNotSupported", "PatternsNotSupported"):
        assert "baize.loader: modelyard" in result.message
        assert step(Seen(), content=what).actions


@pytest.mark.parametrize(
    ("seen", "stage", "reason"),
    [
        (Seen(dataset("READY", 1, 1), claim=claim()), Stage.READY, "Ready"),
        (Seen(dataset("READY", 2, 1), claim=claim()), Stage.WORKING, "JobNotReady"),
        (
            Seen(dataset("PROCESSING"), claim=claim(), rounds=(child("Job", f"dataset-{NAME}-round-1"),)),
            Stage.WORKING,
            "Downloading",
        ),
        (Seen(dataset()), Stage.WORKING, "ControllerSilent"),
        (Seen(dataset("READY", 1, 1, deletionTimestamp=ago(1)), claim=claim()), Stage.WAITING, "VolumeTerminating"),
        (Seen(dataset("FAILED"), claim=claim(), rounds=(failed_job(),)), Stage.FAILED, "DownloadFailed"),
        (Seen(dataset("PROCESSING"), claim=claim(status={"phase": "Lost"})), Stage.FAILED, "VolumeLost"),
    ],
)
def test_how_far_it_is(seen: Seen, stage: Stage, reason: str) -> None:
    result = step(seen)
    assert (result.stage, result.reason, result.actions) == (stage, reason, ())


@pytest.mark.parametrize(
    "seen", [Seen(), Seen(claim=claim(made=40)), Seen(claim=claim(owner="old"))], ids=["gone", "new", "old"]
)
def test_ready_without_the_claim_that_was_filled_is_another_round(seen: Seen) -> None:
    result = step(Seen(dataset("READY", 1, 1), claim=seen.claim))
    assert (result.reason, raised(result), result.serves) == ("VolumeLost", 2, False)


def test_resync_is_one_round_once_per_value_and_serves_meanwhile() -> None:
    result = step(Seen(dataset("READY", 4, 4), claim=claim()), resync="b")
    assert (raised(result), result.serves) == (5, True)
    assert result.actions[0].obj["metadata"]["annotations"]["modelyard.dev/resync"] == "b"
    noted = {"modelyard.dev/resync": "b"}
    assert not step(Seen(dataset("READY", 5, 5, annotations=noted), claim=claim()), resync="b").actions
    assert not step(Seen(dataset("PROCESSING", 4, 3), claim=claim()), resync="b").actions


def test_a_fresh_failure_without_a_failed_job_is_touched_and_not_believed() -> None:
    broken = {
        "conditions": [{"type": "Config", "status": "True"}, {"type": "PVC", "status": "False", "message": "secret"}]
    }
    result = step(Seen(dataset("FAILED", status=broken)))
    assert (result.stage, result.reason, raised(result)) == (Stage.WORKING, "ClaimNotReady", 1)
    assert "secret" not in result.message
    touched = result.actions[0].obj["metadata"]["annotations"]["modelyard.dev/touched"]
    assert touched == f"1 {format_time(NOW)}"
    again = step(Seen(dataset("FAILED", status=broken, annotations={"modelyard.dev/touched": touched})))
    assert (again.actions, again.requeue_after) == ((), 20.0)


@pytest.mark.parametrize(
    ("code", "reason", "round", "since", "stage", "next_round"),
    [
        (64, "Unauthorized", 1, 1, Stage.FAILED, None),
        (75, "RateLimited", 1, 1, Stage.WORKING, None),
        (75, "RateLimited", 1, 10, Stage.WORKING, 2),
        (1, "Unexpected", 2, 20, Stage.WORKING, 3),
        (1, "Unexpected", 3, 1000, Stage.FAILED, None),
    ],
)
def test_a_failed_round_is_tried_again_only_when_it_can_help(
    code: int, reason: str, round: int, since: float, stage: Stage, next_round: int | None
) -> None:
    seen = Seen(dataset("FAILED", round), pods=(pod_of(round, code, reason),), rounds=(failed_job(round, since),))
    result = step(seen)
    assert result.stage == stage
    assert (raised(result) if next_round else result.actions) == (next_round or ())


def test_a_changed_secret_is_worth_another_round() -> None:
    result = step(Seen(dataset("FAILED"), rounds=(failed_job(),)), secret="token", secret_version="2")
    assert raised(result) == 2
    assert result.actions[0].obj["spec"]["secretRef"] == "token"


def test_a_job_of_another_dataset_vouches_for_nothing() -> None:
    job = failed_job()
    job["metadata"]["ownerReferences"][0]["uid"] = "old"
    assert step(Seen(dataset("FAILED"), rounds=(job,))).stage == Stage.WORKING


def test_rounds_end_before_job_names_do() -> None:
    name = "m" * 45
    full = {**dataset("READY", 999, 999)}
    full["metadata"] = {**full["metadata"], "name": name}
    result = step(Seen(full), name=name)
    assert (result.stage, result.reason, result.actions) == (Stage.FAILED, "RoundsUsedUp", ())


def test_a_dataset_with_somebody_elses_claim_is_not_deleted() -> None:
    stranger = {"kind": "PersistentVolumeClaim", "metadata": {"name": NAME, "uid": "x"}}
    (delete,) = BaizePlane(OURS).remove(Seen(dataset("READY", 1, 1), claim=claim()))
    assert isinstance(delete, Delete)
    assert (delete.ref.kind, delete.uid) == (DATASET, "d")
    assert BaizePlane(OURS).remove(Seen(dataset("FAILED"), strangers=(stranger,))) == ()


@pytest.mark.parametrize(
    ("setting", "served", "kept_as", "makes"),
    [
        ("auto", False, None, PVC),
        ("auto", True, None, DATASET),
        ("baize", True, None, DATASET),
        ("native", True, None, PVC),
        ("auto", True, PVC, PVC),
        ("native", True, DATASET, DATASET),
        ("auto", False, DATASET, None),
    ],
)
def test_a_version_stays_with_the_plane_that_keeps_it(setting: Any, served: bool, kept_as: Any, makes: Any) -> None:
    plane = EitherPlane(OURS.model_copy(update={"data_plane": setting}), datasets=served)
    result = plane.step(want(kept_as=kept_as), Seen(), NOW)
    kinds = [action.kind for action in result.actions if isinstance(action, Create)]
    assert kinds[:1] == ([makes] if makes else [])
    if makes is None:
        assert (result.stage, result.reason) == (Stage.FAILED, "DatasetsNotServed")


def test_a_first_success_counts_only_with_a_job_that_is_the_datasets() -> None:
    ready = dataset("READY", 1, 1)
    assert raised(step(Seen(ready, claim=claim()), known=False)) == 2
    own = child("Job", f"dataset-{NAME}-round-1", status={"conditions": [{"type": "Complete", "status": "True"}]})
    assert step(Seen(ready, claim=claim(), rounds=(own,)), known=False).stage is Stage.READY
