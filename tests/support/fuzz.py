"""Objects that nobody would write: made from the CRDs' own schemas, at and past every bound, and by one seed the same.

Half of them are the tests' good examples with a few values changed, half are made from nothing.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from typing import Any

from modelyard.resources.crd import DEFINITIONS
from modelyard.resources.meta import GROUP, VERSION
from modelyard.resources.schema import Schema, structural
from support import crd_examples

Obj = dict[str, Any]

_WORDS = (
    "",
    " ",
    "a",
    "hub",
    "gone",
    "-",
    "..",
    "../../etc",
    "A",
    "007",
    "null",
    "$(id)",
    "a\nb",
    "é漢😀\u202e",
    "0",
    "x" * 300,
)
_QUANTITIES = ("0", "-1", "1Gi", "1e400", "9999999999Ei", "1.5", "abc", 0, -1, 2**63)
_OTHERS: tuple[Any, ...] = (None, True, 0, -1, 2**53, 1.5, "text", [], {}, [[]], {"a": {"b": 1}})


def objects(kind: str, count: int, seed: int) -> Iterator[Obj]:
    """So many manifests of one kind, named `fuzz-<kind>-<n>`; most break a rule, some break none."""
    chance = random.Random(f"{kind} {seed}")
    [definition] = [d for d in DEFINITIONS if d.kind.kind == kind]
    schema = structural(definition.spec, "spec")
    good = [dict(e.spec) for e in _examples() if e.kind == kind and e.refused is None and not e.server_only]
    for number in range(count):
        spec = copy.deepcopy(chance.choice(good)) if number % 2 else _made(schema, chance)
        for _ in range(chance.choice((0, 1, 1, 2, 4))):
            change(spec, schema, chance)
        yield {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": kind,
            "metadata": {"name": f"fuzz-{kind.lower()}-{number}"},
            "spec": spec,
        }


def change(spec: Obj, schema: Schema, chance: random.Random) -> None:
    """Sets one value, anywhere in the spec, to one that is at a bound, past it, of another type, or unknown."""
    node, at = spec, schema
    while True:
        known = at.get("properties") or {}
        if chance.random() < 0.04:
            node[chance.choice(("unknown", "é", "a" * 80))] = chance.choice(_OTHERS)
            return
        if not known:
            node[chance.choice(_WORDS)] = chance.choice(_WORDS)
            return
        name = chance.choice(list(known))
        below = known[name]
        child = node.get(name)
        if below.get("type") == "array" and isinstance(child, list) and child and chance.random() < 0.7:
            child, below = chance.choice(child), below["items"]
        if isinstance(child, dict) and below.get("type") == "object" and chance.random() < 0.8:
            node, at = child, below
            continue
        if chance.random() < 0.1:
            node.pop(name, None)
        else:
            node[name] = chance.choice(_OTHERS) if chance.random() < 0.2 else _edge(known[name], chance)
        return


def _made(schema: Schema, chance: random.Random) -> Obj:
    """What the schema asks for, and some of what it allows."""
    made: Obj = {}
    needed = schema.get("required") or ()
    for name, below in (schema.get("properties") or {}).items():
        if name in needed or chance.random() < 0.15:
            made[name] = _value(below, chance)
    return made


def _value(schema: Schema, chance: random.Random) -> Any:
    """A value that the schema takes, as a rule."""
    if schema.get("x-kubernetes-int-or-string"):
        return chance.choice(("1Gi", "500m", 2))
    if "enum" in schema:
        return chance.choice(schema["enum"])
    match schema["type"]:
        case "string":
            return chance.choice(("a", "hub", "1h", "1.5", "name-1"))[: schema.get("maxLength", 8)]
        case "integer":
            return schema.get("minimum", 1)
        case "number":
            return schema.get("minimum", 0.5)
        case "boolean":
            return chance.random() < 0.5
        case "array":
            return [_value(schema["items"], chance) for _ in range(chance.randint(schema.get("minItems", 0), 2))]
        case _:
            if "properties" in schema:
                return _made(schema, chance)
            more = schema.get("additionalProperties")
            return {"key": _value(more, chance)} if isinstance(more, Mapping) and more.get("type") else {}


def _edge(schema: Schema, chance: random.Random) -> Any:
    """A value at a bound of the schema, or one past it."""
    if schema.get("x-kubernetes-int-or-string"):
        return chance.choice(_QUANTITIES)
    if "enum" in schema:
        return chance.choice((*schema["enum"], "Other", ""))
    match schema["type"]:
        case "string":
            most = schema.get("maxLength", 64)
            return chance.choice((*_WORDS, *_QUANTITIES[:5], "a" * most, "a" * (most + 1), "漢" * most))
        case "integer" | "number":
            bounds = [schema[k] + step for k in ("minimum", "maximum") if k in schema for step in (-1, 0, 1)]
            return chance.choice((*bounds, 0, -1, 2**31, 2**63 - 1, 1.5))
        case "boolean":
            return chance.random() < 0.5
        case "array":
            most = min(schema.get("maxItems", 16), 300)
            count = chance.choice((0, 1, most, most + 1))
            same = _value(schema["items"], chance)
            return [_numbered(same, n) if chance.random() < 0.95 else same for n in range(count)]
        case _:
            if "properties" in schema:
                return _made(schema, chance)
            most = min(schema.get("maxProperties", 16), 300)
            return {f"key-{n}": "value" for n in range(chance.choice((0, 1, most, most + 1)))}


def _numbered(value: Any, number: int) -> Any:
    """The same, told apart by its name."""
    if isinstance(value, dict) and "name" in value:
        return {**value, "name": f"n{number}"}
    return f"{value}{number}" if isinstance(value, str) else value


def _examples() -> Iterator[crd_examples.Example]:
    for found in vars(crd_examples).values():
        if isinstance(found, list):
            yield from (e for e in found if isinstance(e, crd_examples.Example))
