"""The four requests that the collector makes of the API server, and how each can end. Nothing else is ever asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final

from modelyard.cluster import errors
from modelyard.cluster.client import Client
from modelyard.plan import Key, Kind, Obj, Ref
from modelyard.resources.meta import POD, TRAINING

log = logging.getLogger(__name__)

TIMEOUT_SECONDS: Final = 5.0
TOKENREVIEW: Final = Kind("authentication.k8s.io/v1", "TokenReview", "tokenreviews")
_ANSWERS: Final = (errors.NotFoundError, errors.ConflictError, errors.InvalidError)
_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_POD_UID: Final = "authentication.kubernetes.io/pod-uid"


class UnavailableError(Exception):
    """The API server did not answer, or not usefully. The same request may succeed later."""


class PatchRefusedError(Exception):
    """The API server refused a patch: the object is not what the patch was made for, or is gone."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a token belongs to. `pod` and `pod_uid` are empty for a token that is bound to no pod."""

    username: str
    pod: str
    pod_uid: str

    @property
    def namespace(self) -> str:
        """The service account's namespace; empty for other users."""
        parts = self.username.split(":")
        return parts[2] if len(parts) == 4 and parts[:2] == ["system", "serviceaccount"] else ""


class Access:
    """The API server, as far as the collector may use it."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def review(self, token: str, audience: str) -> Identity | None:
        """Whom the token belongs to; None if it is not valid for the audience. Raises `UnavailableError`."""
        body = {"metadata": {}, "spec": {"token": token, "audiences": [audience]}}
        answer = await _ask(self._client.create(TOKENREVIEW, body))
        review = answer.get("status", {})
        if not review.get("authenticated") or audience not in review.get("audiences", ()):
            return None
        user = review.get("user", {})
        extra = user.get("extra") or {}
        return Identity(
            user.get("username", ""),
            (extra.get(_POD_NAME) or [""])[0],
            (extra.get(_POD_UID) or [""])[0],
        )

    async def pod(self, key: Key) -> Obj | None:
        """A pod. Raises `UnavailableError`."""
        return await self._get(POD, key)

    async def training(self, key: Key) -> Obj | None:
        """A Training. Raises `UnavailableError`."""
        return await self._get(TRAINING, key)

    async def patch_status(self, key: Key, operations: list[dict[str, Any]]) -> Obj:
        """Patches a Training's status; returns the Training. Raises `PatchRefusedError`, `UnavailableError`."""
        try:
            return await _ask(self._client.json_patch(Ref(TRAINING, *key), operations, "status"))
        except _ANSWERS:
            raise PatchRefusedError from None

    async def _get(self, kind: Kind, key: Key) -> Obj | None:
        try:
            return await _ask(self._client.get(Ref(kind, *key)))
        except errors.NotFoundError:
            return None


async def _ask(request: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await request
    except _ANSWERS:
        raise
    except TimeoutError:
        raise UnavailableError from None
    except errors.ApiError as error:
        log.warning("the API server did not help: HTTP %d %s", error.code, error.reason)
        raise UnavailableError from None
