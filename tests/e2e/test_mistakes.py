"""Bad input, seen end to end: each mistake is said in words where its owner looks, and mends without a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.place import Obj, Place, condition, custom

VERSION = {"name": "v2", "repo": "sentence-transformers/all-MiniLM-L6-v2"}


def model(name: str, source: str, **version: Any) -> Obj:
    return custom("Model", name, {"sourceRef": source, "versions": [{**VERSION, **version}]})


def version_message(obj: Obj) -> str:
    """All that the only version's conditions say."""
    (version,) = obj["status"]["syncedVersions"]
    return " ".join(c.get("message", "") for c in version.get("conditions", []))


def test_a_secret_without_the_key_is_named_and_mended(place: Place) -> None:
    place.example(
        "wrong-secret.yaml",
        lambda o: o["spec"]["config"].update(endpoint=place.hub_url) if "config" in o.get("spec", {}) else None,
    )
    source = place.until(
        "modelsource", "hub-with-wrong-secret", lambda o: condition(o, "Ready").get("status") == "False"
    )
    said = condition(source, "CredentialsReady")["message"]
    assert "token" in said
    assert "wrong-token" in said
    waiting = place.until("model", "minilm-with-wrong-secret", lambda o: condition(o, "Ready").get("status") == "False")
    assert "hub-with-wrong-secret" in condition(waiting, "Ready")["message"] + version_message(waiting)

    place.secret(
        "wrong-token",
        {"token": place.kubectl("get", "secret", "hub-token", "-o", "go-template={{.data.token | base64decode}}")},
    )
    place.until("modelsource", "hub-with-wrong-secret", lambda o: condition(o, "Ready").get("status") == "True")
    place.until_phase("model", "minilm-with-wrong-secret", "Ready")


@pytest.mark.parametrize(
    ("change", "reason", "said"),
    [
        pytest.param({"repo": "sentence-transformers/no-such-model"}, "NotFound", "no-such-model", id="no such repo"),
        pytest.param({"revision": "no-such-branch"}, "NotFound", "no-such-branch", id="no such revision"),
        pytest.param({"include": ["*.nothing"]}, "NoMatch", "*.nothing", id="nothing matches"),
    ],
)
def test_what_the_hub_does_not_have_fails_at_once(place: Place, change: dict[str, Any], reason: str, said: str) -> None:
    place.apply(model("wrong", "hub", **change))
    failed = place.until("model", "wrong", lambda o: o.get("status", {}).get("phase") == "Failed")
    (version,) = failed["status"]["syncedVersions"]
    assert reason in {c["reason"] for c in version["conditions"]}
    assert said in version_message(failed)


def test_a_wrong_token_is_told_apart_from_a_missing_one(place: Place) -> None:
    place.secret("bad-token", {"token": "hf_not_the_right_one"})
    place.apply_source("hub-with-bad-token", "bad-token")
    place.apply(model("refused", "hub-with-bad-token"))
    failed = place.until("model", "refused", lambda o: o.get("status", {}).get("phase") == "Failed")
    (version,) = failed["status"]["syncedVersions"]
    assert {"Unauthorized", "Forbidden"} & {c["reason"] for c in version["conditions"]}
    assert "hf_not_the_right_one" not in str(failed)


def test_an_unreachable_hub_is_tried_again_and_says_so(place: Place) -> None:
    place.apply_source("nowhere", "hub-token", endpoint=f"http://nowhere.{place.namespace}.svc:8080")
    place.apply(model("waiting", "nowhere"))
    trying = place.until("model", "waiting", lambda o: "Unreachable" in str(o.get("status")))
    assert trying["status"]["phase"] in ("Processing", "Failed")


def remove_column(training: Obj) -> None:
    training["spec"]["dataset"]["columns"]["target"] = "no_such_column"


def unknown_base(training: Obj) -> None:
    training["spec"]["model"] = {"ref": {"name": "nobody", "version": "v1"}}


@pytest.mark.parametrize(
    ("example", "change", "phase", "said"),
    [
        pytest.param("training-tabular.yaml", remove_column, "Validating", "no_such_column", id="missing column"),
        pytest.param("training-text.yaml", unknown_base, "Validating", "nobody", id="no such base model"),
    ],
)
def test_a_training_says_what_is_wrong(
    place: Place, example: str, change: Callable[[Obj], None], phase: str, said: str
) -> None:
    place.example(example, change)
    name = "breast-cancer" if example == "training-tabular.yaml" else "docstrings"
    stalled = place.until("training", name, lambda o: condition(o, "Stalled").get("status") == "True")
    assert stalled["status"]["phase"] == phase
    assert said in stalled["status"]["message"]


def test_the_api_server_refuses_what_the_schema_knows(place: Place) -> None:
    from deploy.shell import CommandError

    def typo(training: Obj) -> None:
        training["spec"]["recipe"]["tabular"]["epoch"] = 3

    with pytest.raises(CommandError, match="epoch"):
        place.example("training-tabular.yaml", typo)


def test_a_full_volume_is_said_in_numbers(place: Place) -> None:
    place.apply(model("small", "hub", storage={"resources": {"requests": {"storage": "1Mi"}}}))
    seen = place.until("model", "small", lambda o: o.get("status", {}).get("phase") in ("Ready", "Failed"))
    # A hostPath volume has no size of its own, so it may well fit: then what is used is shown.
    (version,) = seen["status"]["syncedVersions"]
    assert version.get("observedStorage") or "DiskFull" in str(version["conditions"])
