"""What callers are shown of a saga, in every state, and what it waits for (G3)."""

import pytest
from google.protobuf.any_pb2 import Any

from coordinator.api.views import view_of_event, view_of_index, view_of_saga
from coordinator.core.inputs import CancelRequested, Done
from coordinator.core.instants import to_timestamp
from coordinator.core.limits import SECOND_NS
from coordinator.engine.index import index_of
from saga.v1 import coordinator_pb2 as pb
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import (
    FAILURE_KIND_EXPRESSION_FAILED,
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    STEP_KIND_COMPENSATABLE,
    STEP_KIND_RESERVABLE,
    STEP_STATE_COMPENSATED,
    STEP_STATE_COMPLETED,
    STEP_STATE_CONFIRMED,
    STEP_STATE_EXECUTING,
    STEP_STATE_WAITING,
    Operation,
)
from tests.coordinator.core.sagas import (
    ABORTED,
    DONE,
    INVALID,
    REFUSED,
    REFUSED_FOR_ALL,
    T0_NS,
    UNAVAILABLE,
    Answers,
    Bench,
    at,
    attempts,
    define,
    pending,
    step,
)


def view(bench: Bench, payloads: pb.PayloadView.ValueType = pb.PAYLOAD_VIEW_FULL) -> pb.Saga:
    return view_of_saga(bench.saga, payloads)


def waits(bench: Bench) -> list[str]:
    """`a execute answer until 10`, in seconds since the saga was created."""
    return [_brief(wait) for wait in view(bench).waits]


def _brief(wait: pb.Wait) -> str:
    if wait.HasField("step"):
        operation = Operation.Name(wait.step.operation).removeprefix("OPERATION_").lower()
        subject = f"{wait.step.step} {operation} {wait.step.reason}"
    else:
        subject = f"timer {wait.timer.reason}"
    if not wait.HasField("until"):
        return subject
    return f"{subject} until {(wait.until.ToNanoseconds() - T0_NS) / SECOND_NS:g}"


def begun(timeout: float | None = None) -> Bench:
    """Two steps in a row, the first in flight."""
    bench = Bench(define(step("a"), step("b"), timeout=timeout))
    bench.turn()
    return bench


# --- What it waits for ------------------------------------------------------------------------------------------------


def test_g3_before_the_start() -> None:
    bench = Bench(define(step("a")), start_after=60)
    bench.turn()
    assert waits(bench) == ["timer start until 60"]
    assert view(bench).start_time == to_timestamp(at(60))


def test_g3_an_answer() -> None:
    assert waits(begun()) == ["a execute answer until 10"]


def test_g3_the_deadline_beside_it() -> None:
    bench = begun(timeout=300)
    assert waits(bench) == ["a execute answer until 10", "timer deadline until 300"]
    assert view(bench).deadline == to_timestamp(at(300))


def test_g3_the_next_attempt() -> None:
    bench = begun()
    bench.reply("a", ABORTED)
    (wait,) = waits(bench)
    assert wait.startswith("a execute next attempt until 0.05")
    progress = view(bench).steps[0].execute
    assert progress.next_attempt_time == to_timestamp(at(0.05))
    assert progress.last_failure.message == "aborted"


def test_g3_a_participant_that_accepted() -> None:
    bench = Bench(define(step("a", timeout=600)))
    bench.turn()
    bench.reply("a", pending())
    assert waits(bench) == ["a execute the participant to finish: in the queue until 600"]


def test_g3_several_at_once() -> None:
    bench = Bench(define(step("a"), step("b"), step("c", "COMPENSATABLE", "a"), graph=True))
    bench.turn()
    assert waits(bench) == ["a execute answer until 10", "b execute answer until 10"]


def test_g3_a_compensate() -> None:
    bench = begun()
    bench.reply("a", DONE)
    bench.reply("b", REFUSED)
    assert waits(bench) == ["a compensate answer until 10"]


def test_g3_a_confirm() -> None:
    bench = Bench(define(step("a", "RESERVABLE")))
    bench.turn()
    bench.reply("a", DONE)
    assert waits(bench) == ["a confirm answer until 10"]


def test_g3_an_execute_that_nobody_answered() -> None:
    bench = Bench(define(step("a", execute=attempts(most=1))))
    bench.turn()
    bench.reply("a", UNAVAILABLE)
    assert waits(bench) == ["a compensate an Execute that nobody answered may still be at work until 10"]


def test_g3_a_poll_that_is_not_answered_yet() -> None:
    bench = begun()
    bench.reply("a", pending())
    bench.polled_until_ns["a"] = at(15)
    bench.turn(CancelRequested("changed my mind"))
    assert waits(bench) == ["a compensate an Execute that nobody answered may still be at work"]


def test_g3_one_at_a_time_the_last_that_was_started() -> None:
    bench = Bench(
        define(step("a", execute=attempts(most=1)), step("b", execute=attempts(most=1)), graph=True, one_at_a_time=True)
    )
    bench.turn()
    bench.reply("a", UNAVAILABLE)
    bench.reply("b", UNAVAILABLE)
    assert waits(bench) == ["b compensate an Execute that nobody answered may still be at work until 10"]


def test_g3_on_the_way_back_what_is_in_flight() -> None:
    bench = Bench(define(step("a"), step("b"), graph=True))
    bench.turn()
    bench.reply("b", REFUSED_FOR_ALL)
    assert waits(bench) == ["a execute answer until 10"]


@pytest.mark.parametrize("ending", ["COMPLETED", "COMPENSATED", "FAILED"])
def test_g3_what_ended_or_needs_an_operator_waits_for_nothing(ending: str) -> None:
    bench = begun()
    bench.reply("a", DONE)
    bench.reply("b", DONE if ending == "COMPLETED" else REFUSED)
    if ending != "COMPLETED":
        bench.reply("a", Done() if ending == "COMPENSATED" else REFUSED, OPERATION_COMPENSATE)
    assert bench.state == ending
    assert waits(bench) == []


def test_g3_every_state_on_the_way_waits_for_something() -> None:
    """Whatever a saga does, it can be read what it waits for, or it stands at an end."""
    steps = define(step("a", "RESERVABLE"), step("b"), step("p", "PIVOT"), step("r", "RETRIABLE"), timeout=300)
    for replies in _walks(4):
        bench = Bench(steps)
        bench.turn()
        for index in replies:
            if not bench.calls:
                bench.wait(11)
            for name, operation, _ in bench.calls:
                bench.reply(name, (DONE, REFUSED, UNAVAILABLE, INVALID, pending())[index], operation)
            if bench.state in ("RUNNING", "COMPENSATING"):
                assert waits(bench), (replies, bench.steps)
            else:
                assert not waits(bench)


def _walks(length: int) -> list[tuple[int, ...]]:
    walks: list[tuple[int, ...]] = [()]
    for _ in range(length):
        walks = [(*walk, index) for walk in walks for index in range(5)]
    return walks


# --- What it shows ----------------------------------------------------------------------------------------------------


def test_a_saga_is_shown_with_its_steps_in_the_definitions_order() -> None:
    bench = Bench(define(step("a", "RESERVABLE"), step("b"), timeout=300))
    bench.turn()
    bench.now_ns = at(1)
    bench.reply("a", Done(output=Any(value=b"out"), hold_until_ns=at(200)))
    shown = view(bench)
    assert (shown.saga_id, shown.uid, shown.definition, shown.version) == ("saga-1", "uid-1", "shop", 1)
    assert shown.create_time == shown.start_time == to_timestamp(T0_NS)
    assert not shown.HasField("end_time")
    assert shown.last_sequence == len(bench.journal)
    a, b = shown.steps
    assert (a.name, a.participant, a.action, a.kind) == ("a", "a_service", "Act", STEP_KIND_RESERVABLE)
    assert (a.state, a.input.value, a.output.value) == (STEP_STATE_COMPLETED, b"input of a", b"out")
    assert a.hold_until == to_timestamp(at(200))
    assert (a.execute.attempts, a.execute.idempotency_key) == (1, "uid-1/a/execute")
    assert (a.execute.start_time, a.execute.end_time) == (to_timestamp(T0_NS), to_timestamp(at(1)))
    assert not a.HasField("compensate")
    assert (b.state, b.HasField("output"), b.execute.HasField("end_time")) == (STEP_STATE_EXECUTING, False, False)


def test_what_never_started_shows_no_operation() -> None:
    step_b = view(begun()).steps[1]
    assert step_b.state == STEP_STATE_WAITING
    assert step_b == pb.Step(
        name="b", state=STEP_STATE_WAITING, participant="b_service", action="Act", kind=STEP_KIND_COMPENSATABLE
    )


def test_the_way_forward_and_back_are_shown() -> None:
    bench = Bench(define(step("a", "RESERVABLE")))
    bench.turn()
    bench.reply("a", DONE)
    assert view(bench).past_point_of_no_return
    bench.reply("a", Done(), OPERATION_CONFIRM)
    confirmed = view(bench)
    assert confirmed.steps[0].state == STEP_STATE_CONFIRMED
    assert confirmed.steps[0].confirm.idempotency_key == "uid-1/a/confirm"
    assert (confirmed.output.value, confirmed.HasField("end_time")) == (b"output of the saga", True)

    bench = begun()
    bench.reply("a", DONE)
    bench.reply("b", REFUSED)
    bench.reply("a", Done(), OPERATION_COMPENSATE)
    compensated = view(bench)
    assert compensated.steps[0].state == STEP_STATE_COMPENSATED
    assert compensated.steps[0].compensate.attempts == 1
    assert (compensated.failure.step, compensated.failure.reason) == ("b", "OUT_OF_STOCK")


def test_an_input_that_failed_is_shown_as_the_failure_of_its_execute() -> None:
    bench = Bench(define(step("a"), step("b")), Answers(failing=["b"]))
    bench.turn()
    bench.reply("a", DONE)
    shown = view(bench).steps[1].execute
    assert shown.last_failure.kind == FAILURE_KIND_EXPRESSION_FAILED
    assert shown.attempts == 0


def test_payloads_are_left_out_where_they_are_not_wanted() -> None:
    bench = begun()
    bench.reply("a", DONE)
    bench.reply("b", DONE)
    shown = view(bench, pb.PAYLOAD_VIEW_NONE)
    assert not shown.HasField("input")
    assert not shown.HasField("output")
    assert not [part for part in shown.steps if part.HasField("input") or part.HasField("output")]
    assert view(bench, pb.PAYLOAD_VIEW_UNSPECIFIED) == view(bench)
    for event in bench.journal:
        bare = view_of_event(event, pb.PAYLOAD_VIEW_NONE)
        assert not [word for word in (b"order", b"input of", b"output") if word in bare.SerializeToString()]
        assert (bare.sequence, bare.WhichOneof("event")) == (event.sequence, event.WhichOneof("event"))


def test_an_event_is_not_changed_by_being_shown() -> None:
    event = begun().journal[2]
    before = SagaEvent.FromString(event.SerializeToString())
    assert view_of_event(event, pb.PAYLOAD_VIEW_FULL) == event
    view_of_event(event, pb.PAYLOAD_VIEW_NONE)
    assert event == before


def test_a_row_shows_what_the_saga_shows_without_steps_and_payloads() -> None:
    bench = begun(timeout=300)
    bench.reply("a", DONE)
    bench.reply("b", REFUSED)
    bench.reply("a", REFUSED, OPERATION_COMPENSATE)
    shown = view(bench, pb.PAYLOAD_VIEW_NONE)
    assert shown.needs_attention
    del shown.steps[:]
    assert view_of_index(index_of(bench.saga)) == shown
