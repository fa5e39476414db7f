"""The floor: a coordinator without features, which makes the same calls and journals the same rows as ours.

    python -m benchmarks.floor --shape FILE --journal FILE --participant HOST:PORT [--lane fast] [--listen HOST:PORT]

It serves StartSaga and StartSagas and answers at the saga's end, as ours does when it is asked to wait for that. It
calls the participants with the messages of `saga.v1`, waits for the disk before each call and each answer, and commits
in groups that form by themselves, into a file with our schema and our pragmas. The rows are copies of those that our
coordinator wrote for such a saga, so they are as many and as large.

What it leaves out is everything that makes a coordinator: it checks nothing, decides nothing, keeps no state that it
could go on from, retries nothing and reads nothing back. It must not leave out anything that is done for durability.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import signal
import sqlite3
import time
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any as AnyValue
from typing import Final, Protocol

import grpc
from google.protobuf.any_pb2 import Any

from benchmarks.lane import Lane
from benchmarks.load import run_fast
from benchmarks.shape import Shape, load
from benchmarks.workload import ACTIONS, CALL_MAX_S, context
from coordinator.journal.sqlite_database import Database, open_for_writing, transaction
from saga.v1 import coordinator_pb2 as pb
from saga.v1.participant_pb2 import (
    CompensateRequest,
    CompensateResponse,
    DescribeRequest,
    ExchangeAnswer,
    ExchangeCall,
    ExchangeRequest,
    ExecuteRequest,
    ExecuteResponse,
)
from saga.v1.participant_pb2_grpc import ParticipantServiceStub
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATING, SAGA_STATE_RUNNING

_IN_FLIGHT_DEFAULT: Final = 256  # as the contract says
_INSERT_EVENT: Final = "INSERT INTO events (saga, sequence, body) VALUES (?, ?, ?)"
_UPDATE_SAGA: Final = "UPDATE sagas SET state = ?, end_time_ns = ?, failure = ? WHERE saga = ?"


@dataclass(slots=True)
class _Append:
    """Rows that go to the disk together, and who waits for that."""

    saga: Sequence[object] | None
    events: Sequence[tuple[int, int, bytes]]
    update: Sequence[object] | None
    durable: asyncio.Future[None]


class Journal:
    """Writes rows in groups: while one commit is on its way to the disk, the next group piles up."""

    def __init__(self, database: Database, columns: Sequence[str]) -> None:
        self._database = database
        marks = ", ".join("?" * len(columns))
        self._insert_saga = f"INSERT INTO sagas ({', '.join(columns)}) VALUES ({marks})"
        self._queue: list[_Append] = []
        self._more = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def append(
        self,
        saga: Sequence[object] | None,
        events: Sequence[tuple[int, int, bytes]],
        update: Sequence[object] | None,
    ) -> None:
        """Return when the rows are on the disk."""
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(_Append(saga, events, update, durable))
        self._more.set()
        await durable

    async def close(self) -> None:
        """Let go of the file."""
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._database.close()

    async def _run(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            group, self._queue = self._queue, []
            await self._database.run(lambda db: self._commit(db, group))  # noqa: B023  # awaited here
            for append in group:
                if not append.durable.done():
                    append.durable.set_result(None)

    def _commit(self, db: sqlite3.Connection, group: Sequence[_Append]) -> None:
        with transaction(db):
            db.executemany(self._insert_saga, [append.saga for append in group if append.saga is not None])
            db.executemany(_INSERT_EVENT, [event for append in group for event in append.events])
            db.executemany(_UPDATE_SAGA, [append.update for append in group if append.update is not None])


class Calls(Protocol):
    """Calls the participant, over either lane. Errors: gRPC's."""

    async def execute(self, request: ExecuteRequest) -> ExecuteResponse: ...
    async def compensate(self, request: CompensateRequest) -> CompensateResponse: ...


class UnaryCalls:
    """One RPC a call."""

    def __init__(self, stub: AnyValue) -> None:
        self._stub = stub

    async def execute(self, request: ExecuteRequest) -> ExecuteResponse:
        response: ExecuteResponse = await _unary(self._stub.Execute, request)
        return response

    async def compensate(self, request: CompensateRequest) -> CompensateResponse:
        response: CompensateResponse = await _unary(self._stub.Compensate, request)
        return response


async def _unary(method: AnyValue, request: ExecuteRequest | CompensateRequest) -> AnyValue:
    key = request.context.idempotency_key
    return await method(request, timeout=CALL_MAX_S, metadata=(("idempotency-key", key),))


class LaneCalls:
    """One stream of Exchange for all calls."""

    def __init__(self, stub: AnyValue, in_flight_max: int) -> None:
        self._lane: Lane[ExchangeAnswer] = Lane(
            stub.Exchange(),
            lambda calls: ExchangeRequest(calls=calls),
            lambda response: response.answers,
            in_flight_max,
        )

    async def execute(self, request: ExecuteRequest) -> ExecuteResponse:
        answer = await self._lane.call(lambda number: self._call(number, request.context, execute=request))
        return answer.execute

    async def compensate(self, request: CompensateRequest) -> CompensateResponse:
        answer = await self._lane.call(lambda number: self._call(number, request.context, compensate=request))
        return answer.compensate

    @staticmethod
    def _call(number: int, step: AnyValue, **request: AnyValue) -> ExchangeCall:
        call = ExchangeCall(id=number, metadata={"idempotency-key": step.idempotency_key}, **request)
        call.timeout.FromSeconds(int(CALL_MAX_S))
        return call


@dataclass(slots=True)
class _Saga:
    """A saga on its way: its row's number, and where its next event goes."""

    saga_id: str
    uid: str
    row: int
    input: Any
    sequence: int = 1
    outputs: list[Any] = field(default_factory=list)


class Floor:
    """Drives sagas. Errors: whatever goes wrong is raised, and the saga is over."""

    def __init__(self, journal: Journal, calls: Calls, completed: Shape, compensated: Shape) -> None:
        self._journal = journal
        self._calls = calls
        self._completed = completed
        self._compensated = compensated
        self._rows = itertools.count(1)

    async def run(self, request: pb.StartSagaRequest) -> pb.Saga:
        """Start a saga and drive it to its end."""
        row = next(self._rows)
        uid = str(uuid.UUID(int=(time.time_ns() // 1_000_000 << 80) | row))  # in order of time, as ours are
        saga = _Saga(request.saga_id, uid, row, request.input)
        shape = self._completed
        own = {"saga": row, "saga_id": saga.saga_id, "uid": uid, "state": SAGA_STATE_RUNNING, "end_time_ns": None}
        await self._append(saga, shape, 0, tuple({**shape.saga, **own}.values()))
        for number in range(len(ACTIONS)):
            step = context(saga.saga_id, saga.uid, number, "execute")
            response = await self._calls.execute(ExecuteRequest(context=step, input=saga.input))
            if response.HasField("completed"):
                saga.outputs.append(response.completed.output)
            elif response.HasField("rejected"):
                shape = self._compensated
            else:
                raise ValueError(f"an outcome that the floor does not know: {response}")
            await self._append(saga, shape, number + 1)
        if len(saga.outputs) < len(ACTIONS):
            await self._compensate(saga)
        answer = pb.Saga()
        answer.CopyFrom(shape.answer)
        answer.saga_id = saga.saga_id
        return answer

    async def _compensate(self, saga: _Saga) -> None:
        for place, number in enumerate(reversed(range(len(saga.outputs))), len(ACTIONS) + 1):
            step = context(saga.saga_id, saga.uid, number, "compensate")
            request = CompensateRequest(
                context=step,
                input=saga.input,
                output=saga.outputs[number],
                cause=self._compensated.answer.failure,
            )
            response = await self._calls.compensate(request)
            if not response.HasField("compensated"):
                raise ValueError(f"an outcome that the floor does not know: {response}")
            await self._append(saga, self._compensated, place)

    async def _append(self, saga: _Saga, shape: Shape, number: int, created: Sequence[object] | None = None) -> None:
        bodies = shape.appends[number]
        events = [(saga.row, sequence, body) for sequence, body in enumerate(bodies, saga.sequence)]
        saga.sequence += len(bodies)
        update = None
        if number == len(shape.appends) - 1:
            update = (shape.saga["state"], shape.saga["end_time_ns"], shape.saga["failure"], saga.row)
        elif number == shape.turns_back:
            update = (SAGA_STATE_COMPENSATING, None, shape.saga["failure"], saga.row)
        await self._journal.append(created, events, update)


class Service:
    """The two RPCs of CoordinatorService that start sagas."""

    def __init__(self, floor: Floor) -> None:
        self._floor = floor

    async def start_saga(self, request: pb.StartSagaRequest, _context: AnyValue) -> pb.StartSagaResponse:
        return await self._start(request)

    async def start_sagas(
        self, requests: AsyncIterator[pb.StartSagasRequest], _context: AnyValue
    ) -> AsyncIterator[pb.StartSagasResponse]:
        """What is ready leaves as one message. The stream ends when its caller starts no more and all are answered."""
        answers: list[pb.StartSagasAnswer] = []
        more = asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()

        async def one(call: pb.StartSagasCall) -> None:
            answers.append(pb.StartSagasAnswer(id=call.id, start=await self._start(call.request)))

        def begin(work: Coroutine[AnyValue, AnyValue, None]) -> None:
            tasks.add(task := asyncio.create_task(work))
            task.add_done_callback(end)

        def end(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            more.set()

        async def read() -> None:
            async for message in requests:
                for call in message.calls:
                    begin(one(call))

        begin(read())
        while tasks or answers:
            await more.wait()
            more.clear()
            if answers:
                ready, answers[:] = list(answers), []
                yield pb.StartSagasResponse(answers=ready)

    def handlers(self) -> grpc.GenericRpcHandler:
        """What a gRPC server is given."""
        unary: AnyValue = grpc.unary_unary_rpc_method_handler  # typed for handlers that are not coroutines
        stream: AnyValue = grpc.stream_stream_rpc_method_handler
        made: dict[str, tuple[AnyValue, AnyValue, type[AnyValue], type[AnyValue]]] = {
            "StartSaga": (unary, self.start_saga, pb.StartSagaRequest, pb.StartSagaResponse),
            "StartSagas": (stream, self.start_sagas, pb.StartSagasRequest, pb.StartSagasResponse),
        }
        return grpc.method_handlers_generic_handler(
            pb.DESCRIPTOR.services_by_name["CoordinatorService"].full_name,
            {
                name: kind(behavior, request.FromString, response.SerializeToString)
                for name, (kind, behavior, request, response) in made.items()
            },
        )

    async def _start(self, request: pb.StartSagaRequest) -> pb.StartSagaResponse:
        return pb.StartSagaResponse(saga=await self._floor.run(request), created=True)


async def open_journal(file: Path, shape: Shape) -> Database:
    """A new journal, set up as ours is, that holds what all sagas of the shape have in common."""
    database = await open_for_writing(file)
    await database.run(lambda db: _pin(db, shape.pin))
    return database


async def serve(shapes: Path, journal: Path, participant: str, lane: str, listen: str) -> None:
    """Serve until SIGTERM."""
    completed, compensated = load(shapes.read_text(encoding="utf-8"))  # noqa: ASYNC240  # nothing else runs yet
    database = await open_journal(journal.resolve(), completed)  # noqa: ASYNC240
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    rows = Journal(database, list(completed.saga))
    async with grpc.aio.insecure_channel(participant) as channel:
        stub = ParticipantServiceStub(channel)
        calls = await _lane_calls(stub) if lane == "fast" else UnaryCalls(stub)
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((Service(Floor(rows, calls, completed, compensated)).handlers(),))
        host, _, _ = listen.rpartition(":")
        port = server.add_insecure_port(listen)
        await server.start()
        print(f"listening on {host}:{port}", flush=True)
        await stop.wait()
        await server.stop(1)
    await rows.close()


async def _lane_calls(stub: AnyValue) -> Calls:
    description = await stub.Describe(DescribeRequest(), timeout=CALL_MAX_S, wait_for_ready=True)
    return LaneCalls(stub, description.exchange.max_in_flight or _IN_FLIGHT_DEFAULT)


def _pin(db: sqlite3.Connection, pin: Mapping[str, object]) -> None:
    marks = ", ".join("?" * len(pin))
    db.execute(f"INSERT INTO pins ({', '.join(pin)}) VALUES ({marks})", tuple(pin.values()))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--listen", default="127.0.0.1:0")
    parser.add_argument("--shape", type=Path, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--participant", required=True, metavar="HOST:PORT")
    parser.add_argument("--lane", choices=["unary", "fast"], default="unary")
    asked = parser.parse_args()
    run_fast(serve(asked.shape, asked.journal, asked.participant, asked.lane, asked.listen))


if __name__ == "__main__":
    main()
