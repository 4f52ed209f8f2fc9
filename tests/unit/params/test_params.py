"""Parameter classes: every field bounded and documented, unset values valid, effective values right."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from modelyard_training.params import RECIPES, DatasetConfig, Params, RunConfig, TextParams, resolve, unset

CLASSES = sorted({r.params for r in RECIPES.values()}, key=lambda c: c.__name__)


def blocks(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Every property of a class and of the classes nested in it."""
    nested = schema.get("$defs", {}).values()
    return [item for s in (schema, *nested) for item in s["properties"].items()]


@pytest.mark.parametrize("cls", [*CLASSES, DatasetConfig], ids=lambda c: c.__name__)
def test_schema_is_structural_bounded_and_documented(cls: type[Params]) -> None:
    for name, prop in blocks(cls.model_json_schema()):
        assert prop.get("description"), name
        assert not {"anyOf", "oneOf", "allOf", "default"} & set(prop), name
        if prop.get("type") in ("integer", "number"):
            assert {"minimum", "exclusiveMinimum"} & set(prop), name
            assert {"maximum", "exclusiveMaximum"} & set(prop), name
        if prop.get("type") == "string":
            assert "enum" in prop or "maxLength" in prop, name
        if prop.get("type") == "array":
            assert "maxItems" in prop, name
            assert {"maxLength", "maximum"} & set(prop["items"]), name


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_what_unset_means_is_itself_allowed(cls: type[Params]) -> None:
    effective = resolve(cls())
    assert set(effective) == {info.alias for info in cls.model_fields.values()}
    cls.model_validate(effective)


def test_every_field_is_optional() -> None:
    for cls in CLASSES:
        assert all(not info.is_required() for info in cls.model_fields.values())


def test_unset_follows_a_sibling() -> None:
    assert resolve(TextParams())["learningRate"] == 5e-5
    assert resolve(TextParams.model_validate({"method": "LoRA"}))["learningRate"] == 5e-4
    assert resolve(TextParams.model_validate({"method": "LoRA", "learningRate": 0.1}))["learningRate"] == 0.1
    assert resolve(TextParams.model_validate({"lora": {"rank": 4}}))["lora"]["alpha"] == 8.0


def test_description_says_what_unset_means() -> None:
    described = TextParams.model_json_schema()["properties"]["batchSize"]["description"]
    assert described.endswith("Unset: 32 (fits a small GPU and is not noisy).")
    assert unset(TextParams, "batch_size") is not None


@pytest.mark.parametrize(
    ("block", "field"),
    [({"epoch": 3}, "epoch"), ({"epochs": 0}, "epochs"), ({"epochs": "3"}, "epochs"), ({"dropout": 1.5}, "dropout")],
)
def test_wrong_parameter_is_named(block: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as error:
        RunConfig.model_validate({"recipe": "tabular-regression", "params": block}).block()
    assert error.value.errors()[0]["loc"] == (field,)


def test_split_is_one_way() -> None:
    with pytest.raises(ValidationError, match="set one of them"):
        DatasetConfig.model_validate({"split": {"validation": "dev.csv", "validationFraction": 0.1}})


def test_config_from_the_environment() -> None:
    config = RunConfig.model_validate_json(
        '{"recipe":"text-classification","params":{"epochs":2},"dataset":{"path":"a.csv","columns":{"label":"y"}},'
        '"checkpoint":{"everySteps":5},"determinism":"Bitwise","model":{"path":"m","kind":"Full"}}'
    )
    assert config.determinism == "Bitwise"
    assert config.checkpoint is not None
    assert config.checkpoint.every_steps == 5
    assert isinstance(config.block(), TextParams)
