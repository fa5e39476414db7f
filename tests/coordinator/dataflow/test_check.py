"""Everything that is wrong with a definition, at once, and what is pinned where nothing is."""

import time

import pytest

from coordinator.core import limits
from coordinator.core.definition import Problem
from coordinator.dataflow.check import check
from coordinator.dataflow.types import Types
from saga.v1.definition_pb2 import STEP_ORDER_GRAPH, SagaDefinition
from saga.v1.participant_pb2 import Action, DescribeResponse
from saga.v1.types_pb2 import STEP_KIND_READ_ONLY, STEP_KIND_RESERVABLE, STEP_KIND_RETRIABLE
from tests.coordinator.dataflow.shop import (
    FILES,
    compile_protos,
    definition,
    inventory,
    participants,
    reserve_and_charge,
    step,
)

CHARGE = "ChargeRequest{order_id: input.order_id}"
RESERVE = "ReserveStockRequest{order_id: input.order_id}"


def _problems(whole: SagaDefinition, **described: DescribeResponse | None) -> dict[str, Problem]:
    checked = check(whole, participants() | described)
    assert checked.pinned is None
    found = {problem.path: problem for problem in checked.problems}
    assert len(found) == len(checked.problems), "one problem a path"
    return found


def test_a_definition_without_a_problem_is_pinned_with_what_it_needs() -> None:
    """G11."""
    checked = check(reserve_and_charge(), participants())
    assert checked.problems == ()
    assert checked.pinned is not None
    assert set(checked.pinned.step_types) == {"reserve", "charge"}
    assert Types(checked.pinned.descriptors).knows("shop.v1.Order")


def test_everything_comes_at_once() -> None:
    """G13: a refusal names every problem."""
    whole = definition(
        step("a", "ReserveStockRequest{order_id: input.nope}", "ReserveStock", when="input.order_id"),
        step("b", "ChargeRequest{amount_cents: c.cents}", kind=STEP_KIND_RESERVABLE),
        step("c", CHARGE),
        name="Bad Name",
        output="b.cents",
        labels={"order": "input.amount"},
        exclusive_keys=["b.receipt_id"],
    )
    whole.steps[2].participant = "payments"
    found = _problems(whole)
    assert set(found) == {
        "name",
        "steps[0].input",
        "steps[0].when",
        "steps[1].input",
        "steps[1].kind",
        "steps[2].participant",
        "output",
        "labels['order']",
        "exclusive_keys[0]",
    }
    assert found["steps[0].input"] == Problem(
        "steps[0].input", "undefined field 'nope' not found in struct 'shop.v1.Order'", "`note`", 1, 36
    )
    assert found["steps[1].input"].message == "step `c` is not an ancestor of this step"
    assert found["exclusive_keys[0]"].message == "step `b` cannot be read here, only `input` can"
    assert found["exclusive_keys[0]"].expected == "`input`"


def test_an_unknown_participant_is_answered_with_those_there_are() -> None:
    whole = definition(step("a", CHARGE))
    whole.steps[0].participant = "paymnt"
    assert _problems(whole)["steps[0].participant"] == Problem(
        "steps[0].participant",
        "there is no participant `paymnt`",
        "perhaps `payment`; one of: inventory, payment, shipping",
    )


def test_a_participant_that_is_not_described_yet() -> None:
    whole = definition(step("a", CHARGE))
    whole.steps[0].participant = "shipping"
    (problem,) = _problems(whole).values()
    assert problem.message == "participant `shipping` has not described itself yet"


def test_an_unknown_action_is_answered_with_those_there_are() -> None:
    whole = definition(step("a", RESERVE, "ReserveStok"))
    (problem,) = _problems(whole).values()
    assert problem == Problem(
        "steps[0].action",
        "participant `inventory` has no action `ReserveStok`",
        "perhaps `ReserveStock`; one of: ReleaseStock, ReserveStock",
    )


def test_a_kind_that_is_not_offered() -> None:
    found = _problems(definition(step("a", RESERVE, "ReserveStock", kind=STEP_KIND_READ_ONLY)))
    assert found["steps[0].kind"] == Problem(
        "steps[0].kind", "action `ReserveStock` does not serve as READ_ONLY", "RESERVABLE or COMPENSATABLE"
    )


def test_an_action_that_names_no_kinds_is_compensatable_only() -> None:
    assert check(definition(step("a", "Reservation{}", "ReleaseStock")), participants()).problems == ()
    found = _problems(definition(step("a", "Reservation{}", "ReleaseStock", kind=STEP_KIND_RETRIABLE)))
    assert found["steps[0].kind"].expected == "COMPENSATABLE"


def test_an_input_type_that_nobody_describes() -> None:
    found = _problems(definition(step("a", "ChargeRequest{}"), input_type="shop.v1.Nothing"))
    assert found["input_type"].message == "no participant describes `shop.v1.Nothing`"


def test_an_input_type_is_not_missed_while_a_participant_is_unknown() -> None:
    whole = definition(step("a", "ChargeRequest{order_id: input.anything}"), step("b", CHARGE), input_type="x.Other")
    whole.steps[1].participant = "shipping"
    assert set(_problems(whole)) == {"steps[1].participant"}


def test_the_input_type_must_be_of_a_participant_that_is_used() -> None:
    """`shop.v1.Order` comes with inventory, which no step calls."""
    assert set(_problems(definition(step("a", "ChargeRequest{}")))) == {"input_type"}


def _odd(input_type: str = "payment.v1.ChargeRequest", output_type: str = "payment.v1.Receipt") -> DescribeResponse:
    action = Action(name="ChargeCard", input_type=input_type, output_type=output_type)
    return DescribeResponse(descriptors=compile_protos(FILES), actions=[action])


def test_types_that_the_participant_does_not_describe() -> None:
    found = _problems(definition(step("a", CHARGE)), payment=_odd(output_type="payment.v1.Nothing"))
    assert found["steps[0].action"].message == (
        "participant `payment` does not describe `payment.v1.Nothing`, a type of action `ChargeCard`"
    )


def test_an_input_that_cel_does_not_treat_as_a_message() -> None:
    found = _problems(definition(step("a", "input.placed")), payment=_odd(input_type="google.protobuf.Timestamp"))
    assert "google.protobuf.Timestamp" in found["steps[0].action"].message


def test_descriptors_that_cannot_be_built_are_told_once() -> None:
    broken = _odd()
    del broken.descriptors.file[:2]
    whole = definition(step("a", CHARGE), step("b", "ChargeRequest{"))
    found = _problems(whole, payment=broken)
    assert "imports" in found["steps[0].participant"].message
    assert set(found) == {"steps[0].participant", "steps[1].input"}, "syntax is checked all the same"


def test_a_message_of_two_meanings_names_both_participants() -> None:
    other = FILES["common/v1/money.proto"].replace("int64 units", "string units")
    payment = _odd()
    payment.descriptors.CopyFrom(compile_protos(FILES | {"common/v1/money.proto": other}, "payment/v1/payment.proto"))
    found = _problems(reserve_and_charge(), payment=payment)
    assert set(found) == {"steps[1].participant"}
    assert "participant payment" in found["steps[1].participant"].message
    assert "participant inventory" in found["steps[1].participant"].message


def test_files_of_one_name_are_told_apart() -> None:
    payment = _odd()
    moved = {"inventory/v1/inventory.proto": FILES["payment/v1/payment.proto"]}
    payment.descriptors.CopyFrom(compile_protos(moved | {"common/v1/money.proto": FILES["common/v1/money.proto"]}))
    checked = check(reserve_and_charge(), participants() | {"payment": payment})
    assert checked.problems == ()
    assert checked.pinned is not None
    assert Types(checked.pinned.descriptors).knows("payment.v1.ChargeRequest")


def test_only_steps_with_a_condition_ask_for_a_default() -> None:
    """A skip does not spread: the step behind a skipped one runs."""
    whole = definition(
        step("a", RESERVE, "ReserveStock", when="input.express"),
        step("b", "ReserveStockRequest{order_id: a.reservation_id.orValue('')}", "ReserveStock"),
        step("c", "ReserveStockRequest{order_id: b.reservation_id}", "ReserveStock"),
    )
    assert check(whole, participants()).problems == ()
    whole.steps[1].input = "ReserveStockRequest{order_id: a.reservation_id}"
    assert "a default" in _problems(whole)["steps[1].input"].expected


def test_a_neighbour_in_the_graph_cannot_be_read() -> None:
    whole = definition(
        step("a", RESERVE, "ReserveStock"),
        step("b", "ReserveStockRequest{order_id: a.reservation_id}", "ReserveStock"),
        order=STEP_ORDER_GRAPH,
    )
    assert _problems(whole)["steps[1].input"].message == "step `a` is not an ancestor of this step"
    whole.steps[1].after.append("a")
    assert check(whole, participants()).problems == ()


def test_a_cycle_is_one_problem() -> None:
    whole = definition(
        step("a", "ReserveStockRequest{order_id: b.reservation_id}", "ReserveStock", after=["b"]),
        step("b", "ReserveStockRequest{order_id: a.reservation_id}", "ReserveStock", after=["a"]),
        order=STEP_ORDER_GRAPH,
    )
    assert set(_problems(whole)) == {"steps"}


def test_names_that_structure_refuses_do_not_disturb_the_rest() -> None:
    whole = definition(
        step("in", RESERVE, "ReserveStock"), step("Bad Name", RESERVE, "ReserveStock"), step("", "nope", "ReserveStock")
    )
    assert set(_problems(whole)) == {"steps[0].name", "steps[1].name", "steps[2].name", "steps[2].input"}


@pytest.mark.parametrize("path", ["steps[0].input", "labels['a']", "exclusive_keys[0]"])
def test_a_very_long_expression_is_not_looked_at(path: str) -> None:
    """G14."""
    text = "'" + "x" * limits.EXPRESSION_BYTES_MAX + "'"
    whole = definition(step("a", RESERVE, "ReserveStock"))
    if path.startswith("steps"):
        whole.steps[0].input = text
    elif path.startswith("labels"):
        whole.labels["a"] = text
    else:
        whole.exclusive_keys.append(text)
    (problem,) = _problems(whole).values()
    assert problem == Problem(path, f"{len(text)} bytes", f"at most {limits.EXPRESSION_BYTES_MAX} bytes")


def test_descriptors_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """G14."""
    monkeypatch.setattr(limits, "DESCRIPTOR_BYTES_MAX", 100)
    (problem,) = check(reserve_and_charge(), participants()).problems
    assert "bytes of descriptors" in problem.message


def test_too_many_steps_are_not_looked_at() -> None:
    """G14."""
    whole = definition(*(step(f"s{n}", "nope", "ReserveStock") for n in range(limits.STEPS_MAX + 1)))
    assert [problem.path for problem in check(whole, participants()).problems] == ["steps"]


def test_a_thousand_steps_are_checked_in_reasonable_time() -> None:
    """About half a second here; ten times that would mean that the cost per step grows with their number."""
    steps = [step("s0", RESERVE, "ReserveStock")]
    steps += (
        step(
            f"s{n}",
            f"ReserveStockRequest{{quantity: s{n - 1}.total_cents, order_id: s0.reservation_id, charge: 's{n + 1}'}}",
            "ReserveStock",
        )
        for n in range(1, 1000)
    )
    begin = time.process_time()
    assert check(definition(*steps), participants()).problems == ()
    assert time.process_time() - begin < 8


def test_participants_descriptions_are_left_as_they_are() -> None:
    described = inventory()
    before = described.SerializeToString(deterministic=True)
    check(reserve_and_charge(), participants() | {"inventory": described})
    assert described.SerializeToString(deterministic=True) == before
