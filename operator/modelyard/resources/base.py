"""What every type of the API is made of: camelCase names, strict specs, lenient statuses, and rules in two languages.

A `Rule` states one constraint across fields once: as CEL, which the API server enforces, and as a Python predicate,
which guards an operator that runs against an older CRD. Rules about a change (`oldSelf`) exist in CEL alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from modelyard.resources.markers import RULE_BROKEN
from modelyard_training.params.common import Unset


@dataclass(frozen=True, slots=True)
class Rule:
    """One constraint of a type: `cel` over `self`, the message that says what to do, and the same in Python.

    `holds` gets the parsed value. It is None where the constraint is about a change or about metadata.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool] | None = None


class Ruled(BaseModel):
    """A type with rules. A mixin, so that the trainer's parameter classes can carry rules of the manifest too."""

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        for rule in self.rules:
            if rule.holds is not None and not rule.holds(self):
                raise PydanticCustomError(RULE_BROKEN, "{text}", {"text": rule.message})
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        result = super().__get_pydantic_json_schema__(core_schema, handler)
        if cls.rules:
            schema = handler.resolve_ref_schema(result)
            schema["x-kubernetes-validations"] = [{"rule": r.cel, "message": r.message} for r in cls.rules]
        return result


class KubeModel(Ruled):
    """A value in the API. Frozen, because views share what they hold."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class Spec(KubeModel):
    """Part of a spec: unknown fields are errors, and nothing has a default in the CRD (unset is written in words)."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        result = super().__get_pydantic_json_schema__(core_schema, handler)
        properties = handler.resolve_ref_schema(result).get("properties", {})
        for name, info in cls.model_fields.items():
            if (meaning := next((m for m in info.metadata if isinstance(m, Unset)), None)) is not None:
                shown = properties[info.alias or name]
                shown["description"] = f"{shown['description']} {meaning.text()}"
        return result


class Status(KubeModel):
    """Part of a status: unknown fields are left out, so that a status written by a newer version can be read."""

    model_config = ConfigDict(extra="ignore")


def exactly_one(*names: str) -> str:
    """CEL: exactly one of these optional fields of `self` is set."""
    return "[" + ", ".join(f"has(self.{name})" for name in names) + "].filter(x, x).size() == 1"


def at_most_one(*names: str) -> str:
    """CEL: no two of these optional fields of `self` are set."""
    return "[" + ", ".join(f"has(self.{name})" for name in names) + "].filter(x, x).size() <= 1"
