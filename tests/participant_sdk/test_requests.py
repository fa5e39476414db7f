"""G13 on the participant's side: a malformed request is refused with every problem, before anything runs."""

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue

from participant_sdk import Action, Step
from participant_sdk.errors import CallError
from participant_sdk.limits import KEY_BYTES_MAX
from participant_sdk.requests import Request, parse, read_call
from saga.v1.participant_pb2 import CompensateRequest, ConfirmRequest, ExecuteRequest, StepContext
from saga.v1.types_pb2 import Failure
from tests.participant_sdk.support import Scripted, struct


class Plain(Action[Struct, StringValue]):
    """Has no Confirm."""

    async def execute(self, request: Struct, step: Step) -> StringValue:
        return StringValue()


ACTIONS = {"Scripted": Scripted(), "Plain": Plain()}


def packed(message: Message) -> AnyMessage:
    payload = AnyMessage()
    payload.Pack(message)
    return payload


def context(**fields: object) -> StepContext:
    known = {"saga_uid": "u", "step": "s", "action": "Scripted", "idempotency_key": "k", "attempt": 1}
    return StepContext(**{**known, **fields})  # type: ignore[arg-type]  # fields of several types


def refused(request: Request) -> CallError:
    with pytest.raises(CallError) as error:
        read_call(request, ACTIONS, {}, None)
    return error.value


def fields(error: CallError) -> list[str]:
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT
    return [violation.field for violation in error.violations]


def test_a_well_formed_call_is_decoded() -> None:
    request = CompensateRequest(
        context=context(), input=packed(struct(a=1)), output=packed(StringValue(value="x")), cause=Failure(reason="R")
    )
    call = read_call(request, ACTIONS, {"traceparent": "t"}, 1.5)
    assert (call.action, call.request, call.output) == (ACTIONS["Scripted"], struct(a=1), request.output)
    assert (call.cause, call.metadata, call.cut_off) == (Failure(reason="R"), {"traceparent": "t"}, 1.5)


def test_what_is_unset_is_none() -> None:
    request = CompensateRequest(context=context(), input=packed(struct()))
    call = read_call(request, ACTIONS, {}, None)
    assert (call.output, call.cause) == (None, None)


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x0a\x05\x0a\x03\xff\xfe\xfd"])  # no message; not UTF-8
def test_bytes_that_do_not_decode(data: bytes) -> None:
    with pytest.raises(CallError) as error:
        parse(ExecuteRequest, data)
    assert fields(error.value) == [""]


def test_every_missing_field_is_named_at_once() -> None:
    assert fields(refused(ExecuteRequest())) == ["context"]
    assert fields(refused(ExecuteRequest(context=StepContext()))) == [
        "context.saga_uid",
        "context.step",
        "context.action",
        "context.idempotency_key",
        "context.attempt",
    ]


def test_a_key_too_long_for_a_row() -> None:
    long = context(saga_uid="u" * (KEY_BYTES_MAX + 1))
    assert fields(refused(ExecuteRequest(context=long))) == ["context.saga_uid"]


def test_input_missing_of_another_type_or_undecodable() -> None:
    broken = AnyMessage(type_url="type.googleapis.com/google.protobuf.Struct", value=b"\xff")
    for payload in (None, packed(StringValue()), AnyMessage(), broken):
        assert fields(refused(ExecuteRequest(context=context(), input=payload))) == ["input"]


def test_an_output_of_another_type_is_named_beside_the_input() -> None:
    request = ConfirmRequest(context=context(), output=packed(struct()))
    assert fields(refused(request)) == ["input", "output"]


def test_unknown_action() -> None:
    request = ExecuteRequest(context=context(action="N" * 5000), input=packed(struct()))
    error = refused(request)
    assert (error.code, error.reason) == (grpc.StatusCode.UNIMPLEMENTED, "UNKNOWN_ACTION")
    assert len(error.message) < 200


def test_confirm_of_an_action_that_is_not_reservable() -> None:
    request = ConfirmRequest(context=context(action="Plain"), input=packed(struct()))
    error = refused(request)
    assert (error.code, error.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_RESERVABLE")
