"""The syntax tree of a checked expression, as far as its cost hangs on it.

The library hands its tree out serialised only: a `cel.expr.CheckedExpr`
(https://github.com/google/cel-spec/blob/master/proto/cel/expr/checked.proto) in an `Any`. No package on PyPI ships that
message. So it is read here field by field, by the numbers of that file and of `syntax.proto` beside it. Macros are
expanded in it: a comprehension and `cel.bind` are both a `Fold`.

This module must not know what anything costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any as PythonAny
from typing import Final, TypeAlias

from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet


class Kind(Enum):
    """What values of a type are made of."""

    SCALAR = auto()  # of a size that no data changes
    TEXT = auto()  # strings and bytes
    STRUCTURE = auto()  # messages, lists and maps
    ANYTHING = auto()  # known at evaluation only


@dataclass(frozen=True, slots=True)
class Constant:
    """A literal, or the value of an enum. `text` is empty for all but strings and bytes."""

    kind: Kind
    text: bytes


@dataclass(frozen=True, slots=True)
class Name:
    """A variable."""

    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class Select:
    """A field of a message or an entry of a map, or whether it is there."""

    kind: Kind
    operand: Node
    is_test: bool


@dataclass(frozen=True, slots=True)
class Call:
    """A function or an operator; a method's object is the first argument."""

    kind: Kind
    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Literal:
    """A list, a map or a message that the expression makes. `type_name` is empty for all but messages."""

    kind: Kind
    type_name: str
    parts: tuple[Node, ...]
    elements: int


@dataclass(frozen=True, slots=True)
class Fold:
    """For each `variable` in `range`, `accumulator` becomes `step`; in the end it is `result`."""

    kind: Kind
    variable: str
    range: Node
    accumulator: str
    initial: Node
    condition: Node
    step: Node
    result: Node


Node: TypeAlias = Constant | Name | Select | Call | Literal | Fold

_Fields: TypeAlias = Mapping[int, list[PythonAny]]

_CHECKED_TYPES, _CHECKED_EXPR = 3, 4
_CONST, _IDENT, _SELECT, _CALL, _LIST, _STRUCT, _FOLD = range(3, 10)
_STRING, _BYTES = 6, 7  # of Constant, and of PrimitiveType too (5 and 6 there)
_KINDS: Final = {2: Kind.SCALAR, 6: Kind.STRUCTURE, 7: Kind.STRUCTURE, 9: Kind.STRUCTURE, 11: Kind.SCALAR}
_PRIMITIVE, _WRAPPER, _WELL_KNOWN, _ABSTRACT = 3, 4, 5, 14
_PRIMITIVE_TEXTS: Final = (5, 6)
_WELL_KNOWN_ANY: Final = 1


def read(serialized: bytes) -> Node:
    """The tree in what `cel.Expression.serialize` answers."""
    checked = _fields(Any.FromString(serialized).value)
    entries = map(_fields, checked.get(_CHECKED_TYPES, ()))
    kinds = {entry[1][0]: _kind(entry[2][0]) for entry in entries}
    return _Reader(kinds).node(checked[_CHECKED_EXPR][0])


class _Reader:
    def __init__(self, kinds: Mapping[int, Kind]) -> None:
        self._kinds = kinds

    def node(self, data: bytes) -> Node:
        expr = _fields(data)
        kind = self._kinds.get(expr.get(2, [0])[0], Kind.ANYTHING)
        (form,) = (number for number in expr if number != 2)  # id
        fields = _fields(expr[form][0])
        match form:
            case 3:  # const_expr
                text: bytes = (fields.get(_STRING) or fields.get(_BYTES) or [b""])[0]
                return Constant(kind, text)
            case 4:  # ident_expr
                return Name(kind, _text(fields, 1))
            case 5:  # select_expr
                return Select(kind, self.node(fields[1][0]), 3 in fields)
            case 6:  # call_expr
                return Call(kind, _text(fields, 2), self._nodes(fields, 1) + self._nodes(fields, 3))
            case 7:  # list_expr
                elements = self._nodes(fields, 1)
                return Literal(kind, "", elements, len(elements))
            case 8:  # struct_expr
                entries = [_fields(entry) for entry in fields.get(2, ())]
                parts = tuple(part for entry in entries for part in self._nodes(entry, 3) + self._nodes(entry, 4))
                return Literal(kind, _text(fields, 1), parts, len(entries))
            case 9:  # comprehension_expr
                range_, initial, condition, step, result = (self.node(fields[number][0]) for number in (2, 4, 5, 6, 7))
                return Fold(kind, _text(fields, 1), range_, _text(fields, 3), initial, condition, step, result)
            case _:
                raise ValueError(f"an expression of an unknown form: {form}")

    def _nodes(self, fields: _Fields, number: int) -> tuple[Node, ...]:
        return tuple(map(self.node, fields.get(number, ())))


def _kind(data: bytes) -> Kind:
    fields = _fields(data)
    if _PRIMITIVE in fields or _WRAPPER in fields:
        primitive = (fields.get(_PRIMITIVE) or fields.get(_WRAPPER) or [0])[0]
        return Kind.TEXT if primitive in _PRIMITIVE_TEXTS else Kind.SCALAR
    if _WELL_KNOWN in fields:
        return Kind.ANYTHING if fields[_WELL_KNOWN][0] == _WELL_KNOWN_ANY else Kind.SCALAR
    if _ABSTRACT in fields:  # an optional is what it may hold
        held = _fields(fields[_ABSTRACT][0]).get(2, ())
        return _kind(held[0]) if held else Kind.ANYTHING
    return next((_KINDS[number] for number in fields if number in _KINDS), Kind.ANYTHING)


def _text(fields: _Fields, number: int) -> str:
    text: bytes = fields.get(number, [b""])[0]
    return text.decode()


def _fields(data: bytes) -> _Fields:
    """The fields of a message by their numbers. Those of Empty are all unknown, and so are given as they came."""
    found: dict[int, list[PythonAny]] = {}
    unknown = UnknownFieldSet(Empty.FromString(data))
    for field in map(unknown.__getitem__, range(len(unknown))):
        found.setdefault(field.field_number, []).append(field.data)
    return found
