from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from coordinator.cli.eventline import event_line
from coordinator.core.instants import from_timestamp
from saga.v1 import event_pb2 as events
from saga.v1 import types_pb2 as types
from saga.v1.types_pb2 import Failure
from tests.coordinator.cli.fake import at, event

DOWN = Failure(
    kind=types.FAILURE_KIND_UNAVAILABLE,
    step="charge",
    operation=types.OPERATION_EXECUTE,
    message="connection refused",
    grpc_code=14,
)
REFUSED = Failure(kind=types.FAILURE_KIND_REJECTED, step="charge", reason="CARD_DECLINED")
CASES: list[tuple[dict[str, Any], str]] = [
    (
        {"saga_created": events.SagaCreated(definition="order", version=3, labels={"a": "1"})},
        "SagaCreated             order@3 a=1",
    ),
    (
        {
            "saga_created": events.SagaCreated(
                definition="parcel",
                version=2,
                parent=events.ParentStep(saga_id="order-1", step="parcel_1"),
                root_saga_id="order-1",
                exclusive_keys=["account:1", "account:2"],
                deadline=at(60),
                action_versions={"pack": 3, "box": 1},
            )
        },
        "SagaCreated             parcel@2; runs as step `parcel_1` of `order-1`; exclusive keys account:1, account:2; "
        "deadline +1m; actions box@1, pack@3",
    ),
    ({"saga_started": events.SagaStarted(deadline=at(300))}, "SagaStarted             deadline +5m"),
    ({"saga_started": events.SagaStarted()}, "SagaStarted"),
    (
        {
            "attempt_started": events.AttemptStarted(
                step="charge", operation=types.OPERATION_EXECUTE, attempt=2, deadline=at(11)
            )
        },
        "AttemptStarted          charge execute #2  deadline +11s",
    ),
    (
        {
            "attempt_failed": events.AttemptFailed(
                step="charge", operation=types.OPERATION_EXECUTE, attempt=2, failure=DOWN, next_attempt_time=at(3.5)
            )
        },
        "AttemptFailed           charge execute #2  UNAVAILABLE (gRPC status 14): connection refused; "
        "next attempt at +3.5s",
    ),
    (
        {"attempt_failed": events.AttemptFailed(step="charge", attempt=2, failure=REFUSED)},
        "AttemptFailed           charge #2  REJECTED: CARD_DECLINED; no further attempt",
    ),
    (
        {"attempt_lost": events.AttemptLost(step="charge", operation=types.OPERATION_CONFIRM, attempt=1)},
        "AttemptLost             charge confirm #1  the coordinator stopped; what the call did is not known",
    ),
    (
        {"step_pending": events.StepPending(step="ship", attempt=1, poll_after=Duration(seconds=30), message="wait")},
        "StepPending             ship #1  polled every 30s: wait",
    ),
    (
        {
            "step_pending": events.StepPending(
                step="ship", attempt=1, message="order-1/ship FAILED", needs_attention=True
            )
        },
        "StepPending             ship #1  polled: order-1/ship FAILED; needs attention",
    ),
    ({"step_skipped": events.StepSkipped(step="gift")}, "StepSkipped             gift"),
    (
        {"step_completed": events.StepCompleted(step="reserve", attempt=1, hold_until=at(60))},
        "StepCompleted           reserve #1  holds until 2026-09-21T14:14:20.000Z",
    ),
    (
        {"step_rejected": events.StepRejected(step="charge", attempt=2, failure=REFUSED, in_doubt=True)},
        "StepRejected            charge #2  REJECTED: CARD_DECLINED; an earlier attempt may have had an effect",
    ),
    (
        {"step_compensated": events.StepCompensated(step="reserve", attempt=1, noop=True)},
        "StepCompensated         reserve #1  there was nothing to compensate",
    ),
    (
        {"step_compensation_failed": events.StepCompensationFailed(step="reserve", attempt=20, failure=DOWN)},
        "StepCompensationFailed  reserve #20  UNAVAILABLE (gRPC status 14): connection refused",
    ),
    ({"step_confirmed": events.StepConfirmed(step="reserve", attempt=1)}, "StepConfirmed           reserve #1"),
    (
        {"step_stuck": events.StepStuck(step="ship", operation=types.OPERATION_EXECUTE, failure=DOWN)},
        "StepStuck               ship execute  UNAVAILABLE (gRPC status 14): connection refused",
    ),
    ({"point_of_no_return_passed": events.PointOfNoReturnPassed()}, "PointOfNoReturnPassed"),
    (
        {"compensation_started": events.CompensationStarted(cause=REFUSED)},
        "CompensationStarted     REJECTED at charge: CARD_DECLINED",
    ),
    ({"saga_overdue": events.SagaOverdue()}, "SagaOverdue"),
    ({"saga_completed": events.SagaCompleted()}, "SagaCompleted"),
    (
        {"saga_completed": events.SagaCompleted(output_failure=Failure(kind=types.FAILURE_KIND_EXPRESSION_FAILED))},
        "SagaCompleted           without an output: EXPRESSION_FAILED",
    ),
    ({"saga_compensated": events.SagaCompensated()}, "SagaCompensated"),
    ({"saga_failed": events.SagaFailed(failure=REFUSED)}, "SagaFailed              REJECTED at charge: CARD_DECLINED"),
    ({"saga_paused": events.SagaPaused(reason="stocktaking")}, "SagaPaused              stocktaking"),
    ({"saga_resumed": events.SagaResumed()}, "SagaResumed"),
    (
        {"saga_retried": events.SagaRetried(reason="the bank answers", state=types.SAGA_STATE_COMPENSATING)},
        "SagaRetried             the bank answers; the saga goes on COMPENSATING",
    ),
    (
        {"saga_retried": events.SagaRetried(state=types.SAGA_STATE_RUNNING)},
        "SagaRetried             the saga goes on RUNNING",
    ),
    (
        {
            "step_resolved": events.StepResolved(
                step="charge",
                reason="asked the bank",
                resolution=events.RESOLUTION_NO_EFFECT,
                state=types.SAGA_STATE_COMPENSATING,
            )
        },
        "StepResolved            charge  NO_EFFECT: asked the bank; the saga goes on COMPENSATING",
    ),
    (
        {
            "step_resolved": events.StepResolved(
                step="reserve",
                reason="seen in the store",
                resolution=events.RESOLUTION_COMPLETED,
                hold_until=at(60),
                state=types.SAGA_STATE_RUNNING,
            )
        },
        "StepResolved            reserve  COMPLETED, holds until 2026-09-21T14:14:20.000Z: seen in the store; "
        "the saga goes on RUNNING",
    ),
    ({}, "(newer than this program)"),
]


def line(happened: events.SagaEvent) -> str:
    return event_line(happened, from_timestamp(at(0))).plain


@pytest.mark.parametrize(("fact", "shown"), CASES, ids=[shown.split()[0] for _, shown in CASES])
def test_every_event_in_one_line(fact: dict[str, Any], shown: str) -> None:
    assert line(event(7, **fact)) == f"   7        +7s  {shown}"


def test_no_event_is_left_out() -> None:
    known = {field.name for field in events.SagaEvent.DESCRIPTOR.oneofs[0].fields}
    assert known == {name for fact, _ in CASES for name in fact}


def test_who_asked_is_named_and_nothing_steers_the_terminal() -> None:
    cause = Failure(kind=types.FAILURE_KIND_CANCELLED, message="a\x1b[0m")
    asked = event(1, actor="ann", compensation_started=events.CompensationStarted(cause=cause))
    assert line(asked).endswith("CANCELLED: a\\x1b[0m  by ann")


def test_an_event_type_that_is_newer_is_shown() -> None:
    newer = events.SagaEvent.FromString(event(7).SerializeToString() + bytes([0xFA, 0x0F, 0]))
    assert line(newer) == "   7        +7s  (newer than this program)"


def test_ends_are_coloured() -> None:
    assert str(event_line(event(1, saga_failed=events.SagaFailed()), 0).spans[0].style) == "bold red"
