"""The sample's bank with a flaw of a kind that participants really have: the chaos run must notice each of them.

python -m tests.chaos.broken_bank --flaw forgetful --bank north --database bank.db
"""

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from participant_sdk import Action, Barrier, Participant, Step
from participant_sdk.call import Call, Key
from participant_sdk.replies import serialized
from saga.v1.participant_pb2 import CompensateResponse, StepContext
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_EXECUTE, Compensated
from sample_services.service import Database, Listen, serve
from sample_services.transfer import bank as sound
from sample_services.transfer.v1.bank_pb2 import Credit, CreditAccountRequest, Debit, DebitAccountRequest

_NOOP: Final = serialized(CompensateResponse(compensated=Compensated(noop=True)))


class Flaw(StrEnum):
    """What is wrong with the bank."""

    FORGETFUL = "forgetful"
    """It does not know a call again: each delivery of a credit has its effect."""
    UNBARRED = "unbarred"
    """It answers a Compensate that finds nothing, and does not bar the Execute that comes late."""
    KEEPING = "keeping"
    """It says that a debit is compensated, and keeps the money in flight."""
    EMPTY_HANDED = "empty-handed"
    """It says that it has credited an account, and has not."""


class _Flawed(Barrier):
    """A sound barrier, as it is asked by one that is not."""

    keeps_rules = True

    def __init__(self, barrier: Barrier) -> None:
        self._barrier = barrier

    async def open(self) -> None:
        await self._barrier.open()

    async def close(self) -> None:
        await self._barrier.close()

    async def answer(self, call: Call) -> bytes:
        return await self._barrier.answer(call)


class Forgetful(_Flawed):
    """Takes each delivery of a credit for another saga's."""

    def __init__(self, barrier: Barrier) -> None:
        super().__init__(barrier)
        self._deliveries = count()

    async def answer(self, call: Call) -> bytes:
        if call.context.action != sound.CreditAccount.name:
            return await super().answer(call)
        context = StepContext()
        context.CopyFrom(call.context)
        context.saga_uid += f".{next(self._deliveries)}"
        return await super().answer(replace(call, context=context))


class Unbarred(_Flawed):
    """Does not write down a Compensate that comes before anything was executed."""

    def __init__(self, barrier: Barrier) -> None:
        super().__init__(barrier)
        self._executed: set[Key] = set()

    async def answer(self, call: Call) -> bytes:
        if call.operation == OPERATION_COMPENSATE and call.key not in self._executed:
            return _NOOP
        reply = await super().answer(call)
        if call.operation == OPERATION_EXECUTE:
            self._executed.add(call.key)
        return reply


class DebitAccount(sound.DebitAccount):
    """Does not give money back."""

    async def compensate(self, request: DebitAccountRequest, output: Debit | None, step: Step) -> None: ...


class CreditAccount(sound.CreditAccount):
    """Does not give money."""

    async def execute(self, request: CreditAccountRequest, step: Step) -> Credit:
        return Credit(credit_id=step.key)


_BARRIERS: Final = {Flaw.FORGETFUL: Forgetful, Flaw.UNBARRED: Unbarred}
_ACTIONS: Final[dict[Flaw, type[Action[Any, Any, Any]]]] = {
    Flaw.KEEPING: DebitAccount,
    Flaw.EMPTY_HANDED: CreditAccount,
}


def participant(flaw: Flaw, bank: sound.Bank, database: Path) -> Participant:
    """Return a bank with that flaw over its database."""
    model = sound.participant(bank, database)
    flawed = _BARRIERS.get(flaw)
    barrier = flawed(model.barrier) if flawed else model.barrier
    return Participant(model.name, _actions(flaw, model), barrier)


def _actions(flaw: Flaw, model: Participant) -> Sequence[Action[Any, Any, Any]]:
    instead = _ACTIONS.get(flaw)
    actions = {**model.actions, instead.name: instead()} if instead else model.actions
    return tuple(actions.values())


def main(
    flaw: Annotated[Flaw, typer.Option(help="What is wrong with it.")],
    bank: Annotated[sound.Bank, typer.Option(help="Which bank this is.")],
    listen: Listen = "127.0.0.1:0",
    database: Database = Path("bank.db"),
) -> None:
    """Serve a bank with a flaw."""
    serve(participant(flaw, bank, database), listen)


if __name__ == "__main__":
    typer.run(main)
