"""What the API server says of an object that it does not take becomes our words, and nothing else of it passes."""

from __future__ import annotations

import pytest

from modelyard.resources.refusals import explain

SECRET = "hf_canary"
SAID = [
    (
        'pods "t-1-x" is forbidden: exceeded quota: gpus, requested: requests.nvidia.com/gpu=8,memory=2Gi, used: '
        "requests.nvidia.com/gpu=4,memory=1Gi, limited: requests.nvidia.com/gpu=8,memory=64Gi",
        "QuotaExceeded",
        "ResourceQuota gpus of the namespace does not allow it (asked for requests.nvidia.com/gpu=8, memory=2Gi; used "
        "requests.nvidia.com/gpu=4, memory=1Gi; allowed requests.nvidia.com/gpu=8, memory=64Gi).",
    ),
    ("exceeded quota: gpus, requested: hf_canary", "QuotaExceeded", "ResourceQuota gpus of the namespace does not"),
    (
        "failed quota: all: must specify limits.cpu for: trainer",
        "QuotaNeedsLimits",
        "all wants limits.cpu",
    ),
    ('violates PodSecurity "restricted:latest": hf_canary', "PodSecurityRefused", "level restricted"),
    (
        "maximum memory usage per Container is 1Gi, but limit is 2Gi",
        "LimitRangeRefused",
        "maximum of memory of a container to 1Gi",
    ),
    ("no PriorityClass with name high was found", "PriorityClassNotFound", "no PriorityClass high"),
    (
        "ValidatingAdmissionPolicy 'only.ours' with binding 'x' denied request: hf_canary",
        "AdmissionRefused",
        "ValidatingAdmissionPolicy only.ours refuses",
    ),
    ('admission webhook "check.example.com" denied the request: hf_canary', "AdmissionRefused", "check.example.com"),
    ("unable to create new content in namespace x because it is being terminated", "NamespaceTerminating", "deleted"),
    ('User "a" cannot create resource "jobs" in API group "batch"', "RightsMissing", "roles"),
    ("something else: hf_canary", "Refused", "does not take the object"),
    ("", "Refused", "does not take"),
]


@pytest.mark.parametrize(("said", "reason", "words"), SAID)
def test_words(said: str, reason: str, words: str) -> None:
    found = explain(said)
    assert found.reason == reason
    assert words in found.message
    assert SECRET not in found.message


def test_what_is_no_text() -> None:
    assert explain(None).reason == "Refused"
    assert explain({"message": "exceeded quota: x"}).reason == "Refused"
