"""A definition's version, ready to be run: its expressions, each compiled when it is first needed and only once.

Everything comes from the pinned version, so a saga's data flow stays as it was checked as long as the saga lives (G11).

This module must not keep anything of a saga.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any as PythonAny
from typing import Final

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from coordinator.core import limits
from coordinator.dataflow import sites
from coordinator.dataflow.expressions import INPUT, EvaluationError, Expression, Expressions, InvalidExpressionError
from coordinator.dataflow.pinned import PinnedDefinition
from coordinator.dataflow.types import PayloadError, Types, encode

EMPTY: Final = "google.protobuf.Empty"


class ExpressionFailedError(ValueError):
    """An expression failed on a saga's data: FAILURE_KIND_EXPRESSION_FAILED.

    `path` says which expression (`steps[2].input`). The text begins with it, says what CEL says, and is at most
    FAILURE_MESSAGE_BYTES_MAX bytes long.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(_cut(f"{path}: {reason}", limits.FAILURE_MESSAGE_BYTES_MAX))
        self.path = path


class Program:
    """The compiled form of one version. All sagas of the version share it.

    `outputs` holds the outputs of the steps that completed; a step that was skipped is not among them.
    """

    def __init__(self, pinned: PinnedDefinition) -> None:
        self.pinned = pinned
        self.definition = pinned.definition
        self.types = Types(pinned.descriptors)
        self._index = {step.name: index for index, step in enumerate(self.definition.steps)}
        self._sites = {site.path: site for site in sites.sites(self.definition, pinned.step_types, self.types)}
        readable = sites.outputs(self.definition, pinned.step_types)
        self._expressions = Expressions(self.types, self.definition.input_type, readable)
        self._compiled: dict[str, Expression] = {}

    def input_type(self, step: str) -> str:
        """The full name of the message that the step's action takes."""
        return self.pinned.step_types[step].input

    def output_type(self, step: str) -> str:
        """The full name of the message that the step's action yields."""
        return self.pinned.step_types[step].output

    def accepts_input(self, payload: Any) -> str | None:
        """Why a saga cannot be started with that input; None where it can."""
        return self._objection(payload, self.definition.input_type)

    def accepts_output(self, step: str, payload: Any) -> str | None:
        """Why that is no output of the step (PROTOCOL_VIOLATION); None where it is one."""
        return self._objection(payload, self.output_type(step))

    def condition(self, step: str, saga_input: Any, outputs: Mapping[str, Any]) -> bool:
        """Whether the step runs; False: it is skipped. Raises ExpressionFailedError."""
        path = sites.when_path(self._index[step])
        return path not in self._sites or bool(self._evaluate(path, saga_input, outputs))

    def step_input(self, step: str, saga_input: Any, outputs: Mapping[str, Any]) -> Any:
        """What the step's action is sent. Raises ExpressionFailedError."""
        return self._message(sites.input_path(self._index[step]), saga_input, outputs)

    def output(self, saga_input: Any, outputs: Mapping[str, Any]) -> Any | None:
        """What the saga yields; None where the definition asks for nothing. Raises ExpressionFailedError."""
        return self._message(sites.OUTPUT, saga_input, outputs) if self.definition.output else None

    @property
    def result_type(self) -> str:
        """The full name of the message that a saga yields; google.protobuf.Empty where the definition has no output."""
        return self._expression(sites.OUTPUT).type_name if self.definition.output else EMPTY

    def labels(self, saga_input: Any) -> dict[str, str]:
        """The labels that the definition gives the saga. Raises ExpressionFailedError."""
        longest = limits.LABEL_VALUE_BYTES_MAX
        return {key: self._text(sites.label_path(key), saga_input, longest) for key in sorted(self.definition.labels)}

    def exclusive_keys(self, saga_input: Any) -> list[str]:
        """The keys that the saga shares with no other while it runs, each once. Raises ExpressionFailedError."""
        keys: dict[str, None] = {}
        for path in map(sites.exclusive_key_path, range(len(self.definition.exclusive_keys))):
            key = self._text(path, saga_input, limits.EXCLUSIVE_KEY_BYTES_MAX)
            if not key:
                raise ExpressionFailedError(path, "an empty key, which is nobody's")
            keys[key] = None
        return list(keys)

    def _objection(self, payload: Any, expected: str) -> str | None:
        try:
            self.types.decode(payload, expected)
        except PayloadError as error:
            return str(error)
        return None

    def _message(self, path: str, saga_input: Any, outputs: Mapping[str, Any]) -> Any:
        payload = encode(self._evaluate(path, saga_input, outputs))
        if len(payload.value) > limits.PAYLOAD_BYTES_MAX:
            raise ExpressionFailedError(
                path, f"{len(payload.value)} bytes, at most {limits.PAYLOAD_BYTES_MAX} are sent"
            )
        return payload

    def _text(self, path: str, saga_input: Any, bytes_max: int) -> str:
        text: str = self._evaluate(path, saga_input, {})
        size = len(text.encode())
        if size > bytes_max:
            raise ExpressionFailedError(path, f"{size} bytes, at most {bytes_max} are kept")
        return text

    def _evaluate(self, path: str, saga_input: Any, outputs: Mapping[str, Any]) -> PythonAny:
        try:
            expression = self._expression(path)
            return expression.evaluate(dict(self._values(expression.reads, saga_input, outputs)))
        except (EvaluationError, PayloadError) as error:
            raise ExpressionFailedError(path, str(error)) from error
        except InvalidExpressionError as error:  # it was admitted by a version of this program that allowed more
            raise ExpressionFailedError(path, str(error)) from error

    def _values(
        self, names: Iterable[str], saga_input: Any, outputs: Mapping[str, Any]
    ) -> Iterator[tuple[str, Message]]:
        for name in names:
            if name == INPUT:
                yield name, self.types.decode(saga_input, self.definition.input_type)
            elif name in outputs:
                yield name, self.types.decode(outputs[name], self.output_type(name))

    def _expression(self, path: str) -> Expression:
        expression = self._compiled.get(path)
        if expression is None:
            site = self._sites[path]
            expression = self._expressions.compile(site.text, site.scope, site.result)
            self._compiled[path] = expression
        return expression


def _cut(text: str, bytes_max: int) -> str:
    """The text in at most that many bytes of UTF-8, without half a character at its end."""
    return text.encode()[:bytes_max].decode(errors="ignore")
