"""Faults to order, and a count of what really went out: for tests, behind `--control`.

A rule applies to requests whose path matches, so many times; the first that matches is used. What a rule can do is
answer with a status and headers, cut the connection after so many bytes of the body, flip a byte, keep the length to
itself, and slow down.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

from aiohttp import web

CHUNK_BYTES = 1 << 16


@dataclass
class Rule:
    """`match` is a regular expression on the path; `times` counts down, None is for ever."""

    match: str
    method: str | None = None
    times: int | None = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    cut_after: int | None = None
    flip_at: int | None = None
    bytes_per_second: int | None = None
    ignore_range: bool = False
    no_length: bool = False


@dataclass
class Count:
    """What one path got: requests by method, bytes of bodies, ranges asked for, and whether a credential came along."""

    requests: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    ranges: list[str] = field(default_factory=list)
    credentials: int = 0


class Faults:
    """The rules in force and the counts so far."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._counts: dict[str, Count] = defaultdict(Count)

    def take(self, request: web.Request) -> Rule | None:
        """The rule for this request, used up by one; counts the request."""
        count = self._counts[request.path]
        count.requests[request.method] = count.requests.get(request.method, 0) + 1
        count.credentials += "Authorization" in request.headers
        if "Range" in request.headers:
            count.ranges.append(request.headers["Range"])
        for rule in self._rules:
            if rule.times == 0 or (rule.method and rule.method != request.method):
                continue
            if re.search(rule.match, request.path):
                if rule.times is not None:
                    rule.times -= 1
                return rule
        return None

    def refusal(self, request: web.Request) -> web.Response | None:
        """The answer that the rule for this request orders in place of any other; handlers find it as `rule`."""
        rule = request["rule"] = self.take(request)
        if rule is None or rule.status is None:
            return None
        return web.Response(status=rule.status, headers=rule.headers, text=rule.body)

    def sent(self, request: web.Request, count: int) -> None:
        self._counts[request.path].bytes += count

    def routes(self) -> list[web.RouteDef]:
        """`POST /_control` sets rules and clears the counts, `GET /_control` tells the counts."""

        async def order(request: web.Request) -> web.Response:
            self._rules = [Rule(**rule) for rule in await request.json()]
            self._counts.clear()
            return web.json_response({"rules": len(self._rules)})

        async def tell(request: web.Request) -> web.Response:
            return web.json_response({path: asdict(count) for path, count in self._counts.items()})

        return [web.post("/_control", order), web.get("/_control", tell)]


async def send(
    request: web.Request,
    response: web.StreamResponse,
    path: Any,
    start: int,
    end: int,
    faults: Faults,
    rule: Rule | None,
) -> web.StreamResponse:
    """Sends the bytes [start, end) of a file, as the rule wants them spoilt."""
    if rule is None or not rule.no_length:
        response.content_length = end - start
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    loop = asyncio.get_running_loop()
    began, sent = loop.time(), 0
    chunk_bytes = (
        min(CHUNK_BYTES, max(1024, rule.bytes_per_second // 20)) if rule and rule.bytes_per_second else CHUNK_BYTES
    )
    with open(path, "rb") as file:  # noqa: ASYNC230 (local, small reads)
        file.seek(start)
        while start + sent < end:
            chunk = file.read(min(chunk_bytes, end - start - sent))
            if rule is not None:
                chunk = _spoil(rule, chunk, start + sent)
                if rule.cut_after is not None and sent + len(chunk) > rule.cut_after:
                    await response.write(chunk[: rule.cut_after - sent])
                    faults.sent(request, rule.cut_after - sent)
                    await asyncio.sleep(0.05)  # what was written gets out before the connection ends
                    chunk = b""
            if not chunk:  # ordered, or the file got shorter: the client must see that the answer is not whole
                if request.transport is not None:
                    request.transport.close()
                return response
            await response.write(chunk)
            faults.sent(request, len(chunk))
            sent += len(chunk)
            if rule is not None and rule.bytes_per_second:
                await asyncio.sleep(max(0.0, began + sent / rule.bytes_per_second - loop.time()))
    await response.write_eof()
    return response


def _spoil(rule: Rule, chunk: bytes, offset: int) -> bytes:
    if rule.flip_at is None or not offset <= rule.flip_at < offset + len(chunk):
        return chunk
    spoilt = bytearray(chunk)
    spoilt[rule.flip_at - offset] ^= 0xFF
    return bytes(spoilt)
