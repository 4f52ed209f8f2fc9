"""What all answers are made of, and `pick`: the part of an observed object that a type names."""

from __future__ import annotations

import types
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Dto(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, serialize_by_alias=True
    )

    def json_bytes(self) -> bytes:
        """As JSON; what is unset is left out."""
        return self.model_dump_json(by_alias=True, exclude_none=True).encode()


Severity = Literal["ok", "busy", "waiting", "problem", "unknown"]


class Condition(Dto):
    """One thing that is known about an object."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class Ref(Dto):
    """One object."""

    kind: str
    namespace: str
    name: str


class Summary(Dto):
    """What every row of a list says."""

    kind: str = Field(description="Kind of the object.")
    namespace: str
    name: str
    uid: str
    created: str = Field(description="When it was made, RFC 3339.")
    deleting: bool = Field(default=False, description="Its deletion was asked for and waits.")
    labels: dict[str, str] = Field(default={})
    phase: str = Field(description="Where it stands, as one word.")
    severity: Severity = Field(description="The phase as one of a few: ok, busy, waiting, problem, unknown.")
    reason: str | None = Field(default=None, description="Why, as one word.")
    message: str | None = Field(default=None, description="Why, in words.")


class Metadata(Dto):
    """Who an object is. Of the annotations only those that Modelyard reads are shown."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int = 0
    created: str
    deleting: bool = False
    labels: dict[str, str] = Field(default={})
    annotations: dict[str, str] = Field(default={})


def pick(model: type[BaseModel], raw: Mapping[str, Any]) -> dict[str, Any]:
    """Of `raw` what the type names, at every depth, without judging it; nothing else is copied."""
    return {alias: _pick(annotation, raw[alias]) for alias, annotation in _fields(model) if raw.get(alias) is not None}


@cache
def _fields(model: type[BaseModel]) -> tuple[tuple[str, Any], ...]:
    return tuple((info.alias or name, info.annotation) for name, info in model.model_fields.items())


def _pick(annotation: Any, value: Any) -> Any:
    if isinstance(value, str | int | float | bool):
        return value
    annotation = _plain(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return pick(annotation, value) if isinstance(value, Mapping) else None
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _pick(parts[1], item) for key, item in value.items()}
    if origin in (list, tuple) and isinstance(value, list):
        return [_pick(parts[0], item) for item in value]
    return value if annotation is Any else None


def _plain(annotation: Any) -> Any:
    """Without Annotated and Optional."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, types.UnionType):
            members = [part for part in get_args(annotation) if part is not type(None)]
            structured = [m for m in members if get_origin(_plain(m)) or isinstance(_plain(m), type)]
            annotation = next((m for m in structured if _plain(m) not in (str, int, float, bool)), members[0])
        else:
            return annotation
