"""Every RPC that the coordinator and the SDK's server offer, under requests that nobody should send (G13, G14)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from hypothesis import event, given, note

from saga.v1 import coordinator_pb2, definition_pb2, participant_pb2
from saga.v1.coordinator_pb2 import StartSagasRequest, StartSagasResponse
from saga.v1.types_pb2 import Completed
from tests.fuzz import hostile, system
from tests.fuzz.hostile import CANARY, Plausible
from tests.fuzz.system import System, definition, payload
from tests.fuzz.tape import TAPES, Tape, profile
from tests.fuzz.verdict import Answer, judge

pytestmark = pytest.mark.e2e

EXAMPLES = 12
CALL_MAX_S: Final = 10.0
STREAM_MAX_S: Final = 0.1
RESPONSES_MAX: Final = 200
MEMORY_MAX_MIB: Final = 512

_FILES: Final[list[Any]] = [coordinator_pb2, definition_pb2, participant_pb2, health_pb2, channelz_pb2]
_V1ALPHA: Final = "grpc.reflection.v1alpha.ServerReflection"
_V1: Final = "grpc.reflection.v1.ServerReflection"  # the same messages
CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_LAST: Final = frozenset(("WaitSaga", "WatchSaga", "Watch"))  # calls that last as long as they may


@dataclass(frozen=True)
class Rpc:
    """One RPC of one server."""

    service: str
    method: MethodDescriptor
    lone: bool = False

    @property
    def ours(self) -> bool:
        return self.service.startswith("saga.v1.")

    @property
    def path(self) -> str:
        return f"/{self.service}/{self.method.name}"

    def __str__(self) -> str:
        return f"{'sdk' if self.lone else 'coordinator'}:{self.service}.{self.method.name}"


def _rpcs() -> Iterator[Rpc]:
    reflection: Any = reflection_pb2
    for file in _FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            yield from (Rpc(service.full_name, method) for method in service.methods)
    served: Any = reflection.DESCRIPTOR.services_by_name["ServerReflection"]
    for name in (_V1ALPHA, _V1):
        yield from (Rpc(name, method) for method in served.methods)
    for file, name in ((participant_pb2, "ParticipantService"), (health_pb2, "Health")):
        of_sdk: Any = file.DESCRIPTOR.services_by_name[name]
        yield from (Rpc(of_sdk.full_name, method, lone=True) for method in of_sdk.methods)
    yield from (Rpc(_V1ALPHA, method, lone=True) for method in served.methods)


RPCS: Final = tuple(_rpcs())


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with system.running(tmp_path_factory.mktemp("fuzz")) as running:
        yield running


# --- Requests ---------------------------------------------------------------------------------------------------------


def plausible(fuzzed: System) -> Plausible:
    """What is right somewhere."""
    sagas = fuzzed.sagas
    names = [saga.saga_id for saga in sagas]
    steps = [step.name for step in system.DEFINITION.steps]
    keys = [step.execute.idempotency_key for saga in sagas for step in saga.steps if step.execute.idempotency_key]
    return {
        "saga_id": [*names, "new", "absent"],
        "saga_uid": [*(saga.uid for saga in sagas), "new"],
        "step": steps,
        "definition": ["fuzz", "keyed"],
        "name": ["fuzz", "keyed"],
        "action": ["fuzz"],
        "idempotency_key": keys,
        "wait": [Duration(nanos=1_000_000)],
        "input": [payload("ok"), payload("reject:decide"), payload("pend:book")],
        "output": [payload("ok")],
        "completed": [Completed(output=payload("ok"))],
        "page_token": ["", fuzzed.page_token],
        "page_size": [0, 1, 1000],
        "version": [0, 1],
        "attempt": [1, 2],
        "expected_sequence": [0],
        "after_sequence": [0, 3],
        "reason": ["because"],
        "actor": ["fuzz"],
        "file_by_filename": ["saga/v1/types.proto"],
        "file_containing_symbol": ["saga.v1.Saga"],
        "containing_type": ["google.protobuf.FieldOptions"],
        "service": ["", "saga.v1.CoordinatorService"],
        "server_id": [1, 2],
    }


TEMPLATES: Final = {
    "saga.v1.RegisterDefinitionRequest": definition_pb2.RegisterDefinitionRequest(definition=definition()),
    "saga.v1.ValidateDefinitionRequest": definition_pb2.ValidateDefinitionRequest(definition=definition()),
}


def request_of(rpc: Rpc, tape: Tape, values: Plausible) -> bytes:
    """A request: a valid one with something wrong, or anything."""
    kind: Any = rpc.method.input_type
    template = TEMPLATES.get(kind.full_name)
    if template is not None and not tape.once_in(4):
        made = hostile.spoiled(tape, template, values)
    else:
        made = hostile.message(tape, kind, {**values, "action": ["Act"]} if rpc.lone else values)
        if tape.once_in(3):
            made = hostile.spoiled(tape, made, values)
    return hostile.damaged(tape, made.SerializeToString())


def call(fuzzed: System, rpc: Rpc, raw: bytes) -> Answer:
    """Send the bytes and wait for the end, or for as many responses as are worth having."""
    channel: Any = fuzzed.lone_channel if rpc.lone else fuzzed.channel
    timeout_s = STREAM_MAX_S if rpc.method.name in _LAST else CALL_MAX_S
    responses: list[bytes] = []
    try:
        if rpc.method.client_streaming:
            stream: Any = channel.stream_stream(rpc.path)(iter([raw]), timeout=timeout_s)
        elif rpc.method.server_streaming:
            stream = channel.unary_stream(rpc.path)(raw, timeout=timeout_s)
        else:
            return Answer([channel.unary_unary(rpc.path)(raw, timeout=timeout_s)], grpc.StatusCode.OK)
        for response in stream:
            responses.append(response)
            if len(responses) == RESPONSES_MAX:
                stream.cancel()
                break
    except grpc.RpcError as error:
        failed: Any = error
        details = dict(failed.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        return Answer(responses, failed.code(), failed.details() or "", details)
    return Answer(responses, grpc.StatusCode.OK)


# --- What must hold ---------------------------------------------------------------------------------------------------


def test_every_service_that_is_served_is_fuzzed(fuzzed: System) -> None:
    for channel, lone in ((fuzzed.channel, False), (fuzzed.lone_channel, True)):
        ask: Any = channel.stream_stream(
            f"/{_V1ALPHA}/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )
        (answer,) = ask(iter([ServerReflectionRequest(list_services="")]), timeout=CALL_MAX_S)
        served = {service.name for service in answer.list_services_response.service}
        assert served == {rpc.service for rpc in RPCS if rpc.lone == lone}


@pytest.mark.parametrize("rpc", RPCS, ids=str)
def test_g13_whatever_is_sent_the_answer_is_clean_and_a_refusal_writes_nothing(fuzzed: System, rpc: Rpc) -> None:
    values = plausible(fuzzed)

    @profile(EXAMPLES)
    @given(TAPES)
    def check(numbers: bytes) -> None:
        raw = request_of(rpc, Tape(numbers), values)
        before, effects = fuzzed.written(), fuzzed.effects()
        answer = call(fuzzed, rpc, raw)
        event(answer.code.name)
        note(f"{rpc.path} {len(raw)} bytes {raw[:300]!r} -> {answer}")
        judge(answer, request_bytes=len(raw), ours=rpc.ours, streams=rpc.method.name in _LAST)
        if rpc.method.name == "StartSagas":
            judge_each(raw, answer)
        if answer.ok:
            note_what_moves(fuzzed, rpc, raw, answer)
        else:
            after = fuzzed.written()
            assert not fuzzed.written_to(before)
            assert (after.definitions, after.deprecated) == (before.definitions, before.deprecated)
            assert fuzzed.effects() == effects

    check()
    assert fuzzed.serves()
    for server in fuzzed.servers:
        assert server.memory_mib() < MEMORY_MAX_MIB


def judge_each(raw: bytes, answer: Answer) -> None:
    """Every call of the stream is answered, and as cleanly as if it had been made by itself."""
    answers = [each for data in answer.responses for each in StartSagasResponse.FromString(data).answers]
    if answer.ok:
        assert sorted(each.id for each in answers) == sorted(
            call.id for call in StartSagasRequest.FromString(raw).calls
        )
    for each in answers:
        if each.HasField("status"):
            event(CODES[each.status.code].name)
            refused = Answer([], CODES[each.status.code], each.status.message, each.status.SerializeToString())
            judge(refused, request_bytes=len(raw), ours=True, streams=False)


def note_what_moves(fuzzed: System, rpc: Rpc, raw: bytes, answer: Answer) -> None:
    """Sagas that were touched may write by themselves from now on; so may those that waited for their keys."""
    kinds: tuple[Any, Any] = (rpc.method.input_type, rpc.method.output_type)
    for kind, sent in zip(kinds, ([raw], answer.responses), strict=True):
        for data in sent:
            fuzzed.moving |= set(_saga_ids(_parsed(GetMessageClass(kind), data)))
    if {"holder", "queued"} & fuzzed.moving:
        fuzzed.moving |= {"holder", "queued"}


def _parsed(kind: type[Message], data: bytes) -> Any:
    try:
        return kind.FromString(data)
    except DecodeError:
        return kind()


def _saga_ids(message: Any) -> Iterator[str]:
    if "saga_id" in message.DESCRIPTOR.fields_by_name:
        yield message.saga_id
    if "saga" in message.DESCRIPTOR.fields_by_name:
        yield message.saga.saga_id
    for each in (*getattr(message, "calls", ()), *getattr(message, "answers", ())):  # of a fast lane
        for field, value in each.ListFields():
            if field.message_type is not None and not field.is_repeated:
                yield from _saga_ids(value)
    if "context" in message.DESCRIPTOR.fields_by_name:  # the saga that runs as the step
        yield f"{message.context.saga_id}/{message.context.step}"


def test_g14_no_call_is_left_open_and_no_log_line_has_a_payload(fuzzed: System) -> None:
    """The last of this file: it looks back on all the others."""
    system.until(lambda: fuzzed.open_calls() == 0)
    for server in fuzzed.servers:
        assert server.alive
        log = server.log
        assert log, "there is a log to look at"
        assert CANARY.lower() not in log.lower()
        assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]
        assert not re.search(r"nobody foresaw|Unexpected \[", log)
