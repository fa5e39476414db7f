"""Participants made with the real SDK, on a disk in memory that outlives them, and the log of their effects.

What keeps an effect from happening twice or late is the SDK's own servicer and barrier; the handlers here trust it
as much as an author may:

- `shop` and `depot` are transactional and write blindly: without the barrier every repeated call would show;
- `bank` is external: its gateway does one key's effect once, and knows no bar;
- `kiosk` has no barrier: it is idempotent, and an Execute that lands after its Compensate takes effect.

`orders` say what a handler does with one call; they travel as the call's metadata, and only the simulated network
writes them. This module must not judge: `Court` reads the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any as Anything
from typing import ClassVar, Final

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.struct_pb2 import Struct

from coordinator.core.limits import SECOND_NS
from participant_sdk import Action, Held, NoBarrier, Noop, Pending, Rejected, Step
from participant_sdk.barrier.barrier import StoreBarrier
from participant_sdk.barrier.base import Barrier
from participant_sdk.barrier.memory import _MemoryStore, _MemoryTransaction
from participant_sdk.errors import CallError
from participant_sdk.requests import Request
from participant_sdk.servicer import ParticipantServicer
from participant_sdk.transaction import MemoryTransaction
from saga.v1.participant_pb2 import DescribeResponse
from saga.v1.types_pb2 import StepKind
from tests.coordinator.engine.bench import TEXT, descriptions

TRANSACTIONAL: Final = ("shop", "depot")
EXTERNAL: Final = "bank"
UNBARRIERED: Final = "kiosk"
BARRIERED: Final = (*TRANSACTIONAL, EXTERNAL)
NAMES: Final = (*BARRIERED, UNBARRIERED)

POLL_AFTER: Final = timedelta(seconds=2)

EFFECT: Final = "effect"
COMPENSATED: Final = "compensated"
CONFIRMED: Final = "confirmed"
CANCELLED: Final = "cancelled"
"""Compensate found nothing: what is still to come of it must not come."""
REFUSED: Final = "refused"
"""What was accepted before is dropped; a later attempt is a new one."""
ACCEPTED: Final = "accepted"
"""The participant finishes it of its own accord, and reports."""
STANDING: Final = (EFFECT, CONFIRMED)
"""Where the effect stands: whoever is asked again has nothing to do."""
OPEN: Final = (None, ACCEPTED, REFUSED)
"""Where nothing has taken effect and nothing has been cancelled."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of an effect log."""

    instant_ns: int
    participant: str
    saga_id: str
    step: str
    what: str


Listener = Callable[[Entry], None]


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a participant will finish `after_s` from now, and report under that key."""

    participant: Participant
    saga_id: str
    step: str
    key: str
    after_s: float


def _text_type() -> type[Message]:
    pool = DescriptorPool()
    shop = descriptions()["shop"]
    assert shop is not None
    for file in shop.descriptors.file:
        pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(TEXT))


_TEXT: Final = _text_type()


def described() -> dict[str, DescribeResponse | None]:
    """What the participants say of themselves."""
    return {name: _DESCRIPTIONS[name] for name in NAMES}


def _description(name: str) -> DescribeResponse:
    shop = descriptions()["shop"]
    assert shop is not None
    made = DescribeResponse()
    made.CopyFrom(shop)
    made.participant = name
    made.barriered = name != UNBARRIERED
    return made


_DESCRIPTIONS: Final = {name: _description(name) for name in NAMES}


class _Disk(_MemoryStore):
    """A participant's database. Of one process, one object; the next process finds what was committed."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self._listener: Listener | None = listener

    def successor(self, listener: Listener) -> _Disk:
        """The process has died: nothing that its tasks still do reaches the disk or anybody."""
        found = _Disk(listener)
        found._rows, found._times, found.data = self._rows, self._times, self.data
        self._listener = None
        return found

    @asynccontextmanager
    async def transaction(self, until: float | None) -> AsyncIterator[_MemoryTransaction]:
        before = len(self.data)
        async with super().transaction(until) as opened:
            before = len(self.data)
            yield opened
        if self._listener is not None:
            for entry in list(self.data.values())[before:]:
                self._listener(entry)

    def lives(self, owner: str) -> bool:
        """Whoever else wrote here is dead."""
        return False


class _DiskBarrier(StoreBarrier[MemoryTransaction]):
    """The SDK's barrier over that disk."""


class _Act(Action[Struct, Struct, MemoryTransaction]):
    """Does what its orders say. A type checker sees Struct; the messages are the bench's, which exist at run time."""

    kinds: ClassVar = tuple(kind for kind in StepKind.values() if kind)

    def __init__(self, participant: Participant) -> None:
        self._participant = participant

    # --- The three operations ---

    async def execute(self, request: Struct, step: Step[MemoryTransaction]) -> Anything:
        orders = step.metadata
        await _pass(orders["before"])
        choice = orders["choice"]
        if choice.endswith("with effect") or choice == "done":
            self._take_effect(step)
        if choice == "refused" and self._state(step) not in STANDING:
            self._write(step, REFUSED)
            raise Rejected("NO")
        await _pass(orders["behind"])
        if choice.startswith("pending"):
            if "report_after" in orders and self._state(step) in (None, REFUSED):
                self._write(step, ACCEPTED)
                self._participant.accept(step, float(orders["report_after"]))
            return Pending(POLL_AFTER)
        _fail_if_told(choice)
        output = _TEXT(text="out")
        until = orders.get("hold_until_ns")
        return Held(output, datetime.fromtimestamp(int(until) / SECOND_NS, UTC)) if until else output

    async def compensate(self, request: Struct, output: Struct | None, step: Step[MemoryTransaction]) -> Anything:
        orders = step.metadata
        await _pass(orders["before"])
        choice = orders["choice"]
        noop = False
        if choice == "refused" and self._state(step) not in (COMPENSATED, CANCELLED):  # what is done is not refused
            self._participant.refuse_last_words(step.saga_id)
            raise Rejected("TOO_LATE")
        if choice.endswith("with effect") or choice == "done":
            noop = self._reverse(step, known=output is not None)
        await _pass(orders["behind"])
        if choice.startswith("pending"):
            return Pending(POLL_AFTER)
        _fail_if_told(choice)
        return Noop() if noop else None

    async def confirm(self, request: Struct, output: Struct, step: Step[MemoryTransaction]) -> Anything:
        orders = step.metadata
        await _pass(orders["before"])
        choice = orders["choice"]
        if choice == "refused" and self._state(step) != CONFIRMED:
            self._participant.refuse_last_words(step.saga_id)
            raise Rejected("LAPSED")
        if (choice.endswith("with effect") or choice == "done") and (
            self._is_blind(step) or self._state(step) != CONFIRMED
        ):
            self._write(step, CONFIRMED)
        await _pass(orders["behind"])
        if choice.startswith("pending"):
            return Pending(POLL_AFTER)
        _fail_if_told(choice)
        return None

    # --- What they write ---

    def _take_effect(self, step: Step[MemoryTransaction]) -> None:
        if self._is_blind(step) or self._state(step) not in STANDING:
            self._write(step, EFFECT)

    def _reverse(self, step: Step[MemoryTransaction], *, known: bool) -> bool:
        """Returns whether there was nothing to compensate. Where the outcome is not known the log says."""
        state = self._state(step)
        if (known and self._is_blind(step)) or state == EFFECT:
            self._write(step, COMPENSATED)
            return False
        if state in OPEN:
            self._write(step, CANCELLED)
        return True

    def _is_blind(self, step: Step[MemoryTransaction]) -> bool:
        """Whether the handler relies on the barrier alone. After `Pending` it has to know what it did itself."""
        return self._participant.name in TRANSACTIONAL and not step.pending

    def _state(self, step: Step[MemoryTransaction]) -> str | None:
        return _state_in(self._lines(step), step.saga_id, step.name)

    def _lines(self, step: Step[MemoryTransaction]) -> Iterable[Entry]:
        transactional = self._participant.name in TRANSACTIONAL
        return step.transaction.values() if transactional else self._participant.log

    def _write(self, step: Step[MemoryTransaction], what: str) -> None:
        entry = self._participant.entry(step.saga_id, step.name, what)
        if self._participant.name in TRANSACTIONAL:
            step.transaction[f"{len(step.transaction):06}"] = entry
        else:
            self._participant.write(entry)


# The messages exist at run time only, and `Action` takes types from its bases.
_Act.name = "Act"
_Act.input_type = _Act.output_type = _TEXT


class _ExternalAct(_Act):
    external = True


_ExternalAct.name = "Act"
_ExternalAct.input_type = _ExternalAct.output_type = _TEXT


async def _pass(length_s: str) -> None:
    if length_s != "0":
        await asyncio.sleep(float(length_s))


def _fail_if_told(choice: str) -> None:
    if choice.startswith("aborted"):
        raise CallError(grpc.StatusCode.ABORTED, "TOLD", "as was asked for")
    if choice.startswith("invalid"):
        raise CallError(grpc.StatusCode.FAILED_PRECONDITION, "TOLD", "as was asked for")


def _state_in(lines: Iterable[Entry], saga_id: str, step: str) -> str | None:
    state = None
    for line in lines:
        if line.saga_id == saga_id and line.step == step:
            state = line.what
    return state


class Participant:
    """One participant: processes that come and go over one disk."""

    def __init__(
        self,
        name: str,
        listener: Listener,
        accepted: Callable[[Accepted], None],
        refused: Callable[[str], None],
        now_ns: Callable[[], int],
    ) -> None:
        self.name = name
        self.refuse_last_words = refused
        """Called with the saga of which a handler refuses Compensate or Confirm."""
        self._accepted = accepted
        self.log: list[Entry] = []
        """The effects of one that keeps them outside the barrier's database, in their order."""
        self._listener = listener
        self._now_ns = now_ns
        self._disk = _Disk(listener)
        self._under_way: dict[asyncio.Task[bytes], None] = {}
        self._down_until_s = 0.0
        self._servicer = self._start()

    def _start(self) -> ParticipantServicer:
        action = _ExternalAct(self) if self.name == EXTERNAL else _Act(self)
        barrier: Barrier = NoBarrier() if self.name == UNBARRIERED else _DiskBarrier(self._disk)
        return ParticipantServicer({"Act": action}, barrier, _DESCRIPTIONS[self.name])

    async def answer(self, request: Request, orders: Mapping[str, str], timeout_s: float | None) -> bytes:
        """Answer one call. CallError, also where the process is down or dies meanwhile."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._down_until_s:
            raise CallError(grpc.StatusCode.UNAVAILABLE, "", "connection refused")
        handler = loop.create_task(self._servicer.answer(request, orders, timeout_s))
        self._under_way[handler] = None
        handler.add_done_callback(self._ended)
        await asyncio.wait((handler,))
        if handler.cancelled():
            raise CallError(grpc.StatusCode.UNAVAILABLE, "", "connection reset")
        return handler.result()

    def _ended(self, handler: asyncio.Task[bytes]) -> None:
        self._under_way.pop(handler, None)

    def kill(self, down_s: float) -> None:
        """Its process dies, whatever it is at, and is there again after a while."""
        self._disk = self._disk.successor(self._listener)
        for handler in list(self._under_way):
            handler.cancel()
        self._down_until_s = asyncio.get_running_loop().time() + down_s
        self._servicer = self._start()

    def recover(self) -> None:
        """If it is down, it is there again now."""
        self._down_until_s = 0.0

    def entry(self, saga_id: str, step: str, what: str) -> Entry:
        """A line for the log, as of now."""
        return Entry(self._now_ns(), self.name, saga_id, step, what)

    def write(self, entry: Entry) -> None:
        """Take effect at once, whatever becomes of the process."""
        self.log.append(entry)
        self._listener(entry)

    def accept(self, step: Step[MemoryTransaction], after_s: float) -> None:
        """Plan to finish what is accepted now, if that commits."""
        self._accepted(Accepted(self, step.saga_id, step.name, step.key, after_s))

    async def finish(self, saga_id: str, step: str) -> bool:
        """Do what was accepted, unless it was dropped, cancelled or done meanwhile; whether its effect stands.

        CallError where another call has the database, and where the process dies meanwhile: nothing of it is there.
        """
        if self.name not in TRANSACTIONAL:
            state = _state_in(self.log, saga_id, step)
            if state == ACCEPTED:
                self.write(self.entry(saga_id, step, EFFECT))
            return state in (ACCEPTED, EFFECT)
        disk = self._disk
        async with disk.transaction(None) as transaction:
            state = _state_in(transaction.data.values(), saga_id, step)
            if state == ACCEPTED:
                transaction.data[f"{len(transaction.data):06}"] = self.entry(saga_id, step, EFFECT)
        if disk is not self._disk:
            raise CallError(grpc.StatusCode.UNAVAILABLE, "", "the process died")
        return state in (ACCEPTED, EFFECT)
