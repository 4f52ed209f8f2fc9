"""One connection of the server: who dribbles a request, or takes nothing of the answer, is given up.

What must stay true: no connection is held for longer than these limits but by a request, which has a limit of its own,
by a stream that is read, or idle between two requests.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from modelyard.statusapi.problems import MEDIA_TYPE, Problem

HEAD_SECONDS: Final = 10.0
STUCK_MILLISECONDS: Final = 30_000


class Connection(H11Protocol):
    """uvicorn's, given up when its other side does not go on."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Sets the limits of the socket: what is sent must be taken."""
        found = transport.get_extra_info("socket")
        if found is not None and found.family in (socket.AF_INET, socket.AF_INET6):
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STUCK_MILLISECONDS)
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """The head of a request, and what of a body comes after the answer, must be complete in time."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE:
            self._wait()
        else:
            self._forget()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._forget()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, as the same kind of answer as everything else."""
        problem = Problem(400, "InvalidRequest", "This is no HTTP/1.1 request, or its head is longer than 64 KiB.")
        body = problem.body()
        headers = {**problem.headers(), "Content-Type": MEDIA_TYPE, "Content-Length": str(len(body))}
        raw = [(name.lower().encode(), value.encode()) for name, value in {**headers, "Connection": "close"}.items()]
        for event in (h11.Response(status_code=400, headers=raw), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _wait(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
