"""What a hostile participant answers, and says of itself: unknown or refused as the contract's table has it (G5).

Nothing that it sends raises, moves another participant, or goes on without bound; a description that cannot be used has
problems that say why.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import grpc
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from hypothesis import event, given, note

from coordinator.api.reflection import SHARED_FILES
from coordinator.core import limits
from coordinator.core.descriptors import merge
from coordinator.core.inputs import Accepted, Done, Refused, Unknown
from coordinator.core.instants import to_timestamp
from coordinator.participants.description import InvalidDescriptionError, read_description
from coordinator.participants.directory import Directory
from coordinator.participants.replies import read_body
from saga.v1.coordinator_pb2 import PARTICIPANT_STATE_READY, PARTICIPANT_STATE_UNDESCRIBED
from saga.v1.participant_pb2 import (
    CompensateResponse,
    ConfirmResponse,
    DescribeResponse,
    ExecuteResponse,
)
from saga.v1.types_pb2 import (
    FAILURE_KIND_PROTOCOL_VIOLATION,
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    Completed,
    FailureKind,
    Operation,
)
from tests.coordinator.core.protos import files, proto
from tests.coordinator.participants.fakes import OUTPUT, RESERVE, FakeParticipant, call, description, serving
from tests.fuzz import hostile
from tests.fuzz.tape import TAPES, Tape, profile

_RESPONSES: Final[Mapping[Operation.ValueType, Any]] = {
    OPERATION_EXECUTE: ExecuteResponse,
    OPERATION_COMPENSATE: CompensateResponse,
    OPERATION_CONFIRM: ConfirmResponse,
}
_PLAUSIBLE: Final[hostile.Plausible] = {
    "input": [OUTPUT],
    "output": [OUTPUT],
    "completed": [Completed(output=OUTPUT)],
    "type_name": [".shop.ReserveRequest", ".nobody.Knows", ".shop.Loop"],
    "input_type": [RESERVE, "shop.Nothing", ""],
    "output_type": ["shop.Reservation", "no such"],
    "dependency": ["shop.proto", "absent.proto", "google/protobuf/any.proto"],
    "package": ["shop", "saga.v1", "google.protobuf"],
    "name": ["Reserve", "shop.proto", "ReserveRequest", "saga/v1/types.proto"],
    "number": [1, 2],
    "syntax": ["proto3", "proto2"],
}


# --- Replies ----------------------------------------------------------------------------------------------------------


@profile(100)
@given(TAPES)
def test_g5_whatever_a_reply_holds_it_is_read(numbers: bytes) -> None:
    tape = Tape(numbers)
    operation = tape.pick(list(_RESPONSES))
    made = hostile.message(tape, _RESPONSES[operation].DESCRIPTOR, _PLAUSIBLE)
    body = hostile.damaged(tape, hostile.spoiled(tape, made, _PLAUSIBLE).SerializeToString())
    reply = read_body(call(operation), body, barriered=tape.once_in(2))
    event(type(reply).__name__)
    match reply:
        case Done(hold_until_ns=hold_ns):
            assert operation != OPERATION_EXECUTE or reply.output is not None
            assert hold_ns is None or to_timestamp(hold_ns).ToNanoseconds() == hold_ns
        case Refused():
            assert reply.reason
            assert len(reply.reason.encode()) <= limits.FAILURE_REASON_BYTES_MAX
            assert len(reply.message.encode()) <= limits.FAILURE_MESSAGE_BYTES_MAX
            assert (
                sum(len(k.encode()) + len(v.encode()) for k, v in reply.metadata) <= limits.FAILURE_METADATA_BYTES_MAX
            )
        case Accepted():
            assert limits.POLL_AFTER_MIN_NS <= reply.poll_after_ns <= limits.POLL_AFTER_MAX_NS
            assert len(reply.message.encode()) <= limits.FAILURE_MESSAGE_BYTES_MAX
        case Unknown():
            assert reply.failure.kind == FAILURE_KIND_PROTOCOL_VIOLATION
            assert not reply.retryable
            assert len(reply.failure.message.encode()) <= limits.FAILURE_MESSAGE_BYTES_MAX


Handler: TypeAlias = Callable[[Any, Any], Awaitable[Any]]


@asynccontextmanager
async def answering(execute: Handler, *, streams: bool = False) -> AsyncIterator[str]:
    """A server that describes itself well, and answers Execute as it likes."""

    async def describe(_request: bytes, _context: object) -> bytes:
        return description().SerializeToString()

    kind: Any = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
    handlers: dict[str, Any] = {"Execute": kind(execute), "Describe": grpc.unary_unary_rpc_method_handler(describe)}
    server = grpc.aio.server(options=[("grpc.max_send_message_length", -1), ("grpc.max_metadata_size", 1 << 20)])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("saga.v1.ParticipantService", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def _too_large(_request: bytes, _context: Any) -> bytes:
    return hostile.deep(1) * (3 << 20)


async def _floods_trailers(_request: bytes, context: Any) -> bytes:
    context.set_trailing_metadata([(f"x-{index}", hostile.CANARY * 10) for index in range(500)])
    return b""


async def _invalid_details(_request: bytes, context: Any) -> None:
    details = (("grpc-status-details-bin", b"\xff" * 3000),)
    await context.abort(grpc.StatusCode.UNAVAILABLE, hostile.CANARY * 200, details)


async def _two_answers(_request: bytes, context: Any) -> None:
    for _ in range(2):
        await context.write(ExecuteResponse(completed=Completed(output=OUTPUT)).SerializeToString())


async def _no_answer(_request: bytes, context: Any) -> None:
    await asyncio.sleep(0)


async def _never(_request: bytes, _context: Any) -> bytes:
    await asyncio.Event().wait()
    return b""


async def _raises(_request: bytes, _context: Any) -> bytes:
    raise ValueError(hostile.CANARY)


async def _empty(_request: bytes, _context: Any) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("execute", "streams", "kinds"),
    [
        (_too_large, False, {"UNAVAILABLE"}),
        (_floods_trailers, False, {"UNAVAILABLE", "PROTOCOL_VIOLATION"}),
        (_invalid_details, False, {"UNAVAILABLE"}),
        (_two_answers, True, {"UNAVAILABLE", "CALL_REFUSED", "TIMED_OUT"}),
        (_no_answer, True, {"PROTOCOL_VIOLATION"}),
        (_never, False, {"TIMED_OUT"}),
        (_raises, False, {"UNAVAILABLE"}),
        (_empty, False, {"PROTOCOL_VIOLATION"}),
    ],
)
async def test_g5_however_a_call_ends_it_is_unknown_and_other_participants_go_on(
    execute: Handler, streams: bool, kinds: set[str]
) -> None:
    async with (
        answering(execute, streams=streams) as bad,
        serving(FakeParticipant()) as good,
        Directory({"bad": bad, "fake": good}) as directory,
    ):
        reply, healthy = await asyncio.gather(
            directory.call(call(participant="bad", timeout_ns=limits.SECOND_NS)), directory.call(call())
        )
        assert isinstance(reply, Unknown), reply
        assert FailureKind.Name(reply.failure.kind).removeprefix("FAILURE_KIND_") in kinds, reply
        assert len(reply.failure.message.encode()) <= limits.FAILURE_MESSAGE_BYTES_MAX
        assert isinstance(healthy, Done)


# --- Descriptions -----------------------------------------------------------------------------------------------------


def _hostile_files(tape: Tape) -> list[FileDescriptorProto]:
    loop = proto("loop.proto", "shop", {"Loop": ["text"]})
    loop.message_type[0].field.add(
        name="inner", number=9, type=FieldDescriptorProto.TYPE_MESSAGE, label=1, type_name=".shop.Loop"
    )
    first, second = proto("a.proto", "a", {"A": ["x"]}), proto("b.proto", "b", {"B": ["x"]})
    first.dependency.append("b.proto")
    second.dependency.append("a.proto")
    deep = DescriptorProto(name="Deep")
    for _ in range(tape.pick((3, 60))):
        outer = DescriptorProto(name="Deep")
        outer.nested_type.append(deep)
        deep = outer
    return [
        *((loop,), (first, second), (first,), (FileDescriptorProto(name="deep.proto", message_type=[deep]),))[
            tape.below(4)
        ],
        *((), (proto("shop.proto", "shop", {"ReserveRequest": ["other"]}),))[tape.below(2)],
        *((), (proto("saga/v1/types.proto", "saga.v1", {"Failure": ["mine"]}),))[tape.below(2)],
    ]


def _described(tape: Tape) -> Any:
    made: Any = description(*(f"Reserve{index}" for index in range(tape.pick((1, 3, 257, 3000)))))
    if tape.once_in(2):
        made.descriptors.file.extend(_hostile_files(tape))
    for _ in range(tape.below(4)):
        made = hostile.spoiled(tape, made, _PLAUSIBLE)
    return made


@profile(80)
@given(TAPES)
def test_a_description_is_taken_whole_or_refused_with_its_problems(numbers: bytes) -> None:
    tape = Tape(numbers)
    body = hostile.damaged(tape, _described(tape).SerializeToString())
    try:
        read = read_description(body)
    except InvalidDescriptionError as error:
        event("refused")
        assert error.problems
        assert all(problem.strip() for problem in error.problems)
        assert sum(len(problem.encode()) for problem in error.problems) <= 2 * limits.DESCRIPTION_BYTES_MAX
        return
    event("taken")
    note(str(read)[:2000])
    honest = files(proto("shop.proto", "shop", {"ReserveRequest": ["sku"], "Reservation": ["hold"]}))
    merged = merge({"a-bad": read.descriptors, "honest": honest}, SHARED_FILES)
    merged.pool.FindMessageTypeByName("saga.v1.Saga")
    alone = merge({"honest": honest}, SHARED_FILES)
    alone.pool.FindMessageTypeByName(RESERVE)
    assert all(str(clash) for clash in merged.clashes)


async def test_one_that_describes_itself_badly_is_listed_as_broken_and_the_others_are_ready() -> None:
    cyclic = [proto("a.proto", "a", {"A": ["x"]}), proto("b.proto", "b", {"B": ["x"]})]
    cyclic[0].dependency.append("b.proto")
    cyclic[1].dependency.append("a.proto")
    bad = FakeParticipant()
    bad.description = description(descriptors=files(*cyclic))
    async with (
        serving(bad) as bad_target,
        serving(FakeParticipant()) as good_target,
        Directory({"bad": bad_target, "good": good_target}) as directory,
    ):
        broken, ready = directory.participants()
        assert (broken.state, ready.state) == (PARTICIPANT_STATE_UNDESCRIBED, PARTICIPANT_STATE_READY)
        assert "import each other" in " ".join(broken.problems)
        assert isinstance(broken, type(ready))
        assert DescribeResponse.DESCRIPTOR.name not in " ".join(broken.problems)
