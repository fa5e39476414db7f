"""What makes a definition valid, and the plan that follows from it."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from coordinator.core import limits
from coordinator.core.definition import Graph, Plan, Problem, ancestor_names, check_structure, duration_ns
from coordinator.core.instants import to_duration
from saga.v1.definition_pb2 import AttemptPolicy, SagaDefinition, StepDefinition
from saga.v1.types_pb2 import (
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    STEP_KIND_COMPENSATABLE,
    STEP_KIND_UNSPECIFIED,
)
from tests.coordinator.core.sagas import attempts, define, ns, plan, step


def problems(definition: SagaDefinition) -> dict[str, str]:
    """Path to message; a path has at most one problem in these tests."""
    found = check_structure(definition)
    assert len({problem.path for problem in found}) == len(found), found
    return {problem.path: problem.message for problem in found}


def only_problem(definition: SagaDefinition) -> Problem:
    (found,) = check_structure(definition)
    return found


def valid() -> SagaDefinition:
    definition = define(step("reserve"), step("charge"))
    assert check_structure(definition) == []
    return definition


# --- The head ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "order_fulfillment", "a.b-c_9", "a" * 128])
def test_a_definition_name_that_is_one(name: str) -> None:
    definition = valid()
    definition.name = name
    assert check_structure(definition) == []


@pytest.mark.parametrize("name", ["A", "9a", "_a", "a b", "a/b", "é", "a\n", "a" * 129])
def test_a_definition_name_that_is_none(name: str) -> None:
    definition = valid()
    definition.name = name
    found = only_problem(definition)
    assert (found.path, found.message) == ("name", f"`{name}` is not a definition name")
    assert "127 of [a-z0-9_.-]" in found.expected


def test_no_name_and_no_input_type() -> None:
    definition = valid()
    definition.name = definition.input_type = ""
    assert problems(definition) == {
        "name": "the definition has no name",
        "input_type": "the definition has no input type",
    }


def test_texts_are_bounded_in_bytes_and_not_in_characters() -> None:
    definition = valid()
    definition.description = "é" * (limits.DESCRIPTION_BYTES_MAX // 2)
    assert check_structure(definition) == []
    definition.description += "é"
    definition.output = "x" * (limits.EXPRESSION_BYTES_MAX + 1)
    definition.exclusive_keys.append("k" * (limits.EXPRESSION_BYTES_MAX + 1))
    definition.labels["order"] = "l" * (limits.EXPRESSION_BYTES_MAX + 1)
    definition.steps[1].input = "i" * (limits.EXPRESSION_BYTES_MAX + 1)
    definition.steps[1].when = "w" * (limits.EXPRESSION_BYTES_MAX + 1)
    over = f"{limits.EXPRESSION_BYTES_MAX + 1} bytes"
    assert problems(definition) == {
        "description": f"{limits.DESCRIPTION_BYTES_MAX + 2} bytes",
        "output": over,
        "exclusive_keys[0]": over,
        "labels['order']": over,
        "steps[1].input": over,
        "steps[1].when": over,
    }


@pytest.mark.parametrize(
    ("seconds", "nanos", "good"),
    [(0, 0, False), (-1, 0, False), (0, 1, True), (366 * 86_400, 0, True), (366 * 86_400, 1, False), (1, 10**9, False)],
)
def test_a_saga_timeout_is_more_than_nothing_and_at_most_366_days(seconds: int, nanos: int, good: bool) -> None:
    definition = valid()
    definition.timeout.CopyFrom(Duration(seconds=seconds, nanos=nanos))
    definition.steps[0].timeout.CopyFrom(definition.timeout)
    assert set(problems(definition)) == (set() if good else {"timeout", "steps[0].timeout"})


@pytest.mark.parametrize(("seconds", "good"), [(-1, False), (0, True), (366 * 86_400, True), (367 * 86_400, False)])
def test_a_hold_margin_may_be_nothing(seconds: int, good: bool) -> None:
    definition = valid()
    definition.hold_margin.CopyFrom(Duration(seconds=seconds))
    assert set(problems(definition)) == (set() if good else {"hold_margin"})


def test_durations_are_shown_in_seconds() -> None:
    definition = valid()
    definition.hold_margin.CopyFrom(Duration(seconds=-1))
    found = only_problem(definition)
    assert (found.message, found.expected) == ("-1s", "0s to 31622400s")
    definition = valid()
    definition.timeout.CopyFrom(Duration())
    assert only_problem(definition).expected == "more than 0s, at most 31622400s"


def test_keys_labels_and_size_are_bounded() -> None:
    definition = valid()
    definition.exclusive_keys.extend(["'k'"] * limits.EXCLUSIVE_KEYS_MAX)
    for index in range(limits.LABELS_MAX):
        definition.labels[f"l{index}"] = "'v'"
    assert check_structure(definition) == []
    definition.exclusive_keys.append("'k'")
    definition.labels["one.too-many_"] = "'v'"
    assert problems(definition) == {"exclusive_keys": "17 keys", "labels": "65 labels"}
    definition = valid()
    definition.labels["no good"] = "'v'"
    definition.labels["l" * 64] = "'v'"
    assert set(problems(definition)) == {"labels['no good']", f"labels['{'l' * 64}']"}


def test_the_whole_definition_is_bounded() -> None:
    definition = define(*(step(f"s{index}") for index in range(100)))
    for each in definition.steps:
        each.input = "x" * 11_000
    assert only_problem(definition).expected == f"at most {limits.DEFINITION_BYTES_MAX} bytes"


def test_orders_that_do_not_exist() -> None:
    definition = valid()
    definition.order = 7  # type: ignore[assignment]  # a client of a later version may send it
    definition.compensation_order = 8  # type: ignore[assignment]  # as above
    assert problems(definition) == {"order": "7 is no step order", "compensation_order": "8 is no compensation order"}


# --- Steps ------------------------------------------------------------------------------------------------------------


def test_one_to_1024_steps() -> None:
    assert only_problem(define()).message == "0 steps"
    many = [step(f"s{index}") for index in range(limits.STEPS_MAX)]
    assert check_structure(define(*many)) == []
    assert only_problem(define(*many, step("more"))).message == "1025 steps"


@pytest.mark.parametrize("name", ["A", "9a", "a-b", "a.b", "_a", "a" * 65, "é"])
def test_a_step_name_that_is_none(name: str) -> None:
    assert problems(define(step(name))) == {"steps[0].name": f"`{name}` is not a step name"}


@pytest.mark.parametrize("name", ["input", "true", "in", "has", "cel", "list", "exists_one", "timestamp"])
def test_a_step_name_that_expressions_need(name: str) -> None:
    assert problems(define(step(name))) == {"steps[0].name": f"`{name}` has a meaning of its own in expressions"}


def test_a_step_without_anything() -> None:
    assert problems(define(StepDefinition())) == {
        "steps[0].name": "the step has no name",
        "steps[0].participant": "the step has no participant",
        "steps[0].action": "the step has no action",
        "steps[0].input": "the step has no input",
    }


def test_two_steps_of_one_name() -> None:
    found = problems(define(step("a"), step("b"), step("a"), step("a")))
    assert found == {
        "steps[2].name": "`a` is also the name of steps[0]",
        "steps[3].name": "`a` is also the name of steps[0]",
    }


def test_a_kind_that_does_not_exist() -> None:
    odd = step("a")
    odd.kind = 99  # type: ignore[assignment]  # a client of a later version may send it
    found = only_problem(define(odd))
    assert (found.path, found.message) == ("steps[0].kind", "99 is no step kind")
    assert found.expected == "COMPENSATABLE, RESERVABLE, PIVOT, RETRIABLE, READ_ONLY"


POLICY_PROBLEMS: list[tuple[str, AttemptPolicy, str]] = [
    ("timeout too short", AttemptPolicy(timeout=Duration(nanos=999_999)), "timeout"),
    ("timeout too long", AttemptPolicy(timeout=Duration(seconds=3601)), "timeout"),
    ("backoff too short", AttemptPolicy(initial_backoff=Duration(nanos=999_999)), "initial_backoff"),
    ("backoff too long", AttemptPolicy(initial_backoff=Duration(seconds=3601)), "initial_backoff"),
    ("longest too short", AttemptPolicy(max_backoff=Duration()), "max_backoff"),
    ("longest too long", AttemptPolicy(max_backoff=Duration(seconds=86_401)), "max_backoff"),
    ("shrinking", AttemptPolicy(backoff_multiplier=0.5), "backoff_multiplier"),
    ("growing too fast", AttemptPolicy(backoff_multiplier=10.5), "backoff_multiplier"),
    ("negative", AttemptPolicy(backoff_multiplier=-2), "backoff_multiplier"),
    ("not a number", AttemptPolicy(backoff_multiplier=float("nan")), "backoff_multiplier"),
    ("upside down", attempts(backoff=2, longest=1), "max_backoff"),
]


@pytest.mark.parametrize("operation", ["execute", "compensate", "confirm"])
@pytest.mark.parametrize(
    ("policy", "field"), [case[1:] for case in POLICY_PROBLEMS], ids=[c[0] for c in POLICY_PROBLEMS]
)
def test_a_policy_out_of_bounds(operation: str, policy: AttemptPolicy, field: str) -> None:
    bad = step("a", "RESERVABLE")
    getattr(bad, operation).CopyFrom(policy)
    assert set(problems(define(bad))) == {f"steps[0].{operation}.{field}"}


def test_a_policy_at_its_bounds() -> None:
    least = AttemptPolicy(
        timeout=Duration(nanos=1_000_000),
        max_attempts=0,
        initial_backoff=Duration(nanos=1_000_000),
        backoff_multiplier=1,
        max_backoff=Duration(nanos=1_000_000),
    )
    most = AttemptPolicy(
        timeout=Duration(seconds=3600),
        max_attempts=4_000_000_000,
        initial_backoff=Duration(seconds=3600),
        backoff_multiplier=10,
        max_backoff=Duration(seconds=86_400),
    )
    assert check_structure(define(step("a", execute=least), step("b", execute=most))) == []


# --- The graph --------------------------------------------------------------------------------------------------------


def test_after_has_no_force_in_a_sequence() -> None:
    found = problems(define(step("a"), step("b", "COMPENSATABLE", "a")))
    assert found == {"steps[1].after": "`after` has no force in a sequential definition"}


def test_after_names_other_known_steps_once() -> None:
    found = problems(define(step("a"), step("b", "COMPENSATABLE", "a", "b", "c", "a"), graph=True))
    assert found == {
        "steps[1].after[1]": "the step stands after itself",
        "steps[1].after[2]": "there is no step `c`",
        "steps[1].after[3]": "`a` is named twice",
    }


def test_a_cycle_and_what_stands_behind_it() -> None:
    found = only_problem(
        define(
            step("free"),
            step("a", "COMPENSATABLE", "c"),
            step("b", "COMPENSATABLE", "a"),
            step("c", "COMPENSATABLE", "b"),
            step("behind", "COMPENSATABLE", "c"),
            graph=True,
        )
    )
    assert found.path == "steps"
    assert found.message == "a cycle keeps these steps from ever starting: `a`, `b`, `c`, `behind`"


def test_the_graph_of_a_sequence() -> None:
    graph = Graph(define(step("a"), step("b"), step("c")))
    assert graph.predecessors == [[], [0], [1]]
    assert graph.successors == [[1], [2], []]
    assert graph.ancestors == [0b000, 0b001, 0b011]


def test_the_graph_of_a_diamond() -> None:
    definition = define(
        step("end", "COMPENSATABLE", "left", "right"),
        step("left", "COMPENSATABLE", "start"),
        step("right", "COMPENSATABLE", "start"),
        step("start"),
        graph=True,
    )
    graph = Graph(definition)
    assert graph.order[0] == 3
    assert graph.order[-1] == 0
    assert graph.cyclic == []
    assert ancestor_names(definition) == [
        frozenset({"left", "right", "start"}),
        frozenset({"start"}),
        frozenset({"start"}),
        frozenset(),
    ]


def test_the_graph_of_a_definition_with_problems_leaves_unknown_names_out() -> None:
    graph = Graph(define(step("a", "COMPENSATABLE", "a", "nobody"), graph=True))
    assert graph.predecessors == [[]]
    assert graph.cyclic == []


# --- The law of the step kinds ----------------------------------------------------------------------------------------

LAWFUL = {
    "compensatable only": define(step("a"), step("b")),
    "a pivot alone": define(step("p", "PIVOT")),
    "retriable only": define(step("r", "RETRIABLE"), step("s", "RETRIABLE")),
    "a read only": define(step("q", "READ_ONLY")),
    "the pattern": define(
        step("a"), step("h", "RESERVABLE"), step("q", "READ_ONLY"), step("p", "PIVOT"), step("r", "RETRIABLE")
    ),
    "a read behind the pivot": define(step("p", "PIVOT"), step("q", "READ_ONLY"), step("r", "RETRIABLE")),
    "retriable last, no pivot": define(step("a"), step("q", "READ_ONLY"), step("r", "RETRIABLE")),
    "a read behind a retriable step": define(step("a"), step("r", "RETRIABLE"), step("q", "READ_ONLY")),
    "branches that join before the retriable steps": define(
        step("a"),
        step("b"),
        step("r", "RETRIABLE", "a", "b"),
        step("s", "RETRIABLE", "b", "a"),
        step("q", "READ_ONLY", "r"),
        graph=True,
    ),
    "branches on both sides of the pivot": define(
        step("a"),
        step("b", "RESERVABLE"),
        step("p", "PIVOT", "a", "b"),
        step("r", "RETRIABLE", "p"),
        step("q", "READ_ONLY", "p"),
        graph=True,
    ),
}

LAWLESS = {
    "two pivots": (
        define(step("p", "PIVOT"), step("q", "PIVOT")),
        {"steps[1].kind": "a second PIVOT; the first is `p`"},
    ),
    "a retriable step before the pivot": (
        define(step("r", "RETRIABLE"), step("p", "PIVOT")),
        {"steps[0].kind": "a RETRIABLE step before the PIVOT `p`"},
    ),
    "compensatable and reservable steps behind the pivot": (
        define(step("p", "PIVOT"), step("c"), step("h", "RESERVABLE")),
        {
            "steps[1].kind": "a COMPENSATABLE step behind the PIVOT `p`, from where no saga goes back",
            "steps[2].kind": "a RESERVABLE step behind the PIVOT `p`, from where no saga goes back",
        },
    ),
    "steps beside the pivot": (
        define(step("a"), step("p", "PIVOT"), step("q", "READ_ONLY"), step("r", "RETRIABLE", "p"), graph=True),
        {
            "steps[0].after": "`a` can run beside the PIVOT `p`",
            "steps[2].after": "`q` can run beside the PIVOT `p`",
        },
    ),
    "a retriable step too early": (
        define(step("r", "RETRIABLE"), step("a"), step("b")),
        {"steps[0].kind": "a RETRIABLE step that can start before `a`, `b`"},
    ),
    "a retriable step beside a compensatable one": (
        define(step("a"), step("b"), step("r", "RETRIABLE", "a"), graph=True),
        {"steps[2].kind": "a RETRIABLE step that can start before `b`"},
    ),
    "a retriable step beside a read that can be refused": (
        define(step("a"), step("q", "READ_ONLY"), step("r", "RETRIABLE", "a"), graph=True),
        {"steps[2].kind": "a RETRIABLE step that can start before `q`"},
    ),
}


@pytest.mark.parametrize("definition", LAWFUL.values(), ids=LAWFUL.keys())
def test_lawful(definition: SagaDefinition) -> None:
    assert check_structure(definition) == []


@pytest.mark.parametrize(("definition", "expected"), LAWLESS.values(), ids=LAWLESS.keys())
def test_lawless(definition: SagaDefinition, expected: dict[str, str]) -> None:
    assert problems(definition) == expected


def test_all_problems_at_once() -> None:
    """G13: whoever writes a definition hears of everything in one answer."""
    definition = define(
        step("a", "COMPENSATABLE", "nobody"),
        step("a", "PIVOT", "a"),
        step("9", "RETRIABLE"),
        graph=True,
        timeout=0,
        hold_margin=-1,
    )
    definition.name = ""
    definition.input_type = ""
    definition.labels["no good"] = "'v'"
    definition.steps[0].execute.timeout.CopyFrom(Duration(seconds=9999))
    assert [problem.path for problem in check_structure(definition)] == [
        "name",
        "input_type",
        "timeout",
        "hold_margin",
        "labels['no good']",
        "steps[0].execute.timeout",
        "steps[1].name",
        "steps[2].name",
        "steps[0].after[0]",
        "steps[1].after[0]",
        "steps[0].after",
        "steps[2].after",
    ]


# --- Plan -------------------------------------------------------------------------------------------------------------


def test_the_plan_of_the_pattern() -> None:
    the_plan = plan(LAWFUL["the pattern"])
    assert [(s.name, s.predecessors, s.successors) for s in the_plan.steps] == [
        ("a", (), (1,)),
        ("h", (0,), (2,)),
        ("q", (1,), (3,)),
        ("p", (2,), (4,)),
        ("r", (3,), ()),
    ]
    assert [s.name for s in the_plan.steps if s.forward_only] == ["r"]
    assert [s.name for s in the_plan.steps if s.must_go_on] == ["p", "r"]
    assert [s.name for s in the_plan.steps if s.compensatable] == ["a", "h"]
    assert the_plan.refusable_count == 4
    assert the_plan.pivot is the_plan.step("p")
    assert the_plan.participants == ("a_service", "h_service", "p_service", "q_service", "r_service")
    with pytest.raises(KeyError):
        the_plan.step("nobody")


@pytest.mark.parametrize(
    ("case", "forward_only", "refusable"),
    [
        ("compensatable only", [], 2),
        ("retriable only", ["r", "s"], 0),
        ("a read only", [], 1),
        ("a read behind the pivot", ["q", "r"], 1),
        ("retriable last, no pivot", ["r"], 2),
        ("a read behind a retriable step", ["r", "q"], 1),
        ("branches that join before the retriable steps", ["r", "s", "q"], 2),
        ("branches on both sides of the pivot", ["r", "q"], 3),
    ],
)
def test_who_can_be_refused(case: str, forward_only: list[str], refusable: int) -> None:
    the_plan = plan(LAWFUL[case])
    assert [s.name for s in the_plan.steps if s.forward_only] == forward_only
    assert the_plan.refusable_count == refusable


def test_the_default_number_of_attempts() -> None:
    the_plan = plan(LAWFUL["the pattern"])
    most = {s.name: s.policies[OPERATION_EXECUTE].attempts_max for s in the_plan.steps}
    assert most == {"a": 5, "h": 5, "q": 5, "p": 0, "r": 0}
    assert all(s.policies[OPERATION_COMPENSATE].attempts_max == 20 for s in the_plan.steps)
    assert all(s.policies[OPERATION_CONFIRM].attempts_max == 0 for s in the_plan.steps)
    behind = plan(LAWFUL["a read behind the pivot"])
    assert behind.step("q").policies[OPERATION_EXECUTE].attempts_max == 0


def test_a_plan_says_what_the_definition_says() -> None:
    the_plan = plan(
        define(
            step("a", when="true", timeout=3, execute=attempts(0), compensate=attempts(2), confirm=attempts(3)),
            one_at_a_time=True,
            timeout=7.5,
            hold_margin=0,
        )
    )
    (only,) = the_plan.steps
    assert (only.conditional, only.timeout_ns) == (True, ns(3))
    assert [only.policies[o].attempts_max for o in (OPERATION_EXECUTE, OPERATION_COMPENSATE, OPERATION_CONFIRM)] == [
        0,
        2,
        3,
    ]
    assert (the_plan.one_at_a_time, the_plan.timeout_ns, the_plan.hold_margin_ns) == (True, ns(7.5), 0)


def test_a_plan_where_the_definition_says_nothing() -> None:
    definition = define(step("a"))
    definition.steps[0].kind = STEP_KIND_UNSPECIFIED
    the_plan = Plan(definition)
    assert (the_plan.one_at_a_time, the_plan.timeout_ns, the_plan.hold_margin_ns) == (False, None, ns(30))
    (only,) = the_plan.steps
    assert (only.kind, only.conditional, only.timeout_ns) == (STEP_KIND_COMPENSATABLE, False, None)
    assert the_plan.pivot is None


def test_durations_lose_no_nanosecond() -> None:
    assert duration_ns(Duration(seconds=31_622_399, nanos=999_999_999)) == 31_622_399_999_999_999
    assert duration_ns(to_duration(31_622_399_999_999_999)) == 31_622_399_999_999_999
