"""NoBarrier: every call runs its handler, and nothing is remembered."""

import grpc
import pytest

from participant_sdk import NoBarrier
from participant_sdk.errors import CallError
from participant_sdk.testing import ActionHarness
from tests.participant_sdk.support import Scripted, struct

REQUEST = struct(sku="book")


async def test_every_call_runs_its_handler(action: Scripted) -> None:
    async with ActionHarness(action, NoBarrier()) as harness:
        await harness.execute(REQUEST)
        await harness.execute(REQUEST)
        await harness.confirm()
        await harness.compensate()
        assert (await harness.execute(REQUEST)).HasField("completed")
    assert action.calls == ["execute", "execute", "confirm(done)", "compensate(done)", "execute"]
    with pytest.raises(RuntimeError, match="NoBarrier"):
        _ = action.steps[0].transaction
    with pytest.raises(RuntimeError, match="external"):
        action.steps[0].record(lambda _transaction: None)


async def test_confirm_needs_the_output(action: Scripted) -> None:
    async with ActionHarness(action, NoBarrier()) as harness:
        with pytest.raises(CallError) as refused:
            await harness.confirm(REQUEST)
    assert refused.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in refused.value.violations] == ["output"]
