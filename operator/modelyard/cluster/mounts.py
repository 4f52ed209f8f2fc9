"""Which of our claims are mounted by pods that are not ours: a list of the pods of each namespace, once a period.

Users' pods are not watched: there may be very many, and hardly any of them matters. So each namespace in which we have
claims is listed now and then, one after the other, and what its pods mount is kept as facts. A pod is noticed within a
period; until then the cluster itself keeps what it mounts.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator

from modelyard.cluster import errors
from modelyard.cluster.client import Client
from modelyard.cluster.facts import Facts
from modelyard.cluster.store import Store
from modelyard.plan import Obj
from modelyard.resources.meta import LABEL_MANAGED_BY, MANAGED_BY, POD, PVC

logger = logging.getLogger(__name__)

_OTHERS = f"{LABEL_MANAGED_BY}!={MANAGED_BY}"
_RUNNING = "status.phase!=Succeeded,status.phase!=Failed"


class Mounts:
    """The poller. `run` it on the leader. `on_news` gets each claim of ours whose pods are others than before."""

    def __init__(
        self,
        client: Client,
        store: Store,
        facts: Facts,
        *,
        period: float,
        per_second: float,
        on_news: Callable[[Obj], None],
    ) -> None:
        self._client = client
        self._store = store
        self._facts = facts
        self._period = period
        self._pause = 1 / per_second
        self._on_news = on_news

    async def run(self) -> None:
        """For ever."""
        while True:
            for namespace in sorted({c["metadata"]["namespace"] for c in self._store.list(PVC)}):
                try:
                    await self._look(namespace)
                except errors.ApiError as error:
                    logger.warning("The pods of a namespace could not be listed (%s); trying again later.", error)
                await asyncio.sleep(self._pause)
            await asyncio.sleep(self._period)

    async def _look(self, namespace: str) -> None:
        found: dict[str, set[str]] = defaultdict(set)
        async for pods, _ in self._client.pages(POD, namespace, _OTHERS, _RUNNING):
            for pod in pods:
                for claim in claims_of(pod):
                    if self._store.get(PVC, namespace, claim) is not None:
                        found[claim].add(pod["metadata"]["name"])
        news = self._facts.learn_mounts(namespace, {claim: frozenset(pods) for claim, pods in found.items()})
        for name in sorted(news):
            if (changed := self._store.get(PVC, namespace, name)) is not None:
                self._on_news(changed)


def claims_of(pod: Obj) -> Iterator[str]:
    """Names of the claims that a pod mounts."""
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if name := (volume.get("persistentVolumeClaim") or {}).get("claimName"):
            yield name
