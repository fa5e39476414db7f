"""A definition's version, ready to be used by every saga of it (G11).

What it costs to make is kept, as all its sagas share it. This module must not keep anything of a saga.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

from google.protobuf.any_pb2 import Any

from coordinator.core.definition import Plan
from coordinator.core.inputs import Begun, InputFailed, OutputKnown, Skipped
from coordinator.core.state import Saga, StepRecord
from coordinator.dataflow.pinned import PinnedDefinition
from coordinator.dataflow.program import ExpressionFailedError, Program
from coordinator.journal.port import DefinitionVersion
from saga.v1.definition_pb2 import SagaDefinition
from saga.v1.types_pb2 import STEP_STATE_COMPLETED, STEP_STATE_CONFIRMED, STEP_STATE_CONFIRMING


class LoadedDefinition:
    """A definition's version, as every saga of it uses it."""

    def __init__(self, stored: DefinitionVersion, descriptors: bytes) -> None:
        self.stored = stored
        self.pinned = PinnedDefinition.from_stored(stored.content, descriptors, stored.version)

    @property
    def definition(self) -> SagaDefinition:
        """What it says, with its version."""
        return self.pinned.definition

    @cached_property
    def plan(self) -> Plan:
        """What follows from its graph."""
        return Plan(self.definition)

    @cached_property
    def program(self) -> Program:
        """Its expressions."""
        return Program(self.pinned)

    @property
    def output_type(self) -> str:
        """The full name of the message that a saga of it yields."""
        return self.program.result_type

    @cached_property
    def oracle(self) -> ExpressionOracle:
        """Answers what the core asks while it drives a saga of this version."""
        return ExpressionOracle(self.program)


class ExpressionOracle:
    """Answers the core's questions with the definition's expressions."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def evaluate(self, saga: Saga, step: StepRecord) -> Begun | Skipped | InputFailed:
        """Evaluate the step's condition and input."""
        name, outputs = step.plan.name, _Outputs(saga)
        try:
            if step.plan.conditional and not self._program.condition(name, saga.input, outputs):
                return Skipped(name)
            return Begun(name, self._program.step_input(name, saga.input, outputs))
        except ExpressionFailedError as failure:
            return InputFailed(name, str(failure))

    def evaluate_output(self, saga: Saga) -> OutputKnown:
        """Evaluate the saga's output, where the definition has one."""
        if not saga.plan.definition.output:
            return OutputKnown()
        try:
            return OutputKnown(self._program.output(saga.input, _Outputs(saga)))
        except ExpressionFailedError as failure:
            return OutputKnown(failure_message=str(failure))


_HAVE_OUTPUT = (STEP_STATE_COMPLETED, STEP_STATE_CONFIRMING, STEP_STATE_CONFIRMED)


class _Outputs(Mapping[str, Any]):
    """The outputs of the steps that completed, looked up only as far as an expression asks."""

    def __init__(self, saga: Saga) -> None:
        self._saga = saga

    def __getitem__(self, name: str) -> Any:
        step = self._saga.step(name)
        if step.state not in _HAVE_OUTPUT or step.output is None:
            raise KeyError(name)
        return step.output

    def __iter__(self) -> Iterator[str]:
        return (step.plan.name for step in self._saga.steps if step.state in _HAVE_OUTPUT)

    def __len__(self) -> int:
        return sum(1 for _ in self)
