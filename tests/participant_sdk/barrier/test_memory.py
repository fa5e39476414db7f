import asyncio
from typing import Any

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from participant_sdk import MemoryBarrier, MemoryTransaction, Rejected, Step
from participant_sdk.testing import ActionHarness
from tests.participant_sdk.support import Scripted, struct

REQUEST = struct(sku="book")


async def test_data_shows_what_is_committed(action: Scripted) -> None:
    barrier = MemoryBarrier()

    async def counts(step: Step[Any]) -> StringValue:
        transaction: MemoryTransaction = step.transaction
        transaction["stock"] = transaction.get("stock", 0) + 1
        if step.saga_uid == "refused":
            raise Rejected("SOLD_OUT")
        assert barrier.data.get("stock", 0) == transaction["stock"] - 1
        return StringValue()

    action.on_execute = counts
    async with ActionHarness(action, barrier) as harness:
        for saga_uid in ("one", "refused", "two"):
            await harness.execute(REQUEST, saga_uid=saga_uid)
    assert dict(barrier.data) == {"stock": 2}
    with pytest.raises(TypeError):
        barrier.data["stock"] = 3  # type: ignore[index]  # read-only: that is the test


def test_it_can_be_opened_in_another_event_loop(action: Scripted) -> None:
    barrier = MemoryBarrier()

    async def contends() -> None:
        async with ActionHarness(action, barrier) as harness:
            await asyncio.gather(*(harness.execute(REQUEST) for _ in range(3)))

    asyncio.run(contends())
    asyncio.run(contends())
    assert action.calls == ["execute", "execute"]


async def test_a_call_looks_at_its_own_row_and_not_at_all_that_there_are(action: Scripted) -> None:
    class Rows(dict[Any, Any]):
        def keys(self) -> Any:
            raise AssertionError("a call reads every row: the more there were, the slower each would be")

        __iter__ = items = values = keys

    barrier = MemoryBarrier()
    barrier._memory._rows = Rows()
    async with ActionHarness(action, barrier) as harness:
        for saga_uid in ("one", "two"):
            await harness.execute(REQUEST, saga_uid=saga_uid)
            await harness.execute(REQUEST, saga_uid=saga_uid)
    assert action.calls == ["execute", "execute"]
