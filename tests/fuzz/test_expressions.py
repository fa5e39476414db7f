"""CEL that nobody should write: a fault of the expression, a failure on the data, or a value; nothing else, and soon.

What is costly on much data is drawn, too: it is then not evaluated (G14). No value is larger than was reckoned.
"""

from __future__ import annotations

import re
import time
from typing import Final

from google.protobuf.message import Message
from hypothesis import event, given, note

from coordinator.core.definition import check_structure
from coordinator.dataflow.check import check
from coordinator.dataflow.expressions import (
    ANY_MESSAGE,
    BOOL,
    STRING,
    EvaluationError,
    Expression,
    Expressions,
    InvalidExpressionError,
    Output,
    Scope,
)
from coordinator.dataflow.types import Types
from saga.v1.definition_pb2 import SagaDefinition
from tests.coordinator.core.protos import files, proto
from tests.coordinator.engine.bench import definition, descriptions, step
from tests.fuzz.tape import TAPES, Tape, profile

SECONDS_MAX: Final = 5.0

TYPES: Final = Types(files(proto("shop.proto", "shop", {"Text": ["text"], "Other": ["text", "more"]})))
EXPRESSIONS: Final = Expressions(
    TYPES, "shop.Text", {"kept": Output("shop.Text", optional=False), "maybe": Output("shop.Other", optional=True)}
)
SCOPE: Final = Scope("shop", ("kept", "maybe"), "is not an ancestor")

_ATOMS: Final = (
    *("input", "input.text", "kept.text", "maybe.orValue(Other{}).text", "maybe", "maybe.value()", "nobody", "null"),
    *(
        "0",
        "-9223372036854775808",
        "9223372036854775807",
        "18446744073709551615u",
        "0u",
        "1e308",
        "0.0",
        "99999999999999999999",
    ),
    *(
        "'a'",
        "''",
        "b'\\xff'",
        "'\\ud800'",
        "'\\U00110000'",
        "r'(a+)+$'",
        "'" + "x" * 5000 + "'",
        "[]",
        "[1, 'a', null]",
    ),
    *(
        "{}",
        "{1: 'a', 1: 'b'}",
        "Text{text: 'a'}",
        "Text{nope: 1}",
        "shop.Other{}",
        "timestamp('9999-12-31T23:59:59Z')",
    ),
    *("timestamp('2026-01-01T00:00:00Z')", "timestamp(-1)", "duration('1000000h')", "duration('x')", "double('NaN')"),
    *("int('x')", "type(1)", "dyn(1)", "__output_maybe", "\x00", "\u202e", "google.protobuf.Struct{}"),
)
_SHAPES: Final = (
    "{0}",
    "({0})",
    "({0} + {1})",
    "({0} - {1})",
    "({0} * {1})",
    "({0} / {1})",
    "({0} % {1})",
    "-{0}",
    "!{0}",
    "({0} == {1})",
    "({0} < {1})",
    "({0} && {1})",
    "({0} || {1})",
    "({0} ? {1} : {2})",
    "({0} in {1})",
    "{0}[{1}]",
    "{0}.size()",
    "{0}.matches({1})",
    "{0}.contains({1})",
    "string({0})",
    "int({0})",
    "bool({0})",
    "has({0})",
    "Text{{text: {0}}}",
    "[{0}, {1}]",
    "{{{0}: {1}}}",
    "[1, 2, 3].map(x, {0})",
    "[1, 2, 3].filter(x, [4, 5, 6].exists(y, {0}))",
    "['a', 'b'].all(input, {0})",
    f"{list(range(300))}.map(x, {{0}})",
    f"{list(range(300))}.all(x, {{0}} != {{1}})",
    "cel.bind(v, {0} + {0}, cel.bind(w, v + v, cel.bind(v, w + w, v + v)))",
    "cel.bind(v, {0}, [v, v, v].map(x, [x] + [v]).map(y, y[0])[1])",
    "optional.of({0}).optMap(v, {1}).optMap(w, {2}).orValue({0})",
    "{{'a': {0}, 'b': {1}}}.map(k, k)",
    "cel.bind(v, {0}, {1})",
    "cel.bind(input, {0}, {1})",
    "{0} // {1}\n",
    "{0}.{1}",
    "{0} {1}",
)


def expression(tape: Tape, depth: int) -> str:
    if depth == 0 or tape.once_in(4):
        return tape.pick(_ATOMS)
    inner = [expression(tape, depth - 1) for _ in range(3)]
    return tape.pick(_SHAPES).format(*inner)


# Expressions that pass the check, by what they yield; the first of each is the end of a branch.
_TYPED: Final = {
    "text": (
        "input.text",
        "kept.text",
        "maybe.?more.orValue('none')",
        "'some text'",
        "string(-1.5)",
        "(<text> + <text>)",
        "(<bool> ? <text> : <text>)",
        "cel.bind(v, <text>, v + v)",
        "cel.bind(v, <text>, cel.bind(w, v + v, w + v + <text>))",
        "string(size(<text>))",
        "string(bytes(<text>))",
        "Text{text: <text>}.text",
        "optional.of(<text>).optMap(v, v + <text>).orValue(<text>)",
        "{'key': <text>, 'more': <text>}['key']",
        "<list>[0]",
        "<list>[?3].orValue(<text>)",
    ),
    "list": (
        "[input.text, kept.text]",
        "[<text>, <text>, <text>]",
        "(<list> + <list>)",
        "cel.bind(l, <list>, l + l + l)",
        "<list>.map(x, x + <text>)",
        "<list>.map(x, <list>.map(y, x + y)[0])",
        "<list>.filter(x, <bool>)",
        "{'a': <text>, 'b': <text>}.map(k, k)",
        f"{list(range(300))}.map(x, <text>)",
    ),
    "bool": (
        "input.text == kept.text",
        "<text>.contains(<text>)",
        "<text>.matches(<text>)",
        "<text>.matches('(a|b)*[^c]{3}')",
        "<text> in <list>",
        "<list> == <list>",
        "<list>.all(x, x < <text>)",
        "<list>.exists_one(x, <bool>)",
    ),
    "Text": ("kept", "Text{text: <text>}", "[<list>.map(x, Text{text: x})][0][0]"),
    "Other": ("Other{text: <text>, more: <text>}",),
}
_HOLE: Final = re.compile("<(text|list|bool)>")
_RESULTS: Final = {"text": STRING, "bool": BOOL, "Text": "shop.Text", "Other": "shop.Other"}


def typed(tape: Tape, kind: str, depth: int) -> str:
    """An expression of that kind which passes the check, unless it is too costly on any data."""
    shape = tape.pick(_TYPED[kind]) if depth > 0 else _TYPED[kind][0]
    return _HOLE.sub(lambda hole: typed(tape, hole[1], depth - 1), shape)


def values(tape: Tape) -> dict[str, Message]:
    """The data; the step that may be skipped is, or not."""
    text = tape.pick(("a", "", "a" * 10_000, "\x00\u202e", "{0}", "ab" * 100_000, "ü" * 500_000))
    bound = {"input": TYPES.message_class("shop.Text")(text=text), "kept": TYPES.message_class("shop.Text")(text=text)}
    if tape.once_in(2):
        bound["maybe"] = TYPES.message_class("shop.Other")(text=text)
    return bound


@profile(400)
@given(TAPES)
def test_any_expression_is_refused_or_yields_what_it_was_checked_for(numbers: bytes) -> None:
    tape = Tape(numbers)
    result = tape.pick((STRING, BOOL, "shop.Text", ANY_MESSAGE))
    text = expression(tape, 1 + tape.below(4))
    note(repr(text))
    begun = time.monotonic()
    try:
        compiled = EXPRESSIONS.compile(text, SCOPE, result)
    except InvalidExpressionError as error:
        event("refused")
        assert error.faults
        height = text.count("\n") + 1
        assert all(fault.message and 0 <= fault.line <= height for fault in error.faults)
    else:
        event("checked")
        for _ in range(3):
            _evaluate(compiled, values(tape), result)
    assert time.monotonic() - begun < SECONDS_MAX


def _evaluate(expression: Expression, bound: dict[str, Message], result: str) -> None:
    try:
        value = expression.evaluate(bound)
    except EvaluationError as error:
        event("not evaluated" if str(error).startswith("not evaluated") else "failed on data")
        assert str(error)
        return
    event("yields a value")
    assert isinstance(value, {STRING: str, BOOL: bool}.get(result, Message))
    size = value.ByteSize() if isinstance(value, Message) else len(str(value).encode())
    assert size <= expression.cost_on(bound).size


@profile(150)
@given(TAPES)
def test_g14_what_passes_the_check_takes_no_longer_and_yields_no_more_than_was_reckoned(numbers: bytes) -> None:
    tape = Tape(numbers)
    kind = tape.pick(tuple(_RESULTS))
    text = typed(tape, kind, 1 + tape.below(4))
    note(text)
    try:
        compiled = EXPRESSIONS.compile(text, SCOPE, _RESULTS[kind])
    except InvalidExpressionError as error:
        event("refused")
        assert "too long, whatever the data" in str(error)
        return
    for _ in range(2):
        begun = time.monotonic()
        _evaluate(compiled, values(tape), _RESULTS[kind])
        assert time.monotonic() - begun < SECONDS_MAX


@profile(60)
@given(TAPES)
def test_g13_such_an_expression_anywhere_in_a_definition_is_a_problem_with_its_path(numbers: bytes) -> None:
    tape = Tape(numbers)
    text = expression(tape, 1 + tape.below(3))
    spoilt: SagaDefinition = definition(step("first"), step("second"))
    match tape.below(5):
        case 0:
            spoilt.steps[1].input = text
        case 1:
            spoilt.steps[0].when = text
        case 2:
            spoilt.output = text
        case 3:
            spoilt.labels["place"] = text
        case _:
            spoilt.exclusive_keys.append(text)
    checked = check(spoilt, descriptions())
    assert bool(checked.problems) == (checked.pinned is None)
    assert all(problem.path and problem.message for problem in checked.problems)
    assert not check_structure(spoilt) or checked.problems


def test_nesting_and_length_are_bounded() -> None:
    for text in ("(" * 10_000 + "1" + ")" * 10_000, "-" * 10_000 + "1", "[" * 5000 + "]" * 5000, "input" + ".a" * 8000):
        begun = time.monotonic()
        checked = check(definition(step("only", input=text)), descriptions())
        assert checked.problems
        assert time.monotonic() - begun < SECONDS_MAX
