"""What a CRD cannot say stops the generator with the field's path; nothing is dropped on the way."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from modelyard.resources.markers import ListMap
from modelyard.resources.schema import SchemaError, structural


class Item(BaseModel):
    name: Annotated[str, Field(max_length=9)] = "x"


class Loop(BaseModel):
    again: Loop | None = None


class Good(BaseModel):
    above: Annotated[float, Field(gt=0, lt=1)]
    count: Annotated[int, Field(ge=1)] | None = None
    only: Literal["a"] = "a"
    some: Annotated[list[int], Field(max_length=3)] = []


def test_translations() -> None:
    assert structural(Good, "spec") == {
        "type": "object",
        "required": ["above"],
        "properties": {
            "above": {
                "type": "number",
                "minimum": 0,
                "exclusiveMinimum": True,
                "maximum": 1,
                "exclusiveMaximum": True,
            },
            "count": {"type": "integer", "format": "int64", "minimum": 1},
            "only": {"type": "string", "enum": ["a"]},
            "some": {"type": "array", "maxItems": 3, "items": {"type": "integer", "format": "int64"}},
        },
    }


class Union(BaseModel):
    value: int | bool


class FreeText(BaseModel):
    value: str


class FreeList(BaseModel):
    value: list[int]


class FreeMap(BaseModel):
    value: dict[str, int]


class AnyObject(BaseModel):
    value: dict[str, Any]


class Anything(BaseModel):
    value: Any


class Pair(BaseModel):
    value: tuple[int, bool]


class LookAhead(BaseModel):
    value: Annotated[str, Field(max_length=9, json_schema_extra={"pattern": "^(?!x)"})]


class Keyed(BaseModel):
    value: Annotated[list[Item], Field(max_length=9), ListMap(("name",))]


class Multiple(BaseModel):
    value: Annotated[int, Field(multiple_of=2)]


class Email(BaseModel):
    value: Annotated[str, Field(max_length=9, json_schema_extra={"format": "email"})]


@pytest.mark.parametrize(
    ("model", "path", "words"),
    [
        (Union, "spec.value", "union"),
        (FreeText, "spec.value", "text without a bound"),
        (FreeList, "spec.value", "list without a bound"),
        (FreeMap, "spec.value", "map without a bound"),
        (AnyObject, "spec.value", "object without fields"),
        (Anything, "spec.value", "no single type"),
        (Pair, "spec.value", "prefixItems"),
        (LookAhead, "spec.value", "RE2"),
        (Keyed, "spec.value", "do not require"),
        (Multiple, "spec.value", "multipleOf"),
        (Email, "spec.value", "format email"),
        (Loop, "spec.again", "contains itself"),
    ],
    ids=lambda v: v.__name__ if isinstance(v, type) else "",
)
def test_refusals(model: type[BaseModel], path: str, words: str) -> None:
    with pytest.raises(SchemaError) as error:
        structural(model, "spec")
    assert str(error.value).startswith(path)
    assert words in str(error.value)
