"""CEL: the expressions of one definition version, compiled against its message types, and their evaluation.

An expression sees `input` and the outputs of steps by the steps' names. The output of a step that may be skipped is an
*optional*, so that it cannot be used without a default. The library cannot bind an optional as a variable; so such an
output is bound as a list of at most one message, and the expression is wrapped, by a line of its own in front, in
`cel.bind(charge, __output_charge[?0], …)`. Only line numbers have to be corrected for that.

What is admitted yields a message, a bool or a string. The library (0.1.3) loses a reference to None whenever it hands
out a null, which in the end aborts the interpreter: so the value's type is asked for before the value is.

This module must not know where in a definition an expression stands.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any as PythonAny
from typing import Final

from cel_expr_python import cel
from cel_expr_python.ext.ext_bindings import ExtBindings
from cel_expr_python.ext.ext_optional import ExtOptional
from google.protobuf.message import Message

from coordinator.core import limits
from coordinator.dataflow import cost, tree
from coordinator.dataflow.cost import Cost, Data
from coordinator.dataflow.types import Types

INPUT: Final = "input"

# What an expression can be asked to yield, beside the full name of a message.
BOOL: Final = "bool"
STRING: Final = "string"
ANY_MESSAGE: Final = "a message"

# Messages that CEL turns into values of its own kind, so that no expression yields them as messages.
CEL_VALUES: Final = frozenset(
    f"google.protobuf.{name}"
    for name in (
        *("Any", "Duration", "ListValue", "Struct", "Timestamp", "Value"),
        *("BoolValue", "BytesValue", "DoubleValue", "FloatValue", "StringValue"),
        *("Int32Value", "Int64Value", "UInt32Value", "UInt64Value"),
    )
)

_ERROR: Final = cel.Type.ERROR
_NULL: Final = cel.Type.NULL
_OUTPUT: Final = "__output_"
_EXTENSIONS: Final = (ExtBindings(), ExtOptional())
_NAMES_SHOWN_MAX: Final = 8

_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPTIONAL_VALUE: Final = re.compile(r"\.\s*value\s*\(")
_OPAQUE: Final = re.compile(  # string and bytes literals, raw and long ones first, and comments
    r"""(?<![A-Za-z0-9_])[bB]?(?:
        [rR](?: '{3}.*?'{3} | "{3}.*?"{3} | '[^'\n]*' | "[^"\n]*" )
        | '{3}(?:\\.|.)*?'{3} | "{3}(?:\\.|.)*?"{3} | '(?:\\.|[^'\\\n])*' | "(?:\\.|[^"\\\n])*"
    ) | //[^\n]*""",
    re.VERBOSE | re.DOTALL,
)
_SIGN: Final = re.compile(r"\w+|[^\w\s]")
_OPENING: Final = frozenset("([{")
_CLOSING: Final = frozenset(")]}")
_BETWEEN_OPERANDS: Final = frozenset("+-*/%<>=!&|?:,")
_DOUBLING: Final = frozenset({"optMap", "optFlatMap"})

# The library's texts.
_ERROR_LINE: Final = re.compile(r"^(?:INVALID_ARGUMENT: )?ERROR: <input>:(-?\d+):(-?\d+): (.*)$", re.MULTILINE)
_STATUS: Final = re.compile(r"^[A-Z_]+: | \[[A-Z_]+\]$")
_NOISE: Final = re.compile(rf"{_STATUS.pattern}| \(in container '[^']*'\)| expecting \{{.*\}}")
_CASCADED: Final = "*error*"
_UNDECLARED: Final = re.compile(r"undeclared reference to '([^'.]+)")
_UNDEFINED_FIELD: Final = re.compile(r"undefined field '([^']+)' not found in struct '([^']+)'")
_TOO_DEEP: Final = re.compile(r"recursion (?:limit|depth)")
_TYPE_WORD: Final = re.compile(
    r"(?<![\w.])(?:BOOL|BYTES|DOUBLE|DURATION|DYN|INT|LIST|MAP|NULL|STRING|TIMESTAMP|TYPE|UINT)(?![\w.])"
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with an expression. `line` and `column` count from 1; 0: no place in particular."""

    message: str
    expected: str = ""
    line: int = 0
    column: int = 0


class InvalidExpressionError(ValueError):
    """The expression does not parse, does not type-check, or yields the wrong type; `faults` has it all."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{fault.line}:{fault.column}: {fault.message}" for fault in self.faults))


class EvaluationError(ValueError):
    """The expression failed on the data it was given. The text is CEL's own."""


@dataclass(frozen=True, slots=True)
class Output:
    """What can be read of a step. An empty `type_name`: nobody knows, and anything is let pass."""

    type_name: str
    optional: bool


@dataclass(frozen=True, slots=True)
class Scope:
    """Where names come from: unqualified types from `package`, outputs from the steps `visible`.

    `why_hidden` completes the sentence "step `charge` …" for a step that is not.
    """

    package: str
    visible: Collection[str]
    why_hidden: str


@dataclass(frozen=True, slots=True)
class _Variable:
    """A variable of the compiled expression, and whose value it takes."""

    name: str
    source: str
    optional: bool


class Expression:
    """A compiled expression; it may be evaluated any number of times.

    `reads` names what it may look at; `type_name` is CEL's name of what it yields, of a message its full name;
    `is_always_cheap`: it may be evaluated on any data that the coordinator takes.

    Raises:
        InvalidExpressionError: it costs too much, whatever the data.
    """

    def __init__(self, compiled: cel.Expression, variables: Collection[_Variable]) -> None:
        self._compiled = compiled
        self._tree = tree.read(compiled.serialize())
        self.type_name = _plain(compiled.return_type().name())
        self._variables = tuple(variables)
        self.reads = tuple(variable.source for variable in variables)
        safe_size = cost.safe_size(self._tree, len(variables))
        if safe_size is None:
            raise InvalidExpressionError([Fault("the expression takes too long, whatever the data", _CHEAPER)])
        self._safe_size = safe_size
        self.is_always_cheap = safe_size == len(variables) * limits.PAYLOAD_BYTES_MAX

    def evaluate(self, values: Mapping[str, Message]) -> PythonAny:
        """What the expression yields: a message, a bool or a str.

        `values` are messages of the pool that it was compiled with. An output that may be missing may be missing there.

        Raises:
            EvaluationError: the evaluation failed, yields null, or could cost more than is allowed and was not begun.
        """
        bound = self._bind(values)
        if not self.is_always_cheap:
            self._check_cost(values)
        try:
            value = self._compiled.eval(data=bound)
        except MemoryError:
            raise EvaluationError("the expression needs more memory than there is") from None
        except RuntimeError as error:  # how the library says that the iteration budget is spent
            raise EvaluationError(_STATUS.sub("", str(error))) from None
        found = value.type()
        if found == _ERROR:
            raise EvaluationError(_STATUS.sub("", str(value.value())))
        if found == _NULL:
            raise EvaluationError("the expression yields null")
        return value.value()

    def cost_on(self, values: Mapping[str, Message]) -> Cost:
        """What `evaluate` can cost at most with such values."""
        return cost.cost(self._tree, self._data(values))

    def _check_cost(self, values: Mapping[str, Message]) -> None:
        if self._size(values) <= self._safe_size:
            return
        data = self._data(values)
        work = cost.cost(self._tree, data).work
        if work > limits.EXPRESSION_WORK_MAX:
            raise EvaluationError(
                f"not evaluated: on {data.size} bytes with {data.elements} elements, and with {data.longest} bytes in "
                f"one text, it could make and read {work} bytes, and at most {limits.EXPRESSION_WORK_MAX} are allowed: "
                f"{_CHEAPER}"
            )

    def _data(self, values: Mapping[str, Message]) -> Data:
        return cost.measure(self._read(values), self._size(values))

    def _size(self, values: Mapping[str, Message]) -> int:
        return sum(message.ByteSize() for message in self._read(values))

    def _read(self, values: Mapping[str, Message]) -> list[Message]:
        return [values[name] for name in self.reads if name in values]

    def _bind(self, values: Mapping[str, Message]) -> dict[str, PythonAny]:
        bound: dict[str, PythonAny] = {}
        for variable in self._variables:
            value = values.get(variable.source)
            if variable.optional:
                bound[variable.name] = [] if value is None else [value]
            elif value is None:
                raise EvaluationError(f"`{variable.source}` has no value")
            else:
                bound[variable.name] = value
        return bound


class Expressions:
    """Compiles the expressions of one definition. Environments are shared between them, as making one is what costs.

    `outputs` has every step of the definition; what of it an expression may read is said when it is compiled.
    """

    def __init__(self, types: Types, input_type: str, outputs: Mapping[str, Output]) -> None:
        self._types = types
        self._outputs = outputs
        self._input_package = types.descriptor(input_type).file.package if types.knows(input_type) else ""
        self._input = cel.Type(input_type) if types.knows(input_type) else cel.Type.DYN
        self._type_names = frozenset(types.names())
        self._full_names: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self._type_names):
            self._full_names[name.rpartition(".")[2]].append(name)
        self._environments: dict[tuple[str, frozenset[str], frozenset[str] | None], cel.Env] = {}

    def compile(self, text: str, scope: Scope, result: str) -> Expression:
        """Parses and checks an expression.

        It is to yield `result`: BOOL, STRING, ANY_MESSAGE or a message of that full name.

        Raises:
            InvalidExpressionError: with all faults.
        """
        check_syntax(text)
        code = _OPAQUE.sub(_blank, text)
        words = frozenset(_IDENTIFIER.findall(code))
        mentioned = words & self._outputs.keys()
        readable = {name for name in mentioned if name in scope.visible}
        environment = self._environment(
            scope.package, self._abbreviations(words, scope.package), None if readable == mentioned else readable
        )
        variables = [self._variable(name) for name in sorted(readable)]
        if INPUT in words:
            variables.append(_Variable(INPUT, INPUT, optional=False))
        bound = [variable for variable in variables if variable.optional]
        source = _wrap(text, bound)
        faults = list(_forbidden(code))
        try:
            compiled = environment.compile(source)
            yielded = compiled.return_type()  # fails too: a map whose keys are messages passes the library's check
        except RuntimeError as error:
            found = (_shifted(fault, -len(bound)) for fault in _faults(str(error), source))
            faults += (self._explained(fault, mentioned - readable, scope) for fault in found)
            raise InvalidExpressionError(_in_order(faults)) from None
        faults += self._wrong_result(environment, source, yielded, result, readable)
        if faults:
            raise InvalidExpressionError(_in_order(faults))
        return Expression(compiled, variables)

    def _variable(self, step: str) -> _Variable:
        optional = self._outputs[step].optional
        return _Variable(_OUTPUT + step if optional else step, step, optional)

    def _environment(self, package: str, abbreviations: frozenset[str], only: Collection[str] | None) -> cel.Env:
        """The environment that declares the outputs of the steps `only`, or of all steps."""
        key = (package, abbreviations, None if only is None else frozenset(only))
        if key not in self._environments:
            declared = self._outputs if only is None else only
            self._environments[key] = cel.NewEnv(
                self._types.pool,
                variables={INPUT: self._input, **dict(self._declaration(step) for step in declared)},
                container=cel.ExpressionContainer(package, abbreviations=sorted(abbreviations)),
                extensions=_EXTENSIONS,
            )
        return self._environments[key]

    def _declaration(self, step: str) -> tuple[str, cel.Type]:
        variable, output = self._variable(step), self._outputs[step]
        message = cel.Type(output.type_name) if output.type_name else cel.Type.DYN
        return variable.name, cel.Type.List(message) if variable.optional else message

    def _abbreviations(self, words: Collection[str], package: str) -> frozenset[str]:
        """The full names of the types that are mentioned by their short names, and are not in reach by `package`."""
        taken = {*self._outputs, INPUT, package.partition(".")[0]}  # the library refuses an alias for the last
        short = (word for word in words if word in self._full_names and word not in taken)
        found = (self._candidates(word) for word in short if not self._in_reach(word, package))
        return frozenset(full_names[0] for full_names in found if len(full_names) == 1)

    def _candidates(self, word: str) -> list[str]:
        """What a short name can mean: the type of the saga's input's package if it is there, else any."""
        preferred = f"{self._input_package}.{word}" if self._input_package else word
        return [preferred] if preferred in self._type_names else self._full_names.get(word, [])

    def _in_reach(self, word: str, package: str) -> bool:
        """Whether CEL finds the type by itself: it looks in the package and in all packages round it."""
        parts = package.split(".") if package else []
        return any(".".join((*parts[:length], word)) in self._type_names for length in range(len(parts) + 1))

    def _explained(self, fault: Fault, hidden: Collection[str], scope: Scope) -> Fault:
        """The same fault, with what the library cannot know."""
        if undeclared := _UNDECLARED.search(fault.message):
            return self._undeclared(fault, undeclared[1], hidden, scope)
        if undefined := _UNDEFINED_FIELD.search(fault.message):
            field, message = undefined.groups()
            fields = list(self._types.descriptor(message).fields_by_name) if self._types.knows(message) else []
            return replace(fault, expected=_one_of(field, fields))
        if "optional_type" in fault.message:
            return replace(fault, expected=_A_DEFAULT)
        return fault

    def _undeclared(self, fault: Fault, name: str, hidden: Collection[str], scope: Scope) -> Fault:
        readable = [INPUT, *sorted(scope.visible)]
        if name in hidden:
            return replace(fault, message=f"step `{name}` {scope.why_hidden}", expected=_one_of(name, readable))
        candidates = self._candidates(name)
        if len(candidates) > 1:
            return replace(fault, message=f"`{name}` can mean several types", expected=_one_of("", candidates))
        near = get_close_matches(name, [*self._full_names, *readable], n=1)
        return replace(fault, expected=f"`{near[0]}`" if near else _one_of("", readable))

    def _wrong_result(
        self, environment: cel.Env, source: str, found: cel.Type, result: str, readable: Collection[str]
    ) -> Iterator[Fault]:
        name = _plain(found.name())
        unsure = any(not self._outputs[step].type_name for step in readable) or self._input == cel.Type.DYN
        if unsure and re.search(r"\bdyn\b", name):
            return
        if result in (BOOL, STRING):
            if name == result and _nullable(environment, source):
                yield Fault(f"the expression yields {name} or null", f"{result}, by a test for null or by `has`")
                return
            right = name == result
        else:
            right = found.is_message() and result in (ANY_MESSAGE, name)
        if not right:
            default = f"; {_A_DEFAULT}" if name.startswith("optional_type") else ""
            yield Fault(f"the expression yields {_quoted(name)}", _quoted(result) + default)


_A_DEFAULT: Final = "a default for where the step was skipped, for instance by `.orValue(…)`"


_CHEAPER: Final = "let a participant do it, or have loops, joined texts and patterns work on less"


def _new_parser() -> cel.Env:
    return cel.NewEnv(extensions=_EXTENSIONS)


_PARSER: Final = _new_parser()


def check_syntax(text: str) -> None:
    """Parses an expression without looking at its names and types. Raises InvalidExpressionError."""
    if _expanded_size(_OPAQUE.sub(_blank, text)) > limits.EXPRESSION_BYTES_MAX:
        raise InvalidExpressionError([Fault("too many `optMap`, one called on the other", "`optMap` inside `optMap`")])
    try:
        _PARSER.compile(text, disable_check=True)
    except RuntimeError as error:
        raise InvalidExpressionError(_faults(str(error), text)) from None


def _expanded_size(code: str) -> int:
    """How many words and signs the parser has to deal with.

    It writes twice what `optMap` is called on, so a chain of them doubles with each, before any limit of its own.
    """
    before, operand = [0], [0]  # of each bracket that is open: what stands in it, but for the last operand; and that
    for sign in _SIGN.findall(code):
        operand[-1] += 1
        if sign in _OPENING:
            before.append(0)
            operand.append(0)
        elif sign in _CLOSING and len(operand) > 1:
            inside = before.pop() + operand.pop()
            operand[-1] += inside
        elif sign in _DOUBLING:
            operand[-1] *= 2
        elif sign in _BETWEEN_OPERANDS:
            before[-1] += operand[-1]
            operand[-1] = 0
    return sum(before) + sum(operand)


def _wrap(text: str, optional: Iterable[_Variable]) -> str:
    """The expression with its optional outputs bound, each by a line in front; a comment may end the expression."""
    for variable in optional:
        text = f"cel.bind({variable.source}, {variable.name}[?0],\n{text}\n)"
    return text


def _nullable(environment: cel.Env, source: str) -> bool:
    """Whether the type is a wrapper. The library calls it by what it wraps, but only a wrapper compares with null."""
    try:
        environment.compile(f"(\n{source}\n) == null")
    except RuntimeError:
        return False
    return True


def _forbidden(code: str) -> Iterator[Fault]:
    """What type-checks and must not be used all the same."""
    for found in _OPTIONAL_VALUE.finditer(code):
        yield Fault("`.value()` fails where there is no value", _A_DEFAULT, *_position(code, found.start()))
    for found in _IDENTIFIER.finditer(code):
        if found[0].startswith(_OUTPUT):
            yield Fault(f"undeclared reference to '{found[0]}'", "", *_position(code, found.start()))


def _position(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _blank(opaque: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", opaque[0])


def _faults(text: str, source: str) -> list[Fault]:
    """The library's text as faults: without echoes of the source, and without what only follows from another fault."""
    if _TOO_DEEP.search(text):
        expected = "at most 32 levels; each step that may be skipped and is read takes one"
        return [Fault("the expression is nested too deeply", expected)]
    found = [Fault(_clean(message), "", int(line), int(column)) for line, column, message in _ERROR_LINE.findall(text)]
    lines = source.count("\n") + 1
    placed = [fault if 1 <= fault.line <= lines else replace(fault, line=0, column=0) for fault in found]
    first_causes = [fault for fault in placed if _CASCADED not in fault.message]
    return first_causes or placed or [Fault(_clean(text))]


def _clean(message: str) -> str:
    return _NOISE.sub("", message).replace("'<EOF>'", "the end of the expression")


def _shifted(fault: Fault, lines: int) -> Fault:
    return replace(fault, line=fault.line + lines) if fault.line else fault


def _in_order(faults: Iterable[Fault]) -> list[Fault]:
    return sorted(faults, key=lambda fault: (fault.line, fault.column))


def _plain(type_name: str) -> str:
    """The library's name of a type as CEL writes it: its own types in lower case. It has none for Any."""
    return "google.protobuf.Any" if type_name == "ERROR" else _TYPE_WORD.sub(lambda word: word[0].lower(), type_name)


def _quoted(type_name: str) -> str:
    return type_name if type_name in (BOOL, STRING, ANY_MESSAGE) else f"`{type_name}`"


def _one_of(name: str, names: Collection[str]) -> str:
    """The names that `name` may have been meant for, or the first of all."""
    near = get_close_matches(name, names, n=1)
    shown = near or list(names)[:_NAMES_SHOWN_MAX]
    more = ", …" if not near and len(names) > _NAMES_SHOWN_MAX else ""
    return ("" if len(shown) == 1 else "one of ") + ", ".join(f"`{one}`" for one in shown) + more if shown else ""
