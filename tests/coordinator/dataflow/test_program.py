"""A pinned version at work: inputs, conditions, outputs, labels and keys from a saga's data."""

import pytest
from google.protobuf.any_pb2 import Any

from coordinator.core import limits
from coordinator.dataflow.check import check
from coordinator.dataflow.expressions import Expressions
from coordinator.dataflow.pinned import PinnedDefinition
from coordinator.dataflow.program import ExpressionFailedError, Program
from saga.v1.definition_pb2 import SagaDefinition
from tests.coordinator.dataflow.shop import definition, packed, participants, reserve_and_charge, step, types

ORDER = packed("shop.v1.Order", '{"orderId": "o-1", "lines": [{"sku": "a", "quantity": 3}]}')
RESERVATION = packed("inventory.v1.Reservation", '{"reservationId": "r-1", "totalCents": "1250"}')
RECEIPT = packed("payment.v1.Receipt", '{"receiptId": "c-1"}')


def _program(whole: SagaDefinition) -> Program:
    checked = check(whole, participants())
    assert checked.problems == ()
    assert checked.pinned is not None
    return Program(checked.pinned)


@pytest.fixture(scope="module")
def program() -> Program:
    return _program(reserve_and_charge())


def test_a_step_is_sent_what_its_expression_yields(program: Program) -> None:
    assert program.step_input("reserve", ORDER, {}) == packed(
        "inventory.v1.ReserveStockRequest", '{"orderId": "o-1", "quantity": 3}'
    )
    assert program.step_input("charge", ORDER, {"reserve": RESERVATION}) == packed(
        "payment.v1.ChargeRequest", '{"orderId": "o-1", "amountCents": "1250"}'
    )


def test_the_saga_yields_what_its_output_says(program: Program) -> None:
    output = program.output(ORDER, {"reserve": RESERVATION, "charge": RECEIPT})
    assert output == packed("payment.v1.Receipt", '{"receiptId": "c-1", "cents": "1250"}')
    assert _program(definition(step("a", "ReserveStockRequest{}", "ReserveStock"))).output(ORDER, {}) is None


def test_a_stored_version_yields_the_same(program: Program) -> None:
    """G11: what a saga does next does not depend on what its participants describe today."""
    stored = PinnedDefinition.from_stored(program.pinned.content, program.pinned.descriptor_bytes, 1)
    assert Program(stored).step_input("reserve", ORDER, {}) == program.step_input("reserve", ORDER, {})


def test_a_payload_is_read_whatever_its_urls_prefix(program: Program) -> None:
    order = Any(type_url="example.org/shop.v1.Order", value=ORDER.value)
    assert program.step_input("reserve", order, {}) == program.step_input("reserve", ORDER, {})


def test_the_same_content_gives_the_same_bytes() -> None:
    whole = definition(step("a", "ReserveStockRequest{order_id: input.stock.map(k, k)[0]}", "ReserveStock"))
    whole.output = "shop.v1.Order{stock: {'a': 1, 'b': 2, 'c': 3}}"
    forward, backward = _program(whole), _program(whole)
    backward.definition.output = "shop.v1.Order{stock: {'c': 3, 'b': 2, 'a': 1}}"
    other = Program(backward.pinned)
    assert forward.output(ORDER, {}) == other.output(ORDER, {})


def test_conditions() -> None:
    program = _program(
        definition(
            step("a", "ReserveStockRequest{}", "ReserveStock", when="input.express"),
            step("b", "ReserveStockRequest{}", "ReserveStock", when="a.hasValue() && a.total_cents.orValue(0) > 1"),
            step("c", "ReserveStockRequest{}", "ReserveStock"),
        )
    )
    assert program.condition("a", packed("shop.v1.Order", '{"express": true}'), {}) is True
    assert program.condition("a", ORDER, {}) is False
    assert program.condition("b", ORDER, {}) is False
    assert program.condition("b", ORDER, {"a": RESERVATION}) is True
    assert program.condition("c", ORDER, {}) is True


def test_a_skipped_steps_output_is_its_default() -> None:
    text = "ReserveStockRequest{order_id: a.reservation_id.orValue('none')}"
    program = _program(
        definition(
            step("a", "ReserveStockRequest{}", "ReserveStock", when="input.express"), step("b", text, "ReserveStock")
        )
    )
    request = "inventory.v1.ReserveStockRequest"
    assert program.step_input("b", ORDER, {}) == packed(request, '{"orderId": "none"}')
    assert program.step_input("b", ORDER, {"a": RESERVATION}) == packed(request, '{"orderId": "r-1"}')


def test_labels_and_exclusive_keys() -> None:
    whole = definition(
        step("a", "ReserveStockRequest{}", "ReserveStock"),
        labels={"order": "input.order_id", "kind": "input.express ? 'express' : 'plain'"},
        exclusive_keys=["'order/' + input.order_id", "'customers'", "'order/o-1'"],
    )
    assert _program(whole).labels(ORDER) == {"kind": "plain", "order": "o-1"}
    assert _program(whole).exclusive_keys(ORDER) == ["order/o-1", "customers"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ReserveStockRequest{quantity: input.amount}", "int64 to int32 overflow"),
        ("ReserveStockRequest{quantity: input.lines[0].quantity}", "Index error: index=0 size=0"),
        ("input.express ? ReserveStockRequest{} : null", "the expression yields null"),
    ],
)
def test_what_fails_on_the_data_names_the_expression(text: str, message: str) -> None:
    program = _program(definition(step("a", text, "ReserveStock")))
    with pytest.raises(ExpressionFailedError) as caught:
        program.step_input("a", packed("shop.v1.Order", '{"amount": "9999999999"}'), {})
    assert str(caught.value) == f"steps[0].input: {message}"
    assert caught.value.path == "steps[0].input"


def test_a_failures_text_has_a_limit() -> None:
    """G14: CEL quotes a key that it does not find, whatever its length."""
    text = "ReserveStockRequest{quantity: input.stock[input.order_id]}"
    program = _program(definition(step("a", text, "ReserveStock")))
    with pytest.raises(ExpressionFailedError) as caught:
        program.step_input("a", packed("shop.v1.Order", '{"orderId": "' + "ü" * 3000 + '"}'), {})
    size = len(str(caught.value).encode())
    assert limits.FAILURE_MESSAGE_BYTES_MAX - 2 < size <= limits.FAILURE_MESSAGE_BYTES_MAX


def test_what_is_sent_has_a_limit() -> None:
    """G14."""
    text = "cel.bind(s, input.order_id + input.order_id, ReserveStockRequest{order_id: s})"
    program = _program(definition(step("a", text, "ReserveStock")))
    half = limits.PAYLOAD_BYTES_MAX // 2
    assert program.step_input("a", packed("shop.v1.Order", '{"orderId": "' + "x" * (half - 10) + '"}'), {})
    with pytest.raises(ExpressionFailedError, match=r"steps\[0\].input: \d+ bytes, at most"):
        program.step_input("a", packed("shop.v1.Order", '{"orderId": "' + "x" * half + '"}'), {})


def test_labels_and_keys_have_a_limit() -> None:
    """G14."""
    whole = definition(
        step("a", "ReserveStockRequest{}", "ReserveStock"),
        labels={"o": "input.order_id"},
        exclusive_keys=["input.order_id"],
    )
    program = _program(whole)
    long = packed("shop.v1.Order", '{"orderId": "' + "x" * (limits.LABEL_VALUE_BYTES_MAX + 1) + '"}')
    with pytest.raises(ExpressionFailedError, match=r"labels\['o'\]: 257 bytes"):
        program.labels(long)
    with pytest.raises(ExpressionFailedError, match=r"exclusive_keys\[0\]: 257 bytes"):
        program.exclusive_keys(long)


def test_an_output_that_is_not_there_fails_the_expression(program: Program) -> None:
    with pytest.raises(ExpressionFailedError, match=r"steps\[1\]\.input: `reserve` has no value"):
        program.step_input("charge", ORDER, {})


def test_a_payload_that_cannot_be_read_fails_the_expression(program: Program) -> None:
    with pytest.raises(ExpressionFailedError, match="not a `shop"):
        program.step_input("reserve", RESERVATION, {})


def test_the_types_of_a_step(program: Program) -> None:
    assert program.input_type("reserve") == "inventory.v1.ReserveStockRequest"
    assert program.output_type("reserve") == "inventory.v1.Reservation"


def test_what_a_saga_can_be_started_with(program: Program) -> None:
    assert program.accepts_input(ORDER) is None
    assert program.accepts_input(RECEIPT) == "the payload is a `payment.v1.Receipt`, not a `shop.v1.Order`"


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (RECEIPT, "not a `inventory.v1.Reservation`"),
        (Any(), "no type URL"),
        (Any(type_url=RESERVATION.type_url, value=b"\xff"), "do not decode"),
    ],
)
def test_an_output_of_another_type_or_undecodable_is_a_violation(program: Program, payload: Any, reason: str) -> None:
    """G5: such a reply leaves the outcome unknown."""
    assert program.accepts_output("reserve", RESERVATION) is None
    found = program.accepts_output("reserve", payload)
    assert found is not None
    assert reason in found


def test_an_expression_is_compiled_when_it_is_first_needed_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    program = _program(reserve_and_charge())
    compiled: list[str] = []
    compile_expression = Expressions.compile

    def count(self: Expressions, text: str, *others: object) -> object:
        compiled.append(text)
        return compile_expression(self, text, *others)  # type: ignore[arg-type]  # passed on as they come

    monkeypatch.setattr(Expressions, "compile", count)
    for _ in range(3):
        program.step_input("reserve", ORDER, {})
    assert compiled == [program.definition.steps[0].input]


def test_payloads_of_another_pool_are_taken(program: Program) -> None:
    """The engine hands over what it journaled, whoever packed it."""
    assert types().pool is not program.types.pool
    assert program.accepts_input(packed("shop.v1.Order")) is None


def test_an_expression_that_is_no_longer_admitted_fails_the_saga_and_not_the_coordinator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """G14: a version may have been registered when an expression was allowed to cost more."""
    fresh = _program(reserve_and_charge())
    monkeypatch.setattr(limits, "EXPRESSION_WORK_MAX", 0)
    with pytest.raises(ExpressionFailedError, match=r"^steps\[0\]\.input: .* takes too long"):
        fresh.step_input("reserve", ORDER, {})
