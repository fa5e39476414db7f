"""What evaluating an expression costs at most, before it is evaluated (G14).

CEL bounds its own iterations, length and nesting, but neither the bytes that it makes nor the time that it takes; and
it runs on the event loop. So each checked expression is walked once with bounds in place of values, in the manner of
cel-go's `checker.Cost` (https://pkg.go.dev/github.com/google/cel-go/checker#Cost). Beside the size of the largest value
that a node can have, the walk bounds the size of all its values together, over all iterations: the elements of a list
are together no larger than the list, so a loop that reads each element once stays linear in the data.

The unit of work is a byte made or read. The library spends 2 to 5 ns on one, and keeps what it makes until the
evaluation ends; the weights below were measured on that scale. What the data is like enters as three numbers. An
estimate grows with each of them, so a size up to which any data will do is found beforehand, and most evaluations
compare at most that.

This module must not evaluate anything.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any as PythonAny
from typing import Final

from google.protobuf.message import Message

from coordinator.core import limits
from coordinator.dataflow.tree import Call, Constant, Fold, Kind, Literal, Name, Node, Select

_ITERATIONS_MAX: Final = 10_001  # the library's budget for one evaluation, and the one that exceeds it
_LOOKED_AT_MAX: Final = 5 * _ITERATIONS_MAX  # parts of messages; to look at one takes 1 to 4 µs
_ANY: Final = "google.protobuf.Any"

# Work.
_NODE: Final = 64  # to come by a node at all
_ELEMENT: Final = (
    32  # to copy or compare a reference to an element; and each turn of `map` and `filter` copies the list
)
_SEARCH: Final = 4  # to look for a text, by byte of both
_SEARCH_PRODUCT: Final = 64  # the worst case of a search multiplies both; so many of that product are one
_MATCH: Final = 4  # to match one byte against one byte of a pattern that is written out
_COMPILE: Final = 100  # to compile one byte of a pattern, which is done whenever it is met
_COMPILE_WIDE: Final = 1_000  # where it has classes of most characters
_COMPILE_UNICODE: Final = 10_000  # where it has classes of Unicode
_COMPILE_MAX: Final = 160_000_000  # RE2 then finds the pattern too large

# Sizes, in bytes.
_SCALAR: Final = 16
_OVERHEAD: Final = 16  # of an element, an entry or a field: tag, length, or a number that is written longer than read
_TEXT_OF_SCALAR: Final = 64

_REPETITIONS_MAX: Final = 1_000  # RE2 refuses more, nested ones multiplied
_REPETITION: Final = re.compile(rb"\{(?:\d*,)?(\d+)(?:,)?\}")
_WIDE: Final = re.compile(rb"\.|\[\^|\\[DSWX]")
_UNICODE: Final = re.compile(rb"\\[pP]")

_INDEXES: Final = frozenset({"_[_]", "_[?_]", "_?._"})
_CHOICES: Final = frozenset({"_?_:_", "orValue", "or"})
_PASSES: Final = frozenset({"optional.of", "optional.ofNonZeroValue", "optional.none", "value", "dyn"})
_SEARCHES: Final = frozenset({"contains", "startsWith", "endsWith"})


@dataclass(frozen=True, slots=True)
class Data:
    """What an expression reads: its bytes as they are sent, its elements of all depths, its longest text's bytes."""

    size: int
    elements: int
    longest: int

    @classmethod
    def of_size(cls, size: int) -> Data:
        """The worst data of that size."""
        return cls(size, size, size)


@dataclass(frozen=True, slots=True)
class Bound:
    """Bounds of the values of one node: of the largest of them, and of all together (`all_`).

    `longest` bounds the bytes of any text in them, `elements` counts those of all depths.
    """

    size: int = 0
    all_size: int = 0
    elements: int = 0
    all_elements: int = 0
    longest: int = 0


@dataclass(frozen=True, slots=True)
class Cost:
    """The work of one evaluation, and the bytes of what it yields."""

    work: int
    size: int


def cost(tree: Node, data: Data) -> Cost:
    """The most that the expression can cost with any data within those bounds."""
    walk = _Walk(data)
    bound = walk.visit(tree, 1, {})
    return Cost(walk.work, bound.size)


def safe_size(tree: Node, reads: int) -> int | None:
    """How large the data may be, whatever it is like. None: it is too costly without any data.

    `reads` is how many messages it reads: as large as they get, they are safe where it says so. Between powers of two
    it takes the smaller.
    """
    largest = reads * limits.PAYLOAD_BYTES_MAX
    if is_admitted(tree, Data.of_size(largest)):
        return largest
    if not is_admitted(tree, Data.of_size(0)):
        return None
    too_costly = bisect_left(
        range(largest.bit_length()), True, key=lambda bits: not is_admitted(tree, Data.of_size(1 << bits))
    )
    return 1 << (too_costly - 1) if too_costly else 0


def is_admitted(tree: Node, data: Data) -> bool:
    """Whether the expression stays within what one evaluation may cost."""
    return cost(tree, data).work <= limits.EXPRESSION_WORK_MAX


def measure(messages: Iterable[Message], size: int) -> Data:
    """What messages of that size together are like. Where they have too many parts to be looked at: the worst."""
    elements = longest = looked_at = 0
    pending = list(messages)
    while pending:
        message = pending.pop()
        is_any = message.DESCRIPTOR.full_name == _ANY
        for field, value in message.ListFields():
            many = _parts(value) if field.is_repeated else (value,)
            elements += len(value) if field.is_repeated else 0
            looked_at += len(many)
            if looked_at > _LOOKED_AT_MAX:
                return Data.of_size(size)
            pending.extend(one for one in many if isinstance(one, Message))
            text = max((_length(one) for one in many), default=0)
            longest = max(longest, text)
            elements += text if is_any else 0  # its bytes may be a message of as many elements
    return Data(size, elements, longest)


def _parts(repeated: PythonAny) -> list[PythonAny]:
    return [*repeated, *repeated.values()] if isinstance(repeated, Mapping) else list(repeated)


def _length(value: PythonAny) -> int:
    if isinstance(value, str):
        return len(value.encode())
    return len(value) if isinstance(value, bytes) else 0


class _Walk:
    """One walk over the tree; `work` adds up."""

    def __init__(self, data: Data) -> None:
        self.work = 0
        size = data.size + _OVERHEAD * (data.elements + 1)
        self._data = Bound(size, size, data.elements + 1, data.elements + 1, data.longest)

    def visit(self, node: Node, times: int, names: Mapping[str, Bound]) -> Bound:
        """Bounds the values of the node, which is met at most so many times; `names` are the macros' variables."""
        self.work += _NODE * times
        match node:
            case Constant():
                length = len(node.text) if node.kind is Kind.TEXT else _SCALAR
                return _each(Bound(size=length, longest=length), times)
            case Name():
                return _of_kind(node.kind, names.get(node.name) or _each(self._data, times), times)
            case Select():
                return self._read(node.kind, self.visit(node.operand, times, names), times, is_test=node.is_test)
            case Call():
                return self._call(node, times, names)
            case Literal():
                return self._literal(node, times, names)
            case Fold():
                return self._fold(node, times, names)

    def _read(self, kind: Kind, of: Bound, times: int, *, is_test: bool = False) -> Bound:
        """A part of a value. Texts are copied on the way out, and what is not known may be one; structures are not."""
        part = _of_kind(Kind.SCALAR if is_test else kind, of, times)
        self._read_texts(kind, part)
        return part

    def _read_texts(self, kind: Kind, part: Bound) -> None:
        if kind in (Kind.TEXT, Kind.ANYTHING):
            self.work += part.all_size

    def _literal(self, node: Literal, times: int, names: Mapping[str, Bound]) -> Bound:
        parts = [self.visit(part, times, names) for part in node.parts]
        held = _together(parts)
        elements = node.elements + (held.size if node.type_name == _ANY else 0)
        made = replace(
            held,
            size=held.size + _OVERHEAD * (node.elements + 1),
            all_size=held.all_size + _OVERHEAD * (node.elements + 1) * times,
            elements=held.elements + elements,
            all_elements=held.all_elements + elements * times,
        )
        self.work += made.all_size if node.type_name else _ELEMENT * node.elements * times
        return made

    def _call(self, node: Call, times: int, names: Mapping[str, Bound]) -> Bound:
        arguments = [self.visit(argument, times, names) for argument in node.arguments]
        if node.function in _INDEXES:
            return self._read(node.kind, arguments[0], times)
        if node.function in _CHOICES:
            return _either(arguments[-2:], times)
        if node.function in _PASSES:
            return _together(arguments)
        result = _together(arguments)
        if node.kind is not Kind.STRUCTURE or node.function != "_+_":  # lists share their elements' bytes
            self.work += result.all_size
        self.work += _ELEMENT * result.all_elements
        if node.function in _SEARCHES:
            text, sought = arguments
            self.work += _SEARCH * result.all_size + text.all_size * sought.size // _SEARCH_PRODUCT
        elif node.function == "matches":
            self._match(node.arguments[-1], arguments[0], arguments[1], times)
        if node.kind is Kind.SCALAR:
            return _each(Bound(_SCALAR), times)
        return replace(
            result,
            size=result.size + _TEXT_OF_SCALAR,
            all_size=result.all_size + _TEXT_OF_SCALAR * times,
            longest=max(result.longest, result.size + _TEXT_OF_SCALAR),
        )

    def _match(self, pattern: Node, text: Bound, written: Bound, times: int) -> None:
        repetitions, compiling = _REPETITIONS_MAX, _COMPILE_UNICODE
        if isinstance(pattern, Constant):
            found = (int(digits) for digits in _REPETITION.findall(pattern.text))
            repetitions = min(prod(max(1, count) for count in found), _REPETITIONS_MAX)
            if not _UNICODE.search(pattern.text):
                compiling = _COMPILE_WIDE if _WIDE.search(pattern.text) else _COMPILE
        length = (written.size + 1) * repetitions
        self.work += min(length * compiling, _COMPILE_MAX) * times
        self.work += _MATCH * length * (text.all_size + times)

    def _fold(self, node: Fold, times: int, names: Mapping[str, Bound]) -> Bound:
        """A macro. All that it may do to its accumulator is to add to it: what one turn adds shows on an empty one."""
        range_ = self.visit(node.range, times, names)
        initial = self.visit(node.initial, times, names)
        turns = min(range_.elements, _ITERATIONS_MAX)
        all_turns = min(range_.all_elements, _ITERATIONS_MAX)
        self.work += range_.all_size if all_turns else 0  # texts are copied out of a message's list
        inside = {name: _each(bound, all_turns) for name, bound in names.items()}
        inside |= {node.variable: range_, node.accumulator: Bound()}
        self.visit(node.condition, all_turns, inside)
        added = self.visit(node.step, all_turns, inside)
        if node.kind is Kind.STRUCTURE:  # `map` and `filter` copy the list that they have so far
            self.work += _ELEMENT * turns * all_turns // 2
        grown = _together([initial, replace(added, size=added.all_size, elements=added.all_elements)])
        return self.visit(node.result, times, {**names, node.accumulator: grown})


def _each(bound: Bound, times: int) -> Bound:
    """The same value so many times."""
    return replace(bound, all_size=bound.size * times, all_elements=bound.elements * times)


def _together(bounds: Iterable[Bound]) -> Bound:
    """A value that holds one of each."""
    held = list(bounds)
    return Bound(
        sum(bound.size for bound in held),
        sum(bound.all_size for bound in held),
        sum(bound.elements for bound in held),
        sum(bound.all_elements for bound in held),
        max((bound.longest for bound in held), default=0),
    )


def _either(bounds: Iterable[Bound], times: int) -> Bound:
    """A value that is one of them, each time another."""
    held = list(bounds)
    size = max(bound.size for bound in held)
    elements = max(bound.elements for bound in held)
    return Bound(
        size,
        min(sum(bound.all_size for bound in held), size * times),
        elements,
        min(sum(bound.all_elements for bound in held), elements * times),
        max(bound.longest for bound in held),
    )


def _of_kind(kind: Kind, bound: Bound, times: int) -> Bound:
    """The bounds of such a part of a value."""
    if kind is Kind.SCALAR:
        return _each(Bound(_SCALAR), times)
    if kind is Kind.TEXT:
        size = min(bound.size, bound.longest)
        return Bound(size, min(bound.all_size, size * times), longest=size)
    return bound
