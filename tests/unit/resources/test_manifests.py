"""The types judge the shared examples as the API server does, and say in words what is wrong."""

from __future__ import annotations

import pytest

from modelyard.resources.model import ModelSpec
from modelyard.resources.modelsource import ModelSourceSpec
from modelyard.resources.problems import ManifestError, Problem, describe, parse
from modelyard.resources.training.recipe import BLOCKS
from modelyard.resources.training.spec import TrainingSpec
from modelyard.resources.training.status import TrainingStatus
from modelyard_training.params import RECIPES, TabularParams
from support.crd_examples import EXAMPLES, Example, training

SPECS: dict[str, type[ModelSourceSpec] | type[ModelSpec] | type[TrainingSpec]] = {
    "ModelSource": ModelSourceSpec,
    "Model": ModelSpec,
    "Training": TrainingSpec,
}


@pytest.mark.parametrize("example", [e for e in EXAMPLES if not e.server_only], ids=lambda e: e.id)
def test_examples(example: Example) -> None:
    if example.refused is None:
        parse(SPECS[example.kind], example.spec)
        return
    with pytest.raises(ManifestError) as error:
        parse(SPECS[example.kind], example.spec)
    assert example.refused in str(error.value)
    assert str(error.value).startswith("spec")


def test_words_hold_no_value_of_the_manifest() -> None:
    spec = training(
        compute={"env": [{"name": "A B", "value": "hunter2", "valueFrom": {"x": "hunter2"}}], "gpu": "hunter2!"}
    )
    with pytest.raises(ManifestError) as error:
        parse(TrainingSpec, spec)
    assert "hunter2" not in str(error.value)
    assert Problem(
        "spec.compute.env[0].valueFrom.x", "there is no such field; check the spelling with kubectl explain"
    ) in (error.value.problems)


def test_many_problems_are_counted() -> None:
    text = describe(Problem(f"spec.f{n}", "is wrong") for n in range(7))
    assert text.startswith("spec.f0: is wrong; spec.f1")
    assert text.endswith("and 2 more")


def test_parameters_of_the_named_recipe() -> None:
    spec = parse(TrainingSpec, training(recipe={"name": "tabular-regression", "tabular": {"epochs": 9}}))
    assert spec.recipe.params() == TabularParams(epochs=9)
    assert parse(TrainingSpec, training()).recipe.params() == TabularParams()
    assert set(BLOCKS) == {recipe.block for recipe in RECIPES.values()} == set(spec.recipe.blocks())


def test_a_status_of_a_newer_version_can_be_read() -> None:
    status = parse(TrainingStatus, {"phase": "Running", "invented": {"later": 1}, "metrics": {"loss": 1}}, at="status")
    assert status.phase == "Running"
    assert status.metrics == {"loss": 1.0}
