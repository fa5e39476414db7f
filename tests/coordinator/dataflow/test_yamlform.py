"""Definitions as text: what is read, what is refused and where, and the way back."""

import json
from contextlib import suppress

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.definition import Problem
from coordinator.dataflow.check import check
from coordinator.dataflow.yamlform import DefinitionTextError, dump, load
from saga.v1.definition_pb2 import (
    COMPENSATION_ORDER_ONE_AT_A_TIME,
    STEP_ORDER_GRAPH,
    AttemptPolicy,
    CompensationOrder,
    SagaDefinition,
    StepDefinition,
    StepOrder,
)
from saga.v1.types_pb2 import STEP_KIND_PIVOT, STEP_KIND_RESERVABLE, StepKind
from tests.coordinator.dataflow.shop import participants

TEXT = """\
# An order, from stock to money.
name: order_fulfillment
input_type: shop.v1.Order
timeout: 5m
hold_margin: 1.5s
order: GRAPH
compensation_order: COMPENSATION_ORDER_ONE_AT_A_TIME
labels:
  order: input.order_id
exclusive_keys: ["input.order_id"]
steps:
  - name: reserve
    participant: inventory
    action: ReserveStock
    kind: RESERVABLE
    input: "ReserveStockRequest{order_id: input.order_id}"
    execute: &policy
      timeout: 100ms
      max_attempts: 0
      backoff_multiplier: 1.5
    compensate: *policy
  - name: charge
    participant: payment
    action: ChargeCard
    kind: STEP_KIND_PIVOT
    after: [reserve]
    input: |
      ChargeRequest{
        order_id: input.order_id,
        amount_cents: reserve.total_cents
      }
    confirm: {initial_backoff: 2h30m, backoff_multiplier: 2}
"""

POLICY = AttemptPolicy(timeout=Duration(nanos=100_000_000), max_attempts=0, backoff_multiplier=1.5)
DEFINITION = SagaDefinition(
    name="order_fulfillment",
    input_type="shop.v1.Order",
    timeout=Duration(seconds=300),
    hold_margin=Duration(seconds=1, nanos=500_000_000),
    order=STEP_ORDER_GRAPH,
    compensation_order=COMPENSATION_ORDER_ONE_AT_A_TIME,
    labels={"order": "input.order_id"},
    exclusive_keys=["input.order_id"],
    steps=[
        StepDefinition(
            name="reserve",
            participant="inventory",
            action="ReserveStock",
            kind=STEP_KIND_RESERVABLE,
            input="ReserveStockRequest{order_id: input.order_id}",
            execute=POLICY,
            compensate=POLICY,
        ),
        StepDefinition(
            name="charge",
            participant="payment",
            action="ChargeCard",
            kind=STEP_KIND_PIVOT,
            after=["reserve"],
            input="ChargeRequest{\n  order_id: input.order_id,\n  amount_cents: reserve.total_cents\n}\n",
            confirm=AttemptPolicy(initial_backoff=Duration(seconds=9000), backoff_multiplier=2),
        ),
    ],
)


def _refusals(text: str) -> list[str]:
    with pytest.raises(DefinitionTextError) as caught:
        load(text, "order.yaml")
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(problem) for problem in caught.value.problems]


def test_the_friendly_form_is_read() -> None:
    assert load(TEXT, "order.yaml").definition == DEFINITION


def test_json_is_read() -> None:
    text = json.dumps(
        {"name": "a", "timeout": "300s", "steps": [{"name": "b", "kind": "PIVOT", "execute": {"max_attempts": 3}}]}
    )
    step = StepDefinition(name="b", kind=STEP_KIND_PIVOT, execute=AttemptPolicy(max_attempts=3))
    assert load(text, "a.json").definition == SagaDefinition(name="a", timeout=Duration(seconds=300), steps=[step])


def test_zero_attempts_and_none_said_are_different() -> None:
    steps = load("steps: [{execute: {max_attempts: 0}}, {execute: {}}]", "a").definition.steps
    assert [step.execute.HasField("max_attempts") for step in steps] == [True, False]
    assert steps[1].HasField("execute")


def test_every_mistake_is_found_at_once_with_its_place() -> None:
    text = """\
name: 17
inptu_type: shop.v1.Order
timeout: 300
hold_margin: 5 minutes
order: SOMEHOW
labels: {a: input.order_id, b: [1], a: again}
steps:
  - name: yes
    kind: RESERVEABLE
    after: reserve
    execute:
      max_attempts: -1
      backoff_multiplier: "2"
      timeout:
  - charge
  - input: 2026-01-01
    compensate: {max_attempts: 4294967296, initial_backoff: {}, max_backoff: 0x10}
"""
    kinds = "COMPENSATABLE, RESERVABLE, PIVOT, RETRIABLE, READ_ONLY"
    duration = "a duration such as 5m, 300s, 1.5s, 100ms or 2h30m"
    whole = "a whole number from 0 to 4294967295"
    assert _refusals(text) == [
        "order.yaml:1:7: name: a number `17`; expected text, in quotes if need be",
        "order.yaml:2:1: inptu_type: unknown field `inptu_type`; expected `input_type`",
        f"order.yaml:3:10: timeout: a number `300`; expected {duration}",
        f"order.yaml:4:14: hold_margin: text `5 minutes`; expected {duration}",
        "order.yaml:5:8: order: text `SOMEHOW`; expected one of: SEQUENTIAL, GRAPH",
        "order.yaml:6:32: labels['b']: a list; expected text, in quotes if need be",
        "order.yaml:6:37: labels: `a` stands twice; expected it once",
        "order.yaml:8:11: steps[0].name: a boolean `yes`; expected text, in quotes if need be",
        f"order.yaml:9:11: steps[0].kind: text `RESERVEABLE`; expected one of: {kinds}",
        "order.yaml:10:12: steps[0].after: text `reserve`; expected a list",
        f"order.yaml:12:21: steps[0].execute.max_attempts: a number `-1`; expected {whole}",
        "order.yaml:13:27: steps[0].execute.backoff_multiplier: text `2`; expected a number",
        f"order.yaml:14:15: steps[0].execute.timeout: nothing; expected {duration}",
        "order.yaml:15:5: steps[1]: text `charge`; expected a mapping with the fields of StepDefinition",
        "order.yaml:16:12: steps[2].input: a date `2026-01-01`; expected text, in quotes if need be",
        f"order.yaml:17:32: steps[2].compensate.max_attempts: a number `4294967296`; expected {whole}",
        f"order.yaml:17:61: steps[2].compensate.initial_backoff: a mapping; expected {duration}",
        f"order.yaml:17:78: steps[2].compensate.max_backoff: a number `0x10`; expected {duration}",
    ]


@pytest.mark.parametrize(
    "number", ["010", "0x10", "1_000", "1:30", ".5", ".inf", ".nan", "1e999", "'2'", "two", "null"]
)
def test_numbers_that_mean_something_else_than_they_look_are_refused(number: str) -> None:
    (refusal,) = _refusals(f"steps: [{{execute: {{backoff_multiplier: {number}}}}}]")
    assert refusal.endswith("expected a number")


@pytest.mark.parametrize(("number", "value"), [("2", 2.0), ("1.5", 1.5), ("15e-1", 1.5), ("1E1", 10.0), ("3.", 3.0)])
def test_numbers_as_json_writes_them(number: str, value: float) -> None:
    read = load(f'{{"steps": [{{"execute": {{"backoff_multiplier": {number}}}}}]}}', "a").definition
    assert read.steps[0].execute.backoff_multiplier == value


def test_a_value_that_is_not_said_is_not_to_be_said() -> None:
    (refusal,) = _refusals("order: STEP_ORDER_UNSPECIFIED")
    assert "SEQUENTIAL" in refusal


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("", "order.yaml:1:1: the text is empty"),
        ("# nothing", "order.yaml:1:1: the text is empty"),
        ("[]", "order.yaml:1:1: a list; expected a mapping"),
        ("name: a\n--- {}", "order.yaml:2:1: not YAML: but found another document"),
        ("name: [", "order.yaml:1:8: not YAML"),
        ("name: 'a", "not YAML: found unexpected end of stream"),
        ("name: *nobody", "order.yaml:1:7: not YAML: found undefined alias"),
        ("name: a\n\tsteps: []", "order.yaml:2:1: not YAML"),
        ("name: a\x01", "order.yaml:1:8: not YAML: special characters are not allowed"),
        ("? [a]\n: b", "order.yaml:1:3: a list as a key; expected text"),
        ("? null\n: b", "order.yaml:1:3: nothing `null` as a key; expected text"),
        ("name: !!python/object:os.system {}", "name: something of type python/object:os.system"),
        ("name: !secret x", "name: something of type !secret `x`"),
        ("<<: {name: a}", "unknown field `<<`"),
        ("steps: &all [*all]", "steps[0]: a list; expected a mapping"),
        ("[" * 5000, "nested too deeply"),
        ("name: " + "x" * 5_000_000, "at most 4194304"),
    ],
)
def test_what_is_no_definition(text: str, refusal: str) -> None:
    assert any(refusal in found for found in _refusals(text))


def test_aliases_cannot_unfold_without_bound() -> None:
    """G14."""
    text = "description: &long " + "x" * 100_000 + "\nexclusive_keys: [" + ", ".join(["*long"] * 100_000) + "]\n"
    (refusal,) = _refusals(text)
    assert "with its aliases unfolded, the text is too long" in refusal


def test_a_long_value_is_not_shown_whole() -> None:
    (refusal,) = _refusals("order: " + "x" * 10_000)
    assert len(refusal) < 200


@pytest.mark.parametrize(
    ("problem", "place"),
    [
        (Problem("name", ""), (2, 7)),
        (Problem("", ""), (2, 1)),
        (Problem("description", ""), (2, 1)),  # missing: the whole
        (Problem("steps", ""), (12, 3)),
        (Problem("steps[0].when", ""), (12, 5)),  # missing: its step
        (Problem("steps[0].execute.max_backoff", ""), (17, 14)),
        (Problem("steps[1].after[0]", ""), (26, 13)),
        (Problem("labels['order']", ""), (9, 10)),
        (Problem("labels['other']", ""), (9, 3)),
        (Problem("exclusive_keys[0]", "", "", 1, 7), (10, 25)),
        (Problem("steps[0].input", ""), (16, 12)),
        (Problem("steps[0].input", "", "", 1, 31), (16, 43)),
        (Problem("steps[1].input", "", "", 1, 1), (28, 7)),
        (Problem("steps[1].input", "", "", 3, 17), (30, 23)),
        (Problem("steps[1].input", "", "", 4, 2), (31, 8)),  # behind its end
    ],
)
def test_what_the_coordinator_finds_is_shown_at_its_place(problem: Problem, place: tuple[int, int]) -> None:
    found = load(TEXT, "order.yaml").locate(problem)
    assert (found.line, found.column) == place
    assert (found.source, found.path) == ("order.yaml", problem.path)


@pytest.mark.parametrize(
    ("written", "column", "place"),
    [
        ("input: aaa + bbb", 7, (2, 18)),
        ("input: 'aaa + bbb'", 7, (2, 19)),
        ("input: aaa +\n      bbb", 7, (3, 7)),
        ("input: >-\n      aaa +\n      bbb", 7, (4, 7)),
        ("input: >-  # folded\n      aaa\n      + bbb", 7, (4, 9)),
        ("input: 'a == ''x'' + bbb'", 12, (2, 12)),  # escaped: where the text begins
        ('input: "\\u0061aa + bbb"', 7, (2, 12)),
    ],
)
def test_places_in_texts_that_are_folded_or_escaped(written: str, column: int, place: tuple[int, int]) -> None:
    found = load(f"steps:\n  - {written}\n", "a").locate(Problem("steps[0].input", "", "", 1, column))
    assert (found.line, found.column) == place


def test_a_fault_that_cel_finds_is_shown_in_the_file() -> None:
    loaded = load(TEXT.replace("reserve.total_cents", "reserve.total_cent"), "order.yaml")
    problems = check(loaded.definition, participants()).problems
    (shown,) = [str(loaded.locate(problem)) for problem in problems if problem.path == "steps[1].input"]
    assert shown == (
        "order.yaml:30:30: steps[1].input: undefined field 'total_cent' not found in struct "
        "'inventory.v1.Reservation'; expected `total_cents`"
    )


def test_what_is_written() -> None:
    assert (
        dump(DEFINITION)
        == """\
name: order_fulfillment
input_type: shop.v1.Order
steps:
  - name: reserve
    participant: inventory
    action: ReserveStock
    kind: RESERVABLE
    input: 'ReserveStockRequest{order_id: input.order_id}'
    execute:
      timeout: 100ms
      max_attempts: 0
      backoff_multiplier: 1.5
    compensate:
      timeout: 100ms
      max_attempts: 0
      backoff_multiplier: 1.5
  - name: charge
    participant: payment
    action: ChargeCard
    kind: PIVOT
    after:
      - reserve
    input: |
      ChargeRequest{
        order_id: input.order_id,
        amount_cents: reserve.total_cents
      }
    confirm:
      initial_backoff: 2h30m
      backoff_multiplier: 2.0
timeout: 5m
order: GRAPH
compensation_order: ONE_AT_A_TIME
exclusive_keys:
  - input.order_id
hold_margin: 1.5s
labels:
  order: input.order_id
"""
    )


_texts = st.one_of(
    st.text(max_size=40), st.sampled_from(["", "null", "yes", "1", "a: b", "- a", "|", "2026-01-01", "\n x\n"])
)
_durations = st.builds(Duration, seconds=st.integers(0, 10**9), nanos=st.integers(0, 10**9 - 1))
_maybe_durations = st.none() | _durations
_policies = st.builds(
    AttemptPolicy,
    timeout=_maybe_durations,
    max_attempts=st.none() | st.integers(0, 2**32 - 1),
    initial_backoff=_maybe_durations,
    backoff_multiplier=st.floats(allow_nan=False, allow_infinity=False),
    max_backoff=_maybe_durations,
)
_steps = st.builds(
    StepDefinition,
    name=_texts,
    participant=_texts,
    action=_texts,
    kind=st.sampled_from(StepKind.values()),
    after=st.lists(_texts, max_size=2),
    input=_texts,
    when=_texts,
    execute=st.none() | _policies,
    compensate=st.none() | _policies,
    confirm=st.none() | _policies,
    timeout=_maybe_durations,
)
_definitions = st.builds(
    SagaDefinition,
    name=_texts,
    version=st.integers(0, 2**32 - 1),
    description=_texts,
    input_type=_texts,
    steps=st.lists(_steps, max_size=3),
    output=_texts,
    timeout=_maybe_durations,
    order=st.sampled_from(StepOrder.values()),
    compensation_order=st.sampled_from(CompensationOrder.values()),
    exclusive_keys=st.lists(_texts, max_size=2),
    hold_margin=_maybe_durations,
    labels=st.dictionaries(_texts, _texts, max_size=2),
)


@given(_definitions)
def test_what_is_written_is_read_back(definition: SagaDefinition) -> None:
    assert load(dump(definition), "dumped").definition == definition


@given(st.text(alphabet=st.sampled_from("abc:-[]{}'\"|>&*!\n #,?0name steps"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(DefinitionTextError):
        load(text, "any")


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ('steps: []\nname: "\\UFFFFFFFF"', 2, 10),
        ('name: "\\U00110000"', 1, 10),
        ("%YAML " + "9" * 5000 + ".1\n--- a", 1, 7),
        ('steps: []\nname: "\\ud800"', 2, 7),
        ('"\\udfff": a', 1, 1),
        ('labels: {"\\ud800": a}', 1, 10),
    ],
)
def test_what_the_yaml_library_trips_over_has_its_place_too(text: str, line: int, column: int) -> None:
    with pytest.raises(DefinitionTextError) as refused:
        load(text, "f.yaml")
    (problem,) = refused.value.problems
    assert (problem.line, problem.column) == (line, column)
