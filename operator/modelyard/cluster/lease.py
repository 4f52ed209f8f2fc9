"""Leadership: a coordination.k8s.io Lease around the workers, and around nothing else.

A standby watches and caches as the leader does, so that taking over means starting to work. Others' clocks are not
believed: a lease is over when it was not renewed for its duration as seen by our own clock, which goes on while the
process is stopped. Who fails to renew in time must exit; `held` says so before every write, so that a process that was
frozen past its lease writes nothing when it thaws.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from modelyard.cluster import errors
from modelyard.cluster.client import Client
from modelyard.plan import Ref
from modelyard.resources.meta import LEASE

logger = logging.getLogger(__name__)


class LeaseLostError(Exception):
    """Leadership is gone: the process must end without another write."""


class Lease:
    """One contender for one Lease. Call `acquire` once, then keep `hold` running; `release` at a clean stop."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        name: str,
        identity: str,
        *,
        duration: int,
        renew_deadline: float,
        retry: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._client = client
        self._ref = Ref(LEASE, namespace, name)
        self.identity = identity
        self._duration = duration
        self._renew_deadline = renew_deadline
        self._retry = retry
        self._monotonic = monotonic
        self._lease: dict[str, Any] | None = None
        self._renewed: float | None = None

    def held(self) -> bool:
        """Whether this process may write now."""
        return self._renewed is not None and self._monotonic() - self._renewed < self._duration

    async def acquire(self) -> None:
        """Waits until the lease is ours."""
        seen: tuple[Any, ...] | None = None
        seen_at = self._monotonic()
        while True:
            started = self._monotonic()
            try:
                lease = await self._read()
                if lease is None:
                    await self._create(started)
                    return
                spec = lease.get("spec") or {}
                holder = spec.get("holderIdentity") or ""
                record = (holder, spec.get("renewTime"), spec.get("leaseTransitions"))
                if record != seen:
                    seen, seen_at = record, started
                duration = float(spec.get("leaseDurationSeconds") or self._duration)
                if not holder or holder == self.identity or started - seen_at > duration:
                    await self._take(lease, started)
                    return
            except (errors.ConflictError, errors.AlreadyExistsError):
                logger.debug("Another process was faster to take the lease.")
            except errors.ApiError as error:
                logger.warning("The lease could not be read or written (%s); trying again.", error)
            await asyncio.sleep(self._retry)

    async def hold(self) -> None:
        """Renews until that fails for too long, then raises LeaseLostError."""
        while True:
            await asyncio.sleep(self._retry)
            started = self._monotonic()
            if self._renewed is None or started - self._renewed > self._duration:
                raise LeaseLostError("the lease ran out before it could be renewed")
            try:
                async with asyncio.timeout(self._renew_deadline):
                    assert self._lease is not None
                    await self._take(self._lease, started)
            except errors.ConflictError:
                await self._look_again()
            except (errors.ApiError, TimeoutError) as error:
                logger.warning("The lease could not be renewed (%s); trying again.", type(error).__name__)
            if self._monotonic() - self._renewed > self._renew_deadline:
                raise LeaseLostError("the lease could not be renewed in time")

    async def release(self) -> None:
        """Gives the lease up, so that a standby need not wait for it to run out. Errors are no matter."""
        if self._lease is None or not self.held():
            return
        lease, self._lease, self._renewed = self._lease, None, None
        spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
        try:
            await self._client.replace(LEASE, {**lease, "spec": spec})
        except errors.ApiError as error:
            logger.info("The lease was not released (%s); it runs out by itself.", error)

    async def _look_again(self) -> None:
        try:
            lease = await self._read()
        except errors.ApiError:
            return
        if lease is None or (lease.get("spec") or {}).get("holderIdentity") != self.identity:
            raise LeaseLostError("another process took the lease")
        self._lease = lease

    async def _read(self) -> dict[str, Any] | None:
        try:
            return await self._client.get(self._ref)
        except errors.NotFoundError:
            return None

    async def _create(self, started: float) -> None:
        metadata = {"name": self._ref.name, "namespace": self._ref.namespace}
        self._lease = await self._client.create(LEASE, {"metadata": metadata, "spec": self._spec({})})
        self._renewed = started

    async def _take(self, lease: dict[str, Any], started: float) -> None:
        self._lease = await self._client.replace(LEASE, {**lease, "spec": self._spec(lease.get("spec") or {})})
        self._renewed = started

    def _spec(self, old: dict[str, Any]) -> dict[str, Any]:
        now = _now()
        ours = old.get("holderIdentity") == self.identity
        transitions = int(old.get("leaseTransitions") or 0)
        return {
            **old,
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self._duration,
            "acquireTime": old.get("acquireTime") if ours else now,
            "renewTime": now,
            "leaseTransitions": transitions if ours or not old else transitions + 1,
        }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
