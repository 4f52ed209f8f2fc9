"""How a stream ends and begins anew: expired tokens, lost rights, slow readers, marks that are forgotten."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from modelyard.plan import Key
from modelyard.resources.meta import MODEL
from modelyard.settings import Settings
from modelyard.statusapi import problems, sse
from modelyard.statusapi.access import Seen
from modelyard.statusapi.followers import SLICE, Lens
from modelyard.statusapi.kinds import ALL
from modelyard.statusapi.main import service_of
from modelyard.statusapi.metrics import Metrics
from modelyard.statusapi.service import Service
from modelyard.statusapi.sse import EventStream, Following

ALL_MODELS = Lens(((MODEL, Seen(True)),))


@dataclass
class Connection:
    """What is sent to one caller, who may stop reading and may leave."""

    sent: list[bytes] = field(default_factory=list)
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    status: int = 0

    async def send(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        await self.reads.wait()
        self.sent.append(message.get("body", b""))

    async def receive(self) -> Any:
        await self.left.wait()
        return {"type": "http.disconnect"}

    @property
    def text(self) -> str:
        return b"".join(self.sent).decode()

    def count(self, event: str) -> int:
        return self.text.count(f"event: {event}\n")


class World:
    """A service without a cluster, and streams of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        settings = Settings(namespace="x", api={"streamWindowSeconds": 0.01, "limits": {"streams": 2}})
        self.service: Service = service_of(settings, None, Metrics("0"), ALL)  # type: ignore[arg-type]
        self.log = self.service.rows.log
        self.lens = ALL_MODELS
        self.problem: problems.Problem | None = None
        monkeypatch.setattr(sse, "RECHECK_SECONDS", 0.05)

    async def recheck(self) -> Lens:
        if self.problem:
            raise self.problem
        return self.lens

    def put(self, name: str, size: int = 0) -> None:
        self.log.put(MODEL, Key("a", name), b'{"name":"%b","x":"%b"}' % (name.encode(), b"x" * size))
        self.service.followers.touch()

    @contextlib.asynccontextmanager
    async def follow(self, expires: float | None = None, last: str | None = None) -> AsyncIterator[Connection]:
        connection = Connection()
        connection.reads.set()
        stream = EventStream(self.service, Following(self.lens, self.recheck, expires, last), "jane")
        task = asyncio.create_task(stream({"type": "http"}, connection.receive, connection.send))
        try:
            yield connection
        finally:
            connection.left.set()
            await task


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    found = World(monkeypatch)
    runner = asyncio.create_task(found.service.followers.run())
    monkeypatch.setattr(found.service.followers, "_pulse", 0.02)
    yield found
    runner.cancel()


async def until(look: Any) -> None:
    async with asyncio.timeout(10):
        while not look():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_an_expired_token_ends_the_stream(world: World) -> None:
    async with world.follow(expires=world.service.wall() - 1) as connection:
        await until(lambda: "TokenExpired" in connection.text)
        assert connection.sent[-1] == b""


async def test_when_it_is_quiet_it_beats(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 0.05)
    world.put("one")
    async with world.follow() as connection:
        await until(lambda: connection.count("heartbeat") >= 3)
        assert connection.count("change") == 1
        beat = connection.text.rpartition("event: heartbeat")[0].splitlines()[-1]
        assert beat == f"id: {world.log.position()}"


async def test_a_lost_right_ends_it_and_a_changed_one_begins_anew(world: World) -> None:
    world.put("one")
    async with world.follow() as connection:
        await until(lambda: connection.count("synced"))
        world.lens = Lens(((MODEL, Seen(False)),))
        await until(lambda: connection.count("reset") == 2)
        await until(lambda: connection.count("synced") == 2)
        assert connection.count("change") == 1
        world.problem = problems.forbidden("list", "models", "a")
        await until(lambda: '"code": "Forbidden"' in connection.text)


async def test_who_does_not_read_gets_each_object_once_and_stops_nobody(world: World) -> None:
    async with world.follow() as slow, world.follow() as quick:
        await until(lambda: slow.count("synced") and quick.count("synced"))
        slow.reads.clear()
        for number in range(50):
            world.put("one", number)
            world.put(f"m{number % 3}")
            await asyncio.sleep(0.015)
        await until(lambda: '"m1"' in quick.text)
        before = slow.count("change")
        slow.reads.set()
        world.put("last")
        await until(lambda: '"last"' in slow.text)
        assert slow.count("change") - before <= 8
        assert quick.count("change") > 50


async def test_large_snapshots_come_in_slices(world: World) -> None:
    for number in range(20):
        world.put(f"m{number}", SLICE // 4)
    async with world.follow() as connection:
        await until(lambda: connection.count("change") == 20)
        assert max(map(len, connection.sent)) < 2 * SLICE


async def test_what_is_forgotten_resets_and_more_streams_than_allowed_are_refused(world: World) -> None:
    world.log._most_marks = 1
    world.put("one")
    position = world.log.position()
    for number in range(3):
        world.put(f"m{number}")
        world.log.gone(MODEL, Key("a", f"m{number}"), b"{}")
    world.service.followers.touch()
    async with world.follow(last=position) as first, world.follow(last="x:1"), world.follow() as third:
        await until(lambda: '"NotResumable"' in first.text)
        await until(lambda: third.status == 429)
        assert len(world.service.streams) == 2
    assert len(world.service.streams) == 0
