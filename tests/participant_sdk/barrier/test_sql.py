"""The statements: each finds its rows by an index, and a row comes back as it was stored."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from participant_sdk.barrier import sql
from participant_sdk.barrier.rules import Row, State, Stored
from participant_sdk.barrier.sqlite import _SyncConnection
from participant_sdk.barrier.sqlite_store import SqliteStore
from participant_sdk.call import Key


@contextmanager
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in sql.SCHEMA:
            connection.execute(statement)
        yield connection


def plan(connection: sqlite3.Connection, statement: str, parameters: tuple[object, ...]) -> str:
    rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
    return "\n".join(str(row[-1]) for row in rows)


def test_load_uses_the_primary_key() -> None:
    with database() as connection:
        assert "USING INDEX sqlite_autoindex_saga_barrier_1 (saga_uid=? AND step=?)" in plan(
            connection, sql.LOAD, ("u", "s")
        )


def test_prune_uses_its_index() -> None:
    with database() as connection:
        assert "USING INDEX saga_barrier_by_update_time" in plan(connection, sql.PRUNE, ("2026", "[]", 1))


async def test_a_row_comes_back_as_it_was_stored() -> None:
    store = SqliteStore(_SyncConnection(), ":memory:", "")
    await store.open()
    begun = Row("u", "s", "saga", "Charge", "shop.v1.Charge", b"\x00\xff", State.STARTED, handler="owner/1")
    ended = replace(
        begun,
        state=State.CONFIRMED,
        execute=Stored(b"e", 1),
        compensate=Stored(b"c", 2),
        confirm=Stored(b"f", 3),
        handler="",
    )
    for row in (begun, ended):
        async with store.transaction(None) as transaction:
            await transaction.save(row)
        async with store.transaction(None) as transaction:
            assert await transaction.load(Key("u", "s")) == row
            assert await transaction.load(Key("u", "other")) is None
    await store.close()
