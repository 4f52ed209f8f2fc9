"""Who asks: a bearer token, reviewed by the cluster for the audiences that the settings name.

Reviews are kept under the token's hash, never the token: accepted ones for KEPT_SECONDS, and while the API server is
away up to LONGEST_SECONDS; refusals for REFUSED_SECONDS. What is expired by its own `exp` is refused whatever is kept.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from modelyard.cluster import errors
from modelyard.cluster.client import Client
from modelyard.plan import Kind
from modelyard.statusapi import problems

TOKENREVIEW: Final = Kind("authentication.k8s.io/v1", "TokenReview", "tokenreviews")

KEPT_SECONDS: Final = 25.0
LONGEST_SECONDS: Final = 35.0
REFUSED_SECONDS: Final = 5.0
REVIEW_SECONDS: Final = 4.0
MOST: Final = 10_000
_LONGEST_TOKEN: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the cluster says the caller is, as an access review takes it."""

    username: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
    digest: str = field(default="", compare=False)

    @staticmethod
    def of(user: Mapping[str, Any]) -> Identity:
        """From `status.user` of a TokenReview."""
        extra = tuple(sorted((key, tuple(values)) for key, values in (user.get("extra") or {}).items()))
        groups = tuple(user.get("groups") or ())
        parts = [user.get("username", ""), user.get("uid", ""), groups, extra]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return Identity(user.get("username", ""), user.get("uid", ""), groups, extra, digest)


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller. `expires` is wall-clock seconds, None for a token without `exp`."""

    identity: Identity
    token_hash: str
    expires: float | None


@dataclass(slots=True)
class _Review:
    caller: Caller | None
    at: float


class Tokens:
    """Authenticates. `clock` gives monotonic seconds, `wall` seconds since 1970, `count` hears each review's result."""

    def __init__(
        self,
        client: Client,
        audiences: Sequence[str],
        clock: Callable[[], float],
        wall: Callable[[], float],
        count: Callable[[str], None],
    ) -> None:
        self._client = client
        self._audiences = list(audiences)
        self._clock = clock
        self._wall = wall
        self._count = count
        self._known: OrderedDict[str, _Review] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Caller | None]] = {}

    def known(self, token: str) -> bool:
        """Whether it was looked at before: `caller` answers without asking the cluster, or the token was good then."""
        review = self._known.get(_hash(token))
        return review is not None and (review.caller is not None or self._fresh(review))

    async def caller(self, token: str) -> Caller:
        """The caller that the token belongs to. Raises Problem 401 or 503."""
        key = _hash(token)
        review = self._known.get(key)
        if review is None or not self._fresh(review):
            try:
                caller = await self._ask(key, token)
            except errors.ApiError:
                self._count("unavailable")
                if review is None or review.caller is None or self._clock() - review.at > LONGEST_SECONDS:
                    raise problems.unavailable() from None
                caller = review.caller
        else:
            caller = review.caller
        if caller is None or (caller.expires is not None and caller.expires <= self._wall()):
            raise problems.unauthenticated()
        return caller

    def _fresh(self, review: _Review) -> bool:
        return self._clock() - review.at < (KEPT_SECONDS if review.caller else REFUSED_SECONDS)

    async def _ask(self, key: str, token: str) -> Caller | None:
        """One review at a time for a token; all who wait get its answer."""
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._review(key, token))
            self._asking[key] = task
            task.add_done_callback(lambda done: _finish(self._asking, key, done))
        return await asyncio.shield(task)

    async def _review(self, key: str, token: str) -> Caller | None:
        began = self._clock()
        spec: dict[str, Any] = {"token": token}
        if self._audiences:
            spec["audiences"] = self._audiences
        try:
            async with asyncio.timeout(REVIEW_SECONDS):
                answer = await self._client.create(TOKENREVIEW, {"metadata": {}, "spec": spec})
        except TimeoutError:
            raise errors.UnavailableError("create tokenreviews: no answer in time", 0) from None
        except errors.InvalidError:
            answer = {}
        status = answer.get("status") or {}
        caller = None
        if status.get("authenticated") and self._meant_for_us(status):
            caller = Caller(Identity.of(status.get("user") or {}), key, expiry(token))
        self._count("accepted" if caller else "refused")
        self._known[key] = _Review(caller, began)
        self._known.move_to_end(key)
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        return caller

    def _meant_for_us(self, status: Mapping[str, Any]) -> bool:
        """An authenticator that knows no audiences answers none: then the token was not meant for us."""
        return not self._audiences or bool(set(self._audiences) & set(status.get("audiences") or ()))


def bearer(header: str | None) -> str:
    """The token of an Authorization header. Raises Problem 401."""
    scheme, _, token = (header or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > _LONGEST_TOKEN or not token.isascii():
        raise problems.unauthenticated()
    return token


def expiry(token: str) -> float | None:
    """The `exp` of a JWT that the cluster has accepted, None if it has none."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        found = claims["exp"]
    except (ValueError, KeyError, TypeError):
        return None
    return float(found) if isinstance(found, int | float) else None


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _finish(asking: dict[str, asyncio.Task[Any]], key: str, done: asyncio.Task[Any]) -> None:
    asking.pop(key, None)
    if not done.cancelled():
        done.exception()  # whoever waited has it; nobody may be left
