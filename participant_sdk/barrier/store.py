"""The port between the barrier and a database: what a store must promise for the rules to hold.

- Inside `transaction` nobody else, in this process or another, reads or writes the rows.
- Leaving it normally commits barrier rows and business rows together, durably; leaving it by an exception, a
  cancellation included, leaves no trace of either.
- It never blocks the event loop for long.

A store must not know the rules.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Generic, TypeVar

from participant_sdk.barrier.rules import Row
from participant_sdk.call import Key

Tx = TypeVar("Tx")


class StoreTransaction(ABC, Generic[Tx]):
    """An open database transaction."""

    @abstractmethod
    async def load(self, key: Key) -> Row | None:
        """Return the row, or None."""

    @abstractmethod
    async def save(self, row: Row) -> None:
        """Insert the row, or replace it."""

    @abstractmethod
    def lent(self) -> AbstractAsyncContextManager[Tx]:
        """Lend the handler its handle; it is of no use afterwards. Followed by `settle`."""

    @abstractmethod
    async def settle(self, *, keep: bool) -> None:
        """Keep or drop what was written through the handle; the transaction stays open.

        Errors: the database's, where what was written is lost already.
        """


class Store(ABC, Generic[Tx]):
    """A database that holds barrier rows beside the business rows."""

    @abstractmethod
    async def open(self) -> None:
        """Connect and create what is missing. Errors: the database's own; `RuntimeError` where it cannot serve."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect. Nothing is under way."""

    @abstractmethod
    def transaction(self, until: float | None) -> AbstractAsyncContextManager[StoreTransaction[Tx]]:
        """Open a transaction; `until` (event loop time) bounds the wait for it. Errors: `CallError` ABORTED, BUSY."""

    @abstractmethod
    async def prune(self, before: datetime, limit: int) -> int:
        """Delete up to `limit` finished rows that were last written before then, and return how many."""

    @property
    @abstractmethod
    def owner(self) -> str:
        """Name this store object, among all that ever use the database."""

    @abstractmethod
    def claim(self) -> None:
        """Let other processes see, from here on, that this owner lives. Called inside a transaction."""

    @abstractmethod
    def lives(self, owner: str) -> bool:
        """Whether the process of another owner, which claimed to live, still does. Called inside a transaction."""
