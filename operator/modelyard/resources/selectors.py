"""Label selectors: whether labels match one, and how the ones of a share are put together. Pure.

A selector here is a mapping as manifests have it (`matchLabels`, `matchExpressions`), so that it goes into a Dataset as
it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Selector = Mapping[str, Any]


def label_of(text: str) -> tuple[str, str]:
    """Key and value of `key=value`, or of `key`, which means `key=true`. What follows the first `=` is the value."""
    key, equals, value = text.partition("=")
    return key, value if equals else "true"


def is_empty(selector: Selector | None) -> bool:
    """Whether a selector is absent or says nothing, which selects nothing here."""
    return not selector or not (selector.get("matchLabels") or selector.get("matchExpressions"))


def selects(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether the labels match all parts of the selector, by Kubernetes' rules."""
    exact = selector.get("matchLabels") or {}
    return all(labels.get(key) == value for key, value in exact.items()) and all(
        _meets(condition, labels) for condition in selector.get("matchExpressions") or ()
    )


def _meets(condition: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    key, values = condition["key"], condition.get("values") or ()
    match condition["operator"]:
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case _:
            return key not in labels
