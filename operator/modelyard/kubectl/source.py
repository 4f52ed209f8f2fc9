"""Where rows come from: the status API or the cluster itself. Both answer alike: nothing behind this differs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

Json = dict[str, Any]


class SourceError(Exception):
    """It cannot be had; the text says why and what to do."""


class BusyError(SourceError):
    """It cannot be had just now; the same question may be answered later."""


class MissingError(SourceError):
    """There is no such object."""


class DeniedError(SourceError):
    """One may not have it."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where to look: one namespace, or None for all that one may see."""

    namespace: str | None


class LogPart(NamedTuple):
    """Lines of a pod's log with the time of each. `cut`: there are more."""

    pod: str
    lines: list[tuple[str, str]]
    cut: bool


class Source(Protocol):
    """Everything that the commands ask."""

    words: str
    """What it is, for people."""

    def namespaces(self) -> list[str]:
        """Names of namespaces that one may see. Raises SourceError."""
        ...

    def rows(self, plural: str, scope: Scope, selector: str = "", name: str = "") -> list[Json]:
        """Rows of a kind. Raises SourceError."""
        ...

    def detail(self, plural: str, namespace: str, name: str) -> Json:
        """One object. Raises SourceError."""
        ...

    def export(self, plural: str, namespace: str, name: str) -> str:
        """One object as YAML that can be applied. Raises SourceError."""
        ...

    def errors(self, scope: Scope) -> list[Json]:
        """What needs a person, worst first. Raises SourceError."""
        ...

    def statistics(self, scope: Scope) -> Json:
        """Totals. Raises SourceError."""
        ...

    def series(self, namespace: str, training: str) -> dict[str, list[Json]]:
        """What is known of a training's metrics so far: points with `value`, and `step` where it is known."""
        ...

    def follow(self, plural: str, scope: Scope, name: str = "") -> Iterator[list[Json]]:
        """All rows each time that one of them changes, for ever. Raises SourceError."""
        ...

    def logs(self, namespace: str, training: str, lines: int, since: str = "") -> LogPart:
        """The end of a training's log, from that second on. Raises SourceError."""
        ...
