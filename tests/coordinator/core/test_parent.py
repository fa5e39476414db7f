"""What a child is told by its parent, and what its state does not allow (rule 9, G6). Transcripts show the rest."""

from __future__ import annotations

import pytest

from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import CancelRequested, ParentConfirmed, ParentWentBack
from saga.v1.types_pb2 import Failure
from tests.coordinator.core.sagas import ABORTED, DONE, Bench, define, names, pending, step

BACK = ParentWentBack(Failure(message="the parent goes back"))


def completed(kind: str, *, child: bool = True) -> Bench:
    bench = Bench(define(step("a", kind)), child=child)
    bench.turn()
    bench.reply("a", DONE)
    return bench


def test_only_a_child_that_can_be_compensated_is_taken_back_when_it_has_completed() -> None:
    assert names(completed("COMPENSATABLE").turn(BACK)) == ["compensation_started", "attempt_started"]
    for kind, child in (("PIVOT", True), ("RETRIABLE", True), ("COMPENSATABLE", False)):
        bench = completed(kind, child=child)
        assert bench.state == "COMPLETED"
        with pytest.raises(Forbidden, match="COMPLETED behind its point of no return"):
            bench.turn(BACK)


def test_reads_alone_are_taken_back_without_a_call() -> None:
    assert names(completed("READ_ONLY").turn(BACK)) == ["compensation_started", "saga_compensated"]


def test_only_a_held_child_is_confirmed() -> None:
    held = completed("RESERVABLE")
    assert held.saga.held
    assert names(held.turn(ParentConfirmed())) == ["point_of_no_return_passed", "attempt_started"]
    assert held.turn(ParentConfirmed()) == []
    with pytest.raises(Forbidden, match="stands PENDING"):
        Bench(define(step("a")), child=True).turn(ParentConfirmed())


def test_a_saga_of_its_own_is_never_held() -> None:
    bench = completed("RESERVABLE", child=False)
    assert not bench.saga.held
    assert bench.saga.past_no_return


def test_an_output_is_gone_when_what_yielded_it_is_compensated() -> None:
    bench = completed("COMPENSATABLE")
    assert bench.saga.output is not None
    bench.turn(BACK)
    read_back = bench.folded()
    assert read_back.output is None
    assert read_back.ended_ns is None


def test_g8_a_call_within_the_process_is_not_at_work_any_more_when_the_process_has_died() -> None:
    """Its compensation waits for nothing; that of a call to a participant waits for the call's deadline."""
    for participant, waits in (("coordinator", False), ("warehouse", True)):
        calls = step("a")
        calls.participant = participant
        bench = Bench(define(calls))
        bench.turn()
        bench.crash()
        bench.turn(CancelRequested("too dear"))
        bench.reply("a", ABORTED)  # to the second attempt; what became of the first nobody heard
        assert (bench.out.calls == []) is waits


def test_g8_a_poll_within_the_process_is_not_lost_with_it() -> None:
    calls = step("a")
    calls.participant = "coordinator"
    bench = Bench(define(calls))
    bench.turn()
    bench.reply("a", pending())
    assert bench.crash() == []
    assert names(bench.turn(CancelRequested("too dear"))) == ["compensation_started", "attempt_started"]
