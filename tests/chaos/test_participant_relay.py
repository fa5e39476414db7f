"""What the relay does to calls, in front of a participant that counts them."""

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any, TypeAlias

import grpc
import pytest

from saga.v1.participant_pb2 import ExecuteRequest, ExecuteResponse, StepContext
from saga.v1.types_pb2 import Completed
from tests.chaos.deliveries import SERVICE
from tests.chaos.participant_relay import CALM, ParticipantRelay, Weather

EXECUTE = f"/{SERVICE}/Execute"
REQUEST = ExecuteRequest(context=StepContext(idempotency_key="uid/step/execute")).SerializeToString()
COMPLETED = ExecuteResponse(completed=Completed()).SerializeToString()
KEY = ("idempotency-key", "uid/step/execute")
SHORT_S = 1.0
PATIENCE_S = 60.0

Context: TypeAlias = grpc.aio.ServicerContext[bytes, bytes]


class Counting:
    """A participant that completes every Execute, or refuses it with a status, and knows nothing else."""

    def __init__(self) -> None:
        self.metadata: list[Any] = []
        self.refuses = False

    async def execute(self, _request: bytes, context: Context) -> bytes:
        self.metadata.append(context.invocation_metadata())
        if self.refuses:
            await context.abort(grpc.StatusCode.ABORTED, "busy", (("why", "because"),))
        return COMPLETED


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest.fixture
async def relay(counting: Counting) -> AsyncIterator[ParticipantRelay]:
    server = grpc.aio.server()
    execute: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(counting.execute)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Execute": execute}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with ParticipantRelay(f"127.0.0.1:{port}", Random(1)) as relaying:
        yield relaying
    await server.stop(None)


async def send(
    relay: ParticipantRelay, method: str = EXECUTE, *metadata: tuple[str, str], timeout: float | None = None
) -> bytes:
    async with grpc.aio.insecure_channel(relay.address) as channel:
        rpc: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
        return await rpc(REQUEST, metadata=metadata, timeout=timeout)


async def status_of_a_call(relay: ParticipantRelay, timeout: float = PATIENCE_S) -> grpc.StatusCode:
    try:
        await send(relay, timeout=timeout)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_calm_it_passes_everything_on(relay: ParticipantRelay, counting: Counting) -> None:
    assert await send(relay, EXECUTE, KEY, ("traceparent", "00-1")) == COMPLETED
    assert {KEY, ("traceparent", "00-1")} <= {tuple(each) for each in counting.metadata[0]}
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await send(relay, f"/{SERVICE}/Describe")
    assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED
    counting.refuses = True
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await send(relay)
    assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.ABORTED, "busy")
    assert ("why", "because") in {tuple(each) for each in refused.value.trailing_metadata()}


async def test_a_doubled_call_is_delivered_twice_and_answered_once(relay: ParticipantRelay, counting: Counting) -> None:
    relay.weather = Weather(doubled=1)
    assert await status_of_a_call(relay) is grpc.StatusCode.OK
    await relay.is_quiet()
    assert (len(counting.metadata), relay.counts["doubled"]) == (2, 1)
    assert relay.deliveries.suppressed.total() == 1


async def test_a_repeated_call_is_delivered_again_after_its_end(
    relay: ParticipantRelay, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.chaos.participant_relay._LATE_S", (1.0, 1.0))
    relay.weather = Weather(repeated=1)
    assert await status_of_a_call(relay) is grpc.StatusCode.OK
    assert len(counting.metadata) == 1
    relay.weather = CALM
    async with asyncio.timeout(PATIENCE_S):
        await relay.is_quiet()
    assert (len(counting.metadata), relay.deliveries.suppressed["relay"]) == (2, 1)


async def test_a_lost_request_has_no_effect_and_a_lost_reply_has(relay: ParticipantRelay, counting: Counting) -> None:
    relay.weather = Weather(request_lost=1)
    assert await status_of_a_call(relay, SHORT_S) is grpc.StatusCode.DEADLINE_EXCEEDED
    assert counting.metadata == []
    relay.weather = Weather(reply_lost=1)
    found = {await status_of_a_call(relay, SHORT_S) for _ in range(3)}
    assert found == {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
    assert len(counting.metadata) == relay.counts["reply lost"] > 0


async def test_a_delayed_call_may_be_too_late(relay: ParticipantRelay, counting: Counting) -> None:
    relay.weather = Weather(delayed=1)
    assert grpc.StatusCode.DEADLINE_EXCEEDED in {await status_of_a_call(relay, SHORT_S) for _ in range(3)}
    assert relay.counts["request delayed"] == 3
