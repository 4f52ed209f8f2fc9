"""From a pydantic type to the structural OpenAPI schema that a CRD takes.

An allow-list: each construct either has an exact translation or stops the generator with the path of the field. The
API server drops some of what it does not know without a word, so nothing may reach it that is not meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

Schema = dict[str, Any]

_DROPPED: Final = frozenset({"title", "default", "examples", "deprecated", "readOnly", "writeOnly", "$defs"})
_PASSED: Final = frozenset(
    {
        "description",
        "enum",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-map-type",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-validations",
    }
)
_HANDLED: Final = frozenset(
    {
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "items",
        "pattern",
        "properties",
        "propertyNames",
        "required",
        "type",
        "x-kubernetes-int-or-string",
    }
)
_SCALARS: Final = ("string", "integer", "number", "boolean")
_UNSAFE_IN_RE2: Final = ("(?=", "(?!", "(?<", "(?P=", "\\1")


class SchemaError(ValueError):
    """A type says something that a CRD cannot. Names the field."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")


def structural(model: type[BaseModel], at: str) -> Schema:
    """The structural schema of `model`. SchemaError, with a path below `at`, for what a CRD cannot express."""
    generated = model.model_json_schema(by_alias=True)
    return _Walker(generated.get("$defs", {})).walk(generated, at, ())


class _Walker:
    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def walk(self, node: Schema, at: str, inside: tuple[str, ...]) -> Schema:
        if "$ref" in node:
            name = node["$ref"].removeprefix("#/$defs/")
            if name in inside:
                raise SchemaError(at, f"{name} contains itself, which a CRD cannot express")
            beside = {k: v for k, v in node.items() if k != "$ref"}
            return self.walk({**self._definitions[name], **beside}, at, (*inside, name))
        if "anyOf" in node and not node.get("x-kubernetes-int-or-string"):
            return self.walk(self._only_choice(node, at), at, inside)
        if unknown := sorted(set(node) - _DROPPED - _PASSED - _HANDLED):
            raise SchemaError(at, f"has {', '.join(unknown)}, for which there is no translation")
        result = {k: v for k, v in node.items() if k in _PASSED}
        if "pattern" in node:
            if any(token in node["pattern"] for token in _UNSAFE_IN_RE2):
                raise SchemaError(at, "has a pattern that RE2 does not know; write a rule instead")
            result["pattern"] = node["pattern"]
        if "const" in node:
            result["enum"] = [node["const"]]
        if node.get("x-kubernetes-int-or-string"):
            return {**result, "x-kubernetes-int-or-string": True, "anyOf": node["anyOf"]}
        result["type"] = kind = node.get("type")
        if kind == "object":
            self._object(node, result, at, inside)
        elif kind == "array":
            self._array(node, result, at, inside)
        elif kind in _SCALARS:
            self._scalar(node, result, at)
        else:
            raise SchemaError(at, "has no single type")
        return result

    def _only_choice(self, node: Schema, at: str) -> Schema:
        choices = [c for c in node["anyOf"] if c != {"type": "null"}]
        if len(choices) != 1:
            raise SchemaError(at, "is a union of types, which a CRD cannot express")
        return {**choices[0], **{k: v for k, v in node.items() if k != "anyOf"}}

    def _object(self, node: Schema, result: Schema, at: str, inside: tuple[str, ...]) -> None:
        if "properties" in node:
            result["properties"] = {
                name: self.walk(child, f"{at}.{name}", inside) for name, child in node["properties"].items()
            }
            if node.get("required"):
                result["required"] = list(node["required"])
            return
        values = node.get("additionalProperties")
        if isinstance(values, dict) and values:
            if "maxProperties" not in node:
                raise SchemaError(at, "is a map without a bound; add max_length")
            result["additionalProperties"] = self.walk(values, f"{at}.*", inside)
        elif not node.get("x-kubernetes-preserve-unknown-fields"):
            raise SchemaError(at, "is an object without fields; mark it as open if that is meant")

    def _array(self, node: Schema, result: Schema, at: str, inside: tuple[str, ...]) -> None:
        if "maxItems" not in node:
            raise SchemaError(at, "is a list without a bound; add max_length")
        if "items" not in node:
            raise SchemaError(at, "is a list without one type for its items")
        result["items"] = items = self.walk(node["items"], f"{at}[]", inside)
        for key in node.get("x-kubernetes-list-map-keys", ()):
            if key not in items.get("required", ()):
                raise SchemaError(at, f"is a map by {key}, which its items do not require")

    def _scalar(self, node: Schema, result: Schema, at: str) -> None:
        kind = node["type"]
        if kind == "string":
            if node.get("format") == "date-time":
                result["format"] = "date-time"
            elif "format" in node:
                raise SchemaError(at, f"has the format {node['format']}, which the API server does not check")
            if "maxLength" not in node and "enum" not in result:
                raise SchemaError(at, "is text without a bound; add max_length")
        if kind == "integer":
            result["format"] = "int64"
        for ours, plain in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if ours in node:
                result[plain], result[ours] = node[ours], True
