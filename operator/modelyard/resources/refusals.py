"""Why the API server did not take an object, in our words: of its sentence only names and numbers pass. Pure.

Its sentences repeat what they were given, and webhooks put anything into them. So a sentence chooses one of ours by
words that Kubernetes itself writes, and what is taken over must have the form of a name or of a quantity.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple


class Refusal(NamedTuple):
    """One CamelCase word, and what is wrong and what to do, as a sentence."""

    reason: str
    message: str


_NAME: Final = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_AMOUNT: Final = r"[-A-Za-z0-9./_]{1,80}=[0-9][0-9A-Za-z.]{0,15}"
_AMOUNTS: Final = rf"{_AMOUNT}(?:,{_AMOUNT}){{0,15}}"
_RESOURCE: Final = r"[-a-z./]{1,60}"
_QUOTA = re.compile(
    rf"exceeded quota: (?P<name>{_NAME})(?:, requested: (?P<asked>{_AMOUNTS}), used: (?P<used>{_AMOUNTS}), "
    rf"limited: (?P<most>{_AMOUNTS}))?"
)
_UNSPECIFIED = re.compile(
    rf"failed quota: (?P<name>{_NAME}): must specify (?P<what>{_RESOURCE}(?:[ ,;]{_RESOURCE}){{0,8}})"
)
_SECURITY = re.compile(r'violates PodSecurity "(?P<level>[a-z]+):')
_RANGE = re.compile(
    rf"(?P<end>maximum|minimum) (?P<what>{_RESOURCE}) usage per (?P<per>Container|Pod) is "
    r"(?P<most>[0-9][0-9A-Za-z.]{0,15})"
)
_PRIORITY = re.compile(rf"no PriorityClass with name (?P<name>{_NAME}) was found")
_POLICY = re.compile(rf"ValidatingAdmissionPolicy '(?P<name>{_NAME})'")
_WEBHOOK = re.compile(rf'admission webhook "(?P<name>{_NAME})" denied')
_RIGHTS = re.compile(r"cannot [a-z]+ resource")

_NOT_THERE: Final = "The API server does not take the object; its own words are in the events and in its log."


def _quota(found: re.Match[str]) -> Refusal:
    parts = (("asked for", "asked"), ("used", "used"), ("allowed", "most"))
    said = "; ".join(f"{words} {', '.join(found[part].split(','))}" for words, part in parts if found[part])
    numbers = f" ({said})" if said else ""
    return Refusal(
        "QuotaExceeded",
        f"ResourceQuota {found['name']} of the namespace does not allow it{numbers}. "
        "Ask for less in spec.compute, wait until others end, or raise the quota.",
    )


_KNOWN: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Refusal]], ...]] = (
    (_QUOTA, _quota),
    (
        _UNSPECIFIED,
        lambda m: Refusal(
            "QuotaNeedsLimits",
            f"ResourceQuota {m['name']} wants {m['what']} of every pod: add a LimitRange with defaults there.",
        ),
    ),
    (
        _SECURITY,
        lambda m: Refusal(
            "PodSecurityRefused",
            f"The namespace's Pod Security level {m['level']} refuses the pod: see the operator's setting podSecurity.",
        ),
    ),
    (
        _RANGE,
        lambda m: Refusal(
            "LimitRangeRefused",
            f"A LimitRange of the namespace sets the {m['end']} of {m['what']} of a {m['per'].lower()} to {m['most']}: "
            "change spec.compute, or the LimitRange.",
        ),
    ),
    (
        _PRIORITY,
        lambda m: Refusal(
            "PriorityClassNotFound",
            f"There is no PriorityClass {m['name']}: create it, or make the Training anew with another "
            "spec.compute.priorityClassName.",
        ),
    ),
    (
        _POLICY,
        lambda m: Refusal("AdmissionRefused", f"ValidatingAdmissionPolicy {m['name']} refuses it."),
    ),
    (_WEBHOOK, lambda m: Refusal("AdmissionRefused", f"The admission webhook {m['name']} refuses it.")),
    (
        re.compile(r"because it is being terminated"),
        lambda _: Refusal("NamespaceTerminating", "The namespace is being deleted."),
    ),
    (
        re.compile(r"error looking up service account|serviceaccount \"?default\"? not found"),
        lambda _: Refusal("ServiceAccountMissing", "The namespace has no ServiceAccount `default` (yet)."),
    ),
    (
        _RIGHTS,
        lambda _: Refusal("RightsMissing", "The operator may not do this here: its roles are not those of its chart."),
    ),
)


def explain(said: object) -> Refusal:
    """What the API server said of an object that it did not take."""
    text = said[:8192] if isinstance(said, str) else ""
    for pattern, words in _KNOWN:
        if (found := pattern.search(text)) is not None:
            return words(found)
    return Refusal("Refused", _NOT_THERE)
