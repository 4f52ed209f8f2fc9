"""Include and exclude lists, matched as the Hugging Face client does: fnmatch on the whole path, `a/` as `a/*`."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Patterns:
    """Which paths are wanted: any include (or no include at all) and no exclude."""

    include: tuple[str, ...]
    exclude: tuple[str, ...]

    @classmethod
    def of(cls, options: Mapping[str, str]) -> Patterns:
        """From the options `include` and `exclude`, both comma-separated."""
        return cls(_split(options.get("include", "")), _split(options.get("exclude", "")))

    def wants(self, path: str) -> bool:
        """Whether a path with / between its parts is wanted."""
        if self.include and not _any(path, self.include):
            return False
        return not _any(path, self.exclude)

    def describe(self) -> str:
        """The lists as a user wrote them."""
        told = []
        if self.include:
            told.append(f"include {', '.join(self.include)}")
        if self.exclude:
            told.append(f"exclude {', '.join(self.exclude)}")
        return " and ".join(told) or "no pattern"


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _any(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern + "*" if pattern.endswith("/") else pattern) for pattern in patterns)
