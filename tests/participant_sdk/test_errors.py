from datetime import timedelta

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from participant_sdk import SagaError
from participant_sdk.errors import STATUS_DETAILS_KEY, CallError, Violation, invalid, quoted


def wire_error(code: grpc.StatusCode, status: bytes | None, details: str = "plain") -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata(*([(STATUS_DETAILS_KEY, status)] if status is not None else []))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)


def status_of(*details: Message) -> bytes:
    packed = []
    for detail in details:
        payload = AnyMessage()
        payload.Pack(detail)
        packed.append(payload)
    return status_pb2.Status(message="refused", details=packed).SerializeToString()


def test_a_call_error_travels_with_its_reason_and_every_violation() -> None:
    error = invalid([Violation("input", "required"), Violation("context.step", "required")])
    read = SagaError.of(wire_error(error.code, error.status().SerializeToString()))
    assert (read.code, read.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert read.message == "input: required; context.step: required"
    assert read.violations == (Violation("input", "required"), Violation("context.step", "required"))


def test_without_violations_there_is_no_bad_request() -> None:
    status = CallError(grpc.StatusCode.ABORTED, "BUSY", "later").status()
    assert (status.code, [detail.TypeName() for detail in status.details]) == (10, ["google.rpc.ErrorInfo"])


def test_a_saga_error_reads_all_that_the_coordinator_says() -> None:
    error = SagaError.of(
        wire_error(
            grpc.StatusCode.FAILED_PRECONDITION,
            status_of(
                error_details_pb2.ErrorInfo(reason="ERROR_REASON_STATE_FORBIDS", domain="saga.v1"),
                error_details_pb2.PreconditionFailure(
                    violations=[{"type": "STATE", "subject": "order-7", "description": "has ended"}]
                ),
                error_details_pb2.RetryInfo(retry_delay={"seconds": 2}),
            ),
        )
    )
    assert (error.reason, error.message) == ("STATE_FORBIDS", "refused")
    assert error.violations == (Violation("order-7", "has ended"),)
    assert error.retry_after == timedelta(seconds=2)
    assert str(error) == "STATE_FORBIDS: refused"


def test_a_saga_error_without_details_or_with_broken_ones() -> None:
    broken = status_pb2.Status(message="half")
    broken.details.add(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff")
    for status, message in ((None, "plain"), (b"\xff\xff", "plain"), (broken.SerializeToString(), "half")):
        error = SagaError.of(wire_error(grpc.StatusCode.UNAVAILABLE, status))
        assert (error.code, error.reason, error.message) == (grpc.StatusCode.UNAVAILABLE, "", message)
        assert (error.violations, error.retry_after) == ((), None)


def test_quoted_text_is_bounded() -> None:
    assert quoted("a") == "'a'"
    assert len(quoted("a" * 10_000)) < 200
