"""Points written, read, thinned and removed; the same on both databases."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from itertools import pairwise

import pytest
from prometheus_client import generate_latest
from sqlalchemy import URL, text, update
from sqlalchemy.ext.asyncio import create_async_engine

from modelyard.collector.curves import Curves, StoreAwayError
from modelyard.collector.database import Database, StoreError, url_of
from modelyard.collector.metrics import Metrics
from modelyard.collector.points import Ingest, Point
from modelyard.collector.tables import VERSION
from modelyard.plan import Key
from support.postgres import Postgres

Opener = Callable[[], Awaitable[Database]]
KEY = Key("team-a", "run")
NOW = 1_795_000_000.0


def point(seq: int, attempt: int = 1, step: int | None = None, loss: float = 0.5, **more: object) -> Point:
    found = Point(attempt, seq, NOW + seq, seq * 10 if step is None else step, None, {"loss": loss})
    return Point(**{**{n: getattr(found, n) for n in Point.__slots__}, **more})  # type: ignore[arg-type]


def ingest(points: Iterable[Point], uid: str = "u-1", key: Key = KEY) -> Ingest:
    return Ingest(uid, key, tuple(points))


async def test_what_is_written_is_read_and_a_resend_changes_nothing(opened: Opener) -> None:
    store = await opened()
    row = point(3, epoch=1.0, row_epoch=1, row={"accuracy": 0.75})
    await store.write([ingest([point(1), point(2, loss=0.1234567891)]), ingest([row], "u-2")], NOW)
    await store.write([ingest([point(2, loss=9.0), point(4)])], NOW)
    found = await store.read("u-1")
    assert [(p.seq, p.step, p.at, p.metrics) for p in found] == [
        (1, 10, NOW + 1, {"loss": 0.5}),
        (2, 20, NOW + 2, {"loss": 0.1234568}),
        (4, 40, NOW + 4, {"loss": 0.5}),
    ]
    assert await store.read("u-2") == [row]
    assert await store.read("nobody") == []


async def test_attempts_and_steps_can_be_chosen(opened: Opener) -> None:
    store = await opened()
    await store.write([ingest([point(seq, attempt) for attempt in (1, 2) for seq in range(1, 11)])], NOW)
    assert len(await store.read("u-1")) == 20
    assert {p.attempt for p in await store.read("u-1", attempt=2)} == {2}
    assert [p.step for p in await store.read("u-1", 1, (35, 60))] == [40, 50, 60]


async def test_a_long_attempt_is_thinned_and_keeps_its_peaks_ends_and_epochs(opened: Opener) -> None:
    store = await opened()
    peak, epoch, end = 377, 500, {"row_epoch": 1, "row": {"accuracy": 0.5}}
    for first in range(1, 1001, 20):
        rows = [
            point(seq, loss=99.0 if seq == peak else 1.0, **(end if seq == epoch else {}))
            for seq in range(first, first + 20)
        ]
        await store.write([ingest(rows)], NOW)
    found = await store.read("u-1")
    assert 50 <= len(found) <= 120
    assert {1, peak, epoch, 1000} <= {p.seq for p in found}
    widest = max(b.seq - a.seq for a, b in pairwise(found))
    assert widest < 100


async def test_runs_that_nobody_needs_are_found_and_go(opened: Opener) -> None:
    store = await opened()
    await store.write([ingest([point(1)], f"u-{n}", Key("team-a", f"run-{n}")) for n in range(3)], NOW)
    assert {uid for uid, _ in await store.due(NOW + 1, 10)} == {"u-0", "u-1", "u-2"}
    assert (await store.due(NOW + 1, 1))[0][1].namespace == "team-a"
    await store.checked(["u-0"], NOW + 5)
    assert {uid for uid, _ in await store.due(NOW + 1, 10)} == {"u-1", "u-2"}
    await store.forget(["u-1"])
    assert await store.read("u-1") == []
    assert len(await store.read("u-2")) == 1
    await store.write([ingest([point(1)], "u-2")], NOW + 100)
    assert await store.silent(NOW + 50, 10) == ["u-0"]
    await store.write([ingest([point(1)], "u-1")], NOW + 200)
    assert len(await store.read("u-1")) == 1


async def test_it_opens_again_and_two_can_begin_at_once(opened: Opener, url: URL) -> None:
    first, second = (
        await asyncio.gather(opened(), opened())
        if "sqlite" not in url.drivername
        else (
            await opened(),
            await opened(),
        )
    )
    await first.write([ingest([point(1)])], NOW)
    await second.write([ingest([point(1), point(2)])], NOW)
    assert len(await (await opened()).read("u-1")) == 2


async def test_tables_of_a_later_version_are_left_alone(opened: Opener, url: URL) -> None:
    await opened()
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(update(VERSION).values(version=99))
    with pytest.raises(StoreError, match="later version"):
        await opened()
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT version FROM modelyard_schema"))).scalar_one() == 99
    await engine.dispose()


async def test_a_batch_of_everybody_is_committed_at_once(opened: Opener) -> None:
    metrics = Metrics()
    curves = Curves(opened, metrics)
    running = asyncio.create_task(curves.run())
    await until(lambda: b"modelyard_collector_store_up 1.0" in generate_latest(metrics.registry))
    await asyncio.gather(*(curves.take(ingest([point(n)], f"u-{n}")) for n in range(200)))
    store = await opened()
    for n in range(200):
        assert len(await store.read(f"u-{n}")) == 1
    await curves.close(running)


async def test_what_came_last_is_written_when_it_ends(opened: Opener) -> None:
    curves = Curves(opened, Metrics())
    running = asyncio.create_task(curves.run())
    await until(lambda: readable(curves))
    waiting = asyncio.create_task(curves.take(ingest([point(1)])))
    await asyncio.sleep(0)
    await curves.close(running)
    await waiting
    assert len(await (await opened()).read("u-1")) == 1


async def test_the_sweep_removes_what_belongs_to_no_training(opened: Opener) -> None:
    curves = Curves(opened, Metrics())
    running = asyncio.create_task(curves.run())
    await until(lambda: readable(curves))
    await curves.take(ingest([point(1)], "there"))
    await curves.take(ingest([point(1)], "gone"))
    unknown = True

    async def exists(uid: str, key: Key) -> bool:
        if unknown:
            raise StoreAwayError
        return uid == "there"

    sweeping = asyncio.create_task(curves.sweep(exists, 0.2, 86400))
    await asyncio.sleep(1)
    assert await curves.read("gone", None, (None, None))
    unknown = False
    store = await opened()
    for _ in range(1800):
        if not await store.read("gone"):
            break
        await asyncio.sleep(0.1)
    assert not await store.read("gone")
    assert await store.read("there")
    sweeping.cancel()
    await curves.close(running)


async def test_an_outage_holds_up_nobody_and_leaves_no_gap(server: Postgres, caplog: pytest.LogCaptureFixture) -> None:
    server.execute("CREATE DATABASE outage")
    url = url_of(server.url("outage"))
    curves = Curves(lambda: Database.open(url, 4000), Metrics())
    running = asyncio.create_task(curves.run())
    await until(lambda: readable(curves))
    await curves.take(ingest([point(1)]))
    await asyncio.to_thread(server.stop)
    await curves.take(ingest([point(2)]))  # one that waits when it goes is let go, though it stays away
    await until(lambda: "points wait in memory" in caplog.text)
    for seq in range(3, 50):
        with pytest.raises(StopIteration):  # at its end without a pause: it has waited for nothing at all
            curves.take(ingest([point(seq)])).send(None)
    with pytest.raises(StoreAwayError):
        await curves.read("u-1", None, (None, None))
    await asyncio.to_thread(server.start)
    await until(lambda: holds(curves, 49))
    await curves.close(running)
    assert server.password not in caplog.text


async def test_wrong_urls_and_passwords_are_told_without_repeating_them(server: Postgres) -> None:
    for wrong, words in {
        server.url().replace(server.password, "canary"): "the password is not accepted",
        server.url("canary"): "there is no such database",
    }.items():
        with pytest.raises(StoreError, match=words) as told:
            await Database.open(url_of(wrong), 100)
        assert "canary" not in str(told.value)
        assert told.value.__cause__ is None
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(StoreError, match="nothing listens"):
        await Database.open(url_of(f"postgresql://a:canary@127.0.0.1:{port}/x"), 100)


async def readable(curves: Curves) -> bool:
    try:
        await curves.read("nobody", None, (None, None))
    except StoreAwayError:
        return False
    return True


async def holds(curves: Curves, count: int) -> bool:
    try:
        return len(await curves.read("u-1", None, (None, None))) == count
    except StoreAwayError:
        return False


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    for _ in range(3600):
        found = condition()
        if found if isinstance(found, bool) else await found:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the awaited state did not come")
