"""The CRDs against a real API server: nothing is dropped in silence, and every rule lets through and refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from kubernetes.client import ApiException

from modelyard.resources.crd import DEFINITIONS, Definition, document
from support.crd_examples import CHANGES, EXAMPLES, Change, Example, training
from support.schema_check import nodes

from .conftest import Api

ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def expected(refused: str | None) -> Iterator[None]:
    """Passes if the server accepts (None), or refuses in words that contain these."""
    if refused is None:
        yield
        return
    with pytest.raises(ApiException) as error:
        yield
    message = json.loads(error.value.body)["message"]
    assert error.value.status in (400, 422)
    assert refused in message


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.kind.kind)
def test_what_is_posted_is_what_is_read(api: Api, definition: Definition) -> None:
    wanted = document(definition)["spec"]
    found = json.loads(api.kubectl("get", "crd", f"{definition.kind.plural}.modelyard.dev", "-o", "json"))
    assert found["spec"]["names"] == wanted["names"]
    [version], [wanted_version] = found["spec"]["versions"], wanted["versions"]
    assert version == wanted_version
    conditions = {c["type"]: c["status"] for c in found["status"]["conditions"]}
    assert conditions.get("NonStructuralSchema", "False") == "False"
    assert conditions["NamesAccepted"] == "True"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.id)
def test_rules(api: Api, example: Example) -> None:
    with expected(example.refused):
        created = api.create(example.kind, example.name, example.spec)
        api.delete(example.kind, example.name)
        assert created["spec"] == example.spec, "the server adds no default"


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.id)
def test_changes(api: Api, change: Change) -> None:
    obj = api.create("Training", change.id.lower(), change.before)
    try:
        obj = api.replace({**obj, "status": change.status}, status=True)
        with expected(change.refused):
            if change.new_status is not None:
                api.replace({**obj, "status": change.new_status}, status=True)
            else:
                api.replace({**obj, "spec": change.after})
    finally:
        api.delete("Training", change.id.lower())


def test_every_rule_has_an_example_that_it_refuses() -> None:
    words = [e.refused for e in EXAMPLES if e.refused] + [c.refused for c in CHANGES if c.refused]
    rules = [
        rule["message"]
        for definition in DEFINITIONS
        for node in nodes(document(definition)["spec"]["versions"])
        for rule in node.get("x-kubernetes-validations", ())
    ]
    assert [message for message in rules if not any(w in message for w in words)] == []


def test_the_examples_of_the_repository(api: Api) -> None:
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        for manifest in yaml.safe_load_all(path.read_text()):
            if manifest["apiVersion"].startswith("modelyard.dev/"):
                api.create(manifest["kind"], manifest["metadata"]["name"], manifest["spec"])
                api.delete(manifest["kind"], manifest["metadata"]["name"])


def test_two_writers_share_a_status(api: Api) -> None:
    condition = {
        "type": "Running",
        "status": "True",
        "reason": "Started",
        "message": "",
        "lastTransitionTime": "2026-11-21T01:00:00Z",
        "observedGeneration": 1,
    }
    obj = api.create("Training", "two-writers", training())
    try:
        obj = api.apply_status(
            obj,
            {
                "phase": "Running",
                "conditions": [condition],
                "history": [{"attempt": 1, "cause": "Suspended"}],
                "effectiveParams": {"epochs": 3, "hiddenSizes": [4, 4], "learningRate": 0.001, "x": None},
                "checkpoint": {"last": {"step": 10}},
            },
            "modelyard",
        )
        obj = api.apply_status(
            obj,
            {
                "progress": {"percent": 40, "step": 4, "epoch": 0.5},
                "metrics": {"loss": 0.5, "accuracy": 1},
                "epochs": [{"epoch": 1, "metrics": {"loss": 0.5}}],
                "checkpoint": {"lastReported": {"step": 12, "path": "checkpoints/step-00000012"}},
            },
            "modelyard-collector",
        )
        obj = api.apply_status(obj, {"phase": "Succeeded", "conditions": [condition]}, "modelyard")
    finally:
        api.delete("Training", "two-writers")
    assert obj["status"]["metrics"] == {"loss": 0.5, "accuracy": 1}
    assert obj["status"]["phase"] == "Succeeded"
    assert "history" not in obj["status"]
    assert obj["status"]["checkpoint"] == {"lastReported": {"step": 12, "path": "checkpoints/step-00000012"}}


def test_columns(api: Api) -> None:
    obj = api.create("Training", "columns", training(compute={"gpu": "H100:8"}))
    try:
        api.replace(
            {
                **obj,
                "status": {
                    "phase": "Running",
                    "reason": "Started",
                    "progress": {"percent": 40, "step": 4, "etaSeconds": 90},
                    "metrics": {"loss": 0.25},
                    "attempts": {"number": 2},
                    "cost": {"estimatedUSD": "1.50"},
                },
            },
            status=True,
        )
        head, row = api.kubectl("get", "trn").splitlines()
        assert head.split() == ["NAME", "PHASE", "PROGRESS", "STEP", "LOSS", "ETA", "GPU", "TRY", "COST", "AGE"]
        assert row.split()[:-1] == ["columns", "Running", "40", "4", "0.25", "90", "H100:8", "2", "1.50"]
        assert api.kubectl("get", "trn", "--field-selector", "status.phase=Running", "-o", "name").strip() == (
            "training.modelyard.dev/columns"
        )
        assert "columns" in api.kubectl("get", "modelyard")
    finally:
        api.delete("Training", "columns")
