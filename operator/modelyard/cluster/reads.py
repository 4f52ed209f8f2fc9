"""Reads by name of what is not watched: Secrets above all, for which there is no list and no watch.

Each object is read when a root first asks for it and then once a period with jitter, shared between all roots that
ask, at most so many a second over all: above that the period stretches, and the facts' `checked_at` shows it. What
nobody asks for any more is forgotten. Of a Secret only the names of its keys are kept. Two questions are no reads by
name: all nodes at once (`INVENTORY`), and why a Job makes no pods (a ref of kind Event with the Job's name).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import heapq
import itertools
import logging
from collections.abc import Callable, Hashable, Iterable
from datetime import datetime
from typing import Generic, TypeVar

from modelyard.cluster import errors, inventory
from modelyard.cluster.client import Client
from modelyard.cluster.facts import Fact, Facts
from modelyard.cluster.inventory import INVENTORY
from modelyard.observed import InventoryFact, ObjectFact, RefusalFact, SecretFact
from modelyard.plan import Obj, Ref
from modelyard.resources.meta import EVENT, SECRET
from modelyard.resources.refusals import explain

_LOOK_SECONDS = 0.25
_EARLY = 0.98
"""So much of a period passes between two reads of an object: what changes is then known within the period, at the cost
of hardly more than one read in it."""
logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Hashable)


class Interests(Generic[R]):
    """Who asks for what, and when each of it is to be read next. Plain data; times in seconds."""

    def __init__(self) -> None:
        self._by_root: dict[R, frozenset[Ref]] = {}
        self._by_ref: dict[Ref, set[R]] = {}
        self._next: dict[Ref, float] = {}
        self._heap: list[tuple[float, int, Ref]] = []
        self._order = itertools.count()

    def want(self, root: R, refs: Iterable[Ref]) -> list[Ref]:
        """`root` asks for exactly these from now on; returns what nobody asks for any more."""
        new, old = frozenset(refs), self._by_root.get(root, frozenset())
        if new:
            self._by_root[root] = new
        else:
            self._by_root.pop(root, None)
        for ref in new - old:
            self._by_ref.setdefault(ref, set()).add(root)
        dropped = []
        for ref in old - new:
            self._by_ref[ref].discard(root)
            if not self._by_ref[ref]:
                del self._by_ref[ref]
                self._next.pop(ref, None)
                dropped.append(ref)
        return dropped

    def roots(self, ref: Ref) -> frozenset[R]:
        """Who asks for it."""
        return frozenset(self._by_ref.get(ref, ()))

    def schedule(self, ref: Ref, at: float) -> None:
        """To be read at `at`, if anybody still asks for it."""
        if ref in self._by_ref:
            self._next[ref] = at
            heapq.heappush(self._heap, (at, next(self._order), ref))

    def due(self, now: float) -> Ref | None:
        """One that is due, oldest first; it is not due again before it is scheduled again."""
        while self._heap and self._heap[0][0] <= now:
            at, _, ref = heapq.heappop(self._heap)
            if self._next.get(ref) == at:
                del self._next[ref]
                return ref
        return None

    def __len__(self) -> int:
        """How many objects are asked for."""
        return len(self._by_ref)


class Reads(Generic[R]):
    """Keeps the facts fresh for the roots that ask. `on_news` gets the roots of a fact that changed."""

    def __init__(
        self,
        client: Client,
        facts: Facts,
        *,
        period: float,
        per_second: float,
        monotonic: Callable[[], float],
        clock: Callable[[], datetime],
        jitter: Callable[[], float],
        on_news: Callable[[Iterable[R]], None],
    ) -> None:
        self._client = client
        self._facts = facts
        self._period = period
        self._pause = 1 / per_second
        self._monotonic = monotonic
        self._clock = clock
        self._jitter = jitter
        self._on_news = on_news
        self._interests: Interests[R] = Interests()
        self._reading: dict[Ref, asyncio.Future[None]] = {}
        self._free_at = 0.0

    async def ensure(self, root: R, refs: Iterable[Ref]) -> None:
        """Registers what `root` needs and reads what was never read. ApiError if that fails."""
        wanted = frozenset(refs)
        for ref in self._interests.want(root, wanted):
            self._facts.forget(ref)
        for ref in sorted(wanted, key=lambda r: (r.kind, r.namespace, r.name)):
            if self._facts.known(ref) is None:
                await self._read_shared(ref)

    def forget(self, root: R) -> None:
        """The root is gone."""
        for ref in self._interests.want(root, ()):
            self._facts.forget(ref)

    async def run(self) -> None:
        """Reads again what is due, for ever."""
        while True:
            ref = self._interests.due(self._monotonic())
            if ref is None:
                await asyncio.sleep(min(_LOOK_SECONDS, self._period / 10))
                continue
            try:
                await self._read_shared(ref)
            except errors.ApiError as error:
                logger.warning("A periodic read failed (%s); what is known stays until the next one.", error)

    async def _read_shared(self, ref: Ref) -> None:
        running = self._reading.get(ref)
        if running is not None:
            await asyncio.shield(running)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reading[ref] = future
        try:
            await self._read(ref)
            future.set_result(None)
        except BaseException as error:
            failed = error if isinstance(error, errors.ApiError) else errors.UnavailableError(f"get {ref.name}", 0)
            future.set_exception(failed)
            future.exception()  # others may not be waiting
            raise
        finally:
            del self._reading[ref]
            self._interests.schedule(ref, self._monotonic() + self._period * (_EARLY - self._jitter() / 100))

    async def _read(self, ref: Ref) -> None:
        now = self._monotonic()
        self._free_at = max(self._free_at, now) + self._pause
        if (wait := self._free_at - self._pause - now) > 0:
            await asyncio.sleep(wait)
        fact = await self._fetch(ref)
        roots = self._interests.roots(ref)
        if not roots:
            return
        first = self._facts.known(ref) is None
        if self._facts.learn(ref, fact) and not first:  # whoever asks for the first time is waiting for it
            self._on_news(roots)

    async def _fetch(self, ref: Ref) -> Fact:
        obj: Obj | None = None
        forbidden = False
        try:
            if ref == INVENTORY:
                return InventoryFact(await inventory.read(self._client), self._clock())
            if ref.kind == EVENT:
                return RefusalFact(*await self._why_no_pods(ref), self._clock())
            obj = await self._client.get(ref)
        except errors.NotFoundError:
            pass
        except errors.ForbiddenError:
            forbidden = True
        at = self._clock()
        if ref == INVENTORY:
            return InventoryFact(None, at)
        if ref.kind == EVENT:
            return RefusalFact("", "", at)
        return secret_fact(obj, at, forbidden) if ref.kind == SECRET else ObjectFact(obj, at, forbidden)

    async def _why_no_pods(self, ref: Ref) -> tuple[str, str]:
        """What the last Event about the Job of that name says of pods that were refused; empty words without one."""
        chosen = f"involvedObject.kind=Job,involvedObject.name={ref.name},reason=FailedCreate"
        found = [e async for items, _ in self._client.pages(EVENT, ref.namespace, fields=chosen) for e in items]
        if not found:
            return "", ""
        last = max(found, key=lambda e: str(e.get("lastTimestamp") or e["metadata"].get("creationTimestamp")))
        return explain(last.get("message"))


def secret_fact(obj: Obj | None, at: datetime, forbidden: bool = False) -> SecretFact:
    """What may be kept of a Secret: which keys have a value, and which have none."""
    if obj is None:
        return SecretFact(exists=False, checked_at=at, forbidden=forbidden)
    data = obj.get("data") or {}
    empty = frozenset(key for key, value in data.items() if _is_blank(value))
    return SecretFact(
        exists=True,
        checked_at=at,
        resource_version=obj["metadata"]["resourceVersion"],
        present=frozenset(data) - empty,
        empty=empty,
    )


def _is_blank(encoded: str | None) -> bool:
    try:
        return not base64.b64decode(encoded or "").strip()
    except binascii.Error:
        return False
