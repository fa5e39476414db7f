"""Stands between the engine and the participants, and makes fail what a path says.

It writes down what participants really answered, also to calls whose answers it throws away. A real call that is under
way is never broken off: a coordinator that crashes here leaves it running, as a coordinator that is killed would.

This module must not judge what a participant answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NoReturn

from coordinator.core import limits
from coordinator.core.inputs import Accepted, Done, Reply, Unknown
from coordinator.engine.world import Caller
from coordinator.participants.call import Call
from coordinator.rehearse.faults import Attempt, Fault, Injection
from coordinator.rehearse.paths import lost, refused
from saga.v1.types_pb2 import OPERATION_COMPENSATE, Operation

POLL_AFTER_MAX_NS: Final = 50 * limits.MILLISECOND_NS
"""How long a saga that is rehearsed waits at most before it asks again for what is pending."""

_TRIES: Final = 5
_TRY_AGAIN_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Exchange:
    """A call that a participant was really sent, and what came of it."""

    call: Call
    reply: Reply


@dataclass(frozen=True, slots=True)
class Key:
    """One operation on one step of one saga: what an idempotency key stands for."""

    saga_id: str
    step: str
    operation: Operation.ValueType


def key_of(call: Call) -> Key:
    """What all attempts of the call have in common."""
    return Key(call.context.saga_id, call.context.step, call.operation)


class InjectingCaller:
    """A Caller for one saga and those that run as its steps; `cancel` cancels it, and returns where that is refused."""

    def __init__(
        self, outside: Caller, saga_id: str, injections: Sequence[Injection], cancel: Callable[[], Awaitable[None]]
    ) -> None:
        self.crashed = asyncio.Event()
        """The coordinator is to crash now."""
        self.exchanges: list[Exchange] = []
        """In the order in which they ended."""
        self.last_calls: dict[Key, Call] = {}
        """The last call of each key, sent or not."""
        self._outside = outside
        self._saga_id = saga_id
        self._waiting = {each.attempt: each for each in injections}
        self._cancel = cancel
        self._late: dict[str, Call] = {}
        self._under_way: set[asyncio.Task[Reply]] = set()
        self._means: Mapping[Fault, Callable[[Call], Awaitable[Reply]]] = {
            Fault.REQUEST_LOST: self._request_lost,
            Fault.REPLY_LOST: self._reply_lost,
            Fault.DUPLICATED: self._duplicated,
            Fault.CRASH_BEFORE: self._crash_before,
            Fault.CRASH_AFTER: self._crash_after,
            Fault.GIVEN_UP: self._given_up,
            Fault.LATE: self._late_for_compensate,
            Fault.REFUSED: self._refused,
            Fault.CANCELLED: self._cancelled,
        }

    @property
    def not_reached(self) -> Sequence[Injection]:
        """The failures that no call has met."""
        return tuple(self._waiting.values())

    async def call(self, call: Call) -> Reply:
        """Make one call, or what is to happen instead."""
        self.last_calls[key_of(call)] = call
        injection = self._take(call)
        if injection is not None:
            return await self._means[injection.fault](call)
        reply = await self._send(call)
        return _hurried(reply)

    async def repeat(self, call: Call) -> Reply:
        """Send a call again after all is over, and again for a moment while its outcome is unknown."""
        for _ in range(_TRIES):
            reply = await self._send(call)
            if not isinstance(reply, Unknown) or not reply.retryable:
                break
            await asyncio.sleep(_TRY_AGAIN_S)  # for instance ABORTED, while an earlier call is still being worked on
        return reply

    async def settle(self) -> None:
        """Wait until no call is under way any more; each has its own timeout."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    def _take(self, call: Call) -> Injection | None:
        """What is to fail at this call; each failure happens once, and to the saga itself, not to those within it."""
        if call.context.saga_id != self._saga_id:
            return None
        return self._waiting.pop(Attempt(call.context.step, call.operation, call.context.attempt), None)

    async def _send(self, call: Call) -> Reply:
        """Really make the call; whoever waits for it may be gone when it ends."""
        sending = asyncio.create_task(self._exchange(call))
        self._under_way.add(sending)
        sending.add_done_callback(self._under_way.discard)
        return await asyncio.shield(sending)

    async def _exchange(self, call: Call) -> Reply:
        reply = await self._outside.call(call)
        self.exchanges.append(Exchange(call, reply))
        done = call.operation == OPERATION_COMPENSATE and isinstance(reply, Done)
        if done and call.context.saga_id == self._saga_id and (late := self._late.pop(call.context.step, None)):
            await self._exchange(late)
        return reply

    # --- What each failure means ---

    async def _request_lost(self, call: Call) -> Reply:
        return _lost(call, "the request was lost", retryable=True)

    async def _reply_lost(self, call: Call) -> Reply:
        await self._send(call)
        return _lost(call, "the reply was lost", retryable=True)

    async def _given_up(self, call: Call) -> Reply:
        await self._send(call)
        return _lost(call, "the reply was lost, and no further attempt is made", retryable=False)

    async def _late_for_compensate(self, call: Call) -> Reply:
        self._late[call.context.step] = call
        return _lost(call, "the request is late, and no further attempt is made", retryable=False)

    async def _duplicated(self, call: Call) -> Reply:
        replies = await asyncio.gather(self._send(call), self._send(call))
        known = [reply for reply in replies if not isinstance(reply, Unknown)]
        return _hurried((known or replies)[0])

    async def _refused(self, _call: Call) -> Reply:
        return refused()

    async def _cancelled(self, call: Call) -> Reply:
        reply = await self._send(call)
        await self._cancel()
        return _hurried(reply)

    async def _crash_before(self, _call: Call) -> Reply:
        await self._crash()

    async def _crash_after(self, call: Call) -> Reply:
        await self._send(call)
        await self._crash()

    async def _crash(self) -> NoReturn:
        """What waits here ends with its engine."""
        self.crashed.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody ends this wait")


def _lost(call: Call, message: str, *, retryable: bool) -> Unknown:
    return lost(retryable=retryable, step=call.context.step, message=message)


def _hurried(reply: Reply) -> Reply:
    if isinstance(reply, Accepted):
        return replace(reply, poll_after_ns=min(reply.poll_after_ns, POLL_AFTER_MAX_NS))
    return reply
