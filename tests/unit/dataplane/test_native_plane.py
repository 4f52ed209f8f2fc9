"""The native data plane's objects, and how it reads what became of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from modelyard.dataplane import cause
from modelyard.dataplane.native import NativePlane
from modelyard.plan import Create
from modelyard.resources.meta import JOB, PVC
from modelyard.resources.sources import content
from modelyard.resources.times import format_time
from modelyard.resources.volumes import Claim, Reporter, Seen, Stage, Want
from modelyard.settings import Collector, PodSecurity, Settings

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
OWNER = {"apiVersion": "modelyard.dev/v1alpha1", "kind": "Model", "name": "m", "uid": "u", "controller": True}


def want(**fields: Any) -> Want:
    what = content("HUGGING_FACE", {"endpoint": "https://hub.example"}, "org/repo", revision="v1", include=["*.json"])
    given: dict[str, Any] = {
        "namespace": "team-a",
        "name": "mdl-m-v1",
        "owner": OWNER,
        "labels": {"modelyard.dev/model": "m"},
        "content": what,
        "claim": Claim(),
        "reporter": Reporter("model", "m", "v1"),
        **fields,
    }
    return Want(**given)


def made(settings: Settings | None = None, ca_pem: str | None = None, **fields: Any) -> tuple[Any, Any]:
    """The claim and the Job that a plane makes."""
    step = NativePlane(settings or Settings(), ca_pem).step(want(**fields), Seen(), NOW)
    claim, job = step.actions
    assert isinstance(claim, Create)
    assert isinstance(job, Create)
    assert (claim.kind, job.kind) == (PVC, JOB)
    return claim.obj, job.obj


def pod_spec(job: Any) -> Any:
    return job["spec"]["template"]["spec"]


def test_the_loader_gets_its_command_line() -> None:
    _, job = made(secret="token")
    container = pod_spec(job)["containers"][0]
    assert container["command"] == ["modelyard", "load"]
    assert container["args"] == [
        "HUGGING_FACE",
        "huggingface://org/repo",
        "--options=endpoint=https://hub.example",
        "--options=include=*.json",
        "--options=revision=v1",
        "--mount-path=/data",
        "--mount-root=/modelyard/volume",
        "--mount-mode=0755",
        "--mount-uid=1000",
        "--mount-gid=1000",
        "--retry-seconds=60",
        "--mount-secrets=/run/dataset/secrets",
    ]


def test_a_secret_is_a_mount_and_nothing_else() -> None:
    _, job = made(secret="token")
    spec = pod_spec(job)
    assert {"name": "secret", "secret": {"secretName": "token", "defaultMode": 0o440}} in spec["volumes"]
    assert "token" not in json.dumps(spec["containers"][0]["env"])
    _, public = made()
    assert not any("secret" in v for v in pod_spec(public)["volumes"])


def test_only_the_projected_token_goes_into_the_pod() -> None:
    settings = Settings(collector=Collector(url="https://collector:8443"))
    _, job = made(settings, "PEM")
    spec = pod_spec(job)
    assert spec["automountServiceAccountToken"] is False
    token = next(v for v in spec["volumes"] if v["name"] == "token")["projected"]["sources"][0]["serviceAccountToken"]
    assert token["audience"] == "modelyard.dev/model/team-a/m"
    env = {e["name"]: e["value"] for e in spec["containers"][0]["env"]}
    assert env["MODELYARD_CA_PEM"] == "PEM"
    assert (env["MODELYARD_MODEL"], env["MODELYARD_VERSION"]) == ("m", "v1")


def test_ids_can_be_left_to_the_platform() -> None:
    _, job = made(Settings(pod_security=PodSecurity(enabled=False)))
    assert pod_spec(job)["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


def test_the_claim_is_what_the_version_or_the_settings_say() -> None:
    claim, _ = made()
    assert claim["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "20Gi"}}}
    claim, _ = made(claim=Claim("5Gi", ("ReadWriteMany",), "fast"))
    assert claim["spec"] == {
        "accessModes": ["ReadWriteMany"],
        "resources": {"requests": {"storage": "5Gi"}},
        "storageClassName": "fast",
    }


def test_everything_made_names_its_owner() -> None:
    for obj in made():
        assert obj["metadata"]["ownerReferences"] == [OWNER]


def pod(code: int | None = None, message: str = "", reason: str = "", **status: Any) -> Any:
    state = {"terminated": {"exitCode": code, "message": message, "reason": reason}} if code is not None else {}
    phase = "Failed" if code else "Succeeded"
    return {"metadata": {}, "status": {"phase": phase, "containerStatuses": [{"state": state}], **status}}


def said(reason: str, message: str = "words") -> str:
    return json.dumps({"result": "failed", "reason": reason, "message": message})


CAUSES = {
    "permanent": (pod(64, said("NotFound")), "NotFound", cause.Retry.NEVER),
    "passing": (pod(75, said("RateLimited")), "RateLimited", cause.Retry.ALWAYS),
    "other": (pod(1, said("ServerError")), "ServerError", cause.Retry.BOUNDED),
    "unknown reason": (pod(64, said("Pwned", "hf_canary")), "Unexpected", cause.Retry.NEVER),
    "no words": (pod(75), "Interrupted", cause.Retry.ALWAYS),
    "no JSON": (pod(2, "Traceback: hf_canary"), "Unexpected", cause.Retry.BOUNDED),
    "not an object": (pod(2, "[1]"), "Unexpected", cause.Retry.BOUNDED),
    "memory": (pod(137, "", "OOMKilled"), "OutOfMemory", cause.Retry.BOUNDED),
    "evicted": ({"metadata": {}, "status": {"phase": "Failed", "reason": "Evicted"}}, "Evicted", cause.Retry.ALWAYS),
}


@pytest.mark.parametrize(("ended", "reason", "retry"), CAUSES.values(), ids=CAUSES.keys())
def test_why_a_download_failed(ended: Any, reason: str, retry: cause.Retry) -> None:
    found = cause.failure([ended])
    assert (found.reason, found.retry) == (reason, retry)
    assert "hf_canary" not in found.message


def test_a_pod_that_is_gone_tells_nothing() -> None:
    assert cause.failure([]).retry is cause.Retry.BOUNDED


def test_words_are_bounded_and_printable() -> None:
    found = cause.failure([pod(64, said("NotFound", "a\nb\x1b" + "x" * 5000))])
    assert len(found.message) <= 512
    assert found.message.isprintable()


def test_a_result_is_believed_only_from_a_pod_that_succeeded() -> None:
    done = json.dumps({"result": "done", "bytes": 3, "files": True, "digest": "sha256:a", "resolvedRevision": 7})
    found = cause.result([pod(0, done)])
    assert found is not None
    assert (found.bytes, found.files, found.digest, found.revision) == (3, None, "sha256:a", None)
    assert cause.result([pod(1, done)]) is None


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff"])
def test_an_image_that_cannot_be_pulled_is_told_at_once(reason: str) -> None:
    waiting = {"metadata": {}, "status": {"containerStatuses": [{"state": {"waiting": {"reason": reason}}}]}}
    found = cause.hindrance([waiting], NOW)
    assert found is not None
    assert found.reason == "ImagePullFailed"


def test_a_pod_without_a_node_is_told_when_it_lasts() -> None:
    since = format_time(NOW - timedelta(seconds=10))
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": since}
    waiting = {"metadata": {}, "status": {"conditions": [condition]}}
    early, late = cause.hindrance([waiting], NOW), cause.hindrance([waiting], NOW + timedelta(seconds=20))
    assert early is not None
    assert late is not None
    assert (early.reason, early.look_again) == (None, 20)
    assert late.reason == "Unschedulable"


def test_a_volume_that_is_going_is_waited_for() -> None:
    metadata = {"name": "mdl-m-v1", "namespace": "team-a", "uid": "c", "deletionTimestamp": "t"}
    claim = {"metadata": {**metadata, "ownerReferences": [OWNER]}}
    step = NativePlane(Settings()).step(want(), Seen(claim), NOW)
    assert (step.stage, step.reason, step.actions) == (Stage.WAITING, "VolumeTerminating", ())
