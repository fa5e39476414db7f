import dataclasses

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration

from saga.v1.participant_pb2 import CompensateRequest, ConfirmRequest, ExchangeCall, ExchangeRequest, ExecuteRequest
from saga.v1.types_pb2 import (
    FAILURE_KIND_REJECTED,
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    Failure,
)
from tests.coordinator.participants.fakes import OUTPUT, call


def test_execute_sends_context_and_input() -> None:
    sent = call(OPERATION_EXECUTE)
    assert sent.method == "/saga.v1.ParticipantService/Execute"
    assert ExecuteRequest.FromString(sent.request()) == ExecuteRequest(context=sent.context, input=sent.input)


def test_compensate_sends_the_output_and_the_cause() -> None:
    cause = Failure(kind=FAILURE_KIND_REJECTED, step="charge")
    sent = dataclasses.replace(call(OPERATION_COMPENSATE), cause=cause)
    assert sent.method == "/saga.v1.ParticipantService/Compensate"
    assert CompensateRequest.FromString(sent.request()) == CompensateRequest(
        context=sent.context, input=sent.input, output=OUTPUT, cause=cause
    )


def test_compensate_leaves_an_unknown_output_unset() -> None:
    sent = dataclasses.replace(call(OPERATION_COMPENSATE), output=None)
    assert not CompensateRequest.FromString(sent.request()).HasField("output")


def test_an_output_that_is_known_and_empty_is_set() -> None:
    sent = dataclasses.replace(call(OPERATION_COMPENSATE), output=Any())
    assert CompensateRequest.FromString(sent.request()).HasField("output")


def test_confirm_sends_the_output() -> None:
    sent = call(OPERATION_CONFIRM)
    assert sent.method == "/saga.v1.ParticipantService/Confirm"
    assert ConfirmRequest.FromString(sent.request()) == ConfirmRequest(
        context=sent.context, input=sent.input, output=OUTPUT
    )


def test_g2_the_idempotency_key_travels_as_metadata_too() -> None:
    sent = call(metadata=(("traceparent", "00-1-2-01"),))
    assert sent.headers == (("idempotency-key", "u/reserve/execute"), ("traceparent", "00-1-2-01"))


def test_calls_of_the_fast_lane_one_behind_the_other_are_one_message() -> None:
    metadata = (("traceparent", "00-1-2-01"),)
    sent = [call(operation, metadata=metadata) for operation in (OPERATION_EXECUTE, OPERATION_COMPENSATE)]
    data = b"".join(each.exchanged(number, 1_500_000_000) for number, each in enumerate(sent, 1))
    first, second = ExchangeRequest.FromString(data).calls
    assert first == ExchangeCall(
        id=1,
        timeout=Duration(seconds=1, nanos=500_000_000),
        metadata=dict(sent[0].headers),
        execute=ExecuteRequest.FromString(sent[0].request()),
    )
    assert second.id == 2
    assert second.compensate == CompensateRequest.FromString(sent[1].request())


def test_a_call_of_the_fast_lane_has_never_less_than_no_time() -> None:
    (late,) = ExchangeRequest.FromString(call().exchanged(1, -1)).calls
    assert late.timeout == Duration()
