"""kopf as the watch pump: streams of our kinds into the store, and nothing else.

kopf logs in, discovers, keeps the streams and begins them anew. It posts nothing, patches nothing, elects nobody, and
scans for no CRDs or namespaces. It ends the whole process on several stream faults; a restart is cheap.

Two of its functions are replaced, because with tens of thousands of objects they are most of what a start costs. The
list that a stream begins with is our own: one list and not two, without a task, a queue and a memory for each object,
and after a stream that was lost it also finds what was deleted meanwhile, which kopf never reports. And an event is
taken in as it is read; what kopf sees of it is how far the stream has come. Neither does I/O or awaits.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import kopf
from kopf._cogs.clients import fetching, watching

from modelyard.cluster.client import uses_kubeconfig
from modelyard.cluster.store import EventType
from modelyard.cluster.watched import Scope
from modelyard.plan import Kind, Obj

logger = logging.getLogger(__name__)

ObserveFn = Callable[[Kind, EventType, Obj], None]
ListFn = Callable[[Kind, str | None], Awaitable[int]]
"""Takes in all objects of a kind, in a namespace or in all; the version of the list."""


class Feed:
    """The watch streams of one scope. `start` once."""

    def __init__(self, scope: Scope, observe: ObserveFn, begin: ListFn) -> None:
        self._scope = scope
        self._observe = observe
        self._begin = begin

    async def start(self) -> list[Any]:
        """Starts the streams; returns kopf's tasks: when one of them ends, the feed is broken for good.

        kopf takes over the process's signal handlers here: set yours afterwards.
        """
        _quiet_loggers()
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(
            kopf.login_with_kubeconfig if uses_kubeconfig() else kopf.login_with_service_account
        )
        for watched in self._scope.kinds:
            kind = watched.kind
            kopf.on.event(
                group=kind.group,
                version=kind.api_version.rpartition("/")[2],
                plural=kind.plural,
                id=f"observe-{kind.plural}",
                registry=registry,
            )(_nothing)
        namespaces = self._scope.namespaces
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=self._settings(),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
        )
        return list(tasks)

    async def begin(self, resource: Any, namespace: str | None) -> str:
        """In place of kopf's list."""
        return str(await self._begin(self._kind(resource), namespace))

    def take_in(self, resource: Any, event: Any) -> Any:
        """One line of a stream; what kopf is to see of it: a bookmark, or what is about the stream itself."""
        if event["type"] not in ("ADDED", "MODIFIED", "DELETED"):
            return event
        self._observe(self._kind(resource), event["type"], event["object"])
        version = event["object"]["metadata"]["resourceVersion"]
        return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}

    def _kind(self, resource: Any) -> Kind:
        served = (f"{resource.group}/{resource.version}" if resource.group else resource.version, resource.plural)
        return next(w.kind for w in self._scope.kinds if (w.kind.api_version, w.kind.plural) == served)

    def _settings(self) -> _Settings:
        settings = _Settings()
        settings.feed = self
        settings.posting.enabled = False
        settings.peering.standalone = True
        settings.scanning.disabled = True
        settings.queueing.idle_timeout = 1.0
        settings.queueing.exit_timeout = 0.1
        settings.process.ultimate_exiting_timeout = None
        settings.networking.error_backoffs = _Backoffs()
        settings.networking.connect_timeout = 10.0
        settings.networking.trust_env = True
        settings.watching.connect_timeout = 10.0
        for watched in self._scope.kinds:
            if watched.asked:
                kind = watched.kind
                selector = (kind.group, kind.api_version.rpartition("/")[2], kind.plural)
                settings.watching.label_selectors[selector] = watched.asked
        return settings


class _Settings(kopf.OperatorSettings):
    """kopf's, which say whose they are."""

    feed: Feed


async def _nothing(**_: Any) -> None:
    """kopf watches a kind for the sake of a handler."""


_watch_objs = watching.watch_objs


async def _list_ours(
    *, settings: _Settings, resource: Any, namespace: str | None, **_: Any
) -> AsyncIterator[tuple[list[Any], str]]:
    yield [], await settings.feed.begin(resource, namespace)


async def _watch_ours(*, settings: _Settings, resource: Any, **rest: Any) -> AsyncIterator[Any]:
    async for event in _watch_objs(settings=settings, resource=resource, **rest):
        yield settings.feed.take_in(resource, event)


vars(fetching)["fetch_objs"] = _list_ours
vars(watching)["watch_objs"] = _watch_ours


class _Backoffs:
    """Seconds between tries, for ever: an API server that is away for an hour is no reason to end the process."""

    def __iter__(self) -> Any:
        return itertools.chain((0.2, 0.5, 1, 2, 3, 5, 8), itertools.repeat(13))


class _Words(logging.Handler):
    """Says that kopf complained, in our own words: its messages repeat what servers answered."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        logger.log(
            record.levelno,
            "The watch of the API server reported a problem (%s%s); it is tried again, or the process starts anew.",
            record.name,
            f", {error}" if error else "",
        )


def _quiet_loggers() -> None:
    root = logging.getLogger("kopf")
    root.propagate = False
    root.handlers[:] = [_Words(logging.WARNING)]
    root.setLevel(logging.WARNING)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
