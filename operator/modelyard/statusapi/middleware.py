"""What every request passes before its route: limits, authentication, bounds on what is read and how long it takes.

And what every answer passes: headers that keep browsers and caches from doing harm, counting, and no exception's text.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import MutableMapping
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelyard.cluster.logs import where
from modelyard.statusapi import problems
from modelyard.statusapi.auth import Caller, Identity, bearer
from modelyard.statusapi.limits import Bucket
from modelyard.statusapi.problems import Problem
from modelyard.statusapi.service import Service

logger = logging.getLogger(__name__)
audit = logging.getLogger("modelyard.audit")

STREAM_PATH: Final = "/api/v1/events"
STRANGERS_PER_SECOND: Final = 5.0
STRANGERS_BURST: Final = 50
_EVERYBODY: Final = Caller(Identity("loopback", digest="loopback"), "", None)
_SECURITY: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"vary", b"Authorization"),
)


class Guard:
    """Around the application."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service
        limits = service.settings.limits
        self._callers = Bucket(limits.requests_per_second, limits.burst)
        self._strangers = Bucket(STRANGERS_PER_SECOND, STRANGERS_BURST)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        head = scope["method"] == "HEAD"
        if head:
            scope = {**scope, "method": "GET"}
        answer = _Answer(send, self._service, head)
        began = self._service.clock()
        try:
            await self._handle(scope, receive, answer)
        except Problem as problem:
            await answer.problem(problem, scope, receive)
        except Exception as error:
            logger.error("A request failed: %s at %s.", type(error).__name__, where(error))
            words = "Something went wrong here; it is in the log of the API. Try again."
            await answer.problem(Problem(500, "InternalError", words), scope, receive)
        self._count(scope, answer.status, self._service.clock() - began)

    async def _handle(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        scope.setdefault("state", {})
        caller = await self._caller(scope)
        wait = self._callers.take(caller.identity.digest, self._service.clock())
        if wait is not None:
            self._service.metrics.limited.labels("requests").inc()
            raise Problem(429, "TooManyRequests", "You ask more often than you may; slow down.", retry_after=wait)
        scope["state"]["caller"] = caller
        body = _Body(receive, _content_length(scope), self._service.settings.limits.body_bytes)
        if scope["path"] == STREAM_PATH:
            # What lies between here and the stream has nothing to add to its thousands of small writes.
            scope["state"]["send"] = answer
            return await self._app(scope, body, answer)
        try:
            async with asyncio.timeout(self._service.settings.limits.request_seconds):
                await self._app(scope, body, answer)
        except TimeoutError:
            raise Problem(504, "TooSlow", "The answer took too long; ask for less, or try again.") from None

    async def _caller(self, scope: Scope) -> Caller:
        tokens = self._service.tokens
        if tokens is None:
            if not is_loopback(_host(scope)):
                words = "Without authentication this API answers only to names of loopback, such as localhost."
                raise Problem(403, "NotLoopback", words)
            return _EVERYBODY
        token = bearer(_header(scope, b"authorization"))
        scope["state"]["token"] = token
        if tokens.known(token):
            return await tokens.caller(token)
        peer = (scope.get("client") or ("", 0))[0]
        wait = self._strangers.wait(peer, self._service.clock())
        if wait is not None:
            self._service.metrics.limited.labels("strangers").inc()
            words = "Too many tokens from your address were not accepted; wait."
            raise Problem(429, "TooManyRequests", words, retry_after=wait)
        try:
            return await tokens.caller(token)
        except Problem as problem:
            if problem.status == 401:
                self._strangers.take(peer, self._service.clock())
            if problem.status == 503:
                problem.stale_since = self._service.freshness.stale_since()
            raise

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        self._service.metrics.requests.labels(route, str(status)).inc()
        if scope["path"] != STREAM_PATH:
            self._service.metrics.seconds.labels(route).observe(seconds)
        caller: Caller | None = scope.get("state", {}).get("caller")
        who = caller.identity.username if caller else "-"
        # Of the path only what matched a route: the rest is whatever somebody chose to send.
        params = {name: value for name, value in scope.get("path_params", {}).items() if status < 400}
        audit.debug("%s %s %s %s %d", who, scope["method"], route, params, status)


class _Answer:
    """`send` with headers of our own; begins at most once."""

    def __init__(self, send: Send, service: Service, head: bool) -> None:
        self._send = send
        self._service = service
        self._head = head
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": [*message.get("headers", ()), *self._headers()]}
        elif self._head and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)

    async def problem(self, problem: Problem, scope: Scope, receive: Receive) -> None:
        if self.status:
            return  # too late to say anything: the connection ends in the middle
        await problem.response()(scope, receive, self)

    def _headers(self) -> list[tuple[bytes, bytes]]:
        headers = list(_SECURITY)
        freshness = self._service.freshness
        if (at := freshness.observed_at()) is not None:
            headers.append((b"modelyard-observed-at", at.encode()))
        if freshness.stale:
            headers.append((b"modelyard-stale", b"true"))
        headers.append((b"modelyard-position", self._service.rows.log.position().encode()))
        if self._service.tokens is None:
            headers.append((b"modelyard-authentication", b"none"))
        return headers


class _Body:
    """`receive` that refuses bodies that are too large, said or not."""

    def __init__(self, receive: Receive, length: int, most: int) -> None:
        self._receive = receive
        self._left = most
        if length > most:
            raise Problem(413, "TooLarge", f"The body of a request may have {most} bytes.")
        self._most = most

    async def __call__(self) -> MutableMapping[str, Any]:
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                raise Problem(413, "TooLarge", f"The body of a request may have {self._most} bytes.")
        return message


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this machine, whoever resolves it."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _host(scope: Scope) -> str:
    """The name that the caller used: a page of anybody can have its own name resolve to loopback, and ask as itself."""
    try:
        return urlsplit(f"//{_header(scope, b'host') or ''}").hostname or ""
    except ValueError:
        return ""


def _header(scope: Scope, name: bytes) -> str | None:
    found = [value for key, value in scope["headers"] if key == name]
    return found[0].decode("latin-1") if len(found) == 1 else None


def _content_length(scope: Scope) -> int:
    text = _header(scope, b"content-length") or "0"
    if not text.isascii() or not text.isdigit():
        raise problems.invalid("Content-Length", "must be a number")
    return int(text)
