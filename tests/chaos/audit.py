"""Reads the books of both banks at one instant, although each bank has a database of its own.

For as long as it takes to read them, both databases' write locks are held: each bank then finishes what it was writing
before, and begins nothing. So no commit of either comes between the two halves of what is read. It takes milliseconds;
banks meet it as any other process that uses their file. Where a bank was stopped in the middle of a transaction, its
lock cannot be had, and there is no read.

It must not know what should be in the books, nor write anything into them.
"""

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Final, TypeVar

from sample_services.transfer.bank import Bank
from tests.chaos.ledger import Account, Books, Movement

LOCK_WAIT_S: Final = 1.0

_ACCOUNTS: Final = "SELECT account_id, owner, opening_minor, balance_minor FROM {bank}.accounts"
_MOVEMENTS: Final = """
    SELECT kind, transfer_id, from_account, to_account, amount_minor, rowid FROM {bank}.movements
    WHERE rowid > ? ORDER BY rowid"""

T = TypeVar("T")


class Auditor:
    """Reads again and again; each time the movements since the time before. `databases` are the banks' files."""

    def __init__(self, databases: dict[Bank, Path]) -> None:
        self._databases = databases
        self._seen = dict.fromkeys(databases, 0)

    def read(self) -> Books | None:
        """Return the books at an instant, or None where a bank's lock is not to be had. Blocks meanwhile."""
        with closing(sqlite3.connect(":memory:", timeout=LOCK_WAIT_S, isolation_level=None, uri=True)) as connection:
            for bank, database in self._databases.items():
                connection.execute(f"ATTACH ? AS {bank}", (f"{database.absolute().as_uri()}?mode=rw",))
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                    return None
                raise
            books = Books(
                self._of_each(lambda bank: self._accounts(connection, bank)),
                self._of_each(lambda bank: self._movements(connection, bank)),
            )
            connection.execute("ROLLBACK")
        return books

    def _of_each(self, read: Callable[[Bank], Iterable[T]]) -> list[T]:
        return [found for bank in self._databases for found in read(bank)]

    def _accounts(self, connection: sqlite3.Connection, bank: Bank) -> list[Account]:
        return [Account(bank, *row) for row in connection.execute(_ACCOUNTS.format(bank=bank))]

    def _movements(self, connection: sqlite3.Connection, bank: Bank) -> list[Movement]:
        rows = connection.execute(_MOVEMENTS.format(bank=bank), (self._seen[bank],)).fetchall()
        if rows:
            *_, self._seen[bank] = rows[-1]
        return [Movement(bank, *row[:-1]) for row in rows]
