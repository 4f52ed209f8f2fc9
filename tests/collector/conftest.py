"""The collector's store, by turns in an SQLite file and on PostgreSQL: every test runs on both."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from modelyard.collector.database import Database, file_url, url_of
from support.postgres import Postgres, postgres

Opener = Callable[[], Awaitable[Database]]
MOST = 100


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    with postgres() as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> URL:
    """An empty database."""
    if request.param == "sqlite":
        return file_url(str(tmp_path / "curves.db"))
    server: Postgres = request.getfixturevalue("server")
    name = f"curves_{secrets.token_hex(4)}"
    server.execute(f"CREATE DATABASE {name}")
    return url_of(server.url(name))


@pytest.fixture
async def opened(url: URL) -> AsyncIterator[Opener]:
    """Opens the database, as often as a test likes."""
    found: list[Database] = []

    async def open_it() -> Database:
        found.append(await Database.open(url, MOST))
        return found[-1]

    yield open_it
    for database in found:
        await database.close()
