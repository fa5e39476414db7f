"""G14: no expression that is evaluated can stop the coordinator; and none on ordinary data is kept from it."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from coordinator.core import limits
from coordinator.dataflow.cost import Data, measure
from coordinator.dataflow.expressions import (
    BOOL,
    STRING,
    EvaluationError,
    Expression,
    Expressions,
    InvalidExpressionError,
    Scope,
)
from coordinator.dataflow.types import Types
from tests.coordinator.core.protos import files, proto
from tests.coordinator.dataflow.shop import types

MIB: Final = 1 << 20
MEMORY_MAX: Final = 2 << 30  # address space of a process that evaluates the worst that is admitted; 0.6 GiB of it empty

TEXTS: Final = Types(files(proto("texts.proto", "texts", {"Texts": ["text", "other"]})))
TEXT_EXPRESSIONS: Final = Expressions(TEXTS, "texts.Texts", {})
ORDER_EXPRESSIONS: Final = Expressions(types(), "shop.v1.Order", {})
REQUEST: Final = "inventory.v1.ReserveStockRequest"


def compiled(text: str, result: str = BOOL) -> Expression:
    return TEXT_EXPRESSIONS.compile(text, Scope("texts", (), ""), result)


def over_orders(text: str, result: str = BOOL) -> Expression:
    return ORDER_EXPRESSIONS.compile(text, Scope("inventory.v1", (), ""), result)


def texts(text: str, other: str = "") -> dict[str, Message]:
    return {"input": TEXTS.message_class("texts.Texts")(text=text, other=other)}


def order(lines: int, sku_bytes: int = 30) -> dict[str, Message]:
    made: Any = types().message_class("shop.v1.Order")(order_id="o" * 36)
    for number in range(lines):
        made.lines.add(sku=f"{number:0{sku_bytes}}", quantity=number)
    return {"input": made}


def numbers(count: int) -> str:
    return str(list(range(count)))


def doubled(times: int, first: str, last: str) -> str:
    """`v` bound to `first`, and so many times to itself twice."""
    text = last
    for _ in range(times):
        text = f"cel.bind(v, v + v, {text})"
    return f"cel.bind(v, {first}, {text})"


COSTLY: Final = {  # what an input of a MiB makes of it: up to 43 s, and over 5.8 GB
    "doubled text": doubled(8, "input.text", "v != ''"),
    "copied in a loop": f"{numbers(1000)}.all(a, input.text.size() > 0)",
    "copied into a list": f"{numbers(1000)}.map(a, input.text)[0] != ''",
    "searched in a loop": f"{numbers(1000)}.all(a, !input.text.contains('ab'))",
    "joined and searched in a loop": f"{numbers(1000)}.all(a, !(input.text + input.text).contains('ab'))",
    "a pattern of the data": "input.text.matches(input.text)",
    "a long text sought in a long text": "input.text.contains(input.text + 'b')",
    "a pattern of large classes": r"input.text.matches(r'(\pL){250}x')",
    "messages made in a loop": f"{numbers(1000)}.all(a, Texts{{text: input.text}}.text != '')",
}


REFUSED: Final = {  # whatever the data
    "a pattern compiled in a loop": f"{numbers(1000)}.all(a, !'a'.matches('(a|b){{1000}}'))",
    "a doubled list mapped": doubled(4, numbers(1000), "v.map(a, a).size() > 0"),
}


@pytest.mark.parametrize("name", COSTLY)
def test_g14_what_could_stop_the_coordinator_is_not_evaluated(name: str) -> None:
    expression = compiled(COSTLY[name])
    with pytest.raises(EvaluationError, match=r"^not evaluated: on 1048580 bytes with .*: let a participant do it"):
        expression.evaluate(texts("a" * MIB))


@pytest.mark.parametrize("name", REFUSED)
def test_g14_what_takes_too_long_on_any_data_is_refused_by_the_check(name: str) -> None:
    with pytest.raises(InvalidExpressionError) as caught:
        compiled(REFUSED[name])
    (fault,) = caught.value.faults
    assert fault.message == "the expression takes too long, whatever the data"
    assert fault.expected


@pytest.mark.parametrize("name", COSTLY)
def test_the_same_on_little_data_is_evaluated(name: str) -> None:
    assert compiled(COSTLY[name]).evaluate(texts("a")) in (True, False)


@pytest.mark.parametrize(
    "text",
    [
        "input.text == input.other",
        "input.text + input.other != ''",
        "input.text.contains('hello world')",
        "input.text.startsWith('hello')",
        "input.text.matches('^[a-z]+@[a-z]+[.]com$')",
        "size(input.text) > 3 && input.other.endsWith('x') || input.text in ['a', 'b']",
        doubled(6, "input.text", "v != ''"),
    ],
)
def test_what_is_linear_in_the_data_is_evaluated_on_any(text: str) -> None:
    assert compiled(text).is_always_cheap


@pytest.mark.parametrize(
    ("text", "result", "lines"),
    [
        ("ReserveStockRequest{lines: input.lines, order_id: input.order_id}", REQUEST, 25_000),
        ("ReserveStockRequest{numbers: input.lines.map(line, line.quantity)}", REQUEST, 3000),
        ("ReserveStockRequest{lines: input.lines.filter(line, line.quantity > 3)}", REQUEST, 3000),
        ("input.lines.all(line, line.sku != input.order_id && line.quantity >= 0)", BOOL, 9000),
        ("input.lines.all(line, line.sku.matches('^[0-9]{30}$'))", BOOL, 1000),
        ("input.lines.all(a, input.lines.exists_one(b, b.sku == a.sku))", BOOL, 90),  # CEL allows 10,000 iterations
    ],
)
def test_ordinary_loops_over_long_lists_are_evaluated(text: str, result: str, lines: int) -> None:
    expression, values = over_orders(text, result), order(lines)
    yielded = expression.evaluate(values)
    assert yielded is True or yielded.ByteSize() <= expression.cost_on(values).size


def test_a_loop_costs_the_elements_together_and_not_the_largest_so_many_times() -> None:
    expression = over_orders("input.lines.all(line, line.sku != '')")
    few, many = (expression.cost_on(order(1000, sku_bytes)).work for sku_bytes in (10, 1000))
    assert many < few + 10 * 1000 * 1000


@pytest.mark.parametrize("text", ["input.text", "'x' + string(size(input.text)) + input.text", "string(b'x')"])
def test_the_bound_of_the_size_holds(text: str) -> None:
    expression = compiled(text, STRING)
    for data in (texts("a"), texts("ü" * 5000)):
        assert len(expression.evaluate(data).encode()) <= expression.cost_on(data).size


def test_what_data_is_like() -> None:
    message: Any = order(3, 10)["input"]
    message.by_sku["a"].sku = "ü" * 20
    message.stock["b"] = 1
    assert measure([message], message.ByteSize()) == Data(message.ByteSize(), 5, 40)
    assert measure([], 0) == Data(0, 0, 0)
    struct = Struct()
    struct.update({"a": [1] * 7})
    assert measure([struct], 99).elements == 8


def test_what_is_packed_may_have_as_many_elements_as_bytes() -> None:
    assert measure([Packed(type_url="a/b", value=b"x" * 50)], 60).elements >= 50


def test_data_of_too_many_parts_to_be_looked_at_counts_as_the_worst() -> None:
    (message,) = order(30_000).values()
    assert measure([message], 5) == Data.of_size(5)


def test_memory_that_runs_out_is_a_failure_on_data() -> None:
    class Exhausted:
        def eval(self, **_: object) -> None:
            raise MemoryError

    expression = compiled("input.text == ''")
    expression._compiled = Exhausted()  # type: ignore[assignment]  # an evaluation that fails so takes the machine's memory
    with pytest.raises(EvaluationError, match="more memory than there is"):
        expression.evaluate(texts(""))


def test_g14_the_worst_that_is_evaluated_ends_within_little_memory() -> None:
    """For real, each on the largest data with which it is still admitted, in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-m", __name__], cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stdout.split()) == len(COSTLY)


def _evaluate_the_worst() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_MAX, MEMORY_MAX))
    for name, text in COSTLY.items():
        expression, size = compiled(text), MIB
        while expression.cost_on(texts("a" * size)).work > limits.EXPRESSION_WORK_MAX:
            size = size * 15 // 16
        expression.evaluate(texts("a" * size))
        print(name.replace(" ", "_"))


if __name__ == "__main__":
    _evaluate_the_worst()
