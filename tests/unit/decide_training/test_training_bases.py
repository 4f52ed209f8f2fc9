"""What a run starts from: base models, adapters, assistants, and the data beside them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelyard.resources.meta import POD, PVC, TRAINING
from support.build import make_claim, make_training
from support.training_life import begin, running
from support.trainings import (
    SUMMARY,
    Yard,
    add_ready_model,
    end,
    job_ref,
    run,
    set_version,
    status,
)


def mounted(world: Yard) -> dict[str, tuple[str, str]]:
    """Of each input of attempt 1: the claim, and where it is mounted."""
    pod = world.objects[job_ref()]["spec"]["template"]["spec"]
    at = {m["name"]: m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
    claims = {v["name"]: v["persistentVolumeClaim"] for v in pod["volumes"] if "persistentVolumeClaim" in v}
    return {name: (c["claimName"], at[name]) for name, c in claims.items() if c.get("readOnly")}


def chat(ref: str) -> dict[str, Any]:
    return make_training(
        "t",
        spec={
            "model": {"ref": {"name": ref, "version": "v1"}},
            "dataset": {"ref": {"model": "rows", "version": "v1"}},
            "recipe": {"name": "causal-lm"},
        },
    )


def add_adapter(world: Yard) -> None:
    add_ready_model(world, "llama", kind="Full")
    add_ready_model(world, "tuned", kind="Adapter")
    base = {"name": "llama", "version": "v1", "resolvedRevision": "c0ffee"}
    set_version(world, "tuned", "v1", phase="Ready", kind="Adapter", baseRef=base)


def test_an_adapter_brings_its_base(world: Yard) -> None:
    add_adapter(world)
    world.put(TRAINING, chat("tuned"))
    run(world)
    assert mounted(world) == {
        "model": ("mdl-llama-v1", "/modelyard/model"),
        "adapter": ("mdl-tuned-v1", "/modelyard/adapter"),
        "dataset": ("mdl-rows-v1", "/modelyard/dataset"),
    }
    assert [(i["name"], i["kind"]) for i in status(world)["inputs"][:2]] == [("model", "Full"), ("adapter", "Adapter")]
    said = json.dumps({"result": "done", "summary": {**SUMMARY, "kind": "Adapter"}})
    end(world, running(world), 0, said)
    run(world)
    base = {"name": "llama", "version": "v1", "resolvedRevision": "c0ffee"}
    assert status(world)["output"]["baseRef"] == base, "its base is the adapter's, not the adapter"


def test_an_adapter_whose_base_moved_on_is_refused(world: Yard) -> None:
    add_adapter(world)
    set_version(world, "llama", "v1", phase="Ready", kind="Full", resolvedRevision="decaf")
    world.put(TRAINING, chat("tuned"))
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Preparing", "BaseChanged")
    assert "was trained on revision c0ffee" in status(world)["message"]
    set_version(world, "llama", "v1", phase="Ready", kind="Full")
    run(world)
    assert job_ref() in world.objects


@pytest.mark.parametrize(
    ("base", "reason", "words"),
    [
        (None, "BaseUnknown", "does not say which base it was trained on"),
        ({"name": "gone", "version": "v1"}, "ModelNotFound", "needs its base: there is no Model gone"),
        ({"name": "rows", "version": "v1"}, "WrongKind", "has a base of kind Data"),
    ],
)
def test_an_adapter_without_its_base_is_refused(world: Yard, base: Any, reason: str, words: str) -> None:
    add_ready_model(world, "tuned", kind="Adapter")
    set_version(world, "tuned", "v1", phase="Ready", kind="Adapter", **({"baseRef": base} if base else {}))
    world.put(TRAINING, chat("tuned"))
    run(world)
    assert (status(world)["phase"], status(world)["reason"]) == ("Validating", reason)
    assert words in status(world)["message"]


def test_an_assistant_is_mounted_beside_the_base(world: Yard) -> None:
    add_ready_model(world, "flux", kind="Full")
    add_ready_model(world, "helper", kind="Full")
    models = {"ref": {"name": "flux", "version": "v1"}, "assistantRef": {"name": "helper", "version": "v1"}}
    recipe = {"name": "text-to-image-lora", "textToImageLoRA": {"prompt": "a cat"}}
    world.put(TRAINING, make_training("t", spec={"model": models, "recipe": recipe}))
    run(world)
    assert mounted(world)["assistant"] == ("mdl-helper-v1", "/modelyard/assistant")
    env = world.objects[job_ref()]["spec"]["template"]["spec"]["containers"][0]["env"]
    values = {e["name"]: e.get("value") for e in env}
    assert values["MODELYARD_ASSISTANT"] == "/modelyard/assistant"
    assert json.loads(str(values["MODELYARD_CONFIG"]))["assistant"]["name"] == "helper"


def test_an_assistant_that_nobody_asks_is_refused(world: Yard) -> None:
    begin(world, model={"assistantRef": {"name": "rows", "version": "v1"}})
    assert status(world)["reason"] == "InvalidSpec"
    assert "has no use for a second model" in status(world)["message"]


def test_a_fine_tuning_mounts_model_and_data(world: Yard) -> None:
    add_ready_model(world, "minilm", kind="Full")
    spec = {
        "model": {"ref": {"name": "minilm", "version": "v1"}},
        "dataset": {"pvc": {"claimName": "mine"}, "path": "texts.csv", "columns": {"text": "t", "label": "l"}},
        "recipe": {"name": "text-classification", "text": {"epochs": 2}},
    }
    world.put(PVC, make_claim("mine"))
    world.put(TRAINING, make_training("t", spec=spec))
    run(world)
    pod = world.objects[job_ref()]["spec"]["template"]["spec"]
    claims = {v["name"]: v["persistentVolumeClaim"] for v in pod["volumes"] if "persistentVolumeClaim" in v}
    assert claims["model"] == {"claimName": "mdl-minilm-v1", "readOnly": True}
    assert claims["dataset"] == {"claimName": "mine", "readOnly": True}
    env = {e["name"]: e.get("value") for e in pod["containers"][0]["env"]}
    config = json.loads(env["MODELYARD_CONFIG"])
    assert config["model"]["resolvedRevision"] == "c0ffee"
    assert config["dataset"] == {"path": "texts.csv", "columns": {"text": "t", "label": "l"}}
    assert config["params"] == {"epochs": 2}
    assert POD not in {r.kind for r in world.objects}
