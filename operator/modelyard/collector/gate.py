"""Whom to believe: a token that is valid for exactly this path, of a pod that really works for what the path names.

A bearer token is reviewed by the API server for the audience that the path gives, then its pod is looked at. The review
is kept for at most a minute under the token's hash, refusals for seconds. It says again that the pod is still there, so
the pod itself is looked at only every half hour. A grant of an attempt that has ended can do no harm: every write tests
the Training's uid and current Job again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from modelyard.collector.access import Access, Identity, UnavailableError
from modelyard.collector.limits import Limits
from modelyard.collector.problems import (
    NOT_FOUND,
    NOT_READY,
    NOT_THE_API,
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
from modelyard.resources.names import dataset_of_job

KEPT_SECONDS = 60.0
LOOKED_SECONDS = 1800.0
REFUSED_SECONDS = 3.0
MOST = 20_000
LOOKS_AT_ONCE = 24
MOST_QUEUED = 200
_LONGEST_TOKEN = 16 * 1024

OUR_AUDIENCE = f"{GROUP}/collector"
DATASETS_AUDIENCE = f"{GROUP}/datasets"
"""Of the pods of Datasets: the Dataset controller makes them all from one template. The pod's Job says which it is."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A request is believed: its pod, and for reports the Training as it was then."""

    pod: str
    pod_uid: str
    training: Obj | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """An answer that is kept until `until`. `looked`: when its pod was looked at."""

    until: float
    looked: float
    answer: Grant | Problem


class Gate:
    """Decides about requests. `clock` gives monotonic seconds, `reviewed` hears of each review's result.

    `operator_user` and `api_user`: the accounts of our own processes that may read; empty: nobody.
    """

    def __init__(
        self,
        access: Access,
        operator_user: str,
        api_user: str,
        clock: Callable[[], float],
        reviewed: Callable[[str], None],
    ) -> None:
        self._access = access
        self._users = {"operator": (operator_user, NOT_THE_OPERATOR), "api": (api_user, NOT_THE_API)}
        self._clock = clock
        self._reviewed = reviewed
        self._cache: OrderedDict[tuple[str, str], _Found] = OrderedDict()
        self._strangers = Limits(rate=5, burst=50)
        # After a restart everybody comes at once: what can't be looked at within seconds is better sent again.
        self._slots = asyncio.Semaphore(LOOKS_AT_ONCE)
        self._queued = 0

    async def reporter(self, header: str | None, peer: str, key: Key) -> tuple[Grant, Obj]:
        """Admits a pod of the Training's current attempt; also returns that Training. Raises problems.RefusedError."""
        grant = await self._admit(header, peer, "training", key, "reports")
        assert grant.training is not None
        return grant, grant.training

    async def downloader(self, header: str | None, peer: str, kind: str, key: Key) -> Grant:
        """Admits a download pod (`kind`: model, training, dataset). Raises problems.RefusedError."""
        return await self._admit(header, peer, kind, key, "downloads")

    async def operator(self, header: str | None, peer: str) -> Grant:
        """Admits the operator. Raises problems.RefusedError."""
        return await self._admit(header, peer, "collector", Key("", ""), "operator")

    async def api(self, header: str | None, peer: str) -> Grant:
        """Admits the status API. Raises problems.RefusedError."""
        return await self._admit(header, peer, "collector", Key("", ""), "api")

    def forget(self, key: Key) -> None:
        """The Training has changed: its pods are looked at again."""
        audience = _audience("training", key)
        for entry in [entry for entry in self._cache if entry[1].startswith(f"{audience} ")]:
            del self._cache[entry]

    async def _admit(self, header: str | None, peer: str, kind: str, key: Key, use: str) -> Grant:
        token = _bearer(header)
        audience = OUR_AUDIENCE if use in self._users else _audience(kind, key)
        path = (
            f" {key.namespace}/{key.name}" if kind == "dataset" else ""
        )  # what else is granted has it in its audience
        entry = (hashlib.sha256(token.encode()).hexdigest(), f"{audience} {use}{path}")
        now = self._clock()
        known = self._cache.get(entry)
        if known and known.until > now:
            return _open(known.answer)
        if self._strangers.exhausted(peer, now):
            raise RefusedError(TOO_MANY, retry_after=5)
        if self._queued >= MOST_QUEUED:
            self._reviewed("queue full")
            raise RefusedError(NOT_READY, retry_after=3)
        looked = known.looked if known and isinstance(known.answer, Grant) else -LOOKED_SECONDS
        grant = known.answer if known and now - looked < LOOKED_SECONDS else None
        self._queued += 1
        try:
            async with self._slots:
                identity = await self._access.review(token, audience)
                renewed = isinstance(grant, Grant) and identity is not None and identity.pod_uid == grant.pod_uid
                found = grant if renewed and grant else await self._look(identity, kind, key, use)
        except UnavailableError:
            self._reviewed("unavailable")
            raise RefusedError(NOT_READY, retry_after=2) from None
        finally:
            self._queued -= 1
        self._reviewed("admitted" if isinstance(found, Grant) else found.code)
        if isinstance(found, Problem):
            self._strangers.allow(peer, now)
        kept = KEPT_SECONDS if isinstance(found, Grant) else REFUSED_SECONDS
        self._cache[entry] = _Found(now + kept, looked if renewed else now, found)
        self._cache.move_to_end(entry)
        if len(self._cache) > MOST:
            self._cache.popitem(last=False)
        return _open(found)

    async def _look(self, identity: Identity | None, kind: str, key: Key, use: str) -> Grant | Problem:
        if identity is None:
            return UNAUTHENTICATED
        if use in self._users:
            user, refusal = self._users[use]
            return Grant(identity.pod, identity.pod_uid) if user and identity.username == user else refusal
        pod = await self._pod(identity, key)
        if pod is None:
            return POD_NOT_ALLOWED
        if use == "downloads":
            own = _downloads_for(kind, key.name, pod)
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


def _downloads_for(kind: str, name: str, pod: Obj) -> bool:
    labels = pod["metadata"].get("labels", {})
    if labels.get(LABEL_COMPONENT) != COMPONENT_DOWNLOAD:
        return False
    if kind == "dataset":
        jobs = [o["name"] for o in pod["metadata"].get("ownerReferences", ()) if o.get("controller")]
        return [dataset_of_job(job) for job in jobs] == [name]
    # Data that Trainings share is fetched for the first that asked: such a pod names no Training, its token does.
    said = labels.get(LABEL_MODEL) if kind == "model" else labels.get(LABEL_TRAINING, name)
    return bool(said == name)


def _audience(kind: str, key: Key) -> str:
    return DATASETS_AUDIENCE if kind == "dataset" else f"{GROUP}/{kind}/{key.namespace}/{key.name}"


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
