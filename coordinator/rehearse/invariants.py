"""What users demand after every path, in CEL: `saga`, `input`, `path` and the outputs of the steps by their names.

An output is an optional, as a step may not have got that far: `!charge.hasValue() || charge.?cents.orValue(0) > 0`.
All invariants are type-checked before anything is called. This module must not know how a saga was driven.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import Message

from coordinator.core.descriptors import closure, merge
from coordinator.dataflow import sites
from coordinator.dataflow.expressions import (
    BOOL,
    INPUT,
    EvaluationError,
    Expression,
    Expressions,
    InvalidExpressionError,
    Output,
    Scope,
)
from coordinator.dataflow.pinned import PinnedDefinition
from coordinator.dataflow.types import Types, encode
from coordinator.rehearse.checks import state_name
from coordinator.rehearse.paths import Path
from saga.v1 import coordinator_pb2
from saga.v1.coordinator_pb2 import Saga

SAGA: Final = "saga"
PATH: Final = "path"

_PATH_TYPE: Final = "saga.rehearsal.Path"
_TEXT: Final = FieldDescriptorProto.TYPE_STRING
_ONE: Final = FieldDescriptorProto.LABEL_OPTIONAL
_MANY: Final = FieldDescriptorProto.LABEL_REPEATED
_PATH_FILE: Final = FileDescriptorProto(
    name="saga/rehearsal/path.proto",
    package="saga.rehearsal",
    syntax="proto3",
    message_type=[
        DescriptorProto(
            name="Path",
            field=[
                FieldDescriptorProto(name="name", json_name="name", number=1, type=_TEXT, label=_ONE),
                FieldDescriptorProto(name="failures", json_name="failures", number=2, type=_TEXT, label=_MANY),
                FieldDescriptorProto(name="ends", json_name="ends", number=3, type=_TEXT, label=_MANY),
            ],
        )
    ],
)
"""What invariants see of a path: its name, its failures, and the states in which it may end."""


class InvalidInvariantError(ValueError):
    """An invariant does not type-check; `problems` has everything that is wrong with all of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class Invariants:
    """The compiled invariants of one definition. InvalidInvariantError."""

    def __init__(self, texts: Sequence[str], pinned: PinnedDefinition) -> None:
        self._types = _types(pinned)
        self._input_type = pinned.definition.input_type
        outputs = {
            name: Output(output.type_name, optional=True)
            for name, output in sites.outputs(pinned.definition, pinned.step_types).items()
        } | {SAGA: Output(Saga.DESCRIPTOR.full_name, optional=False), PATH: Output(_PATH_TYPE, optional=False)}
        package = self._types.descriptor(self._input_type).file.package
        scope = Scope(package, outputs.keys(), "cannot be read")
        self._compiled = _compile(texts, Expressions(self._types, self._input_type, outputs), scope)

    def violations(self, saga: Saga, path: Path) -> Iterator[str]:
        """The invariants that do not hold."""
        values = dict(self._values(saga, path))
        for text, expression in self._compiled.items():
            try:
                holds = expression.evaluate(values)
            except EvaluationError as error:
                yield f"invariant `{text}` fails: {error}"
            else:
                if not holds:
                    yield f"invariant `{text}` does not hold"

    def _values(self, saga: Saga, path: Path) -> Iterator[tuple[str, Message]]:
        for step in saga.steps:
            if step.HasField("output"):
                yield step.name, self._types.decode(step.output)
        yield INPUT, self._types.decode(saga.input, self._input_type)
        yield SAGA, self._types.decode(encode(saga))
        failures, ends = map(str, path.injections), map(state_name, sorted(path.ends))
        yield PATH, self._types.message_class(_PATH_TYPE)(name=path.name, failures=failures, ends=ends)


def _types(pinned: PinnedDefinition) -> Types:
    """The definition's own types, and those of the contract."""
    shared = FileDescriptorSet(file=[*closure([coordinator_pb2.DESCRIPTOR]).file, _PATH_FILE])
    return Types(FileDescriptorSet(file=merge({pinned.definition.name: pinned.descriptors}, shared).files))


def _compile(texts: Collection[str], expressions: Expressions, scope: Scope) -> Mapping[str, Expression]:
    compiled: dict[str, Expression] = {}
    problems: list[str] = []
    for text in texts:
        try:
            compiled[text] = expressions.compile(text, scope, BOOL)
        except InvalidExpressionError as error:
            for fault in error.faults:
                expected = f"; expected {fault.expected}" if fault.expected else ""
                problems.append(f"`{text}`, {fault.line}:{fault.column}: {fault.message}{expected}")
    if problems:
        raise InvalidInvariantError(problems)
    return compiled
