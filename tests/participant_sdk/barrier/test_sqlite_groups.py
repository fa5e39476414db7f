"""Calls that queue for a SQLite barrier share a commit, and nothing else: what was answered stays so (G2, G5)."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from participant_sdk import Step
from participant_sdk.barrier import sql
from participant_sdk.errors import CallError
from participant_sdk.testing import ActionHarness
from saga.v1.participant_pb2 import ExecuteResponse
from tests.participant_sdk.support import Scripted, Stores, struct

REQUEST = struct(sku="book")

Handler = Callable[[Step[Any]], Awaitable[None]]


class Group:
    """Calls that begin while the first of them is at work: what each does, and in which order things happen."""

    def __init__(self, files: Stores, harness: ActionHarness) -> None:
        self.files = files
        self.order: list[str] = []
        self.does: dict[str, Handler] = {}
        self._harness = harness
        self._first_is_in, self._leave = asyncio.Event(), asyncio.Event()

    async def handle(self, step: Step[Any]) -> StringValue:
        self._first_is_in.set()
        await self._leave.wait()
        await self.files.write(step.transaction, step.saga_uid)
        self.order.append(f"{step.saga_uid} runs")
        if step.saga_uid in self.does:
            await self.does[step.saga_uid](step)
        return StringValue(value=step.saga_uid)

    async def execute(self, saga_uid: str) -> ExecuteResponse:
        response = await self._harness.execute(REQUEST, saga_uid=saga_uid)
        self.order.append(f"{saga_uid} answered")
        return response

    async def begin(self, *saga_uids: str) -> list[asyncio.Task[ExecuteResponse]]:
        """Make the calls; all of them wait for the first one's handler when this returns."""
        first = asyncio.create_task(self.execute(saga_uids[0]))
        await self._first_is_in.wait()
        others = [asyncio.create_task(self.execute(saga_uid)) for saga_uid in saga_uids[1:]]
        await asyncio.sleep(0)  # each takes its place in the queue
        return [first, *others]

    def go_on(self) -> None:
        self._leave.set()


@asynccontextmanager
async def group(kind: str, tmp_path: Path) -> AsyncIterator[Group]:
    files, action = Stores(kind, tmp_path), Scripted()
    async with files.harness(action) as harness:
        made = Group(files, harness)
        action.on_execute = made.handle
        yield made


pytestmark = pytest.mark.parametrize("kind", ["sqlite", "aiosqlite"])


async def failed(task: asyncio.Task[ExecuteResponse]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(CallError) as error:
        await task
    return error.value.code, error.value.reason


async def test_who_queues_shares_the_commit_and_nobody_is_answered_before_it(kind: str, tmp_path: Path) -> None:
    async with group(kind, tmp_path) as made:
        seen: list[list[str]] = []

        async def look(_step: Step[Any]) -> None:
            seen.append(made.files.business())

        made.does["d"] = look
        calls = await made.begin("a", "b", "c", "d")
        made.go_on()
        await asyncio.gather(*calls)
        assert made.order[:4] == ["a runs", "b runs", "c runs", "d runs"]
        assert sorted(made.order[4:]) == ["a answered", "b answered", "c answered", "d answered"]
        assert seen == [[]]  # from another connection
        assert made.files.business() == ["a", "b", "c", "d"]


async def test_a_call_that_fails_takes_back_what_it_did_and_no_more(kind: str, tmp_path: Path) -> None:
    async with group(kind, tmp_path) as made:

        async def breaks(_step: Step[Any]) -> None:
            raise ZeroDivisionError

        made.does["b"] = breaks
        a, b, c = await made.begin("a", "b", "c")
        made.go_on()
        assert await failed(b) == (grpc.StatusCode.INTERNAL, "HANDLER_FAILED")
        assert [(await call).HasField("completed") for call in (a, c)] == [True, True]
        assert (made.files.business(), made.files.states()) == (["a", "c"], ["COMPLETED", "COMPLETED"])


async def test_where_the_database_takes_all_back_nobody_is_answered_as_done(kind: str, tmp_path: Path) -> None:
    """ON CONFLICT ROLLBACK of one call ends the transaction of all: those before it are told, and can be repeated."""
    async with group(kind, tmp_path) as made:
        with closing(sqlite3.connect(made.files.path)) as connection:
            connection.execute("CREATE TABLE u (x UNIQUE)")

        async def conflicts(step: Step[Any]) -> None:
            for _ in range(2):
                result = step.transaction.execute("INSERT OR ROLLBACK INTO u (x) VALUES (1)")
                if not isinstance(result, sqlite3.Cursor):
                    await result

        made.does["b"] = conflicts
        a, b, c = await made.begin("a", "b", "c")
        made.go_on()
        assert await failed(a) == (grpc.StatusCode.ABORTED, "ROLLED_BACK")
        assert await failed(b) == (grpc.StatusCode.INTERNAL, "HANDLER_FAILED")
        assert (await c).HasField("completed")  # which came after it
        assert (made.files.business(), made.files.states()) == (["c"], ["COMPLETED"])
        assert (await made.execute("a")).HasField("completed")
        assert made.files.business() == ["c", "a"]


async def test_a_commit_that_fails_fails_all_who_share_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with group(kind, tmp_path) as made:
        a, b = await made.begin("a", "b")
        with monkeypatch.context() as broken:
            broken.setattr(sql, "COMMIT", "NO COMMIT")
            made.go_on()
            assert [await failed(call) for call in (a, b)] == [(grpc.StatusCode.INTERNAL, "HANDLER_FAILED")] * 2
        assert (made.files.business(), made.files.states()) == ([], [])
        assert (await made.execute("a")).HasField("completed")
        assert made.files.business() == ["a"]


async def test_who_is_gone_before_the_commit_finds_its_reply_later(kind: str, tmp_path: Path) -> None:
    async with group(kind, tmp_path) as made:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def waits(_step: Step[Any]) -> None:
            entered.set()
            await leave.wait()

        made.does["b"] = waits
        a, b = await made.begin("a", "b")
        made.go_on()
        await entered.wait()
        a.cancel()
        await asyncio.wait([a])
        leave.set()
        assert (await b).HasField("completed")
        assert (await made.execute("a")).HasField("completed")
        assert (made.files.business(), made.order.count("a runs")) == (["a", "b"], 1)


async def test_after_closing_what_a_caller_that_is_gone_had_begun_is_there_as_a_whole_or_not_at_all(
    kind: str, tmp_path: Path
) -> None:
    async with group(kind, tmp_path) as made:

        async def goes(_step: Step[Any]) -> None:
            asyncio.get_running_loop().call_soon(a.cancel)

        made.does["a"] = goes
        [a] = await made.begin("a")
        made.go_on()
        await asyncio.wait([a])
    done = made.files.business()
    assert done == (["a"] if made.files.states() else [])
