"""Whom to believe: a token that is valid for exactly this path, of a pod that really works for what the path names.

A bearer token is reviewed by the API server for the audience that the path gives, then its pod is looked at. Both
answers are kept for at most a minute under the token's hash, refusals for seconds. A cached grant of an attempt that
has ended can do no harm: every write tests the Training's uid and current Job again.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from modelyard.collector.access import Access, Identity, UnavailableError
from modelyard.collector.limits import Limits
from modelyard.collector.problems import (
    NOT_FOUND,
    NOT_READY,
    NOT_THE_OPERATOR,
    OLD_ATTEMPT,
    POD_NOT_ALLOWED,
    TOO_MANY,
    UNAUTHENTICATED,
    Problem,
    RefusedError,
)
from modelyard.collector.runs import Run
from modelyard.plan import Key, Obj
from modelyard.resources.meta import (
    COMPONENT_DOWNLOAD,
    GROUP,
    LABEL_ATTEMPT,
    LABEL_COMPONENT,
    LABEL_MODEL,
    LABEL_TRAINING,
)

KEPT_SECONDS = 60.0
REFUSED_SECONDS = 3.0
MOST = 20_000
_LONGEST_TOKEN = 16 * 1024

OPERATOR_AUDIENCE = f"{GROUP}/collector"


@dataclass(frozen=True, slots=True)
class Grant:
    """A request is believed: its pod, and for reports the Training as it was then."""

    pod: str
    pod_uid: str
    training: Obj | None = None


class Gate:
    """Decides about requests. `clock` gives monotonic seconds, `reviewed` hears of each review's result."""

    def __init__(
        self, access: Access, operator_user: str, clock: Callable[[], float], reviewed: Callable[[str], None]
    ) -> None:
        self._access = access
        self._operator_user = operator_user
        self._clock = clock
        self._reviewed = reviewed
        self._cache: OrderedDict[tuple[str, str], tuple[float, Grant | Problem]] = OrderedDict()
        self._strangers = Limits(rate=5, burst=50)

    async def reporter(self, header: str | None, peer: str, key: Key) -> tuple[Grant, Obj]:
        """Admits a pod of the Training's current attempt; also returns that Training. Raises problems.RefusedError."""
        grant = await self._admit(header, peer, "training", key, "reports")
        assert grant.training is not None
        return grant, grant.training

    async def downloader(self, header: str | None, peer: str, kind: str, key: Key) -> Grant:
        """Admits a download pod of a Model or Training (`kind`: model, training). Raises problems.RefusedError."""
        return await self._admit(header, peer, kind, key, "downloads")

    async def operator(self, header: str | None, peer: str) -> Grant:
        """Admits the operator. Raises problems.RefusedError."""
        return await self._admit(header, peer, "collector", Key("", ""), "operator")

    def forget(self, key: Key) -> None:
        """The Training has changed: its pods are looked at again."""
        audience = _audience("training", key)
        for entry in [entry for entry in self._cache if entry[1].startswith(f"{audience} ")]:
            del self._cache[entry]

    async def _admit(self, header: str | None, peer: str, kind: str, key: Key, use: str) -> Grant:
        token = _bearer(header)
        audience = OPERATOR_AUDIENCE if use == "operator" else _audience(kind, key)
        entry = (hashlib.sha256(token.encode()).hexdigest(), f"{audience} {use}")
        now = self._clock()
        known = self._cache.get(entry)
        if known and known[0] > now:
            return _open(known[1])
        if self._strangers.exhausted(peer, now):
            raise RefusedError(TOO_MANY, retry_after=5)
        try:
            found = await self._look(token, audience, kind, key, use)
        except UnavailableError:
            self._reviewed("unavailable")
            raise RefusedError(NOT_READY, retry_after=2) from None
        self._reviewed("admitted" if isinstance(found, Grant) else found.code)
        if isinstance(found, Problem):
            self._strangers.allow(peer, now)
        self._cache[entry] = (now + (KEPT_SECONDS if isinstance(found, Grant) else REFUSED_SECONDS), found)
        self._cache.move_to_end(entry)
        if len(self._cache) > MOST:
            self._cache.popitem(last=False)
        return _open(found)

    async def _look(self, token: str, audience: str, kind: str, key: Key, use: str) -> Grant | Problem:
        identity = await self._access.review(token, audience)
        if identity is None:
            return UNAUTHENTICATED
        if use == "operator":
            known = self._operator_user and identity.username == self._operator_user
            return Grant(identity.pod, identity.pod_uid) if known else NOT_THE_OPERATOR
        pod = await self._pod(identity, key)
        if pod is None:
            return POD_NOT_ALLOWED
        if use == "downloads":
            own = _downloads_for(kind, key.name, pod["metadata"].get("labels", {}))
            return Grant(identity.pod, identity.pod_uid) if own else POD_NOT_ALLOWED
        training = await self._access.training(key)
        if training is None:
            return NOT_FOUND
        job = next((o["uid"] for o in pod["metadata"].get("ownerReferences", ()) if o.get("controller")), None)
        run = Run.of(training)
        if not job or job != run.job_uid:
            attempt = pod["metadata"].get("labels", {}).get(LABEL_ATTEMPT, "")
            return OLD_ATTEMPT if attempt.isdigit() and int(attempt) < run.attempt else POD_NOT_ALLOWED
        return Grant(identity.pod, identity.pod_uid, training)

    async def _pod(self, identity: Identity, key: Key) -> Obj | None:
        if not identity.pod or identity.namespace != key.namespace:
            return None
        pod = await self._access.pod(Key(key.namespace, identity.pod))
        return pod if pod is not None and pod["metadata"]["uid"] == identity.pod_uid else None


def _downloads_for(kind: str, name: str, labels: Mapping[str, str]) -> bool:
    # Data that Trainings share is fetched for the first that asked: such a pod names no Training, its token does.
    said = labels.get(LABEL_MODEL) if kind == "model" else labels.get(LABEL_TRAINING, name)
    return labels.get(LABEL_COMPONENT) == COMPONENT_DOWNLOAD and said == name


def _audience(kind: str, key: Key) -> str:
    return f"{GROUP}/{kind}/{key.namespace}/{key.name}"


def _bearer(header: str | None) -> str:
    scheme, _, token = (header or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > _LONGEST_TOKEN or not token.isascii():
        raise RefusedError(UNAUTHENTICATED)
    return token


def _open(found: Grant | Problem) -> Grant:
    if isinstance(found, Problem):
        raise RefusedError(found, retry_after=1 if found.status == 403 else None)
    return found
