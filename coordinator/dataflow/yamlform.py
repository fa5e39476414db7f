"""Definitions as people write them: YAML (or JSON, which is a subset) in the shape of the message `SagaDefinition`.

Enum values may be written short (`RESERVABLE`), durations as `5m`. Every mistake is found in one go and reported with
file, line, column, path and what was expected. The loaded text remembers where everything stands, so that what the
coordinator finds later, at `steps[2].input`, line 1, column 14 of the expression, can be shown where it is in the file.

This module must not judge what a definition means, and must not construct anything but that one message from the text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any as PythonAny
from typing import Final

import yaml
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from coordinator.core import limits
from coordinator.core.definition import Problem
from coordinator.dataflow import durations
from coordinator.dataflow.yamltext import TextProblem, TextReader, found, kind_of, line_and_column, place
from saga.v1.definition_pb2 import SagaDefinition

_DURATION: Final = Duration.DESCRIPTOR.full_name
_NUMBER: Final = re.compile(r"[+-]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]+)?")  # 010 and 0x10 are traps
_UINT32_MAX: Final = (1 << 32) - 1
_ODD_BREAK: Final = re.compile("[\r\x85\u2028\u2029]")  # what YAML would read as the end of a line
_LINE_LENGTH: Final = 1 << 20  # expressions are not broken up
_SIZE_MAX: Final = 4 * limits.DEFINITION_BYTES_MAX  # of the text, and of what its aliases unfold to


class DefinitionTextError(ValueError):
    """The text is no definition. `problems` has everything that is wrong with it, in the order of the text."""

    def __init__(self, problems: Collection[TextProblem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class DefinitionText:
    """A definition, and where in the text everything stands."""

    definition: SagaDefinition
    source: str
    _text: str = field(repr=False)
    _nodes: Mapping[str, yaml.Node] = field(repr=False)

    def locate(self, problem: Problem) -> TextProblem:
        """The same problem at its place in the file: that of what stands nearest round it, if the text lacks it."""
        path = problem.path
        while path not in self._nodes:
            path = _parent(path)
        node = self._nodes[path]
        line, column = place(node)
        if path == problem.path and problem.line and isinstance(node, yaml.ScalarNode):
            line, column = self._inside(node, problem.line, problem.column) or (line, column)
        return TextProblem(self.source, line, column, problem.path, problem.message, problem.expected)

    def _inside(self, node: yaml.ScalarNode, line: int, column: int) -> tuple[int, int] | None:
        """Where a character of an expression stands in the file; None where the text is escaped.

        YAML folds and indents, but keeps all that is not white space, in order: so that is counted.
        """
        value, (begin, end) = node.value, _span(self._text, node)
        places = [index for index in range(begin, end) if not self._text[index].isspace()]
        solid = "".join(value.split())
        if "".join(self._text[index] for index in places[: len(solid)]) != solid:
            return None
        lines = value.split("\n")
        before = sum(map(len, ("".join(one.split()) for one in (*lines[: line - 1], lines[line - 1][: column - 1]))))
        index = places[before] if before < len(solid) else places[before - 1] + 1
        return line_and_column(self._text, index)


def load(text: str, source: str) -> DefinitionText:
    """Reads a definition; `source` names the text in problems.

    Raises:
        DefinitionTextError: with everything that is wrong with the text.
    """
    reader = _Reader(source)
    definition = SagaDefinition()
    reader.read(text, definition)
    if reader.problems:
        raise DefinitionTextError(sorted(reader.problems, key=lambda problem: (problem.line, problem.column)))
    return DefinitionText(definition, source, text, reader.nodes)


def dump(definition: SagaDefinition) -> str:
    """The definition as YAML in its friendly form; `load` reads it back."""
    text: str = yaml.dump(
        _plain(definition), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_LINE_LENGTH, indent=2
    )
    return text


class _Reader(TextReader):
    """One walk over the nodes of a text, along the fields of a message."""

    def __init__(self, source: str) -> None:
        super().__init__(source, _SIZE_MAX, "a definition")
        self.nodes: dict[str, yaml.Node] = {}

    def read(self, text: str, into: Message) -> None:
        with self.reading():
            root = self.compose(text)
            self.nodes[""] = root
            self._message(root, "", into)

    def _message(self, node: yaml.Node, path: str, into: Message) -> None:
        fields: Mapping[str, PythonAny] = into.DESCRIPTOR.fields_by_name
        for key, name, value in self.entries(node, path, f"a mapping with the fields of {into.DESCRIPTOR.name}"):
            inner = f"{path}.{name}" if path else name
            if name not in fields:
                near = get_close_matches(name, fields, n=1)
                expected = f"`{near[0]}`" if near else "one of: " + ", ".join(fields)
                self.add(key, inner, f"unknown field `{name}`", expected)
            else:
                self._field(value, inner, into, fields[name])

    def _field(self, node: yaml.Node, path: str, into: Message, described: FieldDescriptor) -> None:
        self.nodes[path] = node
        slot: PythonAny = getattr(into, described.name)
        if described.message_type is not None and described.message_type.GetOptions().map_entry:
            value_field = described.message_type.fields_by_name["value"]
            for _, key, value in self.entries(node, path, "a mapping of texts"):
                inner = f"{path}[{key!r}]"
                self.nodes[inner] = value
                if (read := self._value(value, inner, value_field)) is not None:
                    slot[key] = read
        elif described.is_repeated:
            for index, item in enumerate(self.items(node, path)):
                self._item(item, f"{path}[{index}]", slot, described)
        elif described.message_type is not None and described.message_type.full_name != _DURATION:
            slot.SetInParent()
            self._message(node, path, slot)
        elif (read := self._value(node, path, described)) is not None:
            slot.CopyFrom(read) if isinstance(read, Duration) else setattr(into, described.name, read)

    def _item(self, node: yaml.Node, path: str, slot: PythonAny, described: FieldDescriptor) -> None:
        self.nodes[path] = node
        if described.message_type is not None:
            self._message(node, path, slot.add())
        elif (read := self._value(node, path, described)) is not None:
            slot.append(read)

    def _value(self, node: yaml.Node, path: str, described: FieldDescriptor) -> PythonAny:
        """The value of a scalar field; None, and a problem, where the node has none that fits."""
        self.weigh(node)
        read, expected = _reading(node, described)
        if read is None:
            self.add(node, path, found(node), expected)
        return read


def _reading(node: yaml.Node, described: FieldDescriptor) -> tuple[PythonAny, str]:
    """The value that the node has for a field, if any, and what would be right."""
    scalar = node if isinstance(node, yaml.ScalarNode) and kind_of(node) != "null" else None
    text = scalar.value if scalar else ""
    if described.enum_type is not None:
        return _enum_value(text, described.enum_type), "one of: " + ", ".join(_short_names(described.enum_type))
    if described.message_type is not None:
        return _duration(text), durations.EXPECTED
    if described.type == FieldDescriptor.TYPE_STRING:
        return text if scalar and kind_of(scalar) == "str" else None, "text, in quotes if need be"
    number = float(text) if scalar and scalar.style is None and _NUMBER.fullmatch(text) else math.nan
    if described.type == FieldDescriptor.TYPE_DOUBLE:
        return number if math.isfinite(number) else None, "a number"
    whole = number.is_integer() and 0 <= number <= _UINT32_MAX
    return int(number) if whole else None, f"a whole number from 0 to {_UINT32_MAX}"


def _enum_value(text: str, enum: EnumDescriptor) -> int | None:
    return _short_names(enum).get(text.removeprefix(_enum_prefix(enum)))


def _short_names(enum: EnumDescriptor) -> dict[str, int]:
    """The values that mean something, by their names without the enum's prefix."""
    prefix = _enum_prefix(enum)
    return {value.name.removeprefix(prefix): value.number for value in enum.values if value.number}


def _enum_prefix(enum: EnumDescriptor) -> str:
    return enum.values_by_number[0].name.removesuffix("UNSPECIFIED")


def _duration(text: str) -> Duration | None:
    try:
        return durations.parse(text)
    except ValueError:
        return None


def _span(text: str, node: yaml.ScalarNode) -> tuple[int, int]:
    """From where to where the characters of a scalar stand in the text, without quotes or the header of a block."""
    begin, end = node.start_mark.index, node.end_mark.index
    if node.style in ("'", '"'):
        return begin + 1, end - 1
    if node.style in ("|", ">"):
        return text.index("\n", begin) + 1, end
    return begin, end


def _parent(path: str) -> str:
    """`steps[2].input` stands in `steps[2]`, that in `steps`, and that in the whole."""
    return path[: max(path.rfind("."), path.rfind("["), 0)]


class _Dumper(yaml.SafeDumper):
    """Lists are indented, and texts of several lines are written as they are."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002  # the base's signature
        super().increase_indent(flow, False)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if _ODD_BREAK.search(text) else "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def _plain(message: Message) -> PythonAny:
    """The message as YAML's own kinds of values."""
    if isinstance(message, Duration):
        return durations.write(message)
    return {described.name: _plain_field(described, value) for described, value in message.ListFields()}


def _plain_field(described: FieldDescriptor, value: PythonAny) -> PythonAny:
    if described.message_type is not None and described.message_type.GetOptions().map_entry:
        return {key: value[key] for key in sorted(value)}
    if described.is_repeated:
        return [_plain_value(described, item) for item in value]
    return _plain_value(described, value)


def _plain_value(described: FieldDescriptor, value: PythonAny) -> PythonAny:
    if described.enum_type is not None:
        return described.enum_type.values_by_number[value].name.removeprefix(_enum_prefix(described.enum_type))
    return _plain(value) if described.message_type is not None else value
