"""A barrier in memory, for tests: the same rules, but nothing survives the process.

Business data is a dictionary, so that a test sees what a database would promise: it commits together with the row.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from participant_sdk.barrier.barrier import StoreBarrier
from participant_sdk.barrier.lock import turn, wait_limit
from participant_sdk.barrier.rules import UNFINISHED, Row
from participant_sdk.barrier.store import Store, StoreTransaction
from participant_sdk.call import Key
from participant_sdk.transaction import MemoryTransaction


class MemoryBarrier(StoreBarrier[MemoryTransaction]):
    """The barrier's rules in memory. `step.transaction` is a dictionary; `data` is what has been committed."""

    def __init__(self) -> None:
        self._memory = _MemoryStore()
        super().__init__(self._memory)

    @property
    def data(self) -> Mapping[str, Any]:
        """The business data, as committed."""
        return MappingProxyType(self._memory.data)


class _MemoryTransaction(StoreTransaction[MemoryTransaction]):
    def __init__(self, rows: Mapping[Key, Row], data: MemoryTransaction) -> None:
        self._rows = rows
        self.saved: dict[Key, Row] = {}
        self.data = MemoryTransaction(data)
        self._before = self.data

    async def load(self, key: Key) -> Row | None:
        return self.saved.get(key) or self._rows.get(key)

    async def save(self, row: Row) -> None:
        self.saved[Key(row.saga_uid, row.step)] = row

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[MemoryTransaction]:
        self._before = MemoryTransaction(self.data)
        yield self.data

    async def settle(self, *, keep: bool) -> None:
        if not keep:
            self.data = self._before


class _MemoryStore(Store[MemoryTransaction]):
    def __init__(self) -> None:
        self.data = MemoryTransaction()
        self._rows: dict[Key, Row] = {}
        self._times: dict[Key, datetime] = {}
        self._lock = asyncio.Lock()
        self._owner = uuid.uuid4().hex

    async def open(self) -> None:
        self._lock = asyncio.Lock()  # of the event loop that the calls come in

    async def close(self) -> None:
        """Keep everything: a test looks at it afterwards."""

    @asynccontextmanager
    async def transaction(self, until: float | None) -> AsyncIterator[_MemoryTransaction]:
        async with turn(self._lock, wait_limit(until)):
            transaction = _MemoryTransaction(self._rows, self.data)
            yield transaction
            self._rows.update(transaction.saved)
            self._times.update(dict.fromkeys(transaction.saved, datetime.now(UTC)))
            self.data = transaction.data

    async def prune(self, before: datetime, limit: int) -> int:
        async with turn(self._lock, wait_limit(None)):
            finished = (key for key, row in self._rows.items() if row.state not in UNFINISHED)
            old = [key for key in finished if self._times[key] < before][:limit]
            for key in old:
                del self._rows[key], self._times[key]
            return len(old)

    @property
    def owner(self) -> str:
        return self._owner

    def claim(self) -> None:
        """Do nothing: no other process can see it."""

    def lives(self, owner: str) -> bool:
        raise AssertionError(f"a memory barrier met a row of {owner}, and it shares its rows with nobody")
