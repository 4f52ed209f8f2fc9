"""What is wrong with a manifest, said once and in words: where, what, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from modelyard.resources.markers import RULE_BROKEN

_SHOWN: Final = 5

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Problem:
    """`path` is a field as `kubectl explain` names it (`spec.recipe.tabular.epochs`); `message` is for people."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class ManifestError(ValueError):
    """A manifest that cannot be read. `problems` is never empty, and str() of this may be shown to the user."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(describe(self.problems))


def describe(problems: Iterable[Problem]) -> str:
    """All problems as one text for a condition: the first few, and how many more there are."""
    found = list(problems)
    text = "; ".join(str(p) for p in found[:_SHOWN])
    return text if len(found) <= _SHOWN else f"{text}; and {len(found) - _SHOWN} more"


def parse(model: type[M], raw: Mapping[str, Any] | None, *, at: str = "spec") -> M:
    """`raw` as `model`. Raises ManifestError, whose words hold no value from the manifest [it may be a secret]."""
    try:
        return model.model_validate(dict(raw or {}))
    except ValidationError as error:
        raise ManifestError(_problem(e, at) for e in error.errors(include_url=False, include_input=False)) from None


def _problem(error: Mapping[str, Any], at: str) -> Problem:
    return Problem(_path(at, error["loc"]), _words(error["type"], error.get("ctx", {}), error["msg"]))


def _path(at: str, location: Iterable[int | str]) -> str:
    path = at
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path


def _words(kind: str, context: Mapping[str, Any], message: str) -> str:
    match kind:
        case "extra_forbidden":
            return "there is no such field; check the spelling with kubectl explain"
        case "missing":
            return "is required"
        case "literal_error":
            return f"must be one of {context['expected']}"
        case "string_pattern_mismatch":
            return f"must match {context['pattern']}"
        case "value_error":
            return str(context["error"])
        case _ if kind == RULE_BROKEN:
            return message
        case _:
            return message[:1].lower() + message[1:]
