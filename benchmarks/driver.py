"""The driver of whatever serves `saga.v1.CoordinatorService`: our coordinator, and the floor.

    python -m benchmarks.driver --target HOST:PORT --lane unary|fast [--until started|ended] [--delay SECONDS]

It calls with generated stubs and nothing around them, as the peers' drivers do, so that the driver costs little and the
same for both. This module must not retry.
"""

from __future__ import annotations

import argparse
import time
from typing import Any, Final, Protocol

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from benchmarks.lane import Lane
from benchmarks.load import TurnedAway, run_fast, serve
from benchmarks.workload import CALL_MAX_S, DEFINITION, order
from saga.v1.coordinator_pb2 import (
    Saga,
    StartSagaRequest,
    StartSagasAnswer,
    StartSagasCall,
    StartSagasRequest,
)
from saga.v1.coordinator_pb2_grpc import CoordinatorServiceStub
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED, SagaState

OPTIONS: Final = (("grpc.max_receive_message_length", 16 << 20), ("grpc.enable_retries", 0))
IN_FLIGHT_MAX: Final = 4096
_RETRY_AFTER_S: Final = 0.1  # where nobody says when to come back


class Starter(Protocol):
    """Sends a request to start a saga; returns the saga as it was answered."""

    async def start(self, request: StartSagaRequest) -> Saga: ...


class UnaryStarter:
    """One StartSaga a saga."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    async def start(self, request: StartSagaRequest) -> Saga:
        try:
            saga: Saga = (await self._stub.StartSaga(request, timeout=2 * CALL_MAX_S)).saga
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                raise TurnedAway(retry_after_s(_status_of(error))) from None
            raise
        return saga


class LaneStarter:
    """One stream of StartSagas for all of them."""

    def __init__(self, stub: Any) -> None:
        self._lane: Lane[StartSagasAnswer] = Lane(
            stub.StartSagas(),
            lambda calls: StartSagasRequest(calls=calls),
            lambda response: response.answers,
            IN_FLIGHT_MAX,
        )

    async def start(self, request: StartSagaRequest) -> Saga:
        answer = await self._lane.call(lambda number: StartSagasCall(id=number, request=request))
        if answer.HasField("start"):
            return answer.start.saga
        if answer.status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]:
            raise TurnedAway(retry_after_s(answer.status))
        raise ConnectionError(f"{answer.status.code}: {answer.status.message}")


def _status_of(error: grpc.aio.AioRpcError) -> Status | None:
    call: Any = error  # it has what the function below asks of a call
    status: Status | None = rpc_status.from_call(call)
    return status


def retry_after_s(status: Status | None) -> float:
    """When the system says that it may be asked again."""
    info = RetryInfo()
    for detail in status.details if status is not None else ():
        if detail.Unpack(info):
            return info.retry_delay.ToTimedelta().total_seconds()
    return _RETRY_AFTER_S


class Sagas:
    """Runs sagas of the workload. `until_ended` False: a saga counts when its start is acknowledged."""

    def __init__(self, starter: Starter, *, definition: str, until_ended: bool, delay_s: float) -> None:
        self._starter = starter
        self._definition = definition
        self._until_ended = until_ended
        self._delay_s = delay_s

    async def run(self, saga_id: str, refuse: bool) -> bool:
        """As `load.RunSaga` says. Errors: gRPC's; `TurnedAway`, and `TimeoutError` where it did not end in time."""
        request = StartSagaRequest(saga_id=saga_id, definition=self._definition, input=order(saga_id, refuse=refuse))
        if self._delay_s:
            request.start_time.FromNanoseconds(time.time_ns() + int(self._delay_s * 1e9))
        if self._until_ended:
            request.wait.FromSeconds(int(CALL_MAX_S))
        saga = await self._starter.start(request)
        if not self._until_ended:
            return not refuse
        if saga.state not in (SAGA_STATE_COMPLETED, SAGA_STATE_COMPENSATED):
            raise TimeoutError(f"the saga stands {SagaState.Name(saga.state)}")
        return saga.state == SAGA_STATE_COMPLETED


async def drive(target: str, *, lane: str, definition: str, until_ended: bool, delay_s: float) -> None:
    """Answer loads, until the standard input ends."""
    async with grpc.aio.insecure_channel(target, options=OPTIONS) as channel:
        stub = CoordinatorServiceStub(channel)
        starter = LaneStarter(stub) if lane == "fast" else UnaryStarter(stub)
        sagas = Sagas(starter, definition=definition, until_ended=until_ended, delay_s=delay_s)
        await serve(sagas.run)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--target", required=True)
    parser.add_argument("--lane", choices=["unary", "fast"], default="unary")
    parser.add_argument("--definition", default=DEFINITION)
    parser.add_argument("--until", choices=["started", "ended"], default="ended")
    parser.add_argument("--delay", type=float, default=0.0, metavar="SECONDS")
    asked = parser.parse_args()
    run_fast(
        drive(
            asked.target,
            lane=asked.lane,
            definition=asked.definition,
            until_ended=asked.until == "ended",
            delay_s=asked.delay,
        )
    )


if __name__ == "__main__":
    main()
