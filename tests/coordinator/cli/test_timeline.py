"""What an operator sees at night: where the saga stands, how each step went, what it waits for and until when (G3)."""

import pytest
from rich.console import Console

from coordinator.cli.output import show, show_line
from coordinator.cli.timeline import marks, payloads, timeline, took
from coordinator.core.instants import from_timestamp
from saga.v1 import coordinator_pb2 as pb
from saga.v1 import types_pb2 as types
from saga.v1.types_pb2 import Failure
from tests.coordinator.cli.fake import ORDER, START_S, at, order, saga

NOW_NS = from_timestamp(at(10))

GOING_BACK = saga(
    types.SAGA_STATE_COMPENSATING,
    uid="0199-uid",
    labels={"region": "eu", "order": "42"},
    start_time=at(0),
    deadline=at(300),
    needs_attention=True,
    failure=Failure(
        kind=types.FAILURE_KIND_REJECTED,
        step="charge",
        operation=types.OPERATION_EXECUTE,
        reason="CARD_DECLINED",
        message="no\x1bfunds",
    ),
    steps=[
        pb.Step(
            name="reserve",
            state=types.STEP_STATE_COMPENSATING,
            participant="inventory",
            action="ReserveStock",
            kind=types.STEP_KIND_RESERVABLE,
            execute=pb.OperationProgress(attempts=2, start_time=at(0.01), end_time=at(1.21)),
            compensate=pb.OperationProgress(
                attempts=3,
                start_time=at(8),
                last_failure=Failure(
                    kind=types.FAILURE_KIND_TIMED_OUT, step="reserve", operation=types.OPERATION_COMPENSATE
                ),
            ),
        ),
        pb.Step(
            name="charge",
            state=types.STEP_STATE_REJECTED,
            participant="payment",
            action="ChargeCard",
            kind=types.STEP_KIND_PIVOT,
            execute=pb.OperationProgress(attempts=1, start_time=at(1.25), end_time=at(1.29)),
        ),
        pb.Step(
            name="ship",
            state=types.STEP_STATE_WAITING,
            participant="shipping",
            action="Ship",
            kind=types.STEP_KIND_RETRIABLE,
        ),
    ],
    waits=[
        pb.Wait(
            step=pb.StepWait(step="reserve", operation=types.OPERATION_COMPENSATE, reason="next attempt"), until=at(12)
        ),
        pb.Wait(exclusive_key=pb.KeyWait(key="sku-1", holder_saga_id="order-41")),
        pb.Wait(timer=pb.TimerWait(reason="deadline"), until=at(300)),
    ],
)


def text(capsys: pytest.CaptureFixture[str], shown: pb.Saga) -> str:
    show(timeline(shown, NOW_NS))
    return capsys.readouterr().out


def test_a_saga_that_goes_back(capsys: pytest.CaptureFixture[str]) -> None:
    expected = """\
order_fulfillment@3  COMPENSATING  order-42
  uid       0199-uid
  labels    order=42 region=eu
  marks     needs attention
  created   2026-09-21T14:13:20.000Z
  started   2026-09-21T14:13:20.000Z
  duration  10s
  deadline  2026-09-21T14:18:20.000Z (in 4m50s)
  failure   REJECTED at charge execute: CARD_DECLINED: no\\x1bfunds

STEP     STATE         KIND        ACTION                  STARTED  EXECUTE    COMPENSATE    LAST ERROR
reserve  COMPENSATING  RESERVABLE  inventory.ReserveStock  +10ms    2 in 1.2s  3, 2s so far  TIMED_OUT at compensate
charge   REJECTED      PIVOT       payment.ChargeCard      +1.25s   1 in 40ms  -             -
ship     WAITING       RETRIABLE   shipping.Ship           -        -          -             -

waits for
  reserve compensate: next attempt until 2026-09-21T14:13:32.000Z (in 2s)
  the exclusive key `sku-1`, held by `order-41`, without a limit
  deadline until 2026-09-21T14:18:20.000Z (in 4m50s)
"""
    assert text(capsys, GOING_BACK) == expected


def test_a_saga_that_has_ended(capsys: pytest.CaptureFixture[str]) -> None:
    ended = saga(
        types.SAGA_STATE_COMPLETED,
        start_time=at(0),
        end_time=at(2.5),
        deadline=at(300),
        steps=[
            pb.Step(
                name="reserve",
                state=types.STEP_STATE_CONFIRMED,
                participant="inventory",
                action="ReserveStock",
                kind=types.STEP_KIND_RESERVABLE,
                execute=pb.OperationProgress(attempts=1, start_time=at(0), end_time=at(1)),
                confirm=pb.OperationProgress(attempts=1, start_time=at(1), end_time=at(2)),
                hold_until=at(600),
            )
        ],
    )
    shown = text(capsys, ended)
    assert "  ended     2026-09-21T14:13:22.500Z\n  duration  2.5s\n  deadline  2026-09-21T14:18:20.000Z\n" in shown
    assert "COMPENSATE" not in shown  # columns that say nothing are left out
    assert "2026-09-21T14:23:20.000Z (in 9m50s)" in shown
    assert "waits for" not in shown


def test_a_saga_that_waits_for_a_key_says_which_and_who_holds_it(capsys: pytest.CaptureFixture[str]) -> None:
    """G3: what a saga waits for can be read."""
    queued = saga(
        types.SAGA_STATE_PENDING,
        exclusive_keys=["account:1", "account:2"],
        waits=[pb.Wait(exclusive_key=pb.KeyWait(key="account:1", holder_saga_id="transfer-7"))],
    )
    shown = text(capsys, queued)
    assert "  keys      account:1, account:2\n" in shown
    assert shown.endswith("waits for\n  the exclusive key `account:1`, held by `transfer-7`, without a limit\n")


def test_a_saga_that_runs_as_a_step_says_of_what_and_waits_for_its_parent(capsys: pytest.CaptureFixture[str]) -> None:
    child = saga(
        saga_id="order-1/parcel_1",
        parent_saga_id="order-1",
        waits=[pb.Wait(parent=pb.ParentWait(saga_id="order-1"), until=at(12))],
    )
    shown = text(capsys, child)
    assert "  runs as   step `parcel_1` of `order-1`\n" in shown
    assert shown.endswith(
        "  its parent `order-1` to confirm or to compensate (all steps are done)"
        " until 2026-09-21T14:13:32.000Z (in 2s)\n"
    )


def test_how_to_look_at_the_sagas_that_run_as_steps(capsys: pytest.CaptureFixture[str]) -> None:
    parent = saga(
        steps=[
            pb.Step(name="parcel_1", participant="coordinator", child_saga_id="order-42/parcel_1"),
            pb.Step(name="charge"),
            pb.Step(name="parcel_2", participant="warehouse", child_saga_id="order-42/parcel_2"),
        ]
    )
    assert text(capsys, parent).endswith(
        "\nrun as sagas of their own, which --children shows too\n"
        "  parcel_1: saga get order-42/parcel_1\n"
        "  parcel_2: saga get order-42/parcel_2 (there: warehouse is a coordinator of its own)\n"
    )


def test_a_wait_that_is_newer_than_this_program_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "  something newer than this program until " in text(capsys, saga(waits=[pb.Wait(until=at(12))]))


def test_a_saga_that_has_not_begun(capsys: pytest.CaptureFixture[str]) -> None:
    assert took(saga(), NOW_NS) == ""
    assert "duration" not in text(capsys, saga(types.SAGA_STATE_PENDING))


def test_states_that_are_newer_than_this_program_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    newer = pb.Saga.FromString(saga().SerializeToString())
    newer.MergeFromString(bytes([4 << 3, 77]))  # the field `state`
    assert newer.create_time.seconds == START_S
    assert "order_fulfillment@3  77  order-42\n" in text(capsys, newer)


def test_marks() -> None:
    marked = saga(needs_attention=True, paused=True, overdue=True, past_point_of_no_return=True)
    assert marks(marked) == "needs attention, paused, overdue, past the point of no return"
    assert marks(saga()) == ""
    assert marks(saga(past_point_of_no_return=True, end_time=at(2))) == ""  # no longer of interest


def test_colours_are_there_on_a_terminal() -> None:
    console = Console(force_terminal=True, color_system="standard", width=200, legacy_windows=False)
    with console.capture() as captured:
        console.print(timeline(GOING_BACK, NOW_NS))
    assert "\x1b[33mCOMPENSATING" in captured.get()
    assert "\x1b[31mREJECTED" in captured.get()


def test_payloads_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    paid = saga(
        input=order(order_id="42"), steps=[pb.Step(name="charge", output=order(amount=7)), pb.Step(name="ship")]
    )
    for part in payloads(paid, ORDER):
        show_line(part)
    assert (
        capsys.readouterr().out
        == """
saga input
{
  "@type": "type.googleapis.com/shop.v1.Order",
  "orderId": "42"
}

charge output
{
  "@type": "type.googleapis.com/shop.v1.Order",
  "amount": "7"
}
"""
    )


def test_an_outcome_that_stayed_unknown_does_not_look_under_way(capsys: pytest.CaptureFixture[str]) -> None:
    """G5: of a saga that has ended nothing is `so far`, however little is known of a step."""
    ended = pb.Saga()
    ended.CopyFrom(GOING_BACK)
    ended.state = types.SAGA_STATE_COMPENSATED
    ended.end_time.CopyFrom(ended.create_time)
    assert "so far" not in text(capsys, ended)
    assert "3, unknown" in text(capsys, ended)
