"""The loop that every controller runs in: from a change to the roots it concerns, from a root to a plan, to the writes.

For one root: read what it needs, make a view, decide, and if the plan deletes or costs money read live and decide
again; then carry it out. Waiting, retrying at once after a refusal and backing off after a failure are told apart. One
bad object never stops the others: whatever a controller raises is logged by its type and place and tried again later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from modelyard.cluster import errors
from modelyard.cluster.apply import Applier, NameTakenError
from modelyard.cluster.facts import Facts
from modelyard.cluster.lease import LeaseLostError
from modelyard.cluster.logs import stack, where
from modelyard.cluster.queue import WorkQueue
from modelyard.cluster.reads import Reads
from modelyard.cluster.store import Change, Store, key_of
from modelyard.controllers.metrics import Metrics
from modelyard.controllers.protocol import Controller
from modelyard.plan import Create, Delete, Key, Kind, Obj, Plan, Ref

logger = logging.getLogger(__name__)

_LIVE_ROUNDS = 3


class Item(NamedTuple):
    """A root in the queue."""

    kind: Kind
    key: Key

    def __str__(self) -> str:
        return f"{self.kind.kind} {self.key}"


class UnsettledError(Exception):
    """The plan kept changing while it was checked live; it is tried again."""


class Runtime:
    """Workers over one queue for all controllers."""

    def __init__(
        self,
        controllers: Sequence[Controller[Any]],
        store: Store,
        facts: Facts,
        queue: WorkQueue[Item],
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._controllers = {controller.kind: controller for controller in controllers}
        self._store = store
        self._facts = facts
        self._queue = queue
        self._metrics = metrics
        self._clock = clock
        self._draining = False
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        for controller in controllers:
            controller.setup(store)

    def connect(self, applier: Applier, reads: Reads[Item]) -> None:
        """The writing half, which itself reports changes to this runtime."""
        self._applier = applier
        self._reads = reads

    def kinds(self) -> Iterable[Kind]:
        """The kinds of the roots."""
        return self._controllers.keys()

    async def drain(self) -> None:
        """Begins no root any more, and waits for those in hand."""
        self._draining = True
        await self._idle.wait()

    # ---- from changes to roots

    def observe(self, kind: Kind, event: Any, obj: Obj) -> None:
        """A watch event."""
        change = self._store.observe(kind, event, obj)
        if change is not None:
            self.on_change(change)

    def on_change(self, change: Change) -> None:
        """Enqueues every root that the change concerns, in its old or its new state."""
        self._poke(change.kind, [obj for obj in (change.new, change.old) if obj is not None])

    def poke(self, kind: Kind, obj: Obj) -> None:
        """Enqueues every root that an object concerns."""
        self._poke(kind, [obj])

    def _poke(self, kind: Kind, states: Sequence[Obj]) -> None:
        """At once what changed itself, others when it has settled."""
        for controller in self._controllers.values():
            try:
                if len(states) > 1 and controller.indifferent(kind, states[1], states[0]):
                    continue
                for obj in states:
                    for key in controller.roots(kind, obj, self._store):
                        item = Item(controller.kind, key)
                        if controller.kind == kind:
                            self._queue.add(item)
                        else:
                            self._queue.settle(item, controller.settle)
            except Exception as error:
                name = key_of(states[0])
                self._unexpected(f"{kind.kind} {name}: its {controller.kind.kind} objects were not found", error)

    def wake(self, items: Iterable[Item]) -> None:
        """Enqueues roots."""
        for item in items:
            self._queue.add(item)

    def wake_all(self, spread: float, jitter: Callable[[], float]) -> None:
        """Enqueues every root, over `spread` seconds."""
        for kind in self._controllers:
            for key in self._store.keys(kind):
                self._queue.add_after(Item(kind, key), spread * jitter())

    # ---- from roots to writes

    async def work(self) -> None:
        """One worker, for ever. Raises only LeaseLostError."""
        while True:
            item = await self._queue.get()
            if self._draining:
                self._queue.done(item)
                continue
            self._busy += 1
            self._idle.clear()
            started = time.monotonic()
            try:
                result = await self._reconcile_safely(item)
            finally:
                self._queue.done(item)
                self._busy -= 1
                if not self._busy:
                    self._idle.set()
            self._metrics.reconciles.labels(item.kind.kind, result).inc()
            self._metrics.reconcile_time.labels(item.kind.kind).observe(time.monotonic() - started)
            # Thousands of looks that find nothing to do wait for nothing: the lease and the probes have their turn.
            await asyncio.sleep(0)

    async def _reconcile_safely(self, item: Item) -> str:
        try:
            requeue_after = await self._reconcile(item)
        except LeaseLostError:
            raise
        except (errors.ConflictError, errors.InvalidError, errors.NotFoundError, NameTakenError) as error:
            # The cache was behind, or somebody else has a say: look again at what is there.
            delay = await self._retry_from_live(item)
            logger.info("%s: %s; looking again in %.1f s.", item, error, delay)
            return "requeue"
        except errors.ApiError as error:
            delay = self._queue.fail(item, getattr(error, "retry_after", None) or 0.0)
            logger.warning("%s: %s; trying again in %.1f s.", item, error, delay)
            return "error"
        except UnsettledError:
            self._queue.fail(item)
            return "requeue"
        except Exception as error:
            delay = self._queue.fail(item)
            self._unexpected(f"{item} could not be decided; trying again in {delay:.1f} s", error)
            return "error"
        self._queue.succeed(item)
        if requeue_after is None:
            return "success"
        self._queue.add_after(item, requeue_after)
        return "requeue_after"

    async def _reconcile(self, item: Item) -> float | None:
        root = Ref(item.kind, *item.key)
        live: set[Ref] = set()
        for _ in range(_LIVE_ROUNDS):
            plan = await self._decide(item)
            if plan is None:
                return None
            needed = {root} | _irrevocable(plan)
            if not plan.irrevocable or needed <= live:
                await self._applier.carry_out(plan)
                return plan.requeue_after
            for ref in sorted(needed - live, key=lambda r: (r.kind, r.namespace, r.name)):
                await self._applier.refresh(ref)
            live |= needed
        raise UnsettledError

    async def _decide(self, item: Item) -> Plan | None:
        controller = self._controllers[item.kind]
        root = self._store.get(item.kind, *item.key)
        if root is None:
            self._reads.forget(item)
            return None
        await self._reads.ensure(item, controller.reads(root, self._store))
        view = controller.view(self._store, self._facts, item.key)
        return None if view is None else controller.decide(view, self._clock())

    async def _retry_from_live(self, item: Item) -> float:
        delay = self._queue.fail(item)
        try:
            await self._applier.refresh(Ref(item.kind, *item.key))
        except errors.ApiError as error:
            logger.debug("%s could not be read live (%s).", item, error)
        return delay

    def _unexpected(self, what: str, error: Exception) -> None:
        logger.error("%s: %s at %s. This is a defect; please report it.", what, type(error).__name__, where(error))
        logger.debug("Where it came from:\n%s", stack(error))


def _irrevocable(plan: Plan) -> set[Ref]:
    """What must have been read live before this plan is carried out, beside the root."""
    refs = set()
    for action in plan.actions:
        if isinstance(action, Delete):
            refs |= {action.ref, *action.takes}
        elif isinstance(action, Create) and action.irrevocable:
            refs.add(Ref(action.kind, *key_of(action.obj)))
    return refs
