"""What the SDK's tests share: an action that does what a test says, and the stores that one contract holds for."""

import inspect
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue

from participant_sdk import (
    COMPENSATABLE,
    RESERVABLE,
    Action,
    AiosqliteBarrier,
    Barrier,
    Held,
    MemoryBarrier,
    Noop,
    Participant,
    Pending,
    SqliteBarrier,
    Step,
)
from participant_sdk.testing import ActionHarness

SCHEMA = "CREATE TABLE IF NOT EXISTS business (name TEXT NOT NULL)"


def struct(**fields: Any) -> Struct:
    message = Struct()
    message.update(fields)
    return message


class Scripted(Action[Struct, StringValue, Any]):
    """Does what a test tells it.

    `calls` is what ran, in order.
    """

    kinds = (COMPENSATABLE, RESERVABLE)
    rejections = {"SOLD_OUT": "Nothing is left."}  # noqa: RUF012 - a ClassVar in the base

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.steps: list[Step[Any]] = []
        self.on_execute: Callable[[Step[Any]], Awaitable[StringValue | Held[StringValue] | Pending]] = _yields("done")
        self.on_poll: Callable[[Step[Any]], Awaitable[StringValue | Held[StringValue] | Pending]] | None = None
        self.on_compensate: Callable[[Step[Any]], Awaitable[Noop | Pending | None]] = _nothing
        self.on_confirm: Callable[[Step[Any]], Awaitable[Pending | None]] = _nothing

    async def execute(self, request: Struct, step: Step[Any]) -> StringValue | Held[StringValue] | Pending:
        self.calls.append("execute")
        self.steps.append(step)
        return await self.on_execute(step)

    async def poll(self, request: Struct, step: Step[Any]) -> StringValue | Held[StringValue] | Pending:
        if self.on_poll is None:
            return await super().poll(request, step)
        self.calls.append("poll")
        return await self.on_poll(step)

    async def compensate(self, request: Struct, output: StringValue | None, step: Step[Any]) -> Noop | Pending | None:
        self.calls.append(f"compensate({output.value if output else None})")
        self.steps.append(step)
        return await self.on_compensate(step)

    async def confirm(self, request: Struct, output: StringValue, step: Step[Any]) -> Pending | None:
        self.calls.append(f"confirm({output.value})")
        self.steps.append(step)
        return await self.on_confirm(step)


class External(Scripted):
    """The same, with effects outside the database."""

    external = True


def _yields(value: str) -> Callable[[Step[Any]], Awaitable[StringValue]]:
    async def handler(_step: Step[Any]) -> StringValue:
        return StringValue(value=value)

    return handler


async def _nothing(_step: Step[Any]) -> None:
    return None


class Stores:
    """One kind of store: makes barriers on the same data, writes business rows through a step, reads them back."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.path = folder / "business.db"
        self._memory = MemoryBarrier()

    def barrier(self) -> Barrier:
        if self.kind == "memory":
            return self._memory
        return (SqliteBarrier if self.kind == "sqlite" else AiosqliteBarrier)(self.path, schema=SCHEMA)

    def harness(self, *actions: Action[Any, Any, Any]) -> ActionHarness:
        return ActionHarness(Participant("test", actions, self.barrier()))

    async def write(self, transaction: Any, name: str) -> None:
        """Write a business row through `step.transaction`."""
        if self.kind == "memory":
            transaction[name] = True
            return
        written = transaction.execute("INSERT INTO business (name) VALUES (?)", (name,))
        if inspect.isawaitable(written):
            await written

    def business(self) -> list[str]:
        """The business rows that are committed."""
        if self.kind == "memory":
            return list(self._memory.data)
        return [name for (name,) in self._rows("SELECT name FROM business ORDER BY rowid")]

    def states(self) -> list[str]:
        """The barrier rows' states that are committed."""
        if self.kind == "memory":
            return [str(row.state) for row in self._memory._memory._rows.values()]
        return [state for (state,) in self._rows("SELECT state FROM saga_barrier ORDER BY create_time")]

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(query).fetchall()
