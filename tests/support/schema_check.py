"""What the API server would say to a spec or status: the CRD's own schema, applied without a server.

A status with a field that the CRD lacks is the dangerous case: the server drops it in silence, and an operator that
compares what it wants with what is there would write it for ever.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Literal

from modelyard.resources.crd import DEFINITIONS
from modelyard.resources.schema import Schema, structural

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (Mapping,),
}


def refusals(kind: str, part: Literal["spec", "status"], value: Mapping[str, Any]) -> list[str]:
    """Every way in which this spec or status breaks the schema of its CRD; CEL rules are not evaluated."""
    return list(_refusals(_schema(kind, part), value, part))


@cache
def _schema(kind: str, part: Literal["spec", "status"]) -> Schema:
    [definition] = [d for d in DEFINITIONS if d.kind.kind == kind]
    return structural(definition.spec if part == "spec" else definition.status, part)


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Every object in a document, from the outside in."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes(child)


def _refusals(schema: Schema, value: Any, at: str) -> Iterator[str]:
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, int | str) or isinstance(value, bool):
            yield f"{at}: {value!r} is neither a number nor text"
        elif isinstance(value, str):
            yield from _scalar(schema, value, at)
        return
    kind = schema["type"]
    fits: bool = isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
    if not fits:
        yield f"{at}: {value!r} is no {kind}"
    elif kind == "object":
        yield from _object(schema, value, at)
    elif kind == "array":
        yield from _array(schema, value, at)
    else:
        yield from _scalar(schema, value, at)


def _array(schema: Schema, value: Any, at: str) -> Iterator[str]:
    if len(value) > schema["maxItems"]:
        yield f"{at}: has {len(value)} items, more than {schema['maxItems']}"
    for index, item in enumerate(value):
        yield from _refusals(schema["items"], item, f"{at}[{index}]")
    if schema.get("x-kubernetes-list-type") == "map":
        keys = [tuple(item.get(k) for k in schema["x-kubernetes-list-map-keys"]) for item in value]
        if len(set(keys)) != len(keys):
            yield f"{at}: two items have the same key"


def _object(schema: Schema, value: Mapping[str, Any], at: str) -> Iterator[str]:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    if "additionalProperties" in schema:
        if len(value) > schema["maxProperties"]:
            yield f"{at}: has {len(value)} keys, more than {schema['maxProperties']}"
        for key, item in value.items():
            yield from _refusals(schema["additionalProperties"], item, f"{at}.{key}")
        return
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{at}.{name}: is required"
    for key, item in value.items():
        if key not in schema["properties"]:
            yield f"{at}.{key}: there is no such field"
        else:
            yield from _refusals(schema["properties"][key], item, f"{at}.{key}")


def _scalar(schema: Schema, value: Any, at: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is not one of {schema['enum']}"
    if isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            yield f"{at}: has {len(value)} characters"
        if "pattern" in schema and re.search(schema["pattern"], value) is None:
            yield f"{at}: {value!r} does not match {schema['pattern']}"
    elif not isinstance(value, bool) and not _in_range(schema, value):
        yield f"{at}: {value!r} is out of range"


def _in_range(schema: Schema, value: float) -> bool:
    low, high = schema.get("minimum", value), schema.get("maximum", value)
    if (schema.get("exclusiveMinimum") and value == low) or (schema.get("exclusiveMaximum") and value == high):
        return False
    return bool(low <= value <= high)
