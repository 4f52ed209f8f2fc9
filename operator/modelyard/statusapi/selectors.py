"""Label selectors as kubectl writes them: `a=b,c!=d,e in (x,y),f,!g`. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from modelyard.statusapi import problems

Labels = Mapping[str, str]
Check = Callable[[Labels], bool]

_KEY: Final = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,316}"
_VALUE: Final = r"[A-Za-z0-9._-]{0,63}"
_SET: Final = re.compile(rf"({_KEY})\s+(in|notin)\s+\(([A-Za-z0-9._,\s-]*)\)")
_PAIR: Final = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})")
_HAS: Final = re.compile(rf"(!?)\s*({_KEY})")
_MOST: Final = 32


def parse(text: str) -> Check:
    """A function that says whether labels match. Raises Problem 400."""
    checks = [_check(part.strip()) for part in _split(text)]
    if len(checks) > _MOST:
        raise problems.invalid("labelSelector", f"has more than {_MOST} parts")
    return lambda labels: all(check(labels) for check in checks)


def _split(text: str) -> list[str]:
    """At commas outside parentheses."""
    parts, depth, start = [], 0, 0
    for at, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _check(part: str) -> Check:
    if match := _SET.fullmatch(part):
        key, words = match[1], frozenset(value.strip() for value in match[3].split(","))
        if match[2] == "in":
            return lambda labels: labels.get(key) in words
        return lambda labels: labels.get(key) not in words
    if match := _PAIR.fullmatch(part):
        key, value = match[1], match[3]
        if match[2] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _HAS.fullmatch(part):
        key, absent = match[2], bool(match[1])
        return lambda labels: (key in labels) != absent
    raise problems.invalid("labelSelector", "is not a label selector; write for example app=web,tier!=cache,!old")
