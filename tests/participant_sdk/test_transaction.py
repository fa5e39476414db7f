import sqlite3
from contextlib import closing

import pytest

from participant_sdk import SqliteTransaction


@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT",
        "commit;",
        "  \n END TRANSACTION",
        "ROLLBACK TO x",
        "savepoint x",
        "RELEASE x",
        "BEGIN",
        "-- harmless\nCOMMIT",
        "/* harmless */ COMMIT",
        "; ;COMMIT",
    ],
)
def test_a_handler_cannot_control_the_transaction(statement: str) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("BEGIN")
        transaction = SqliteTransaction(connection)
        with pytest.raises(ValueError, match="the barrier alone"):
            transaction.execute(statement)
        with pytest.raises(ValueError, match="the barrier alone"):
            transaction.executemany(statement, [])
        assert connection.in_transaction


@pytest.mark.parametrize(
    "statement", ["SELECT 'COMMIT'", "CREATE TABLE commits (x)", "WITH x AS (SELECT 1) SELECT *, 'END' FROM x"]
)
def test_other_statements_pass(statement: str) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("BEGIN")
        SqliteTransaction(connection).execute(statement)


def test_long_white_space_is_matched_in_no_time() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("BEGIN")
        SqliteTransaction(connection).execute(" \n" * 100_000 + "SELECT 1")


def test_a_transaction_that_is_gone_takes_no_statement() -> None:
    with (
        closing(sqlite3.connect(":memory:", isolation_level=None)) as connection,
        pytest.raises(RuntimeError, match="is gone"),
    ):
        SqliteTransaction(connection).execute("SELECT 1")
