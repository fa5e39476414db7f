"""The author's file: with which inputs an action can be tried, how its effects are counted, how it is started.

Read as definitions are: every mistake in one go, with file, line, column and path. `typed_problems` then compares the
inputs with what the participant describes. This module must not call anybody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import yaml
from google.protobuf.message import Message

from coordinator.conform import limits
from coordinator.core.instants import from_duration
from coordinator.core.limits import SECOND_NS
from coordinator.dataflow import durations
from coordinator.dataflow.types import PayloadError, Types
from coordinator.dataflow.yamltext import TextProblem, TextReader, found, kind_of, place
from saga.v1.participant_pb2 import Action

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Found = TypeVar("Found")

PLACEHOLDERS: Final = ("unique", "number")
"""`${unique}`: text that no other step of any run has. `${number}`: the same of digits, below 2**31."""

_PLACEHOLDER: Final = re.compile(r"\$\{([^}]*)\}")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")  # as in JSON; 010 and 1:30 are traps


class ExamplesError(ValueError):
    """The author's file cannot be used. `problems` is everything that is wrong with it."""

    def __init__(self, problems: Collection[TextProblem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in the file."""

    source: str
    line: int
    column: int
    path: str

    def problem(self, message: str, expected: str = "") -> TextProblem:
        """A problem with what stands there."""
        return TextProblem(self.source, self.line, self.column, self.path, message, expected)


@dataclass(frozen=True, slots=True)
class Input:
    """A message of the action's input type as JSON, with placeholders."""

    json: Json
    place: Place

    def filled(self, unique: str, number: int) -> str:
        """The JSON text for one step."""
        return json.dumps(_filled(self.json, {"unique": unique, "number": str(number)}))

    @property
    def has_placeholder(self) -> bool:
        """Whether two steps can get different inputs from it."""
        return _PLACEHOLDER.search(json.dumps(self.json)) is not None


@dataclass(frozen=True, slots=True)
class Refusal:
    """An input that is refused; `lifted_by` is a command after which it would not be."""

    input: Input
    reason: str = ""
    lifted_by: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """An input that Execute answers `pending` at first; `completed_by` is a command that makes it complete."""

    input: Input
    completes_within_s: float = limits.COMPLETES_WITHIN_DEFAULT_S
    completed_by: str = ""


@dataclass(frozen=True, slots=True)
class EffectsSource:
    """How the effects that a step has now are counted: a shell command, or a query on a SQLite file."""

    place: Place
    command: str = ""
    sqlite: str = ""
    query: str = ""


@dataclass(frozen=True, slots=True)
class ActionExamples:
    """What one action can be tried with."""

    place: Place
    inputs: Sequence[Input] = ()
    refused: Sequence[Refusal] = ()
    pending: Sequence[Waiting] = ()
    effects: EffectsSource | None = None

    def all_inputs(self) -> Iterator[Input]:
        """Every input that stands there."""
        return chain(self.inputs, (each.input for each in self.refused), (each.input for each in self.pending))


@dataclass(frozen=True, slots=True)
class Examples:
    """The author's file. `directory` is where it stands: its commands run there."""

    actions: Mapping[str, ActionExamples] = field(default_factory=dict)
    start: str = ""
    directory: Path = Path()


def load(text: str, source: str, directory: Path) -> Examples:
    """Reads an author's file; `source` names it in problems. Errors: `ExamplesError`, with everything that is wrong."""
    reader = _Reader(source)
    examples = Examples()
    with reader.reading():
        examples = reader.examples(reader.compose(text), directory)
    if reader.problems:
        raise ExamplesError(sorted(reader.problems, key=lambda problem: (problem.line, problem.column)))
    return examples


def typed_problems(examples: Examples, actions: Mapping[str, Action], types: Types) -> list[TextProblem]:
    """What in the file does not fit what the participant describes."""
    problems: list[TextProblem] = []
    for name, given in examples.actions.items():
        if name not in actions:
            near = get_close_matches(name, actions, n=1)
            expected = f"`{near[0]}`" if near else "one of: " + ", ".join(actions)
            problems.append(given.place.problem(f"the participant has no action `{name}`", expected))
            continue
        problems += _misfits(given, actions[name], types)
    return problems


def message_of(given: Input, action: Action, types: Types, unique: str, number: int) -> Message:
    """The input for one step. Errors: `PayloadError`."""
    return types.from_json(given.filled(unique, number), action.input_type)


def _misfits(given: ActionExamples, action: Action, types: Types) -> Iterator[TextProblem]:
    for one in given.all_inputs():
        try:
            message_of(one, action, types, "0", 0)
        except PayloadError as error:
            yield one.place.problem(str(error))


def _filled(value: Json, values: Mapping[str, str]) -> Json:
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda match: values[match[1]], value)
    if isinstance(value, list):
        return [_filled(item, values) for item in value]
    if isinstance(value, dict):
        return {key: _filled(item, values) for key, item in value.items()}
    return value


class _Reader(TextReader):
    """One walk over the nodes of the file."""

    def __init__(self, source: str) -> None:
        super().__init__(source, limits.FILE_CHARACTERS_MAX, "examples for `saga conform`")

    def examples(self, node: yaml.Node, directory: Path) -> Examples:
        fields = self._fields(node, "", ("start", "effects", "actions"), required=("actions",))
        effects = self._optional(fields, "", "effects", self._effects)
        actions = {}
        if "actions" in fields:
            for _, name, value in self.entries(fields["actions"], "actions", "a mapping of actions"):
                actions[name] = self._action(value, f"actions.{name}", effects)
        return Examples(actions, self._optional(fields, "", "start", self._text) or "", directory)

    def _action(self, node: yaml.Node, path: str, effects: EffectsSource | None) -> ActionExamples:
        fields = self._fields(node, path, ("inputs", "refused", "pending", "effects"), required=("inputs",))
        return ActionExamples(
            self._place(node, path),
            self._list(fields, path, "inputs", self._input),
            self._list(fields, path, "refused", self._refusal),
            self._list(fields, path, "pending", self._waiting),
            self._optional(fields, path, "effects", self._effects) or effects,
        )

    def _refusal(self, node: yaml.Node, path: str) -> Refusal:
        fields = self._fields(node, path, ("input", "reason", "lifted_by"), required=("input", "reason"))
        return Refusal(
            self._required_input(fields, node, path),
            self._optional(fields, path, "reason", self._text) or "",
            self._optional(fields, path, "lifted_by", self._text) or "",
        )

    def _waiting(self, node: yaml.Node, path: str) -> Waiting:
        fields = self._fields(node, path, ("input", "completes_within", "completed_by"), required=("input",))
        within_s = self._optional(fields, path, "completes_within", self._seconds)
        return Waiting(
            self._required_input(fields, node, path),
            limits.COMPLETES_WITHIN_DEFAULT_S if within_s is None else within_s,
            self._optional(fields, path, "completed_by", self._text) or "",
        )

    def _effects(self, node: yaml.Node, path: str) -> EffectsSource:
        fields = self._fields(node, path, ("command", "sqlite", "query"))
        if set(fields) not in ({"command"}, {"sqlite", "query"}):
            self.add(
                node, path, "there is " + (" and ".join(fields) or "nothing"), "either command, or sqlite and query"
            )
        texts = {name: self._text(value, f"{path}.{name}") for name, value in fields.items()}
        return EffectsSource(self._place(node, path), **texts)

    def _required_input(self, fields: Mapping[str, yaml.Node], node: yaml.Node, path: str) -> Input:
        return self._optional(fields, path, "input", self._input) or Input(None, self._place(node, path))

    def _input(self, node: yaml.Node, path: str) -> Input:
        if not isinstance(node, yaml.MappingNode):
            self.add(node, path, found(node), "a mapping with the fields of the action's input")
            return Input(None, self._place(node, path))
        return Input(self._json(node, path, limits.NESTING_MAX), self._place(node, path))

    def _json(self, node: yaml.Node, path: str, depth: int) -> Json:
        if depth == 0:
            self.add(node, path, "nested too deeply", f"at most {limits.NESTING_MAX} levels")
            return None
        if isinstance(node, yaml.MappingNode):
            entries = self.entries(node, path, "a mapping")
            return {name: self._json(value, f"{path}.{name}", depth - 1) for _, name, value in entries}
        if isinstance(node, yaml.SequenceNode):
            items = enumerate(self.items(node, path))
            return [self._json(item, f"{path}[{index}]", depth - 1) for index, item in items]
        return self._scalar(node, path)

    def _scalar(self, node: yaml.Node, path: str) -> Json:
        self.weigh(node)
        text = str(node.value)
        kind = kind_of(node)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() in ("true", "yes", "on")
        if kind in ("int", "float"):
            if not _NUMBER.fullmatch(text):
                self.add(node, path, found(node), "a number as in JSON, or text in quotes")
                return None
            return int(text) if kind == "int" else float(text)
        for match in _PLACEHOLDER.finditer(text):
            if match[1] not in PLACEHOLDERS:
                expected = " or ".join(f"${{{name}}}" for name in PLACEHOLDERS)
                self.add(node, path, f"unknown placeholder `{match[0]}`", expected)
        return text  # dates too: the type says what they are

    def _text(self, node: yaml.Node, path: str) -> str:
        self.weigh(node)
        if not isinstance(node, yaml.ScalarNode) or kind_of(node) == "null" or not node.value.strip():
            self.add(node, path, found(node), "text")
            return ""
        return str(node.value)

    def _seconds(self, node: yaml.Node, path: str) -> float:
        self.weigh(node)
        try:
            nanoseconds = from_duration(durations.parse(str(node.value)))
        except ValueError:
            nanoseconds = 0
        if nanoseconds <= 0:
            self.add(node, path, found(node), durations.EXPECTED)
        return nanoseconds / SECOND_NS

    def _fields(
        self, node: yaml.Node, path: str, known: Collection[str], required: Collection[str] = ()
    ) -> dict[str, yaml.Node]:
        """The fields of a mapping that are known; a problem for each that is not, and for each that is missing."""
        fields: dict[str, yaml.Node] = {}
        for key, name, value in self.entries(node, path, "a mapping with " + ", ".join(known)):
            if name in known:
                fields[name] = value
            else:
                near = get_close_matches(name, known, n=1)
                expected = f"`{near[0]}`" if near else "one of: " + ", ".join(known)
                self.add(key, f"{path}.{name}" if path else name, f"unknown field `{name}`", expected)
        if isinstance(node, yaml.MappingNode):
            for name in required:
                if name not in fields:
                    self.add(node, path, f"`{name}` is missing")
        return fields

    def _optional(
        self, fields: Mapping[str, yaml.Node], path: str, name: str, read: Callable[[yaml.Node, str], Found]
    ) -> Found | None:
        return read(fields[name], f"{path}.{name}" if path else name) if name in fields else None

    def _list(
        self, fields: Mapping[str, yaml.Node], path: str, name: str, read: Callable[[yaml.Node, str], Found]
    ) -> Sequence[Found]:
        if name not in fields:
            return ()
        items = self.items(fields[name], f"{path}.{name}")
        if not items and isinstance(fields[name], yaml.SequenceNode):
            self.add(fields[name], f"{path}.{name}", "an empty list", "at least one")
        return tuple(read(item, f"{path}.{name}[{index}]") for index, item in enumerate(items))

    def _place(self, node: yaml.Node, path: str) -> Place:
        return Place(self._source, *place(node), path)
