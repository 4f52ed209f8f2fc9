"""Markers in `Annotated` that put what Kubernetes knows and JSON Schema does not into the generated schemas.

They change nothing about how a value is parsed, but for `KeyPattern`, which holds in Python too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

RULE_BROKEN: Final = "rule_broken"
"""The pydantic error type under which a broken rule is reported; its message is meant for the user as it stands."""


@dataclass(frozen=True, slots=True)
class ListMap:
    """A list whose items are told apart by these keys: server-side apply merges it item by item."""

    keys: tuple[str, ...]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            **handler(core),
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": list(self.keys),
        }


@dataclass(frozen=True, slots=True)
class ListType:
    """`set`: scalars, each at most once. `atomic`: replaced whole by whoever writes it."""

    name: str

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(core), "x-kubernetes-list-type": self.name}


@dataclass(frozen=True, slots=True)
class MapType:
    """`granular`: each key has its own owner. `atomic`: the map or object is replaced whole."""

    name: str

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler.resolve_ref_schema(handler(core)) if self.name == "atomic" else handler(core)
        return {**schema, "x-kubernetes-map-type": self.name}


@dataclass(frozen=True, slots=True)
class KeyPattern:
    """What the keys of a map must look like; in the CRD as a rule, since structural schemas have no key patterns."""

    pattern: str
    message: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        rule = {"rule": f"self.all(k, k.matches(r'{self.pattern}'))", "message": self.message}
        return {**handler(core), "x-kubernetes-validations": [rule]}

    def _check(self, value: dict[str, Any]) -> dict[str, Any]:
        if not all(re.search(self.pattern, key) for key in value):
            raise PydanticCustomError(RULE_BROKEN, "{text}", {"text": self.message})
        return value


@dataclass(frozen=True, slots=True)
class IntOrString:
    """A value that YAML writes as a number or as text (`4`, `500m`, `20Gi`)."""

    pattern: str
    max_length: int

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "x-kubernetes-int-or-string": True,
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": self.pattern,
            "maxLength": self.max_length,
        }


@dataclass(frozen=True, slots=True)
class Open:
    """An object of any shape, kept as it is. Only for a status, where we write it ourselves."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
