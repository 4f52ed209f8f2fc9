"""The tables of the store, the same on SQLite and PostgreSQL, and how an older database becomes a current one.

A new version appends a migration and leaves those before it as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    insert,
    inspect,
    select,
    text,
    update,
)

_TABLES: Final = MetaData()
_NUMBER: Final = BigInteger().with_variant(Integer, "sqlite")

VERSION: Final = Table("modelyard_schema", _TABLES, Column("version", Integer, nullable=False))

RUNS: Final = Table(
    "modelyard_runs",
    _TABLES,
    Column("id", _NUMBER, primary_key=True),
    Column("uid", Text, nullable=False, unique=True),
    Column("namespace", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("reported_at", Float(53), nullable=False),
    Column("checked_at", Float(53), nullable=False),
    Index("modelyard_runs_checked", "checked_at"),
)
"""Trainings that reported. Times are seconds since 1970; `checked_at`: when it was last known to exist."""

POINTS: Final = Table(
    "modelyard_points",
    _TABLES,
    Column("run", _NUMBER, ForeignKey("modelyard_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Float(53), nullable=False),
    Column("step", BigInteger),
    Column("epoch", Float(53)),
    Column("metrics", Text, nullable=False),
    Column("row_epoch", BigInteger),
    Column("row", Text),
    # SQLite keeps the rows in the order of the key: a run is read in one go.
    sqlite_with_rowid=False,
)

_LOCK: Final = 0x6D6F64656C796172


class NewerSchemaError(Exception):
    """The database was written by a later version of this program."""


def _first(connection: Connection) -> None:
    RUNS.create(connection)
    POINTS.create(connection)


MIGRATIONS: Final[tuple[Callable[[Connection], None], ...]] = (_first,)


def migrate(connection: Connection) -> None:
    """Brings the database up to date, in the connection's transaction. Raises `NewerSchemaError`."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    if not inspect(connection).has_table(VERSION.name):
        VERSION.create(connection)
        connection.execute(insert(VERSION).values(version=0))
    found: int = connection.execute(select(VERSION.c.version)).scalar_one()
    if found > len(MIGRATIONS):
        raise NewerSchemaError
    for migration in MIGRATIONS[found:]:
        migration(connection)
    if found < len(MIGRATIONS):
        connection.execute(update(VERSION).values(version=len(MIGRATIONS)))
