"""What is kept of a run: names, forms and steps of what is saved, what nobody saves, and what is somebody else's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelyard.plan import Ref
from modelyard.resources.meta import MODEL, PVC, TRAINING
from support.build import NS, make_model, make_training, make_version
from support.training_life import T, begin, edit_spec, running, saving, succeed
from support.trainings import (
    BAD,
    SUMMARY,
    Yard,
    add_ready_model,
    claim,
    condition,
    end,
    job_ref,
    release,
    run,
    status,
    tabular,
    training,
)


def test_save_is_one_write_on_the_volume_and_makes_a_missing_model(world: Yard) -> None:
    begin(world, **saving())
    assert condition(world, "Saved")[:2] == ("False", "Waiting")
    succeed(world)
    assert world.objects[Ref(MODEL, NS, "kept")]["spec"] == {}
    kept = claim(world, "trn-t-output")
    assert kept["metadata"]["ownerReferences"] == []
    assert kept["metadata"]["labels"]["modelyard.dev/model"] == "kept"
    assert kept["metadata"]["labels"]["modelyard.dev/version"] == "v1"
    record = json.loads(kept["metadata"]["annotations"]["modelyard.dev/saved"])
    assert record["origin"] == "Training/t"
    assert record["uid"] == training(world)["metadata"]["uid"]
    assert (record["path"], record["kind"], record["digest"]) == ("model", "Tabular", SUMMARY["digest"])
    assert record["metadata"]["features"] == ["a", "b"]
    assert record["metadata"]["metrics"] == {"accuracy": 0.97}
    assert record["description"] == "Good."
    assert condition(world, "Saved")[:2] == ("True", "Saved")
    assert status(world)["saved"]["model"] == "kept"
    world.remove(T)
    world.settle()
    assert T not in world.objects
    assert Ref(PVC, NS, "trn-t-output") in world.objects


def test_retention_delete_gives_the_volume_to_the_model(world: Yard) -> None:
    world.put(MODEL, make_model("kept", make_version("base"), retention={"saved": "Delete"}))
    begin(world, **saving())
    succeed(world)
    (owner,) = claim(world, "trn-t-output")["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("Model", "kept", True)


def test_save_can_be_chosen_after_the_end(world: Yard) -> None:
    begin(world)
    succeed(world)
    assert condition(world, "Saved") == ("", "", "")
    edit_spec(world, **saving())
    run(world)
    assert condition(world, "Saved")[:2] == ("True", "Saved")


def test_a_form_that_was_not_made_is_refused_and_mended(world: Yard) -> None:
    begin(world)
    succeed(world)
    edit_spec(world, save={"model": "kept", "version": "v1", "form": "Adapter"})
    run(world)
    refused = condition(world, "Saved")
    assert refused[:2] == ("False", "FormNotAvailable")
    assert "spec.save.form Adapter is not there" in refused[2]
    edit_spec(world, save={"model": "kept", "version": "v1"})
    run(world)
    assert condition(world, "Saved")[:2] == ("True", "Saved")


PICKED = {**SUMMARY, "weights": {"step": 40, "bestStep": 30, "lastStep": 40, "samples": [40, 20]}}


def picture_run(world: Yard, checkpoint: str | None) -> None:
    """An image adapter that kept steps 20 and 40, to be saved."""
    add_ready_model(world, "flux", kind="Full")
    save = {"model": "kept", "version": "v1", **({"checkpoint": checkpoint} if checkpoint else {})}
    recipe = {"name": "text-to-image-lora", "textToImageLoRA": {"prompt": "a cat"}}
    spec = {"model": {"ref": {"name": "flux", "version": "v1"}}, "recipe": recipe, "save": save}
    world.put(TRAINING, make_training("t", spec=spec))
    run(world)
    end(world, running(world), 0, json.dumps({"result": "done", "summary": {**PICKED, "kind": "Adapter"}}))
    run(world)


def kept_record(world: Yard) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(claim(world, "trn-t-output")["metadata"]["annotations"]["modelyard.dev/saved"])
    return found


@pytest.mark.parametrize(
    ("checkpoint", "path", "step"),
    [(None, "model", None), ("Last", "model", 40), ("step-40", "model", 40), ("step-20", "samples/step-00000020", 20)],
)
def test_the_chosen_weights_are_saved(world: Yard, checkpoint: str | None, path: str, step: int | None) -> None:
    picture_run(world, checkpoint)
    record = kept_record(world)
    assert (record["path"], record["metadata"].get("step")) == (path, step)
    assert ("digest" in record) == (path == "model")
    assert record["baseRef"]["name"] == "flux"


def test_weights_that_are_not_there_are_refused_and_another_choice_mends_it(world: Yard) -> None:
    picture_run(world, "step-30")
    assert condition(world, "Saved") == (
        "False",
        "CheckpointNotAvailable",
        "spec.save.checkpoint step-30: the weights of step 30 are not there; there are: step-40 (Last), step-20.",
    )
    edit_spec(world, save={"model": "kept", "version": "v1", "checkpoint": "Best"})
    run(world)
    assert condition(world, "Saved")[1] == "CheckpointNotAvailable"
    assert "Before a run begins, spec.save.checkpoint Best makes it keep them." in condition(world, "Saved")[2]
    edit_spec(world, save={"model": "kept", "version": "v1", "checkpoint": "step-20"})
    run(world)
    assert kept_record(world)["path"] == "samples/step-00000020"


def test_a_step_that_no_run_of_the_recipe_keeps_is_refused_at_once(world: Yard) -> None:
    begin(world, save={"model": "kept", "version": "v1", "checkpoint": "step-5"})
    assert condition(world, "Saved")[1] == "CheckpointNotAvailable"
    assert "keeps no weights of single steps" in condition(world, "Saved")[2]


def test_the_trainer_is_told_what_will_be_saved(world: Yard) -> None:
    begin(world, save={"model": "kept", "version": "v1", "checkpoint": "Last", "keepCheckpoints": True})
    env = world.objects[job_ref()]["spec"]["template"]["spec"]["containers"][0]["env"]
    config = json.loads(next(e["value"] for e in env if e["name"] == "MODELYARD_CONFIG"))
    assert (config["weights"], config["keepCheckpoints"]) == ("Last", True)


@pytest.mark.parametrize("early", [True, False])
def test_a_name_that_the_spec_fetches_is_refused(world: Yard, early: bool) -> None:
    world.put(MODEL, make_model("kept", make_version("v1")))
    begin(world, **saving())
    if not early:
        succeed(world)
    refused = condition(world, "Saved")
    assert refused[:2] == ("False", "VersionExists")
    assert "is one that its spec fetches" in refused[2]
    assert claim(world, "trn-t-output")["metadata"]["ownerReferences"][0]["kind"] == "Training"


def test_a_name_that_another_training_saved_is_refused(world: Yard) -> None:
    begin(world, **saving())
    succeed(world)
    world.put(TRAINING, tabular("u", **saving()))
    run(world, "u")
    assert condition(world, "Saved", "u")[:2] == ("False", "VersionExists")
    edit = Ref(TRAINING, NS, "u")
    world.edit(edit, lambda o: o["spec"]["save"].update(version="v2"))
    run(world, "u")
    assert condition(world, "Saved", "u")[:2] == ("False", "Waiting")


def test_of_two_runs_that_want_one_name_the_older_gets_it(world: Yard) -> None:
    begin(world, **saving())
    world.wait(1)
    world.put(TRAINING, tabular("u", **saving()))
    run(world, "u")
    assert condition(world, "Saved", "u")[:2] == ("False", "NameTaken")
    assert condition(world, "Saved", "t")[:2] == ("False", "Waiting")


def test_a_failed_run_has_nothing_to_save(world: Yard) -> None:
    begin(world, **saving())
    end(world, running(world), 64, BAD)
    run(world)
    assert condition(world, "Saved")[:2] == ("False", "NothingToSave")


def test_a_training_made_again_does_not_touch_the_saved_result(world: Yard) -> None:
    begin(world, **saving())
    succeed(world)
    release(world, job_ref())
    run(world)
    world.remove(T)
    world.settle()
    begin(world, **saving("kept", "v2"))
    uid = training(world)["metadata"]["uid"]
    assert status(world)["output"]["pvc"] == f"trn-t-output-{uid[:8]}"
    succeed(world)
    assert condition(world, "Saved")[:2] == ("True", "Saved")


def test_unsaved_output_goes_after_its_time_with_a_warning(world: Yard) -> None:
    begin(world)
    succeed(world)
    release(world, job_ref())
    edit_spec(world, output={"unsavedTTLSeconds": 1000})
    run(world)
    assert status(world)["output"]["expiresTime"]
    world.wait(950)
    run(world)
    assert condition(world, "Saved")[:2] == ("False", "OutputExpires")
    assert [e.reason for e in world.events if e.reason == "OutputExpires"] == ["OutputExpires"]
    world.wait(51)
    run(world)
    world.settle()
    run(world)
    assert Ref(PVC, NS, "trn-t-output") not in world.objects
    assert T in world.objects
    edit_spec(world, **saving())
    run(world)
    assert condition(world, "Saved")[:2] == ("False", "OutputExpired")
