"""The barrier over a store: loads the row, asks the rules, runs the handler, stores what follows.

Two ways a call goes, and the order is what makes each of them safe:

- Most actions: one database transaction from the row's reading to its writing, the handler inside it. A crash or an
  exception anywhere leaves neither row nor business rows; what is answered is committed.
- `external` actions: one transaction that says the handler begins, then the handler outside any transaction, then
  one that stores the reply with what the handler recorded. A crash in between leaves a row that says so, and the
  handler runs again with the same key. While it runs, every other call on the row is answered ABORTED.

What follows for a row is decided in `rules` alone. This module must not know a database.
"""

import inspect
import logging
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, TypeVar

from participant_sdk import replies
from participant_sdk.barrier.base import Barrier
from participant_sdk.barrier.rules import Answer, Row, Run, answered, decide, keeps_writes
from participant_sdk.barrier.store import Store, StoreTransaction
from participant_sdk.call import Call, Key
from participant_sdk.errors import busy
from participant_sdk.invoke import invoke
from participant_sdk.limits import PRUNE_BATCH_ROWS
from participant_sdk.replies import Reply
from participant_sdk.step import Step
from participant_sdk.uncancelled import uncancelled

Tx = TypeVar("Tx")

_LOG: Final = logging.getLogger(__name__)
_HANDLER_SEPARATOR: Final = "/"


class StoreBarrier(Barrier, Generic[Tx]):
    """A barrier that keeps its rows in a store."""

    keeps_rules = True

    def __init__(self, store: Store[Tx]) -> None:
        self._store = store
        self._living: set[str] = set()  # the handlers of external actions that run in this process

    async def open(self) -> None:
        """Open the store. Errors: the store's."""
        await self._store.open()

    async def close(self) -> None:
        """Close the store."""
        await self._store.close()

    async def answer(self, call: Call) -> bytes:
        """Answer from the row or run the handler. Errors: `CallError`; what the handler or the database raises."""
        if call.action.external:
            return await self._answer_outside(call)
        return await self._answer_inside(call)

    async def prune(self, older_than: timedelta) -> int:
        """Delete rows of steps that are finished and were last written longer ago than this; return how many.

        A pruned step is forgotten: a Compensate that still comes finds nothing to compensate, and a late Execute runs
        again. So `older_than` must exceed the longest saga with all its retries, and what `Participant(key_retention)`
        promises, which must exceed how long the coordinator remembers ended sagas. Rows of unfinished operations are
        kept, whatever their age.
        """
        before = datetime.now(UTC) - older_than
        deleted = 0
        while batch := await self._store.prune(before, PRUNE_BATCH_ROWS):
            deleted += batch
        return deleted

    async def _answer_inside(self, call: Call) -> bytes:
        async with self._store.transaction(call.cut_off) as transaction:
            verdict = await self._verdict(transaction, call)
            if isinstance(verdict, Answer):
                return verdict.reply
            async with transaction.lent() as handle:
                step = Step(call, pending=verdict.pending, transaction=handle)
                reply = await invoke(call, step, verdict.output)
            await transaction.settle(keep=keeps_writes(verdict, reply))
            await transaction.save(answered(verdict, call, reply))
        return replies.serialized(reply)

    async def _answer_outside(self, call: Call) -> bytes:
        handler = self._store.owner + _HANDLER_SEPARATOR + uuid.uuid4().hex
        try:
            verdict = await self._begin(call, handler)
            if isinstance(verdict, Answer):
                return verdict.reply
            recorded: list[Callable[[Tx], object]] = []
            reply = await invoke(call, Step(call, pending=verdict.pending, recorded=recorded), verdict.output)
            writes = recorded if keeps_writes(verdict, reply) else []
            # The effect is there: it is stored also where the caller has given up meanwhile.
            await uncancelled(self._store_reply(verdict, call, reply, writes))
        except BaseException:
            if handler in self._living:
                await uncancelled(self._let_go(call.key, handler))
            raise
        finally:
            self._living.discard(handler)
        return replies.serialized(reply)

    async def _verdict(self, transaction: StoreTransaction[Tx], call: Call) -> Answer | Run:
        row = await transaction.load(call.key)
        if row is not None and self._has_living_handler(row):
            raise busy()
        verdict = decide(row, call)
        if isinstance(verdict, Answer) and verdict.row is not None:
            await transaction.save(verdict.row)
        return verdict

    async def _begin(self, call: Call, handler: str) -> Answer | Run:
        async with self._store.transaction(call.cut_off) as transaction:
            verdict = await self._verdict(transaction, call)
            if isinstance(verdict, Run):
                self._store.claim()
                self._living.add(handler)
                await transaction.save(replace(verdict.row, handler=handler))
        return verdict

    async def _store_reply(self, run: Run, call: Call, reply: Reply, writes: list[Callable[[Tx], object]]) -> None:
        async with self._store.transaction(None) as transaction:
            async with transaction.lent() as handle:
                for write in writes:
                    result = write(handle)
                    if inspect.isawaitable(result):
                        await result
            await transaction.settle(keep=True)
            await transaction.save(answered(run, call, reply))

    async def _let_go(self, key: Key, handler: str) -> None:
        """Mark that the handler no longer runs. Where even that fails, it lives for others until this process ends."""
        try:
            async with self._store.transaction(None) as transaction:
                row = await transaction.load(key)
                if row is not None and row.handler == handler:
                    await transaction.save(replace(row, handler=""))
        except Exception:
            _LOG.exception("cannot mark that a handler has ended: saga %s, step %s", *key)

    def _has_living_handler(self, row: Row) -> bool:
        if not row.handler:
            return False
        owner = row.handler.partition(_HANDLER_SEPARATOR)[0]
        return row.handler in self._living if owner == self._store.owner else self._store.lives(owner)
