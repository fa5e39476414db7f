"""The participant of the crash matrix, a process of its own: each effect is a row that nothing but a bug can double.

No table has a constraint that would hide a second effect. What the barrier is to keep, and that a key stays the same
over crashes, is seen in the rows. The participant itself is never killed: it remembers what coordinators forget.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import typer

from participant_sdk import (
    COMPENSATABLE,
    PIVOT,
    RESERVABLE,
    RETRIABLE,
    Action,
    Held,
    Participant,
    Pending,
    Rejected,
    SqliteBarrier,
    SqliteTransaction,
    Step,
)
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_CONFIRM, OPERATION_EXECUTE, Operation
from sample_services.service import Database, Listen, serve
from tests.crash.messages import Work

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS effects (
  number INTEGER PRIMARY KEY,
  saga_id TEXT NOT NULL,
  step TEXT NOT NULL,
  operation TEXT NOT NULL,
  amount INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS asked (saga_id TEXT NOT NULL, step TEXT NOT NULL, operation TEXT NOT NULL) STRICT;
"""
ASKED_MIN: Final = 3
"""So often is asked what becomes of a pending operation before it is done."""
_POLL_AFTER: Final = timedelta(milliseconds=20)
_AMOUNT: Final = {OPERATION_EXECUTE: 1, OPERATION_COMPENSATE: -1, OPERATION_CONFIRM: 0}


def _takes_effect(step: Step, database: SqliteTransaction | None = None) -> None:
    (database or step.transaction).execute(
        "INSERT INTO effects (saga_id, step, operation, amount) VALUES (?, ?, ?, ?)",
        (step.saga_id, step.name, _name(step), _AMOUNT[step.operation]),
    )


def _name(step: Step) -> str:
    return Operation.Name(step.operation).removeprefix("OPERATION_")


class Act(Action[Work, Work]):
    """Takes effect at once."""

    kinds = (COMPENSATABLE, PIVOT, RETRIABLE)

    async def execute(self, request: Any, step: Step) -> Any:
        _takes_effect(step)
        return request

    async def compensate(self, _request: Any, _output: Any, step: Step) -> None:
        _takes_effect(step)


class Refuse(Action[Work, Work]):
    """Refuses, always."""

    rejections = {"NEVER": "It always refuses."}  # noqa: RUF012 - as in the SDK's own examples

    async def execute(self, _request: Any, step: Step) -> Any:
        _takes_effect(step)  # what a rejection takes back must not stay
        raise Rejected("NEVER")

    async def compensate(self, _request: Any, _output: Any, step: Step) -> None:
        _takes_effect(step)


class Slow(Action[Work, Work]):
    """Is pending for a while, forward and back."""

    async def execute(self, request: Any, step: Step) -> Any:
        return request if self._is_done(step) else Pending(poll_after=_POLL_AFTER)

    async def compensate(self, _request: Any, _output: Any, step: Step) -> Pending | None:
        return None if self._is_done(step) else Pending(poll_after=_POLL_AFTER)

    def _is_done(self, step: Step) -> bool:
        where = (step.saga_id, step.name, _name(step))
        step.transaction.execute("INSERT INTO asked VALUES (?, ?, ?)", where)
        [(times,)] = step.transaction.execute(
            "SELECT count(*) FROM asked WHERE (saga_id, step, operation) = (?, ?, ?)", where
        ).fetchall()
        if times >= ASKED_MIN:
            _takes_effect(step)
        return bool(times >= ASKED_MIN)


class Hold(Action[Work, Work]):
    """Holds something until it is confirmed."""

    kinds = (RESERVABLE,)

    async def execute(self, request: Any, step: Step) -> Any:
        _takes_effect(step)
        return Held(request, until=datetime.now(UTC) + timedelta(hours=1))

    async def compensate(self, _request: Any, _output: Any, step: Step) -> None:
        _takes_effect(step)

    async def confirm(self, _request: Any, _output: Any, step: Step) -> None:
        _takes_effect(step)


class NoAnswer(Exception):
    """What was asked has happened, and nobody is told."""


class Charge(Action[Work, Work]):
    """Charges at a gateway, whose first answer for each key gets lost."""

    kinds = (PIVOT,)
    external = True

    def __init__(self, gateway: Path) -> None:
        self._gateway = gateway

    async def execute(self, request: Any, step: Step) -> Any:
        # The gateway's keys make a repeated charge the same one. A key that changed would be a second row.
        with self._gateway.open("a+", encoding="utf-8") as file:
            file.seek(0)
            line = f"{step.saga_id} {step.key}\n"
            if line not in file.readlines():
                file.write(line)
                raise NoAnswer
        step.record(lambda database: _takes_effect(step, database))
        return request


def main(listen: Listen = "127.0.0.1:0", database: Database = Path("effects.db")) -> None:
    gateway = database.with_name("gateway.txt")
    actions = [Act(), Refuse(), Slow(), Hold(), Charge(gateway)]
    serve(Participant("effects", actions, SqliteBarrier(database, SCHEMA)), listen)


if __name__ == "__main__":
    typer.run(main)
