"""What a caller may see: SubjectAccessReviews for verb, resource and namespace, decided before any lookup.

The whole cluster is asked for first, then namespace by namespace. Answers are kept under the identity for KEPT_SECONDS,
and while the API server is away up to LONGEST_SECONDS; so a right that is taken away ends within a minute.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from modelyard.cluster import errors
from modelyard.cluster.client import Client
from modelyard.plan import Kind
from modelyard.statusapi import problems
from modelyard.statusapi.auth import Identity

SUBJECTACCESSREVIEW: Final = Kind("authorization.k8s.io/v1", "SubjectAccessReview", "subjectaccessreviews")

KEPT_SECONDS: Final = 25.0
LONGEST_SECONDS: Final = 35.0
REVIEW_SECONDS: Final = 4.0
MOST: Final = 200_000
AT_ONCE: Final = 24


class Question(NamedTuple):
    """May somebody do this? An empty namespace is the whole cluster, an empty name every object."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """Namespaces that a caller may see objects of a kind in. `everywhere`: all, also those not known yet."""

    everywhere: bool
    namespaces: frozenset[str] = frozenset()

    def __contains__(self, namespace: str) -> bool:
        return self.everywhere or namespace in self.namespaces

    def __and__(self, other: Seen) -> Seen:
        if self.everywhere:
            return other
        return self if other.everywhere else Seen(False, self.namespaces & other.namespaces)


class Rights(Protocol):
    """Who may what."""

    async def allowed(self, identity: Identity, question: Question) -> bool:
        """Whether the caller may. Raises Problem 503."""
        ...


class Access:
    """The cluster's answers. `clock` gives monotonic seconds, `count` hears each review's result."""

    def __init__(self, client: Client, clock: Callable[[], float], count: Callable[[str], None]) -> None:
        self._client = client
        self._clock = clock
        self._count = count
        self._known: OrderedDict[tuple[str, Question], tuple[bool, float]] = OrderedDict()
        self._asking: dict[tuple[str, Question], asyncio.Task[bool]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def allowed(self, identity: Identity, question: Question) -> bool:
        """Whether the caller may. Raises Problem 503."""
        key = (identity.digest, question)
        known = self._known.get(key)
        now = self._clock()
        if known is not None and now - known[1] < KEPT_SECONDS:
            return known[0]
        try:
            return await self._ask(key, identity)
        except errors.ApiError:
            self._count("unavailable")
            if known is not None and self._clock() - known[1] < LONGEST_SECONDS:
                return known[0]
            raise problems.unavailable() from None

    async def _ask(self, key: tuple[str, Question], identity: Identity) -> bool:
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._review(key, identity))
            self._asking[key] = task
            task.add_done_callback(lambda done: self._finished(key, done))
        return await asyncio.shield(task)

    def _finished(self, key: tuple[str, Question], done: asyncio.Task[bool]) -> None:
        self._asking.pop(key, None)
        if not done.cancelled():
            done.exception()  # whoever waited has it; nobody may be left

    async def _review(self, key: tuple[str, Question], identity: Identity) -> bool:
        question = key[1]
        attributes = {name: value for name, value in question._asdict().items() if value}
        spec: dict[str, Any] = {
            "user": identity.username,
            "uid": identity.uid,
            "groups": list(identity.groups),
            "extra": {name: list(values) for name, values in identity.extra},
            "resourceAttributes": attributes,
        }
        async with self._slots:
            began = self._clock()
            try:
                async with asyncio.timeout(REVIEW_SECONDS):
                    answer = await self._client.create(SUBJECTACCESSREVIEW, {"metadata": {}, "spec": spec})
            except TimeoutError:
                raise errors.UnavailableError("create subjectaccessreviews: no answer in time", 0) from None
        status = answer.get("status") or {}
        allowed = bool(status.get("allowed")) and not status.get("denied")
        self._count("allowed" if allowed else "denied")
        self._known[key] = (allowed, began)
        self._known.move_to_end(key)
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        return allowed


class Unguarded:
    """Everything is allowed: for a server on loopback, which runs with its user's own rights."""

    async def allowed(self, identity: Identity, question: Question) -> bool:
        """Yes."""
        return True


async def require(rights: Rights, identity: Identity, question: Question) -> None:
    """Raises Problem 403 unless the caller may."""
    if not await rights.allowed(identity, question):
        resource = f"{question.resource}/{question.subresource}" if question.subresource else question.resource
        raise problems.forbidden(question.verb, resource, question.namespace)


async def seen(
    rights: Rights,
    identity: Identity,
    kind: Kind,
    namespaces: Iterable[str],
    asked: Sequence[str] | None = None,
    verbs: Sequence[str] = ("list",),
) -> Seen:
    """Where the caller may do all of `verbs` with a kind, out of `namespaces`.

    With `asked` only in those, and each of them must be allowed: raises Problem 403 otherwise.
    """
    if asked:
        for namespace in asked:
            for verb in verbs:
                await require(rights, identity, Question(verb, kind.group, kind.plural, namespace))
        return Seen(False, frozenset(asked))
    if await _all_verbs(rights, identity, kind, "", verbs):
        return Seen(True)
    candidates = sorted(set(namespaces))
    answers = await asyncio.gather(*(_all_verbs(rights, identity, kind, n, verbs) for n in candidates))
    return Seen(False, frozenset(n for n, yes in zip(candidates, answers, strict=True) if yes))


async def _all_verbs(rights: Rights, identity: Identity, kind: Kind, namespace: str, verbs: Sequence[str]) -> bool:
    for verb in verbs:
        if not await rights.allowed(identity, Question(verb, kind.group, kind.plural, namespace)):
            return False
    return True
