"""Bad input: each refusal with its message, and how an edit or what was missing mends it."""

from __future__ import annotations

from typing import Any

import pytest

from modelyard.plan import Ref
from modelyard.resources.meta import MODEL, MODELSOURCE, PVC, TRAINING
from support.build import NS, make_claim, make_model
from support.trainings import Yard, add_ready_source, condition, job_ref, run, status, tabular

TEXT = {"recipe": {"name": "text-classification"}}
SOURCE = {"dataset": {"source": {"sourceRef": "hub", "repo": "org/rows"}}}

CASES: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "unknown parameter",
        {"recipe": {"name": "tabular-classification", "tabular": {"epoch": 3}}},
        "InvalidSpec",
        "spec.recipe.tabular.epoch: there is no such field; check the spelling with kubectl explain.",
    ),
    (
        "unsupported field",
        {"compute": {"secretRef": "key"}},
        "NotSupported",
        "spec.compute.secretRef: is not supported yet by this version of Modelyard; remove it.",
    ),
    (
        "no base model",
        TEXT,
        "InvalidSpec",
        "spec.model.ref: is required: recipe text-classification fine-tunes a base model; name its Model.",
    ),
    (
        "a base model from scratch",
        {"model": {"ref": {"name": "rows", "version": "v1"}}},
        "InvalidSpec",
        "spec.model.ref: recipe tabular-classification trains from scratch; remove the base model.",
    ),
    (
        "pictures for a table",
        {"dataset": {"ref": {"model": "rows", "version": "v1"}, "format": "Tar"}},
        "InvalidSpec",
        "spec.dataset.format: Tar is for image recipes; name CSV, JSONL or Parquet.",
    ),
    (
        "a backbone without a base model",
        {"recipe": {"name": "image-classification", "image": {"architecture": "Pretrained"}}},
        "InvalidSpec",
        "spec.recipe.image.architecture: Pretrained goes on from a base model; name it in spec.model.ref.",
    ),
    (
        "a network from scratch on a base model",
        {
            "recipe": {"name": "image-classification", "image": {"architecture": "CNN"}},
            "model": {"ref": {"name": "rows", "version": "v1"}},
        },
        "InvalidSpec",
        "spec.recipe.image.architecture: CNN is trained from scratch; remove spec.model, or set it to Pretrained.",
    ),
    (
        "texts from scratch on a base model",
        {
            "recipe": {"name": "text-classification", "text": {"architecture": "LSTM"}},
            "model": {"ref": {"name": "rows", "version": "v1"}},
        },
        "InvalidSpec",
        "spec.recipe.text.architecture: LSTM is trained from scratch; remove spec.model, or set it to Pretrained.",
    ),
    (
        "no data",
        {"dataset": None},
        "InvalidSpec",
        "spec.dataset: is required: recipe tabular-classification has nothing to learn from.",
    ),
    (
        "a base model that is not there",
        {**TEXT, "model": {"ref": {"name": "bert", "version": "v1"}}},
        "ModelNotFound",
        "spec.model.ref: there is no Model bert in this namespace; create it (models.modelyard.dev), or name another.",
    ),
    (
        "a version that is not there",
        {"dataset": {"ref": {"model": "rows", "version": "v9"}}},
        "VersionNotFound",
        "spec.dataset.ref: Model rows has no version v9; it has: v1.",
    ),
    (
        "data as a base model",
        {**TEXT, "model": {"ref": {"name": "rows", "version": "v1"}}},
        "WrongKind",
        "spec.model.ref: version v1 of Model rows is of kind Data; recipe text-classification starts from a full "
        "model.",
    ),
    (
        "a claim that is not there",
        {"dataset": {"pvc": {"claimName": "mine"}}},
        "ClaimNotFound",
        "spec.dataset.pvc.claimName: there is no PersistentVolumeClaim mine in this namespace; create it, or name "
        "another.",
    ),
    (
        "a source that is not there",
        SOURCE,
        "SourceNotFound",
        "spec.dataset.source.sourceRef: there is no ModelSource hub in this namespace; create it, or name another.",
    ),
    (
        "an unknown GPU",
        {"compute": {"gpu": "H1000:8"}},
        "InvalidSpec",
        "spec.compute.gpu: H1000 is no GPU type known here.",
    ),
    (
        "a slice of a GPU",
        {"compute": {"gpu": "MIG-1g.10gb"}},
        "InvalidSpec",
        "is a slice of a GPU (MIG). Ask for it by the exact value of the nodes' label nvidia.com/gpu.product",
    ),
]


def put(world: Yard, **spec: Any) -> None:
    made = tabular(**spec)
    made["spec"] = {k: v for k, v in made["spec"].items() if v is not None}
    world.put(TRAINING, made)
    run(world)


@pytest.mark.parametrize(("spec", "reason", "message"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_refused(world: Yard, spec: dict[str, Any], reason: str, message: str) -> None:
    put(world, **spec)
    found = status(world)
    assert (found["phase"], found["reason"]) == ("Validating", reason)
    assert message in found["message"]
    assert condition(world, "Validated") == ("False", reason, found["message"])
    assert condition(world, "Stalled")[0] == "True"
    assert condition(world, "Reconciling")[0] == "False"
    assert not found.get("frozen")
    assert job_ref() not in world.objects
    assert [e.type for e in world.events] == ["Warning"]


def test_an_edit_mends_it(world: Yard) -> None:
    put(world, compute={"secretRef": "key"})
    world.edit(Ref(TRAINING, NS, "t"), lambda o: o["spec"].pop("compute"))
    run(world)
    assert condition(world, "Validated")[0] == "True"
    assert condition(world, "Stalled")[0] == "False"
    assert job_ref() in world.objects


def test_what_was_missing_mends_it(world: Yard) -> None:
    put(world, dataset={"pvc": {"claimName": "mine"}})
    world.put(PVC, make_claim("mine"))
    run(world)
    assert job_ref() in world.objects


def test_a_source_that_is_not_ready_is_waited_for(world: Yard) -> None:
    add_ready_source(world)
    bad = {"type": "Ready", "status": "False", "reason": "SecretNotFound", "message": "Secret 'token' is not there."}
    world.edit(Ref(MODELSOURCE, NS, "hub"), lambda o: o.update(status={"conditions": [bad]}))
    put(world, **SOURCE)
    assert (status(world)["phase"], status(world)["reason"]) == ("Preparing", "SourceNotReady")
    assert status(world)["message"] == "ModelSource hub is not ready: Secret 'token' is not there."
    assert condition(world, "Stalled")[0] == "True"


def test_a_model_that_goes_away_is_said(world: Yard) -> None:
    world.put(MODEL, make_model("going", finalizers=["x"]))
    world.remove(Ref(MODEL, NS, "going"))
    put(world, dataset={"ref": {"model": "going", "version": "v1"}})
    assert status(world)["reason"] == "ModelTerminating"
