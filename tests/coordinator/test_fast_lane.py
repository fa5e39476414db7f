"""Sagas over a proxy that cuts streams: the lane is left and comes back by itself, and nothing is lost or doubled."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as Payload

from coordinator.app import running
from coordinator.config import Settings
from participant_sdk import RETRIABLE, Action, MemoryBarrier, MemoryTransaction, Participant, Step
from saga.v1 import coordinator_pb2 as pb
from saga.v1.coordinator_pb2_grpc import CoordinatorServiceStub, ParticipantDirectoryServiceStub
from saga.v1.definition_pb2 import AttemptPolicy, RegisterDefinitionRequest, SagaDefinition, StepDefinition
from saga.v1.definition_pb2_grpc import DefinitionServiceStub
from saga.v1.types_pb2 import SAGA_STATE_COMPLETED, STEP_KIND_RETRIABLE
from tests.crash.messages import Work

SERVICE = "saga.v1.ParticipantService"
SAGAS = 60
AT_ONCE = 6
CUT_AFTER = 3  # messages from the participant, the greeting's answer among them


class Count(Action[Work, Work, MemoryTransaction]):
    """Counts its effects, together with the barrier's row."""

    kinds = (RETRIABLE,)

    async def execute(self, request: Work, step: Step[MemoryTransaction]) -> Work:
        key = f"{step.saga_id}/{step.name}"
        step.transaction[key] = step.transaction.get(key, 0) + 1
        return request


class CuttingProxy:
    """Hands every call on; ends each stream after a few messages, so that the one under way is lost on its way back."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self.cuts_streams = True
        self.calls: Counter[str] = Counter()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        handlers: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(self._unary(name))
            for name in ("Describe", "Execute", "Compensate")
        }
        handlers["Exchange"] = grpc.stream_stream_rpc_method_handler(self._exchange)
        server = grpc.aio.server()
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            await server.stop(None)

    def _unary(self, name: str) -> Any:
        onward: Any = self._channel.unary_unary(f"/{SERVICE}/{name}")

        async def behavior(data: bytes, context: Any) -> bytes:
            self.calls[name] += 1
            answer: bytes = await onward(data, timeout=context.time_remaining())
            return answer

        return behavior

    async def _exchange(self, requests: AsyncIterator[bytes], context: Any) -> None:
        self.calls["Exchange"] += 1
        onward: Any = self._channel.stream_stream(f"/{SERVICE}/Exchange")
        rpc = onward(requests)
        seen = 0
        async for data in rpc:
            seen += 1
            if self.cuts_streams and seen > CUT_AFTER:
                rpc.cancel()
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the proxy cuts this stream")
            await context.write(data)


def definition() -> SagaDefinition:
    policy = AttemptPolicy()
    policy.initial_backoff.FromMilliseconds(10)
    policy.max_backoff.FromMilliseconds(100)
    steps = [
        StepDefinition(
            name=name, participant="shop", action="Count", kind=STEP_KIND_RETRIABLE, input="input", execute=policy
        )
        for name in ("first", "second", "third")
    ]
    return SagaDefinition(name="order", input_type=Work.DESCRIPTOR.full_name, steps=steps)


async def test_g3_sagas_over_a_proxy_that_cuts_streams_complete_with_each_effect_once(tmp_path: Path) -> None:
    barrier = MemoryBarrier()
    shop = Participant("shop", [Count()], barrier)
    async with (
        asyncio.timeout(60),
        shop.running("127.0.0.1:0") as served,
        grpc.aio.insecure_channel(served) as onward,
    ):
        proxy = CuttingProxy(onward)
        async with proxy.serving() as target:
            shops: Any = {"shop": target}  # as it stands in a file
            settings = Settings(listen="127.0.0.1:0", journal=tmp_path / "saga.db", participants=shops)
            async with running(settings) as address, grpc.aio.insecure_channel(address) as channel:
                await _drive_sagas(channel)
                assert proxy.calls["Exchange"] > 1
                assert proxy.calls["Execute"] > 0
                proxy.cuts_streams = False
                directory: Any = ParticipantDirectoryServiceStub(channel)
                while not await _is_on_the_fast_lane(directory):  # noqa: ASYNC110  # another party's state has no event
                    await asyncio.sleep(0.01)
    assert set(barrier.data.values()) == {1}
    assert len(barrier.data) == 3 * SAGAS


async def _drive_sagas(channel: grpc.aio.Channel) -> None:
    definitions: Any = DefinitionServiceStub(channel)
    sagas: Any = CoordinatorServiceStub(channel)
    await definitions.RegisterDefinition(RegisterDefinitionRequest(definition=definition()))
    packed = Payload()
    packed.Pack(Work(key="x"))
    numbers = iter(range(SAGAS))

    async def drive_some() -> None:
        for number in numbers:
            saga_id = f"order-{number}"
            await sagas.StartSaga(pb.StartSagaRequest(saga_id=saga_id, definition="order", input=packed))
            ended = await sagas.WaitSaga(pb.WaitSagaRequest(saga_id=saga_id))
            assert ended.saga.state == SAGA_STATE_COMPLETED

    await asyncio.gather(*(drive_some() for _ in range(AT_ONCE)))


async def _is_on_the_fast_lane(directory: Any) -> bool:
    listed = await directory.ListParticipants(pb.ListParticipantsRequest())
    return any(participant.fast_lane for participant in listed.participants)
