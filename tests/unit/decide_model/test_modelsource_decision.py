"""ModelSource: each mistake has a condition with words that say what to do, and the guard holds and lets go."""

from __future__ import annotations

from typing import Any

import pytest

from modelyard.decide.modelsource import SourceView, decide
from modelyard.observed import SecretFact
from modelyard.plan import Ref
from modelyard.resources.meta import FINALIZER, MODEL, MODELSOURCE, SECRET, TRAINING
from support.build import NS, make_claim, make_model, make_secret, make_source, make_training
from support.models import HUB, Cluster

SECRET_REF = Ref(SECRET, NS, "token")


def settled(*objects: Any) -> Cluster:
    cluster = Cluster(*objects)
    cluster.settle()
    return cluster


WRONG = {
    "unknown key": (
        make_source(config={"endpiont": "https://hub.example"}),
        "InvalidConfig",
        "spec.config.endpiont: is not a key of type HUGGING_FACE; "
        "allowed: `endpoint`, `exclude`, `include`, `repoType`.",
    ),
    "bad value": (
        make_source(config={"endpoint": "hub.example"}),
        "InvalidConfig",
        "spec.config.endpoint: must be a URL that begins with http:// or https://",
    ),
    "required key": (make_source(type="PVC"), "InvalidConfig", "spec.config.pvcName: is required for type PVC"),
    "secret on PVC": (
        make_source(type="PVC", config={"pvcName": "data"}, secret="token"),
        "InvalidConfig",
        "spec.secretRef: a source of type PVC uses no credentials: remove it",
    ),
    "nothing to install": (
        make_source(type="CONDA", config={"pipIndexUrl": "https://index.example/simple"}),
        "InvalidConfig",
        "spec.config: must hold one of `pythonVersion`, `condaEnvironmentYml`, `pipRequirementsTxt`",
    ),
    "no Secret": (
        make_source(secret="token"),
        "SecretNotFound",
        "There is no Secret 'token' in namespace 'team-a': create it with token, or correct spec.secretRef.",
    ),
    "no claim": (
        make_source(type="PVC", config={"pvcName": "data"}),
        "ClaimNotFound",
        "There is no PersistentVolumeClaim 'data' in namespace 'team-a'",
    ),
}


@pytest.mark.parametrize(("source", "reason", "words"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_source_says_what_is_wrong(source: Any, reason: str, words: str) -> None:
    cluster = settled(source)
    ready, stalled = cluster.condition("Ready", HUB), cluster.condition("Stalled", HUB)
    assert (ready["status"], ready["reason"]) == ("False", reason)
    assert words in ready["message"]
    assert stalled["status"] == "True"
    assert cluster.condition("Reconciling", HUB)["status"] == "False"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"tokn": "x"}, "has not the keys that type HUGGING_FACE needs: `token`; it has only `tokn`"),
        ({"token": " "}, "`token` is empty; put the value there"),
        ({}, "has not the keys that type HUGGING_FACE needs: `token`; it is empty"),
    ],
)
def test_a_wrong_secret_says_which_key(data: dict[str, str], words: str) -> None:
    cluster = settled(make_source(secret="token"), make_secret("token", data))
    found = cluster.condition("CredentialsReady", HUB)
    assert (found["status"], found["reason"]) == ("False", "SecretInvalid")
    assert words in found["message"]


def test_half_of_a_pair_of_keys_is_named() -> None:
    source = make_source(type="HTTP", secret="token", config={"url": "https://files.example"})
    cluster = settled(source, make_secret("token", {"username": "me"}))
    assert "has `username` but lacks `password`; add it" in cluster.condition("CredentialsReady", HUB)["message"]


def test_a_secret_that_is_repaired_makes_the_source_ready() -> None:
    cluster = settled(make_source(secret="token"), make_secret("token", {"token": ""}))
    cluster.world.edit(SECRET_REF, lambda o: o.update(stringData={"token": "hf_canary"}))
    cluster.settle()
    status = cluster.status(HUB)
    assert cluster.condition("Ready", HUB)["status"] == "True"
    assert status["credentials"]["checkedKeys"] == ["token"]
    assert "hf_canary" not in str(status)


def test_a_check_that_finds_nothing_new_writes_nothing() -> None:
    cluster = settled(make_source(secret="token"), make_secret("token", {"token": "x"}))
    cluster.world.wait(3600)
    assert cluster.settle() == 0


def test_a_forbidden_secret_is_told_apart_from_a_missing_one() -> None:
    cluster = Cluster(make_source(secret="token"))
    secret = SecretFact(False, cluster.world.now, forbidden=True)
    view = SourceView(cluster.world.objects[HUB], secret, None, frozenset())
    patch = decide(view, cluster.world.now).actions[0]
    assert "SecretForbidden" in str(patch)
    assert "give its service account the verb get on secrets there" in str(patch)


def test_a_public_source_needs_no_secret() -> None:
    cluster = settled(make_source())
    assert cluster.condition("CredentialsReady", HUB)["reason"] == "NotNeeded"
    assert cluster.condition("Ready", HUB)["status"] == "True"
    assert FINALIZER not in cluster.world.objects[HUB]["metadata"].get("finalizers", [])


def test_a_claim_that_is_bound_is_ready_and_one_that_waits_is_not() -> None:
    source = make_source(type="PVC", config={"pvcName": "data"})
    assert settled(source, make_claim("data")).condition("Ready", HUB)["status"] == "True"
    waiting = settled(source, make_claim("data", phase="Pending")).condition("Ready", HUB)
    assert waiting["reason"] == "ClaimNotBound"


def test_the_guard_holds_while_a_model_refers_and_lets_go_with_the_last() -> None:
    cluster = settled(make_source(), make_model("a"), make_model("b"))
    assert cluster.status(HUB)["referencedBy"] == ["team-a/a", "team-a/b"]
    cluster.world.remove(HUB)
    cluster.settle()
    ready = cluster.condition("Ready", HUB)
    assert ready["reason"] == "Deleting"
    assert ready["message"] == "Deletion waits until nobody uses the source: team-a/a, team-a/b."
    cluster.world.remove(Ref(MODEL, NS, "a"))
    cluster.settle()
    assert "team-a/a" not in cluster.condition("Ready", HUB)["message"]
    cluster.world.remove(Ref(MODEL, NS, "b"))
    cluster.settle()
    assert HUB not in cluster.world.objects


def test_a_training_that_is_over_holds_nothing() -> None:
    spec = {"dataset": {"source": {"sourceRef": "hub", "repo": "org/data"}}}
    cluster = Cluster(make_source())
    training = Ref(TRAINING, NS, "t")
    cluster.world.put(TRAINING, make_training("t", spec=spec))
    cluster.settle()
    assert cluster.status(HUB)["referencedBy"] == ["Training/team-a/t"]
    cluster.world.edit(training, lambda o: o.update(status={"phase": "Succeeded"}))
    cluster.settle()
    assert "referencedBy" not in cluster.status(HUB)
    assert cluster.world.objects[HUB]["metadata"].get("finalizers") == []


def test_many_references_are_counted_and_the_list_is_bounded() -> None:
    cluster = settled(make_source(), *(make_model(f"m{n:03}") for n in range(120)))
    status = cluster.status(HUB)
    assert status["referencedByCount"] == 120
    assert len(status["referencedBy"]) == 100
    assert len(cluster.world.list(MODELSOURCE)) == 1
