"""The store of curves: SQLite in a file, or PostgreSQL by a URL. All SQL is here.

Writing a point again changes nothing, so whoever does not know whether a write arrived writes again. Every failure is a
`StoreError` with words of our own: what drivers say may hold hosts, users and statements.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

from sqlalchemy import URL, Delete, bindparam, delete, event, func, make_url, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from modelyard.collector.points import Ingest, Point, kept, packed, unpacked
from modelyard.collector.tables import POINTS, RUNS, NewerSchemaError, migrate
from modelyard.plan import Key

SECONDS: Final = 15.0
MOST_ROWS: Final = 50_000
_CONNECT_SECONDS: Final = 5
_FRESH_SECONDS: Final = 60.0
_WORDS: Final[Mapping[str, str]] = {
    "42501": "the user may not do that: it needs to own the database, or CREATE on its schema",
    "53100": "its disk is full",
    "53300": "it has too many connections",
    "25006": "it is read-only",
}
"""By SQLSTATE."""
_REFUSALS: Final[Mapping[str, str]] = {
    "password authentication failed": "the password is not accepted",
    "no pg_hba.conf entry": "it takes no connections of this user from here",
    "does not exist": "there is no such database or user",
    "refused": "nothing listens at its address",
    "resolve": "its host has no address",
    "Name or service not known": "its host has no address",
    "certificate": "its certificate is not accepted",
    "timeout": "it does not answer in time",
}
"""By what a refused connection says, which comes without a state and must not be repeated."""


class StoreError(Exception):
    """The store cannot be used now; the text says why and holds nothing that is secret."""


class BadUrlError(ValueError):
    """Not the URL of a database that can be used."""


@dataclass(slots=True)
class _Known:
    """A run that is in the database. `counts`: points by attempt, where they were counted."""

    id: int
    reported_at: float
    counts: dict[int, int]


def url_of(text: str) -> URL:
    """The URL of a PostgreSQL database as people write it. Raises `BadUrlError`, which does not repeat it."""
    try:
        url = make_url(text.strip())
    except ArgumentError:
        raise BadUrlError("is no URL of a database; write postgresql://USER:PASSWORD@HOST:5432/DATABASE") from None
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise BadUrlError("must begin with postgresql://")
    return url.set(drivername="postgresql+psycopg")


def file_url(path: str) -> URL:
    """The URL of an SQLite file."""
    return URL.create("sqlite+aiosqlite", database=path)


class Database:
    """An open database with the current tables. `most`: points of an attempt beyond which they are thinned to half."""

    def __init__(self, engine: AsyncEngine, most: int) -> None:
        self._engine = engine
        self._most = most
        self._known: dict[str, _Known] = {}
        self._insert = sqlite.insert if engine.dialect.name == "sqlite" else postgresql.insert

    @classmethod
    async def open(cls, url: URL, most: int) -> Self:
        """Connects and brings the tables up to date. Raises `StoreError`."""
        engine = _engine(url)
        try:
            async with _said(), asyncio.timeout(SECONDS), engine.begin() as connection:
                await connection.run_sync(migrate)
        except BaseException:
            await engine.dispose()
            raise
        return cls(engine, most)

    async def close(self) -> None:
        """Closes all connections."""
        await self._engine.dispose()

    async def write(self, ingests: Sequence[Ingest], now: float) -> None:
        """Adds points that are not there yet, all or none. Raises `StoreError`."""
        try:
            async with self._transaction() as connection:
                rows: list[dict[str, Any]] = []
                for ingest in ingests:
                    known = await self._run(connection, ingest, now)
                    rows += [_row(known.id, point) for point in ingest.points]
                await connection.execute(self._insert(POINTS).on_conflict_do_nothing(), rows)
                for ingest in ingests:
                    await self._thin(connection, ingest)
        except StoreError:
            self._known.clear()
            raise

    async def read(
        self, uid: str, attempt: int | None = None, steps: tuple[int | None, int | None] = (None, None)
    ) -> list[Point]:
        """Points of a run by attempt and number; of too many the latest attempts'. Raises `StoreError`."""
        first, last = steps
        query = select(POINTS).join(RUNS, RUNS.c.id == POINTS.c.run).where(RUNS.c.uid == uid)
        if attempt is not None:
            query = query.where(POINTS.c.attempt == attempt)
        if first is not None:
            query = query.where(POINTS.c.step >= first)
        if last is not None:
            query = query.where(POINTS.c.step <= last)
        query = query.order_by(POINTS.c.attempt.desc(), POINTS.c.seq.desc()).limit(MOST_ROWS)
        async with self._transaction() as connection:
            found = (await connection.execute(query)).all()
        return [_point(row) for row in reversed(found)]

    async def due(self, before: float, most: int) -> list[tuple[str, Key]]:
        """Runs whose Trainings were last known to exist before that time, the longest first. Raises `StoreError`."""
        columns = (RUNS.c.uid, RUNS.c.namespace, RUNS.c.name)
        query = select(*columns).where(RUNS.c.checked_at < before).order_by(RUNS.c.checked_at).limit(most)
        async with self._transaction() as connection:
            found = (await connection.execute(query)).all()
        return [(row.uid, Key(row.namespace, row.name)) for row in found]

    async def checked(self, uids: Collection[str], now: float) -> None:
        """The Trainings exist. Raises `StoreError`."""
        async with self._transaction() as connection:
            await connection.execute(update(RUNS).where(RUNS.c.uid.in_(uids)).values(checked_at=now))

    async def forget(self, uids: Collection[str]) -> None:
        """Removes runs with all their points. Raises `StoreError`."""
        async with self._transaction() as connection:
            ids = select(RUNS.c.id).where(RUNS.c.uid.in_(uids)).scalar_subquery()
            await connection.execute(delete(POINTS).where(POINTS.c.run.in_(ids)))
            await connection.execute(delete(RUNS).where(RUNS.c.uid.in_(uids)))
        for uid in uids:
            self._known.pop(uid, None)

    async def silent(self, since: float, most: int) -> list[str]:
        """Runs that did not report since then. Raises `StoreError`."""
        async with self._transaction() as connection:
            query = select(RUNS.c.uid).where(RUNS.c.reported_at < since).limit(most)
            return list((await connection.execute(query)).scalars())

    async def _run(self, connection: AsyncConnection, ingest: Ingest, now: float) -> _Known:
        known = self._known.get(ingest.uid)
        if known is None or now - known.reported_at > _FRESH_SECONDS:
            values = {"namespace": ingest.key.namespace, "name": ingest.key.name, "reported_at": now}
            statement = self._insert(RUNS).values(uid=ingest.uid, checked_at=now, **values)
            again = statement.on_conflict_do_update(index_elements=[RUNS.c.uid], set_=values).returning(RUNS.c.id)
            number = (await connection.execute(again)).scalar_one()
            counts = known.counts if known is not None and known.id == number else {}
            self._known[ingest.uid] = known = _Known(number, now, counts)
        return known

    async def _thin(self, connection: AsyncConnection, ingest: Ingest) -> None:
        known = self._known[ingest.uid]
        for attempt in {point.attempt for point in ingest.points}:
            own = (POINTS.c.run == known.id) & (POINTS.c.attempt == attempt)
            if attempt in known.counts:
                known.counts[attempt] += sum(point.attempt == attempt for point in ingest.points)
            else:
                counted = await connection.execute(select(func.count()).select_from(POINTS).where(own))
                known.counts[attempt] = counted.scalar_one()
            if known.counts[attempt] <= self._most:
                continue
            rows = (await connection.execute(select(POINTS).where(own).order_by(POINTS.c.seq))).all()
            points = [_point(row) for row in rows]
            stay = {point.seq for point in kept(points, max(4, self._most // 2))}
            gone = [{"a": point.seq} for point in points if point.seq not in stay]
            if gone:
                one: Delete = delete(POINTS).where(own, POINTS.c.seq == bindparam("a"))
                await connection.execute(one, gone)
            known.counts[attempt] = len(stay)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        async with _said(), asyncio.timeout(SECONDS), self._engine.begin() as connection:
            yield connection


@asynccontextmanager
async def _said() -> AsyncIterator[None]:
    """Turns whatever a driver raises into words of ours."""
    try:
        yield
    except NewerSchemaError:
        raise StoreError("its tables are of a later version of Modelyard") from None
    except (SQLAlchemyError, OSError) as error:
        raise StoreError(_words(error)) from None


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    origin = getattr(error, "orig", None)
    state = getattr(origin, "sqlstate", None)
    known = _WORDS.get(state or "")
    if state is None:
        known = next((words for said, words in _REFUSALS.items() if said in str(origin)), None)
    if known is not None:
        return known
    name = getattr(origin, "sqlite_errorname", None) or type(origin or error).__name__
    return f"it cannot be used ({name})"


def _engine(url: URL) -> AsyncEngine:
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(url, hide_parameters=True, pool_size=4, connect_args={"timeout": SECONDS})
        event.listen(engine.sync_engine, "connect", _tune)
        return engine
    return create_async_engine(
        url,
        hide_parameters=True,
        pool_size=4,
        max_overflow=0,
        pool_recycle=600,
        connect_args={"connect_timeout": _CONNECT_SECONDS, "application_name": "modelyard-collector"},
    )


def _tune(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _row(run: int, point: Point) -> dict[str, Any]:
    return {
        "run": run,
        "attempt": point.attempt,
        "seq": point.seq,
        "at": point.at,
        "step": point.step,
        "epoch": point.epoch,
        "metrics": packed(point.metrics),
        "row_epoch": point.row_epoch,
        "row": packed(point.row),
    }


def _point(row: Any) -> Point:
    return Point(
        row.attempt,
        row.seq,
        row.at,
        row.step,
        row.epoch,
        unpacked(row.metrics) or {},
        row.row_epoch,
        unpacked(row.row),
    )
