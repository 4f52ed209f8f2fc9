"""One stream of server-sent events: a snapshot or the changes since `Last-Event-ID`, then changes, until it ends.

Written on ASGI itself, because the events are ready-made bytes that many streams share; FastAPI's own SSE would encode
each event for each stream again. A stream keeps a number and no queue: while a slow connection is being waited for,
changes of one object become one. What must stay true: who applies `reset`, `put` and `gone` in order, and reconnects
with the last id, ends in the state that a fresh list shows.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from starlette.types import Receive, Scope, Send

from modelyard.statusapi.followers import Lens, slices
from modelyard.statusapi.problems import Problem
from modelyard.statusapi.service import Service

SEND_SECONDS: Final = 30.0
RECHECK_SECONDS: Final = 10.0
"""With how long a review is believed, and how long one may take, it stays below the minute in which a right ends."""
HEARTBEAT_SECONDS: Final = 15.0
RETRY_MILLISECONDS: Final = 3000
_HEADERS: Final = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)


class EndedError(Exception):
    """The stream is over; `code` says why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Following:
    """Who follows what. `recheck` answers with what they may see now, and raises Problem; `expires` is wall-clock."""

    lens: Lens
    recheck: Callable[[], Awaitable[Lens]]
    expires: float | None
    last_event_id: str | None


class EventStream:
    """The answer to one request; an ASGI application."""

    def __init__(self, service: Service, following: Following, subject: str) -> None:
        self._service = service
        self._followers = service.followers
        self._following = following
        self._lens = following.lens
        self._subject = subject
        self._seq = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends until the caller goes, their right ends, or the process stops."""
        with self._service.streams.hold(self._subject) as held:
            if not held:
                self._service.metrics.limited.labels("streams").inc()
                words = "You have as many streams open as you may: close one, or follow several kinds in one."
                await Problem(429, "TooManyStreams", words, retry_after=10).response()(scope, receive, send)
                return
            body = asyncio.create_task(self._run(send))
            left = asyncio.create_task(_disconnected(receive))
            try:
                await asyncio.wait({body, left}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                left.cancel()
                body.cancel()
                result = (await asyncio.gather(body, left, return_exceptions=True))[0]
            ended = result if isinstance(result, str) else "Left"
            if isinstance(result, Exception):
                ended = "Error"
            self._service.metrics.stream_ends.labels(ended).inc()

    async def _run(self, send: Send) -> str:
        self._send = send
        await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS]})
        try:
            await self._write(b"retry: %d\n\n" % RETRY_MILLISECONDS)
            await self._begin()
            await self._follow()
        except EndedError as ended:
            await self._event("end", {"code": ended.code, "detail": ended.detail})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return ended.code
        except TimeoutError:
            return "Stalled"

    async def _begin(self) -> None:
        asked = self._following.last_event_id
        if not asked:
            await self._reset("Start")
            return
        seq = self._followers.log.resume(asked)
        if seq is None:
            await self._reset("NotResumable")
            return
        self._seq = seq

    async def _follow(self) -> NoReturn:
        service, clock = self._service, self._service.clock
        wrote = checked = clock()
        behind, told_stale = True, service.freshness.stale
        while True:
            if 0 < self._seq < self._followers.log.floor:
                await self._reset("TooOld")
                behind = True
            if await self._catch_up():
                wrote = clock()
            if behind:
                await self._event("synced", {"stale": told_stale, "observedAt": service.freshness.observed_at()}, True)
                behind = False
            now = clock()
            if self._following.expires is not None and self._following.expires <= service.wall():
                raise EndedError("TokenExpired", "The token has expired: connect again with a new one.")
            if now - checked >= RECHECK_SECONDS:
                checked = now
                behind = await self._recheck()
            stale = service.freshness.stale
            if now - wrote >= HEARTBEAT_SECONDS or stale != told_stale:
                beat = {"stale": stale, "observedAt": service.freshness.observed_at()}
                await self._event("heartbeat", beat, True)
                wrote, told_stale = now, stale
            if not behind:
                await self._followers.wait()

    async def _recheck(self) -> bool:
        """Whether the stream begins anew, because the caller may now see more or less."""
        try:
            lens = await self._following.recheck()
        except Problem as problem:
            raise EndedError(problem.code, problem.detail) from None
        if lens == self._lens:
            return False
        self._lens = lens
        await self._reset("AccessChanged")
        return True

    async def _reset(self, reason: str) -> None:
        self._service.metrics.resets.labels(reason).inc()
        self._seq = 0
        await self._event("reset", {"reason": reason})

    async def _catch_up(self) -> bool:
        """Sends what changed; whether that was anything."""
        entries, head = self._followers.batch(self._seq, self._lens)
        if entries:
            whole = self._followers.joined(self._seq, head, self._lens, entries)
            if whole is not None:
                await self._write(whole)
            else:
                for piece in slices(entries):
                    await self._write(b"".join(entry.frame for entry in piece))
        self._seq = head
        return bool(entries)

    async def _event(self, name: str, data: dict[str, Any], position: bool = False) -> None:
        at = b"id: %b:%d\n" % (self._followers.log.epoch.encode(), self._seq) if position else b""
        await self._write(at + b"event: %b\ndata: %b\n\n" % (name.encode(), json.dumps(data).encode()))

    async def _write(self, data: bytes) -> None:
        async with asyncio.timeout(SEND_SECONDS):
            await self._send({"type": "http.response.body", "body": data, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
