"""What an expression may say, how its faults are told, and what it does with data."""

import gc
import sys
from collections.abc import Collection, Mapping

import pytest
from google.protobuf.message import Message

from coordinator.dataflow.expressions import (
    ANY_MESSAGE,
    BOOL,
    STRING,
    EvaluationError,
    Expression,
    Expressions,
    Fault,
    InvalidExpressionError,
    Output,
    Scope,
    check_syntax,
)
from coordinator.dataflow.types import Types
from tests.coordinator.core.protos import files, proto
from tests.coordinator.dataflow.shop import compile_protos, types

REQUEST = "inventory.v1.ReserveStockRequest"
OUTPUTS = {
    "reserve": Output("inventory.v1.Reservation", optional=False),
    "hold": Output("inventory.v1.Reservation", optional=True),
    "later": Output("payment.v1.Receipt", optional=False),
    "unknown": Output("", optional=False),
}


@pytest.fixture(scope="module")
def expressions() -> Expressions:
    return Expressions(types(), "shop.v1.Order", OUTPUTS)


def _scope(package: str = "inventory.v1", visible: Collection[str] = ("reserve", "hold", "unknown")) -> Scope:
    return Scope(package, visible, "is not an ancestor of this step")


def _faults(expressions: Expressions, text: str, result: str = REQUEST, scope: Scope | None = None) -> list[Fault]:
    with pytest.raises(InvalidExpressionError) as caught:
        expressions.compile(text, scope or _scope(), result)
    return list(caught.value.faults)


def _order(json: str = "{}") -> Message:
    return types().from_json(json, "shop.v1.Order")


def _reservation(json: str) -> Message:
    return types().from_json(json, "inventory.v1.Reservation")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("ReserveStockRequest{order_id: input.order_id}", REQUEST),
        ("inventory.v1.ReserveStockRequest{}", REQUEST),
        ("ReserveStockRequest{lines: input.lines, priority: input.priority}", REQUEST),
        ("ReserveStockRequest{priority: Priority.PRIORITY_HIGH}", REQUEST),
        ("ReserveStockRequest{priority: shop.v1.Priority.PRIORITY_HIGH}", REQUEST),
        ("ReserveStockRequest{numbers: input.lines.map(line, line.quantity)}", REQUEST),
        ("ReserveStockRequest{quantity: input.stock['a']}", REQUEST),
        ("ReserveStockRequest{lines: [shop.v1.Line{sku: 'a'}]}", REQUEST),
        ("cel.bind(id, input.order_id, ReserveStockRequest{order_id: id})", REQUEST),
        ("ReserveStockRequest{order_id: input.note}", REQUEST),
        ("ReserveStockRequest{order_id: hold.reservation_id.orValue('none')}", REQUEST),
        ("ReserveStockRequest{?order_id: hold.?reservation_id}", REQUEST),
        ("hold.optMap(h, ReserveStockRequest{order_id: h.reservation_id}).orValue(ReserveStockRequest{})", REQUEST),
        ("hold.hasValue() ? ReserveStockRequest{} : ReserveStockRequest{quantity: 1}", REQUEST),
        ("ReserveStockRequest{quantity: unknown.whatever}", REQUEST),
        ("unknown", REQUEST),
        ("Order{}", "shop.v1.Order"),
        ("Order.Address{city: 'x'}", ANY_MESSAGE),
        ("input.price", "common.v1.Money"),
        ("Money{currency: 'EUR'}", "common.v1.Money"),
        ("input.express", BOOL),
        ("input.`in`", BOOL),
        ("has(input.note) && input.placed > timestamp('2026-01-01T00:00:00Z')", BOOL),
        ("input.order_id", STRING),
        ("input.note == null ? '' : 'n' + input.note", STRING),
    ],
)
def test_what_is_admitted(expressions: Expressions, text: str, result: str) -> None:
    expressions.compile(text, _scope(), result)


@pytest.mark.parametrize(
    ("text", "result", "message", "expected"),
    [
        ("null", REQUEST, "yields `null`", REQUEST),
        ("dyn(ReserveStockRequest{})", REQUEST, "yields `dyn`", REQUEST),
        ("input", REQUEST, "yields `shop.v1.Order`", REQUEST),
        ("hold", "inventory.v1.Reservation", "yields `optional_type<inventory.v1.Reservation>`", "a default"),
        ("input.placed", ANY_MESSAGE, "yields `timestamp`", ANY_MESSAGE),
        ("input.attachment", ANY_MESSAGE, "yields `google.protobuf.Any`", ANY_MESSAGE),
        ("input.lines", ANY_MESSAGE, "yields `list<shop.v1.Line>`", ANY_MESSAGE),
        ("input.note", STRING, "yields string or null", "null"),
        ("reserve.remark", STRING, "yields string or null", "null"),
        ("[input.order_id, input.note][1]", STRING, "yields string or null", "null"),
        ("input.extra", STRING, "yields `dyn`", STRING),
        ("input.amount", STRING, "yields `int`", STRING),
        ("input.order_id", BOOL, "yields string", BOOL),
        ("input.amount", BOOL, "yields `int`", BOOL),
    ],
)
def test_what_is_of_the_wrong_type(
    expressions: Expressions, text: str, result: str, message: str, expected: str
) -> None:
    (fault,) = _faults(expressions, text, result)
    assert message in fault.message
    assert expected in fault.expected
    assert (fault.line, fault.column) == (0, 0)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "ReserveStockRequest{\n  order_id: input.ordr_id}",
            Fault("undefined field 'ordr_id' not found in struct 'shop.v1.Order'", "`order_id`", 2, 18),
        ),
        (
            "ReserveStockRequest{quantity: 'x'}",
            Fault("expected type of field 'quantity' is 'int' but provided type is 'string'", "", 1, 29),
        ),
        (
            "ReserveStockRequest{order_id: later.receipt_id}",
            Fault(
                "step `later` is not an ancestor of this step", "one of `input`, `hold`, `reserve`, `unknown`", 1, 36
            ),
        ),
        (
            "later",
            Fault("step `later` is not an ancestor of this step", "one of `input`, `hold`, `reserve`, `unknown`", 1, 1),
        ),
        ("reserv.total_cents", Fault("undeclared reference to 'reserv.total_cents'", "`reserve`", 1, 7)),
        ("ReserveStockReqest{}", Fault("undeclared reference to 'ReserveStockReqest'", "`ReserveStockRequest`", 1, 1)),
        (
            "ReserveStockRequest{order_id: hold.reservation_id}",
            Fault(
                "expected type of field 'order_id' is 'string' but provided type is 'optional_type(string)'",
                "a default for where the step was skipped, for instance by `.orValue(…)`",
                1,
                29,
            ),
        ),
        (
            "ReserveStockRequest{\n order_id: hold.value().reservation_id}",
            Fault(
                "`.value()` fails where there is no value",
                "a default for where the step was skipped, for instance by `.orValue(…)`",
                2,
                16,
            ),
        ),
        ("__output_hold[0]", Fault("undeclared reference to '__output_hold'", "", 1, 1)),
        ("ReserveStockRequest{} +", Fault("Syntax error: mismatched input the end of the expression", "", 1, 24)),
        ("", Fault("Syntax error: mismatched input the end of the expression", "", 1, 1)),
        ("'ü' + input.nope", Fault("undefined field 'nope' not found in struct 'shop.v1.Order'", "`note`", 1, 12)),
    ],
)
def test_a_fault_says_where_and_what_instead(expressions: Expressions, text: str, fault: Fault) -> None:
    assert fault in _faults(expressions, text)


def test_all_faults_come_at_once_in_order(expressions: Expressions) -> None:
    text = "ReserveStockRequest{\n  order_id: input.a,\n  quantity: later.cents,\n  charge: hold.value()}"
    assert [fault.line for fault in _faults(expressions, text)] == [2, 3, 4, 4]


def test_what_only_follows_from_another_fault_is_not_told(expressions: Expressions) -> None:
    (fault,) = _faults(expressions, "Nope{}.field")
    assert "Nope" in fault.message


def test_a_name_of_several_types_must_be_qualified(expressions: Expressions) -> None:
    (fault,) = _faults(Expressions(types(), "", {}), "Line{}", ANY_MESSAGE, _scope(""))
    assert fault.message == "`Line` can mean several types"
    assert fault.expected == "one of `inventory.v1.Line`, `payment.v1.Line`, `shop.v1.Line`"


def test_a_short_name_means_the_type_of_the_own_package_first_then_of_the_input(expressions: Expressions) -> None:
    assert expressions.compile("Line{shelf: 'a'}", _scope("inventory.v1"), "inventory.v1.Line")
    assert expressions.compile("Line{text: 'a'}", _scope("payment.v1"), "payment.v1.Line")
    assert expressions.compile("Line{sku: 'a'}", _scope("common.v1"), "shop.v1.Line")


def test_a_type_may_be_named_like_a_package() -> None:
    odd = 'syntax = "proto3"; package shop.v1; message inventory { string shelf = 1; } message input { int32 n = 1; }'
    mine = 'syntax = "proto3"; package inventory.v1; message Mine {} message Order { string id = 1; }'
    files = compile_protos({"odd.proto": odd, "mine.proto": mine})
    expressions = Expressions(Types(files), "inventory.v1.Order", {})
    assert expressions.compile("inventory.v1.Mine{}", _scope("inventory.v1"), "inventory.v1.Mine")
    assert expressions.compile("input.id", _scope("inventory.v1"), STRING)


@pytest.mark.parametrize(
    "text",
    [
        "ReserveStockRequest{charge: 'later'}",  # in a text
        "ReserveStockRequest{} // later, and hold.value()",  # in a comment
        "ReserveStockRequest{order_id: '''hold.value( __output_'''}",
        'ReserveStockRequest{order_id: r"\\d" + "hold.value(\\"", charge: R\'later.x"\'}',
        "ReserveStockRequest{numbers: input.lines.map(later, later.quantity)}",  # another variable of that name
    ],
)
def test_a_step_that_is_mentioned_but_not_read_is_no_fault(expressions: Expressions, text: str) -> None:
    expressions.compile(text, _scope(), REQUEST)


def test_a_field_may_have_the_name_of_a_later_step() -> None:
    expressions = Expressions(types(), "shop.v1.Order", {"charge": Output("payment.v1.Receipt", optional=True)})
    scope = _scope(visible=())
    compiled = expressions.compile("ReserveStockRequest{charge: input.order_id}", scope, REQUEST)
    assert compiled.evaluate({"input": _order('{"orderId": "x"}')}).charge == "x"


@pytest.mark.parametrize(
    "text", ["hold.orValue(Reservation{})) == (Reservation{}", "true) || (true", "true\n) || (\ntrue"]
)
def test_an_expression_cannot_break_out_of_what_is_wrapped_round_it(expressions: Expressions, text: str) -> None:
    assert all("Syntax error" in fault.message for fault in _faults(expressions, text, BOOL))


@pytest.mark.parametrize("text", ["(" * 40 + "true" + ")" * 40, "input.amount" + " + 1" * 500 + " == 1"])
def test_nesting_has_a_limit(expressions: Expressions, text: str) -> None:
    (fault,) = _faults(expressions, text, BOOL)
    assert "too deeply" in fault.message


def test_many_steps_that_may_be_skipped_can_be_read() -> None:
    outputs = {f"s{n:02}": Output("payment.v1.Receipt", optional=True) for n in range(40)}
    expressions = Expressions(types(), "shop.v1.Order", outputs)

    def read(count: int) -> Expression:
        text = "[" + ", ".join(f"{name}.cents.orValue(1)" for name in sorted(outputs)[:count]) + "].exists(c, c == 2)"
        return expressions.compile(text, Scope("payment.v1", outputs, ""), BOOL)

    two = types().from_json('{"cents": "2"}', "payment.v1.Receipt")
    assert read(20).evaluate({"s19": two}) is True
    assert read(20).evaluate({}) is False
    with pytest.raises(InvalidExpressionError, match="too deeply"):
        read(40)


def test_positions_hold_behind_several_skippable_steps() -> None:
    outputs = {name: Output("payment.v1.Receipt", optional=True) for name in ("a", "b", "c")}
    expressions = Expressions(types(), "shop.v1.Order", outputs)
    text = "a.cents.orValue(0) == 1 ||\nb.cents.orValue(0) == 1 ||\n  c.nope.orValue(0) == 1"
    (fault,) = _faults(expressions, text, BOOL, Scope("", outputs, ""))
    assert (fault.line, fault.column) == (3, 4)


def test_syntax_alone_can_be_checked() -> None:
    check_syntax("whatever.it.is(Means{a: 1})")
    with pytest.raises(InvalidExpressionError) as caught:
        check_syntax("a +\n* b")
    assert [(fault.line, fault.column) for fault in caught.value.faults] == [(2, 1)]


@pytest.mark.parametrize(
    ("text", "values", "result"),
    [
        ("reserve.total_cents == 7", {"reserve": '{"totalCents": "7"}'}, True),
        ("hold.total_cents.orValue(1) == 7", {"hold": '{"totalCents": "7"}'}, True),
        ("hold.total_cents.orValue(1) == 1", {}, True),
        ("hold.hasValue()", {}, False),
        ("hold.?line.?shelf.orValue('none') == 'none'", {"hold": "{}"}, True),
    ],
)
def test_what_is_read_of_steps(expressions: Expressions, text: str, values: Mapping[str, str], result: bool) -> None:
    compiled = expressions.compile(text, _scope(), BOOL)
    assert compiled.evaluate({name: _reservation(json) for name, json in values.items()}) is result


@pytest.mark.parametrize(
    ("text", "result", "message"),
    [
        ("ReserveStockRequest{quantity: input.amount}", REQUEST, "int64 to int32 overflow"),
        ("ReserveStockRequest{numbers: [1, 'x']}", REQUEST, "type conversion error from 'string' to 'int'"),
        ("ReserveStockRequest{priority: 99999999999}", REQUEST, "type conversion error"),
        ("ReserveStockRequest{order_id: string(b'\\xff')}", REQUEST, "malformed UTF-8"),
        ("ReserveStockRequest{order_id: input.extra}", REQUEST, "type conversion error"),
        ("input.lines[3].sku", STRING, "Index error"),
        ("input.stock['a'] == 1", BOOL, "Key not found"),
        ("1 / (input.amount - input.amount) == 1", BOOL, "divide by zero"),
        ("false ? ReserveStockRequest{} : null", REQUEST, "yields null"),
        ("[1,2,3,4,5,6,7,8,9].all(a, " * 6 + "true" + ")" * 6, BOOL, "Iteration budget exceeded"),
    ],
)
def test_what_fails_on_data_says_what_cel_says(expressions: Expressions, text: str, result: str, message: str) -> None:
    compiled = expressions.compile(text.replace("[1,2,3,4,5,6,7,8,9]", str(list(range(12)))), _scope(), result)
    with pytest.raises(EvaluationError, match=message) as caught:
        compiled.evaluate({"input": _order('{"amount": "1099511627776", "extra": [1]}')})
    assert not str(caught.value).startswith(("INVALID_ARGUMENT", "OUT_OF_RANGE", "NOT_FOUND", "INTERNAL"))


def test_an_output_that_must_be_there_is_missed_by_name(expressions: Expressions) -> None:
    compiled = expressions.compile("reserve.total_cents == 7", _scope(), BOOL)
    assert compiled.reads == ("reserve",)
    with pytest.raises(EvaluationError, match="`reserve` has no value"):
        compiled.evaluate({})


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("false ? ReserveStockRequest{} : null", REQUEST),
        ("ReserveStockRequest{quantity: input.amount}", REQUEST),
        ("ReserveStockRequest{order_id: hold.reservation_id.orValue('x')}", REQUEST),
        ("input.express", BOOL),
    ],
)
def test_no_result_costs_a_reference_to_none(expressions: Expressions, text: str, result: str) -> None:
    """The library's bug with null, which in the end aborts the interpreter, is not met."""
    compiled = expressions.compile(text, _scope(), result)
    values = {"input": _order('{"amount": "1099511627776"}')}

    def evaluate(times: int) -> None:
        for _ in range(times):
            try:
                compiled.evaluate(values)
            except EvaluationError:
                continue

    evaluate(10)
    gc.collect()
    before = sys.getrefcount(None)
    evaluate(2000)
    gc.collect()
    assert before - sys.getrefcount(None) < 500


def test_a_map_with_messages_as_keys_is_a_fault() -> None:
    types = Types(files(proto("shop.proto", "shop", {"Text": ["text"]})))
    with pytest.raises(InvalidExpressionError, match="Unsupported map key type"):
        Expressions(types, "shop.Text", {}).compile("{input: input}", Scope("shop", (), ""), STRING)


def test_g14_a_chain_of_optmap_is_refused_before_it_is_expanded() -> None:
    """The parser doubles what each is called on: 20 of them took 18 s and all memory."""
    chain = "hold" + ".optMap(h, h)" * 20 + ".hasValue()"
    with pytest.raises(InvalidExpressionError, match="too many `optMap`"):
        check_syntax(chain)
    with pytest.raises(InvalidExpressionError, match="too many `optMap`"):
        check_syntax("[(" * 9 + "hold" + ".optMap(h, h))][?0].optFlatMap(h, h)" * 9 + "]" * 9)


def test_many_optmap_that_are_not_called_on_each_other_are_none_too_many() -> None:
    check_syntax(" + ".join(f"s{number}.optMap(s, s.cents).orValue(1)" for number in range(20)))
    check_syntax(
        "'.optMap.optMap(' + hold.optMap(h, later.optMap(l, l.cents + h.cents)).orValue(1) // " + ".optMap" * 99
    )
