"""What makes a definition valid in itself, and what follows from its graph.

`check_structure` finds everything that is wrong with a definition as far as names, numbers, the graph and the
step-kind law go; whether participants offer the actions and whether the expressions type-check is the dataflow's
business. A `Plan` is what the rest of the core asks of a valid definition; it is derived once per version and never
changes.

A definition is an action too: a saga of it can be a step of another (`Plan.offered_as`).

This module must not look at a saga, a clock or a participant.

The step kinds are those of the saga pattern (compensatable, reservable, pivot, retriable) and reads. A step *can be
refused* unless it must go forward: a RETRIABLE step, and a READ_ONLY step that descends from the pivot or from a
RETRIABLE one. When the last step that can be refused is done, the saga has passed its point of no return.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from google.protobuf.duration_pb2 import Duration

from coordinator.core import limits, retry
from saga.v1.definition_pb2 import (
    COMPENSATION_ORDER_ONE_AT_A_TIME,
    STEP_ORDER_GRAPH,
    AttemptPolicy,
    CompensationOrder,
    SagaDefinition,
    StepDefinition,
    StepOrder,
)
from saga.v1.types_pb2 import (
    OPERATION_COMPENSATE,
    OPERATION_CONFIRM,
    OPERATION_EXECUTE,
    STEP_KIND_COMPENSATABLE,
    STEP_KIND_PIVOT,
    STEP_KIND_READ_ONLY,
    STEP_KIND_RESERVABLE,
    STEP_KIND_RETRIABLE,
    STEP_KIND_UNSPECIFIED,
    Operation,
    StepKind,
)

BUILT_IN: Final = "coordinator"
"""The participant whose actions are the definitions of the same coordinator."""

DEFINITION_NAME = re.compile(rf"[a-z][a-z0-9_.-]{{0,{limits.DEFINITION_NAME_LENGTH_MAX - 1}}}")
STEP_NAME = re.compile(rf"[a-z][a-z0-9_]{{0,{limits.NAME_LENGTH_MAX - 1}}}")
LABEL_KEY = re.compile(rf"[A-Za-z0-9._-]{{1,{limits.LABEL_KEY_LENGTH_MAX}}}")
RESERVED_NAMES = frozenset(
    """
    input true false null in as break const continue else for function if import let loop package namespace return var
    void while optional cel bool int uint double string bytes list map type dyn timestamp duration size has all exists
    exists_one filter matches
    """.split()  # noqa: SIM905  # fifty quoted words in a column would be harder to read
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a definition.

    `path` says where (`steps[2].input`), `message` what was found, `expected` what would be right. `line` and `column`
    count from 1 in the expression at that path; 0 where the problem is not in an expression.
    """

    path: str
    message: str
    expected: str = ""
    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A step and its place in the graph. The other steps are named by their index in the definition."""

    index: int
    name: str
    participant: str
    action: str
    kind: StepKind.ValueType
    predecessors: tuple[int, ...]
    successors: tuple[int, ...]
    forward_only: bool
    conditional: bool
    timeout_ns: int | None
    policies: Mapping[Operation.ValueType, retry.Policy]

    @property
    def compensatable(self) -> bool:
        """Whether there is something to compensate once it completed or may have."""
        return self.kind in (STEP_KIND_COMPENSATABLE, STEP_KIND_RESERVABLE)

    @property
    def in_process(self) -> bool:
        """Whether its calls never leave the coordinator, and end with it: it runs a saga of the same one."""
        return self.participant == BUILT_IN

    @property
    def must_go_on(self) -> bool:
        """Whether going back is no answer to a failed Execute: it is attempted until its outcome is known."""
        return self.forward_only or self.kind == STEP_KIND_PIVOT


class Plan:
    """A valid definition, ready to be driven. `definition` must have passed `check_structure`."""

    def __init__(self, definition: SagaDefinition) -> None:
        self.definition = definition
        self.name = definition.name
        self.version = definition.version
        self.one_at_a_time = definition.compensation_order == COMPENSATION_ORDER_ONE_AT_A_TIME
        self.timeout_ns = duration_ns(definition.timeout) if definition.HasField("timeout") else None
        self.hold_margin_ns = (
            duration_ns(definition.hold_margin) if definition.HasField("hold_margin") else limits.HOLD_MARGIN_DEFAULT_NS
        )
        graph = Graph(definition)
        self.steps: tuple[StepPlan, ...] = tuple(
            _plan_step(index, step, graph) for index, step in enumerate(definition.steps)
        )
        self._index = {step.name: step.index for step in self.steps}
        self.refusable_count = sum(not step.forward_only for step in self.steps)
        self.pivot: StepPlan | None = next((s for s in self.steps if s.kind == STEP_KIND_PIVOT), None)

    def step(self, name: str) -> StepPlan:
        """The step of that name; KeyError where there is none."""
        return self.steps[self._index[name]]

    @cached_property
    def revocable(self) -> bool:
        """Whether all of it can be compensated also when all of it is done: as a child it leaves that to its parent."""
        return not self._has(STEP_KIND_PIVOT, STEP_KIND_RETRIABLE)

    @cached_property
    def reserves(self) -> bool:
        """Whether it has holds to be confirmed."""
        return self._has(STEP_KIND_RESERVABLE)

    @cached_property
    def offered_as(self) -> StepKind.ValueType:
        """As which kind a saga of it can be a step of another (rule 9, docs/decisions/0009)."""
        if self.revocable:
            return STEP_KIND_RESERVABLE if self.reserves else STEP_KIND_COMPENSATABLE
        if self.refusable_count or self.definition.exclusive_keys:  # waiting for a key can be refused (a deadlock)
            return STEP_KIND_PIVOT
        return STEP_KIND_RETRIABLE

    def _has(self, *kinds: StepKind.ValueType) -> bool:
        return any(step.kind in kinds for step in self.steps)

    @cached_property
    def participants(self) -> tuple[str, ...]:
        """The participants it calls, sorted."""
        return tuple(sorted({step.participant for step in self.steps}))


class Graph:
    """Who must be done before whom.

    Built from any definition, also from one with problems: unknown names are left out.
    """

    def __init__(self, definition: SagaDefinition) -> None:
        self.predecessors = list(_predecessors(definition))
        self.successors: list[list[int]] = [[] for _ in definition.steps]
        for index, before in enumerate(self.predecessors):
            for other in before:
                self.successors[other].append(index)
        self.order = _topological_order(self.predecessors, self.successors)
        self._kinds = [kind_of(step) for step in definition.steps]

    @property
    def cyclic(self) -> list[int]:
        """The steps that stand on a cycle or behind one."""
        placed = set(self.order)
        return [index for index in range(len(self.predecessors)) if index not in placed]

    @cached_property
    def ancestors(self) -> list[int]:
        """Of each step the set of steps before it, directly or not, as a bit set."""
        found = [0] * len(self.predecessors)
        for index in self.order:
            for other in self.predecessors[index]:
                found[index] |= found[other] | 1 << other
        return found

    @cached_property
    def forward_only(self) -> list[bool]:
        """Of each step whether it cannot be refused."""
        leads = _bits(i for i, k in enumerate(self._kinds) if k in (STEP_KIND_PIVOT, STEP_KIND_RETRIABLE))
        return [
            kind == STEP_KIND_RETRIABLE or (kind == STEP_KIND_READ_ONLY and bool(self.ancestors[index] & leads))
            for index, kind in enumerate(self._kinds)
        ]


def ancestor_names(definition: SagaDefinition) -> list[frozenset[str]]:
    """Of each step the names of the steps whose outputs it may read: those that are done before it, directly or not."""
    ancestors = Graph(definition).ancestors
    names = [step.name for step in definition.steps]
    return [frozenset(names[i] for i in _members(bits)) for bits in ancestors]


def kind_of(step: StepDefinition) -> StepKind.ValueType:
    """The step's kind, with the default filled in."""
    return STEP_KIND_COMPENSATABLE if step.kind == STEP_KIND_UNSPECIFIED else step.kind


def duration_ns(duration: Duration) -> int:
    """A protobuf duration in nanoseconds, without a detour over floating point."""
    return duration.seconds * limits.SECOND_NS + duration.nanos


def check_structure(definition: SagaDefinition) -> list[Problem]:
    """Everything that is wrong with the definition in itself; an empty list where nothing is."""
    problems = list(_check_head(definition))
    problems += _check_steps(definition)
    problems += _check_after(definition)
    graph = Graph(definition)
    if graph.cyclic:
        names = ", ".join(f"`{definition.steps[i].name}`" for i in graph.cyclic)
        problems.append(
            Problem("steps", f"a cycle keeps these steps from ever starting: {names}", "an acyclic `after`")
        )
    else:
        problems += _check_kind_law(definition, graph)
    return problems


def _check_head(definition: SagaDefinition) -> Iterator[Problem]:
    if not DEFINITION_NAME.fullmatch(definition.name):
        yield Problem(
            "name",
            f"`{definition.name}` is not a definition name" if definition.name else "the definition has no name",
            f"a letter, then up to {limits.DEFINITION_NAME_LENGTH_MAX - 1} of [a-z0-9_.-]",
        )
    yield from _check_text("description", definition.description, limits.DESCRIPTION_BYTES_MAX)
    if not definition.input_type:
        yield Problem("input_type", "the definition has no input type", "the full name of a message")
    yield from _check_text("output", definition.output, limits.EXPRESSION_BYTES_MAX)
    if definition.order not in StepOrder.values():
        yield Problem("order", f"{definition.order} is no step order", "SEQUENTIAL or GRAPH")
    if definition.compensation_order not in CompensationOrder.values():
        yield Problem(
            "compensation_order",
            f"{definition.compensation_order} is no compensation order",
            "REVERSE_GRAPH or ONE_AT_A_TIME",
        )
    if definition.HasField("timeout"):
        yield from _check_duration("timeout", definition.timeout, 1, limits.SAGA_TIMEOUT_MAX_NS)
    if definition.HasField("hold_margin"):
        yield from _check_duration("hold_margin", definition.hold_margin, 0, limits.SAGA_TIMEOUT_MAX_NS)
    if len(definition.exclusive_keys) > limits.EXCLUSIVE_KEYS_MAX:
        yield Problem(
            "exclusive_keys", f"{len(definition.exclusive_keys)} keys", f"at most {limits.EXCLUSIVE_KEYS_MAX}"
        )
    for index, key in enumerate(definition.exclusive_keys):
        yield from _check_text(f"exclusive_keys[{index}]", key, limits.EXPRESSION_BYTES_MAX)
    yield from _check_labels(definition.labels)
    if definition.ByteSize() > limits.DEFINITION_BYTES_MAX:
        yield Problem("", f"{definition.ByteSize()} bytes", f"at most {limits.DEFINITION_BYTES_MAX} bytes")


def _check_labels(labels: Mapping[str, str]) -> Iterator[Problem]:
    if len(labels) > limits.LABELS_MAX:
        yield Problem("labels", f"{len(labels)} labels", f"at most {limits.LABELS_MAX}")
    for key in sorted(labels):
        if not LABEL_KEY.fullmatch(key):
            yield Problem(
                f"labels[{key!r}]",
                f"`{key}` is not a label name",
                f"1–{limits.LABEL_KEY_LENGTH_MAX} of [A-Za-z0-9._-]",
            )
        yield from _check_text(f"labels[{key!r}]", labels[key], limits.EXPRESSION_BYTES_MAX)


def _check_steps(definition: SagaDefinition) -> Iterator[Problem]:
    if not 1 <= len(definition.steps) <= limits.STEPS_MAX:
        yield Problem("steps", f"{len(definition.steps)} steps", f"1 to {limits.STEPS_MAX}")
    first_use: dict[str, int] = {}
    for index, step in enumerate(definition.steps):
        path = f"steps[{index}]"
        yield from _check_step(path, step)
        if step.name and first_use.setdefault(step.name, index) != index:
            yield Problem(
                f"{path}.name",
                f"`{step.name}` is also the name of steps[{first_use[step.name]}]",
                "a unique name",
            )


def _check_step(path: str, step: StepDefinition) -> Iterator[Problem]:
    if not STEP_NAME.fullmatch(step.name):
        yield Problem(
            f"{path}.name",
            f"`{step.name}` is not a step name" if step.name else "the step has no name",
            f"a letter, then up to {limits.NAME_LENGTH_MAX - 1} of [a-z0-9_]",
        )
    elif step.name in RESERVED_NAMES:
        yield Problem(f"{path}.name", f"`{step.name}` has a meaning of its own in expressions", "another name")
    for field in ("participant", "action", "input"):
        if not getattr(step, field):
            yield Problem(f"{path}.{field}", f"the step has no {field}", _EXPECTED_IN_STEP[field])
    if step.kind not in StepKind.values():
        yield Problem(f"{path}.kind", f"{step.kind} is no step kind", ", ".join(_kind_names()))
    for field in ("input", "when"):
        yield from _check_text(f"{path}.{field}", getattr(step, field), limits.EXPRESSION_BYTES_MAX)
    if step.HasField("timeout"):
        yield from _check_duration(f"{path}.timeout", step.timeout, 1, limits.SAGA_TIMEOUT_MAX_NS)
    for field in ("execute", "compensate", "confirm"):
        if step.HasField(field):  # type: ignore[arg-type]  # the names are those of the message
            yield from _check_policy(f"{path}.{field}", getattr(step, field))


_EXPECTED_IN_STEP = {
    "participant": "the name of a participant in the coordinator's configuration",
    "action": "one of the participant's actions",
    "input": "a CEL expression that yields the action's input message",
}


def _check_policy(path: str, policy: AttemptPolicy) -> Iterator[Problem]:
    bounds = {
        "timeout": (limits.ATTEMPT_TIMEOUT_MIN_NS, limits.ATTEMPT_TIMEOUT_MAX_NS),
        "initial_backoff": (limits.INITIAL_BACKOFF_MIN_NS, limits.INITIAL_BACKOFF_MAX_NS),
        "max_backoff": (limits.INITIAL_BACKOFF_MIN_NS, limits.MAX_BACKOFF_MAX_NS),
    }
    for field, (least, most) in bounds.items():
        if policy.HasField(field):  # type: ignore[arg-type]  # the names are those of the message
            yield from _check_duration(f"{path}.{field}", getattr(policy, field), least, most)
    multiplier = policy.backoff_multiplier
    if multiplier and not 1 <= multiplier <= limits.BACKOFF_MULTIPLIER_MAX:
        yield Problem(
            f"{path}.backoff_multiplier",
            f"{multiplier:g}",
            f"1 to {limits.BACKOFF_MULTIPLIER_MAX:g}, or unset",
        )
    both = policy.HasField("max_backoff") and policy.HasField("initial_backoff")
    if both and duration_ns(policy.max_backoff) < duration_ns(policy.initial_backoff):
        yield Problem(f"{path}.max_backoff", "shorter than initial_backoff", "at least initial_backoff")


def _check_duration(path: str, duration: Duration, least_ns: int, most_ns: int) -> Iterator[Problem]:
    value_ns = duration_ns(duration)
    if not least_ns <= value_ns <= most_ns or abs(duration.nanos) >= limits.SECOND_NS:
        expected = f"{_seconds(max(least_ns, 0))} to {_seconds(most_ns)}"
        if least_ns == 1:
            expected = f"more than 0s, at most {_seconds(most_ns)}"
        yield Problem(path, _seconds(value_ns), expected)


def _seconds(value_ns: int) -> str:
    return f"{value_ns / limits.SECOND_NS:.9g}s"


def _check_text(path: str, text: str, bytes_max: int) -> Iterator[Problem]:
    size = len(text.encode())
    if size > bytes_max:
        yield Problem(path, f"{size} bytes", f"at most {bytes_max} bytes")


def _check_after(definition: SagaDefinition) -> Iterator[Problem]:
    names = {step.name for step in definition.steps}
    for index, step in enumerate(definition.steps):
        if step.after and definition.order != STEP_ORDER_GRAPH:
            yield Problem(
                f"steps[{index}].after",
                "`after` has no force in a sequential definition",
                "order: GRAPH, or no `after`",
            )
            continue
        for place, name in enumerate(step.after):
            path = f"steps[{index}].after[{place}]"
            if name == step.name:
                yield Problem(path, "the step stands after itself", "the name of another step")
            elif name not in names:
                yield Problem(path, f"there is no step `{name}`", "the name of another step")
            elif name in step.after[:place]:
                yield Problem(path, f"`{name}` is named twice", "each step once")


def _check_kind_law(definition: SagaDefinition, graph: Graph) -> Iterator[Problem]:
    kinds = [kind_of(step) for step in definition.steps]
    pivots = [index for index, kind in enumerate(kinds) if kind == STEP_KIND_PIVOT]
    for index in pivots[1:]:
        yield Problem(
            f"steps[{index}].kind",
            f"a second PIVOT; the first is `{definition.steps[pivots[0]].name}`",
            "at most one PIVOT",
        )
    if len(pivots) == 1:
        yield from _check_around_pivot(definition, graph, kinds, pivots[0])
    elif not pivots:
        yield from _check_retriable_last(definition, graph, kinds)


def _check_around_pivot(
    definition: SagaDefinition, graph: Graph, kinds: Sequence[StepKind.ValueType], pivot: int
) -> Iterator[Problem]:
    name = definition.steps[pivot].name
    for index, kind in enumerate(kinds):
        if index == pivot:
            continue
        before = bool(graph.ancestors[pivot] >> index & 1)
        behind = bool(graph.ancestors[index] >> pivot & 1)
        path = f"steps[{index}]"
        if not before and not behind:
            yield Problem(
                f"{path}.after",
                f"`{definition.steps[index].name}` can run beside the PIVOT `{name}`",
                "every step is an ancestor or a descendant of the PIVOT",
            )
        elif kind == STEP_KIND_RETRIABLE and before:
            yield Problem(f"{path}.kind", f"a RETRIABLE step before the PIVOT `{name}`", "RETRIABLE steps behind it")
        elif kind in (STEP_KIND_COMPENSATABLE, STEP_KIND_RESERVABLE) and behind:
            yield Problem(
                f"{path}.kind",
                f"a {_kind_name(kind)} step behind the PIVOT `{name}`, from where no saga goes back",
                "RETRIABLE or READ_ONLY behind it",
            )


def _check_retriable_last(
    definition: SagaDefinition, graph: Graph, kinds: Sequence[StepKind.ValueType]
) -> Iterator[Problem]:
    refusable = _bits(index for index, forward in enumerate(graph.forward_only) if not forward)
    for index, kind in enumerate(kinds):
        if kind != STEP_KIND_RETRIABLE:
            continue
        missing = [definition.steps[i].name for i in _members(refusable & ~graph.ancestors[index])]
        if missing:
            yield Problem(
                f"steps[{index}].kind",
                "a RETRIABLE step that can start before " + ", ".join(f"`{name}`" for name in missing),
                "RETRIABLE steps behind every step that can be refused",
            )


def _plan_step(index: int, step: StepDefinition, graph: Graph) -> StepPlan:
    kind, forward_only = kind_of(step), graph.forward_only[index]
    return StepPlan(
        index=index,
        name=step.name,
        participant=step.participant,
        action=step.action,
        kind=kind,
        predecessors=tuple(graph.predecessors[index]),
        successors=tuple(graph.successors[index]),
        forward_only=forward_only,
        conditional=bool(step.when),
        timeout_ns=duration_ns(step.timeout) if step.HasField("timeout") else None,
        policies={
            OPERATION_EXECUTE: retry.policy(step.execute, retry.execute_attempts(kind, forward_only)),
            OPERATION_COMPENSATE: retry.policy(step.compensate, limits.COMPENSATE_ATTEMPTS_DEFAULT),
            OPERATION_CONFIRM: retry.policy(step.confirm, limits.UNLIMITED),
        },
    )


def _predecessors(definition: SagaDefinition) -> Iterator[list[int]]:
    if definition.order != STEP_ORDER_GRAPH:
        yield from ([index - 1] if index else [] for index in range(len(definition.steps)))
        return
    index_of = {step.name: index for index, step in enumerate(definition.steps)}
    for index, step in enumerate(definition.steps):
        known = {index_of[name] for name in step.after if name in index_of}
        yield sorted(known - {index})


def _topological_order(predecessors: Sequence[Sequence[int]], successors: Sequence[Sequence[int]]) -> list[int]:
    """Kahn's algorithm; what stands on or behind a cycle is left out."""
    missing = [len(before) for before in predecessors]
    ready = [index for index, count in enumerate(missing) if count == 0]
    for index in ready:  # grows while it is walked
        for other in successors[index]:
            missing[other] -= 1
            if missing[other] == 0:
                ready.append(other)
    return ready


def _bits(indexes: Iterable[int]) -> int:
    bits = 0
    for index in indexes:
        bits |= 1 << index
    return bits


def _members(bits: int) -> Iterator[int]:
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def _kind_name(kind: StepKind.ValueType) -> str:
    return StepKind.Name(kind).removeprefix("STEP_KIND_")


def _kind_names() -> list[str]:
    return [_kind_name(kind) for kind in StepKind.values() if kind != STEP_KIND_UNSPECIFIED]
