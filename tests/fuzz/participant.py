"""A participant for the fuzz: one action that does what its input says, over a real barrier, logging all that it can.

`recipient` has the orders, each `REPLY:STEP`: `reject`, `pend` (asked again after a day) and `stuck` (its Compensate is
refused). Everything else succeeds, and is written to the database.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

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
from sample_services.orders.v1.orders_pb2 import Address
from sample_services.service import Database, Listen

SCHEMA = "CREATE TABLE IF NOT EXISTS effects (saga_uid TEXT NOT NULL, step TEXT NOT NULL, what TEXT NOT NULL)"
_KEPT = 100
_FAR = datetime(2090, 1, 1, tzinfo=UTC)


class Act(Action[Address, Address, SqliteTransaction]):
    """Does as it is told."""

    kinds = (COMPENSATABLE, RESERVABLE, PIVOT, RETRIABLE)
    rejections = {"TOLD": "Its input says so."}  # noqa: RUF012 - a ClassVar in the base

    async def execute(self, request: Address, step: Step[SqliteTransaction]) -> Address | Held[Address] | Pending:
        _note(step, "execute")
        if f"pend:{step.name}" in request.recipient:
            return Pending(poll_after=timedelta(days=1), message=request.street)
        if f"reject:{step.name}" in request.recipient:
            raise Rejected("TOLD", request.street, street=request.street[:_KEPT])
        output = Address(recipient=request.recipient[:_KEPT], street=request.street[:_KEPT])  # an output has a limit
        return Held(output, until=_FAR) if step.name == "hold" else output

    async def compensate(self, request: Address, output: Address | None, step: Step[SqliteTransaction]) -> None:
        if f"stuck:{step.name}" in request.recipient:
            raise Rejected("TOLD", request.street)
        _note(step, "compensate")

    async def confirm(self, request: Address, output: Address, step: Step[SqliteTransaction]) -> None:
        _note(step, "confirm")


def _note(step: Step[SqliteTransaction], what: str) -> None:
    step.transaction.execute("INSERT INTO effects VALUES (?, ?, ?)", (step.saga_uid, step.name, what))


def main(listen: Listen = "127.0.0.1:0", database: Database = Path("fuzz.db")) -> None:
    logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s: %(message)s")
    participant = Participant("fuzz", [Act()], SqliteBarrier(database, schema=SCHEMA))
    asyncio.run(participant.serve(listen, on_ready=lambda address: typer.echo(f"listening on {address}")))


if __name__ == "__main__":
    typer.run(main)
