"""Where expressions stand in a definition, what each may read, and what each is to yield.

The check of a definition and the program that runs it both go by this list, so that they cannot differ.

This module must not compile anything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from coordinator.core.definition import Graph, ancestor_names
from coordinator.dataflow.expressions import ANY_MESSAGE, BOOL, STRING, Output, Scope
from coordinator.dataflow.pinned import StepTypes
from coordinator.dataflow.types import Types
from saga.v1.definition_pb2 import SagaDefinition

OUTPUT: Final = "output"
_NOT_BEFORE: Final = "is not an ancestor of this step"
_ONLY_INPUT: Final = "cannot be read here, only `input` can"


@dataclass(frozen=True, slots=True)
class Site:
    """One expression of a definition. An empty `result`: what it is to yield is not known."""

    path: str
    text: str
    scope: Scope
    result: str


def input_path(index: int) -> str:
    """Where the input of the step at `index` stands."""
    return f"steps[{index}].input"


def when_path(index: int) -> str:
    """Where the condition of the step at `index` stands."""
    return f"steps[{index}].when"


def label_path(key: str) -> str:
    """Where the label `key` stands."""
    return f"labels[{key!r}]"


def exclusive_key_path(index: int) -> str:
    """Where the exclusive key at `index` stands."""
    return f"exclusive_keys[{index}]"


def outputs(definition: SagaDefinition, step_types: Mapping[str, StepTypes]) -> dict[str, Output]:
    """What can be read of each step, by name. A step with a condition may be skipped; a skip does not spread."""
    return {
        step.name: Output(step_types[step.name].output if step.name in step_types else "", bool(step.when))
        for step in definition.steps
    }


def sites(definition: SagaDefinition, step_types: Mapping[str, StepTypes], types: Types) -> Iterator[Site]:
    """All expressions of the definition, in its order. Steps that `step_types` leaves out are of unknown types."""
    yield from _step_sites(definition, step_types, types)
    package = _package(definition.input_type, types)
    if definition.output:
        every = {step.name for step in definition.steps}
        yield Site(OUTPUT, definition.output, Scope(package, every, "is not a step"), ANY_MESSAGE)
    before_the_start = Scope(package, (), _ONLY_INPUT)
    for key in sorted(definition.labels):
        yield Site(label_path(key), definition.labels[key], before_the_start, STRING)
    for index, text in enumerate(definition.exclusive_keys):
        yield Site(exclusive_key_path(index), text, before_the_start, STRING)


def _step_sites(definition: SagaDefinition, step_types: Mapping[str, StepTypes], types: Types) -> Iterator[Site]:
    for index, (step, visible) in enumerate(zip(definition.steps, _visible(definition), strict=True)):
        wanted = step_types[step.name].input if step.name in step_types else ""
        scope = Scope(_package(wanted, types), visible, _NOT_BEFORE)
        if step.input:
            yield Site(input_path(index), step.input, scope, wanted)
        if step.when:
            yield Site(when_path(index), step.when, scope, BOOL if wanted else "")


def _visible(definition: SagaDefinition) -> list[Collection[str]]:
    """Of each step the steps it may read. On a cycle, which is a problem of its own, all of them."""
    visible: list[Collection[str]] = list(ancestor_names(definition))
    cyclic = Graph(definition).cyclic
    every = {step.name for step in definition.steps} if cyclic else set()
    for index in cyclic:
        visible[index] = every
    return visible


def _package(message: str, types: Types) -> str:
    return types.descriptor(message).file.package if types.knows(message) else ""
