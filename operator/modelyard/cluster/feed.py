"""kopf as the watch pump: streams of our kinds into the store, and nothing else.

Only `on.event`, with a handler that neither does I/O nor awaits. kopf posts nothing, patches nothing, elects nobody,
and scans for no CRDs or namespaces. It ends the whole process on several stream faults; a restart is cheap.

kopf does not say when it lists again after a broken stream, and never reports what was deleted meanwhile. A state that
comes as if for the first time of an object that this feed has brought before is the sign of it: `on_relist` then asks
for a re-list of our own.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import kopf

from modelyard.cluster.client import uses_kubeconfig
from modelyard.cluster.store import EventType
from modelyard.cluster.watched import Scope
from modelyard.plan import Kind, Obj

logger = logging.getLogger(__name__)

ObserveFn = Callable[[Kind, EventType, Obj], None]


class Feed:
    """The watch streams of one scope. `start` once."""

    def __init__(self, scope: Scope, observe: ObserveFn, on_relist: Callable[[], None]) -> None:
        self._scope = scope
        self._observe = observe
        self._on_relist = on_relist
        self._brought: set[str] = set()

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
            )(self._handler(kind))
        namespaces = self._scope.namespaces
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=self._settings(),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
        )
        return list(tasks)

    def _handler(self, kind: Kind) -> Callable[..., Coroutine[Any, Any, None]]:
        async def observe(event: Any, **_: Any) -> None:
            self.take_in(kind, event["type"], event["object"])

        return observe

    def take_in(self, kind: Kind, event: EventType, obj: Obj) -> None:
        """One event of the stream."""
        uid = obj["metadata"]["uid"]
        if event == "DELETED":
            self._brought.discard(uid)
        elif event is None and uid in self._brought:
            self._on_relist()
        else:
            self._brought.add(uid)
        self._observe(kind, event, obj)

    def forget_all_but(self, uids: set[str]) -> None:
        """After a re-list: what is gone will not come again."""
        self._brought &= uids

    def _settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.peering.standalone = True
        settings.scanning.disabled = True
        settings.queueing.idle_timeout = 1.0
        settings.queueing.exit_timeout = 0.1
        settings.process.ultimate_exiting_timeout = None
        settings.networking.error_backoffs = _Backoffs()
        settings.networking.connect_timeout = 10.0
        settings.networking.trust_env = True
        settings.persistence.diffbase_storage = _NoDiffs()
        settings.watching.connect_timeout = 10.0
        settings.watching.chunk_size = 500
        for watched in self._scope.kinds:
            if watched.asked:
                kind = watched.kind
                selector = (kind.group, kind.api_version.rpartition("/")[2], kind.plural)
                settings.watching.label_selectors[selector] = watched.asked
        return settings


class _Backoffs:
    """Seconds between tries, for ever: an API server that is away for an hour is no reason to end the process."""

    def __iter__(self) -> Any:
        return itertools.chain((0.2, 0.5, 1, 2, 3, 5, 8), itertools.repeat(13))


class _NoDiffs(kopf.DiffBaseStorage):
    """kopf copies every object at every event, to compare it with what its handlers of changes saw; we have none."""

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        return None


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
