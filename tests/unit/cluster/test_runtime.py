from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, cast

from modelyard.cluster.client import Client
from modelyard.cluster.facts import Facts
from modelyard.cluster.queue import WorkQueue
from modelyard.cluster.reads import Reads
from modelyard.cluster.store import Store
from modelyard.controllers.metrics import Metrics
from modelyard.controllers.runtime import Item, Runtime
from modelyard.plan import Key, Kind, Obj, Plan, Ref
from modelyard.resources.meta import MODEL


def now() -> datetime:
    return datetime.now(UTC)


class Content:
    """A controller that never has anything to do; counts how often it was asked."""

    kind = MODEL
    settle = 0.0
    looks = 0

    def setup(self, store: Store) -> None:
        pass

    def roots(self, kind: Kind, obj: Obj, store: Store) -> Iterable[Key]:
        return ()

    def indifferent(self, kind: Kind, old: Obj, new: Obj) -> bool:
        return True

    def reads(self, root: Obj, store: Store) -> Iterable[Ref]:
        return ()

    def view(self, store: Store, facts: Facts, key: Key) -> None:
        self.looks += 1

    def decide(self, view: None, now: datetime) -> Plan:
        return Plan()


async def test_looks_that_wait_for_nothing_leave_the_lease_and_the_probes_their_turn() -> None:
    store, facts, content = Store(), Facts(now), Content()
    queue: WorkQueue[Item] = WorkQueue(time.monotonic, lambda: 0.0)
    runtime = Runtime([content], store, facts, queue, Metrics("test"), now)
    nobody = cast(Client, None)  # nothing is read, nothing is written
    times: dict[str, Any] = {"monotonic": time.monotonic, "clock": now, "jitter": lambda: 0.0}
    reads: Reads[Item] = Reads(nobody, facts, period=30, per_second=20, on_news=runtime.wake, **times)
    runtime.connect(cast(Any, None), reads)
    for number in range(200):
        meta = {"name": f"m{number}", "namespace": "ns", "uid": f"u{number}", "resourceVersion": "1"}
        store.put(MODEL, {"metadata": meta})
    runtime.wake_all(0, lambda: 0.0)
    worker = asyncio.create_task(runtime.work())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert 0 < content.looks < 200
    worker.cancel()
