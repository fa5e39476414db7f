"""Which failures each kind of call can meet, and how a failure is written."""

import pytest

from coordinator.core.definition import Plan
from coordinator.rehearse.faults import Attempt, Fault, Injection, parse_injection, possible
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_CONFIRM, OPERATION_EXECUTE
from tests.coordinator.core.sagas import define, step

ANY_CALL = {"request-lost", "reply-lost", "duplicated", "crash-before", "crash-after"}
GOES_BACK = {"given-up", "late", "refused", "cancelled"}


@pytest.mark.parametrize(
    ("kind", "beside"),
    [
        ("COMPENSATABLE", GOES_BACK),
        ("RESERVABLE", GOES_BACK),
        ("READ_ONLY", GOES_BACK - {"late"}),  # it has no Compensate to be late for
        ("PIVOT", {"refused"}),  # asked until its outcome is known (G6)
        ("RETRIABLE", set()),
    ],
)
def test_what_an_execute_can_meet_follows_from_its_kind(kind: str, beside: set[str]) -> None:
    [planned] = Plan(define(step("a", kind))).steps
    assert set(possible(planned, Attempt("a", OPERATION_EXECUTE, 1))) == ANY_CALL | beside
    assert set(possible(planned, Attempt("a", OPERATION_EXECUTE, 2))) == ANY_CALL | beside - {"refused"}


def test_compensate_and_confirm_can_fail_and_cannot_be_refused() -> None:
    [planned] = Plan(define(step("a", "RESERVABLE"))).steps
    for operation in (OPERATION_COMPENSATE, OPERATION_CONFIRM):
        assert set(possible(planned, Attempt("a", operation, 1))) == ANY_CALL


def test_nothing_gets_lost_on_the_way_to_a_saga_of_the_same_coordinator() -> None:
    child = step("a")
    child.participant = "coordinator"
    [planned] = Plan(define(child)).steps
    assert list(possible(planned, Attempt("a", OPERATION_EXECUTE, 1))) == []


def test_a_failure_is_read_as_it_is_written() -> None:
    injection = Injection(Attempt("charge_card", OPERATION_COMPENSATE, 12), Fault.CRASH_AFTER)
    assert str(injection) == "charge_card.compensate#12=crash-after"
    assert parse_injection(str(injection)) == injection


@pytest.mark.parametrize(
    "text", ["", "charge", "charge.execute=late", "charge.poll#1=late", "charge.execute#0=late", "a.execute#1=gone"]
)
def test_what_is_no_failure_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no failure|is none of"):
        parse_injection(text)
