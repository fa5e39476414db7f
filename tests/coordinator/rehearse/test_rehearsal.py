"""Whole rehearsals: a participant that keeps the contract passes, and each that breaks it is caught."""

import shlex
import sys
from collections import Counter
from pathlib import Path as File

import pytest

from coordinator.cli.options import Pair, parse_duration
from saga.v1.types_pb2 import SAGA_STATE_COMPLETED
from tests.coordinator.rehearse.conftest import Bench, violations
from tests.coordinator.rehearse.shop import CHECK, Defect


@pytest.fixture
def check(bench: Bench, tmp_path: File) -> str:
    """A script of the user's that reads the shop's ledger after each path."""
    script = tmp_path / "check.py"
    script.write_text(CHECK, encoding="utf-8")
    return shlex.join([sys.executable, str(script), str(bench.ledger)])


async def test_a_participant_that_keeps_the_contract_passes(bench: Bench) -> None:
    shop = bench.open()
    seen = ["saga.state == SagaState.SAGA_STATE_COMPLETED ? tell.hasValue() : !tell.hasValue()"]
    found = await bench.rehearse(invariants=seen)
    assert violations(found) == []
    assert (found.cut, len(found.paths), found.states["COMPLETED"]) == (False, 95, 26)
    assert not [each for each in found.paths if each.not_reached or each.own_refusal]
    # Read from the shop: each saga's steps took effect once, or are taken back.
    effects = Counter(row.rpartition("/")[0] for row in shop.effects)
    assert set(shop.effects.values()) == {1}
    assert effects == {each.saga.saga_id: 4 for each in found.paths if each.saga.state == SAGA_STATE_COMPLETED}


async def test_effects_that_are_not_taken_back_are_found_by_the_users_check(bench: Bench, check: str) -> None:
    bench.open(Defect.FORGETS)
    paths = ["no-failure", "pay.execute#1=cancelled", "hold.execute#1=refused"]
    found = await bench.rehearse(checks=[check], paths=paths)
    [failed] = found.failed
    [violation] = failed.violations
    assert failed.path.name == "pay.execute#1=cancelled"
    assert "ended with 1" in violation
    assert "instead of {} on pay.execute#1=cancelled" in violation


async def test_the_same_check_passes_where_they_are(bench: Bench, check: str) -> None:
    bench.open()
    paths = ["no-failure", "pay.execute#1=cancelled", "hold.execute#1=refused", "pay.execute#1=late"]
    assert violations(await bench.rehearse(checks=[check], paths=paths)) == []


async def test_a_second_effect_of_the_same_key_is_found(bench: Bench) -> None:
    bench.open(Defect.DOUBLES)
    found = await bench.rehearse(paths=["hold.execute#1=duplicated"])
    assert any("hold.execute#1: the same key was answered with another output" in one for one in violations(found))


async def test_it_is_found_even_where_nothing_failed(bench: Bench) -> None:
    # Every call is repeated once its saga has ended (G2).
    bench.open(Defect.DOUBLES)
    found = await bench.rehearse(paths=["no-failure"])
    assert len(violations(found)) == 4


async def test_an_execute_that_lands_after_its_compensate_is_found(bench: Bench) -> None:
    shop = bench.open(Defect.LETS_THROUGH)
    found = await bench.rehearse(paths=["pay.execute#1=late"])
    assert "pay.execute#1=late: pay.execute#1: it came after its Compensate, and was answered completed " in " ".join(
        violations(found)
    )
    assert shop.effects, "it is no fault in words only: the money is gone (G8)"


async def test_a_rejection_that_is_taken_back_is_found(bench: Bench) -> None:
    bench.open(Defect.CHANGES_ITS_MIND).out_of_stock.add("pay")
    found = await bench.rehearse(paths=["no-failure"])
    assert "it had been rejected, and was then answered completed" in " ".join(violations(found))


async def test_a_reply_without_an_outcome_is_found(bench: Bench) -> None:
    bench.open(Defect.MUMBLES)
    found = await bench.rehearse(paths=["no-failure"])
    assert "hold.execute#1: a protocol violation: the reply sets no outcome" in " ".join(violations(found))


async def test_a_saga_that_needs_an_operator_is_found(bench: Bench) -> None:
    bench.open(Defect.REFUSES_TO_COMPENSATE)
    found = await bench.rehearse(paths=["pay.execute#1=cancelled"])
    assert "it stands FAILED, and needs an operator: TOO_LATE at `hold`" in " ".join(violations(found))


async def test_a_saga_that_is_stuck_is_found_and_not_waited_for(bench: Bench) -> None:
    bench.open().down.add("tell")
    found = await bench.rehearse(paths=["no-failure"], path_timeout=parse_duration("2s"))
    assert "it is stuck in RUNNING, waiting for `tell`" in " ".join(violations(found))
    assert found.seconds < 25


async def test_a_business_answer_is_reported_and_no_failure(bench: Bench) -> None:
    bench.open().out_of_stock.add("pay")
    found = await bench.rehearse(paths=["no-failure", "send.execute#1=reply-lost"])
    assert found.holds
    assert [each.own_refusal.reason for each in found.paths if each.own_refusal] == ["OUT_OF_STOCK", "OUT_OF_STOCK"]
    assert [str(one) for each in found.paths for one in each.not_reached] == ["send.execute#1=reply-lost"]
    assert found.states == {"COMPENSATED": 2}


async def test_what_is_pending_is_asked_again_soon(bench: Bench) -> None:
    bench.open().pending.add("pay")  # by default it would be asked again after 30 s
    found = await bench.rehearse(paths=["no-failure"])
    assert found.holds
    assert found.seconds < 25


async def test_a_late_request_is_sent_behind_its_compensate(bench: Bench) -> None:
    shop = bench.open()
    found = await bench.rehearse(paths=["pay.execute#1=late"])
    assert found.holds
    assert shop.calls["pay execute"] == 2  # late, and once more when all is over
    assert not shop.effects


async def test_a_crash_loses_what_is_not_journaled_and_nothing_else(bench: Bench) -> None:
    shop = bench.open()
    found = await bench.rehearse(paths=["pay.execute#1=crash-before", "pay.execute#1=crash-after"])
    assert [step.execute.attempts for each in found.paths for step in each.saga.steps] == [1, 2, 1, 1] * 2
    assert shop.calls["pay execute"] == 1 + 2 + 2  # sent once and twice; each once more when all is over
    assert found.holds


async def test_a_coordinator_that_comes_back_finds_no_call_of_its_predecessor_under_way(bench: Bench) -> None:
    shop = bench.open()
    shop.slow.add("two")
    act = 'participant: shop, action: Act, input: "ReserveStockRequest{order_id: input.order_id}"'
    bench.file.write_text(
        f"""
name: parallel
input_type: sample_services.orders.v1.Order
order: GRAPH
steps:
  - {{name: one, {act}}}
  - {{name: two, {act}}}
""",
        encoding="utf-8",
    )
    found = await bench.rehearse(paths=["one.execute#1=crash-before"])
    assert found.holds
    assert (shop.calls["two execute"], shop.overlapped) == (3, False)  # lost, sent again, and once more at the end


async def test_it_has_not_to_wait_for_the_attempts_that_it_lost(bench: Bench) -> None:
    bench.open()
    text = bench.file.read_text(encoding="utf-8").replace("timeout: 1m", "execute: {max_attempts: 1, timeout: 1m}")
    bench.file.write_text(text, encoding="utf-8")
    found = await bench.rehearse(paths=["pay.execute#1=crash-after"])
    assert found.holds
    assert found.states == {"COMPENSATED": 1}  # and that a minute later by its own clock (G8)
    assert found.seconds < 50


async def test_an_execute_of_unknown_outcome_is_repeated_behind_its_compensate(bench: Bench) -> None:
    shop = bench.open()
    shop.confused.add("pay")
    found = await bench.rehearse(paths=["no-failure"])
    assert found.holds
    assert (found.states, shop.calls["pay execute"]) == ({"COMPENSATED": 1}, 2)
    assert not shop.effects


async def test_a_repeated_call_that_nobody_answers_is_found(bench: Bench) -> None:
    bench.open(Defect.TIRES)
    found = await bench.rehearse(paths=["no-failure"])
    problem = "hold.execute#1: sent again, it was not answered: UNAVAILABLE: once is enough at `hold`"
    assert f"no-failure: {problem}" in violations(found)


async def test_a_definition_that_runs_another_is_rehearsed_with_it(bench: Bench, tmp_path: File) -> None:
    bench.open()
    parent = tmp_path / "parent.yaml"
    parent.write_text(
        """
name: errands
input_type: sample_services.orders.v1.Order
steps:
  - {name: open, participant: shop, action: Act, input: "ReserveStockRequest{order_id: input.order_id}"}
  - {name: run, participant: coordinator, action: errand, kind: PIVOT, input: input}
""",
        encoding="utf-8",
    )
    child, bench.file = bench.file, parent
    found = await bench.rehearse(children=[str(child)])
    assert violations(found) == []
    assert found.states == {"COMPENSATED": 19, "COMPLETED": 6}


async def test_participants_that_are_configured_and_not_needed_may_be_down(bench: Bench) -> None:
    bench.open()
    there, gone = Pair("shop", bench.address), Pair("other", "127.0.0.1:1")
    assert (await bench.rehearse(participant=[there, gone], paths=["no-failure"])).holds
