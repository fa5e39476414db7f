"""Which answers to a call that was made before are right (G2, G8)."""

import pytest

from saga.v1.participant_pb2 import (
    CompensateRequest,
    CompensateResponse,
    ExecuteRequest,
    ExecuteResponse,
    StepContext,
)
from saga.v1.types_pb2 import Compensated, Completed, Rejected
from tests.chaos.deliveries import SERVICE, Deliveries

EXECUTE = f"/{SERVICE}/Execute"
COMPENSATE = f"/{SERVICE}/Compensate"
CALL = ExecuteRequest(context=StepContext(idempotency_key="u/s/execute")).SerializeToString()
DONE = ExecuteResponse(completed=Completed()).SerializeToString()


def refusal(reason: str) -> bytes:
    return ExecuteResponse(rejected=Rejected(reason=reason)).SerializeToString()


def answered(*replies: bytes) -> Deliveries:
    deliveries = Deliveries()
    for reply in replies:
        deliveries.answered(EXECUTE, CALL, reply, "relay")
    return deliveries


@pytest.mark.parametrize("again", [DONE, refusal("BARRED")])
def test_what_is_done_is_answered_as_before_or_barred(again: bytes) -> None:
    deliveries = answered(DONE, again)
    assert (deliveries.suppressed.total(), deliveries.problems) == (1, [])


@pytest.mark.parametrize("again", [refusal("INSUFFICIENT_FUNDS"), ExecuteResponse().SerializeToString()])
def test_what_is_done_is_not_answered_otherwise(again: bytes) -> None:
    deliveries = answered(DONE, again)
    assert (deliveries.suppressed.total(), len(deliveries.problems)) == (0, 1)


def test_what_was_refused_may_be_done_when_it_is_tried_again() -> None:
    deliveries = answered(refusal("INSUFFICIENT_FUNDS"), DONE)
    assert (deliveries.suppressed.total(), deliveries.problems) == (0, [])


def test_a_compensation_is_answered_as_before() -> None:
    deliveries = Deliveries()
    call = CompensateRequest(context=StepContext(idempotency_key="u/s/compensate")).SerializeToString()
    for noop in (False, False, True):
        reply = CompensateResponse(compensated=Compensated(noop=noop)).SerializeToString()
        deliveries.answered(COMPENSATE, call, reply, "coordinator")
    assert (deliveries.suppressed["coordinator"], len(deliveries.problems)) == (1, 1)
