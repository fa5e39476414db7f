"""The contract's table "How a reply is read" (G5), and what counts as answered (G8)."""

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc.aio import AioRpcError, Metadata

from coordinator.core import limits
from coordinator.core.inputs import Accepted, Done, Refused, Reply, Unknown
from coordinator.participants.call import Call
from coordinator.participants.replies import read_answer, read_body, read_error, read_status
from saga.v1.participant_pb2 import CompensateResponse, ConfirmResponse, ExchangeAnswer, ExecuteResponse, Pending
from saga.v1.types_pb2 import (
    FAILURE_KIND_CALL_REFUSED,
    FAILURE_KIND_PROTOCOL_VIOLATION,
    FAILURE_KIND_TIMED_OUT,
    FAILURE_KIND_UNAVAILABLE,
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    Compensated,
    Completed,
    Confirmed,
    Failure,
    Rejected,
)
from tests.coordinator.participants.fakes import OUTPUT, RESERVED, call

EXECUTE, COMPENSATE, CONFIRM = call(OPERATION_EXECUTE), call(OPERATION_COMPENSATE), call(OPERATION_CONFIRM)


def read(
    response: ExecuteResponse | CompensateResponse | ConfirmResponse, asked: Call = EXECUTE, barriered: bool = False
) -> Reply:
    return read_body(asked, response.SerializeToString(), barriered=barriered)


def violation(message: str) -> Unknown:
    failure = Failure(
        kind=FAILURE_KIND_PROTOCOL_VIOLATION, step="reserve", operation=OPERATION_EXECUTE, message=message
    )
    return Unknown(failure, retryable=False, answered=True)


def test_completed_is_done_with_its_output() -> None:
    assert read(ExecuteResponse(completed=Completed(output=OUTPUT))) == Done(output=OUTPUT)


def test_a_hold_is_an_instant_in_nanoseconds() -> None:
    held = Completed(output=OUTPUT, hold_until=Timestamp(seconds=1_700_000_000, nanos=5))
    assert read(ExecuteResponse(completed=held)) == Done(output=OUTPUT, hold_until_ns=1_700_000_000_000_000_005)


def test_a_hold_until_an_impossible_instant_is_a_violation() -> None:
    held = Completed(output=OUTPUT, hold_until=Timestamp(nanos=-1))
    assert read(ExecuteResponse(completed=held)) == violation("hold_until is not a valid timestamp")


@pytest.mark.parametrize("noop", [True, False])
def test_compensated_is_done(noop: bool) -> None:
    assert read(CompensateResponse(compensated=Compensated(noop=noop)), COMPENSATE) == Done(noop=noop)


def test_confirmed_is_done() -> None:
    assert read(ConfirmResponse(confirmed=Confirmed()), CONFIRM) == Done()


@pytest.mark.parametrize("barriered", [True, False])
def test_rejected_is_refused_and_covers_earlier_attempts_only_with_a_barrier(barriered: bool) -> None:
    rejected = Rejected(reason="OUT_OF_STOCK", message="none left", metadata={"sku": "a"})
    expected = Refused("OUT_OF_STOCK", "none left", (("sku", "a"),), covers_earlier=barriered)
    assert read(ExecuteResponse(rejected=rejected), EXECUTE, barriered) == expected
    assert read(CompensateResponse(rejected=rejected), COMPENSATE, barriered) == expected
    assert read(ConfirmResponse(rejected=rejected), CONFIRM, barriered) == expected


def test_g14_a_refusal_is_cut_to_the_limits() -> None:
    rejected = Rejected(reason="x" * 100, message="é" * 1000, metadata={f"k{number:02}": "v" for number in range(40)})
    reply = read(ExecuteResponse(rejected=rejected))
    assert isinstance(reply, Refused)
    assert reply.reason == "X" * limits.FAILURE_REASON_BYTES_MAX
    assert reply.message == "é" * (limits.FAILURE_MESSAGE_BYTES_MAX // 2)
    assert len(reply.metadata) == limits.FAILURE_METADATA_ENTRIES_MAX


def test_a_refusal_without_a_reason_is_a_refusal() -> None:
    assert read(ExecuteResponse(rejected=Rejected())) == Refused("UNSPECIFIED")


@pytest.mark.parametrize(
    ("poll_after", "expected_ns"),
    [
        (None, 30 * limits.SECOND_NS),
        (Duration(seconds=2, nanos=5), 2_000_000_005),
        (Duration(), limits.POLL_AFTER_MIN_NS),
        (Duration(seconds=-5), limits.POLL_AFTER_MIN_NS),
        (Duration(seconds=10**12), limits.POLL_AFTER_MAX_NS),
    ],
)
def test_pending_is_accepted_and_polled_within_limits(poll_after: Duration | None, expected_ns: int) -> None:
    pending = Pending(poll_after=poll_after, message="bank")
    assert read(ExecuteResponse(pending=pending)) == Accepted(expected_ns, "bank")
    assert read(CompensateResponse(pending=pending), COMPENSATE) == Accepted(expected_ns, "bank")
    assert read(ConfirmResponse(pending=pending), CONFIRM) == Accepted(expected_ns, "bank")


@pytest.mark.parametrize("body", [b"", b"\xff", b"\x0a\x05\x00", b"\x12\x03\x0a\x01\xff", b"\x52\x00"])
def test_g5_a_body_that_says_nothing_is_a_violation(body: bytes) -> None:
    """In turn: empty, no protobuf, cut short, text that is no UTF-8, an outcome of a later contract."""
    reply = read_body(EXECUTE, body, barriered=True)
    assert isinstance(reply, Unknown)
    assert reply.failure.kind == FAILURE_KIND_PROTOCOL_VIOLATION
    assert (reply.retryable, reply.answered) == (False, True)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (None, "the output is not there, and not of type shop.Reservation"),
        (Any(), "the output is not there, and not of type shop.Reservation"),
        (Any(type_url="x/shop.Other"), "the output is of type shop.Other, and not of type shop.Reservation"),
        (
            Any(type_url=OUTPUT.type_url, value=bytes(limits.PAYLOAD_BYTES_MAX + 1)),
            "the output is 1048577 bytes, over the 1048576 that are allowed",
        ),
    ],
)
def test_g5_an_output_that_the_contract_does_not_allow_is_a_violation(output: Any | None, message: str) -> None:
    assert read(ExecuteResponse(completed=Completed(output=output))) == violation(message)


def test_g11_the_output_is_checked_by_the_pinned_types() -> None:
    seen: list[Any] = []

    def check(output: Any) -> str | None:
        seen.append(output)
        return "it does not decode"

    asked = call(check_output=check)
    assert read(ExecuteResponse(completed=Completed(output=OUTPUT)), asked) == violation("it does not decode")
    assert seen == [OUTPUT]


def test_an_output_of_exactly_the_limit_is_taken() -> None:
    output = Any(type_url=f"any.host/{RESERVED}", value=bytes(limits.PAYLOAD_BYTES_MAX))
    assert read(ExecuteResponse(completed=Completed(output=output))) == Done(output=output)


RETRYABLE = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "INTERNAL", "UNKNOWN", "CANCELLED"}
STILL_AT_WORK = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "CANCELLED", "RESOURCE_EXHAUSTED"}
NOT_OK = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


@pytest.mark.parametrize("code", NOT_OK)
def test_g5_no_status_is_ever_an_answer(code: grpc.StatusCode) -> None:
    reply = read_status(EXECUTE, code, "why")
    kinds = {True: FAILURE_KIND_UNAVAILABLE, False: FAILURE_KIND_CALL_REFUSED}
    kind = FAILURE_KIND_TIMED_OUT if code.name == "DEADLINE_EXCEEDED" else kinds[code.name in RETRYABLE]
    assert reply == Unknown(
        Failure(kind=kind, step="reserve", operation=OPERATION_EXECUTE, message="why", grpc_code=code.value[0]),
        retryable=code.name in RETRYABLE,
        answered=code.name not in STILL_AT_WORK,
    )


def error(code: grpc.StatusCode, details: str, *trailing: tuple[str, str | bytes]) -> AioRpcError:
    return AioRpcError(code, Metadata(), Metadata(*trailing), details)


def with_details(*details: ErrorInfo | RetryInfo) -> bytes:
    status = Status(code=3, message="why")
    for detail in details:
        status.details.add().Pack(detail)
    return status.SerializeToString()


def test_the_reason_of_a_status_is_kept() -> None:
    rich = with_details(RetryInfo(), ErrorInfo(reason="KEY_REUSED", domain="shop"))
    reply = read_error(EXECUTE, error(grpc.StatusCode.FAILED_PRECONDITION, "why", ("grpc-status-details-bin", rich)))
    assert (reply.failure.reason, reply.failure.message) == ("KEY_REUSED", "why")
    assert reply.failure.grpc_code == 9


@pytest.mark.parametrize("details", [b"\xff", with_details(RetryInfo()), with_details(ErrorInfo()), b""])
def test_details_that_give_no_reason_leave_it_empty(details: bytes) -> None:
    reply = read_error(EXECUTE, error(grpc.StatusCode.ABORTED, "why", ("grpc-status-details-bin", details)))
    assert (reply.failure.reason, reply.retryable) == ("", True)


def test_g14_the_text_of_a_status_is_cut() -> None:
    reply = read_error(EXECUTE, error(grpc.StatusCode.INTERNAL, "x" * 5000))
    assert len(reply.failure.message) == limits.FAILURE_MESSAGE_BYTES_MAX


# --- The fast lane ---


def test_an_answer_of_the_fast_lane_means_what_the_same_response_means_alone() -> None:
    done, gone, noop = Completed(output=OUTPUT), Rejected(reason="GONE"), Compensated(noop=True)
    completed = ExchangeAnswer(execute=ExecuteResponse(completed=done))
    assert read_answer(EXECUTE, completed, barriered=False) == Done(output=OUTPUT)
    rejected = ExchangeAnswer(execute=ExecuteResponse(rejected=gone))
    assert read_answer(EXECUTE, rejected, barriered=True) == Refused("GONE", covers_earlier=True)
    compensated = ExchangeAnswer(compensate=CompensateResponse(compensated=noop))
    assert read_answer(COMPENSATE, compensated, barriered=False) == Done(noop=True)
    confirmed = ExchangeAnswer(confirm=ConfirmResponse(confirmed=Confirmed()))
    assert read_answer(CONFIRM, confirmed, barriered=False) == Done()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (ExchangeAnswer(id=1), "the answer sets no response"),
        (ExchangeAnswer(compensate=CompensateResponse()), "the answer is one to compensate"),
        (ExchangeAnswer(execute=ExecuteResponse()), "the reply sets no outcome"),
        (ExchangeAnswer(status=Status()), "the answer is a status that says OK, and no reply"),
    ],
)
def test_g5_an_answer_that_is_none_to_the_call_is_a_violation(answer: ExchangeAnswer, message: str) -> None:
    assert read_answer(EXECUTE, answer, barriered=True) == violation(message)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_g5_a_status_in_an_answer_is_read_as_the_same_status_of_a_unary_call(code: grpc.StatusCode) -> None:
    status = Status(code=code.value[0], message="why")
    status.details.add().Pack(ErrorInfo(reason="BUSY"))
    answer = ExchangeAnswer(status=status)
    assert read_answer(EXECUTE, answer, barriered=True) == read_status(EXECUTE, code, "why", reason="BUSY")


def test_g5_a_status_that_nobody_knows_is_unknown() -> None:
    answer = ExchangeAnswer(status=Status(code=99))
    assert read_answer(EXECUTE, answer, barriered=True) == read_status(EXECUTE, grpc.StatusCode.UNKNOWN, "")
