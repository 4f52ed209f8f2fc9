"""What the routes share: caches, rights, settings. Built once by `main`, or by a test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modelyard.cluster.client import Client
from modelyard.cluster.store import Store
from modelyard.plan import Key, Kind, Obj
from modelyard.resources.meta import NAMESPACE
from modelyard.settings import Api
from modelyard.statusapi import access, problems
from modelyard.statusapi.access import Question, Rights, Seen
from modelyard.statusapi.auth import Caller, Tokens
from modelyard.statusapi.curves import CurveSource
from modelyard.statusapi.followers import Followers
from modelyard.statusapi.freshness import Freshness
from modelyard.statusapi.kinds import Shown
from modelyard.statusapi.limits import Slots
from modelyard.statusapi.metrics import Metrics
from modelyard.statusapi.rows import Rows


@dataclass(frozen=True, slots=True)
class Service:
    """The parts. `tokens` is None on a server without authentication, which listens on loopback alone."""

    settings: Api
    watch_namespaces: tuple[str, ...]
    client: Client
    store: Store
    rows: Rows
    curves: CurveSource
    followers: Followers
    rights: Rights
    tokens: Tokens | None
    freshness: Freshness
    metrics: Metrics
    streams: Slots
    kinds: tuple[Shown, ...]
    clock: Callable[[], float]
    wall: Callable[[], float]

    def namespaces(self) -> set[str]:
        """All namespaces that are known, whoever may see them."""
        names = {key.name for key in self.store.keys(NAMESPACE)}
        return names | set(self.watch_namespaces) | self.rows.namespaces(shown.kind for shown in self.kinds)

    async def seen(
        self, caller: Caller, kind: Kind, asked: Sequence[str] = (), verbs: Sequence[str] = ("list",)
    ) -> Seen:
        """Where the caller sees objects of a kind. Raises Problem 403 if one of `asked` is not among that."""
        holding = {key.namespace for key in self.rows.keys(kind)}
        return await access.seen(self.rights, caller.identity, kind, holding, asked, verbs)

    async def require(
        self, caller: Caller, verb: str, kind: Kind, namespace: str, name: str = "", subresource: str = ""
    ) -> None:
        """Raises Problem 403 unless the caller may."""
        question = Question(verb, kind.group, kind.plural, namespace, name, subresource)
        await access.require(self.rights, caller.identity, question)

    async def get(self, caller: Caller, shown: Shown, namespace: str, name: str) -> Obj:
        """An object that the caller may get. Raises Problem 403, whether it exists or not, and then 404."""
        await self.require(caller, "get", shown.kind, namespace, name)
        obj = self.store.get(shown.kind, namespace, name)
        if obj is None or self.rows.get(shown.kind, Key(namespace, name)) is None:
            raise problems.not_found(shown.word)
        return obj
