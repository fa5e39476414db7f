"""Options that several commands share, and how what people type becomes what the contract wants.

A value that cannot be read is wrong usage: it ends the command before any call is made.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from functools import wraps
from inspect import Parameter, signature
from typing import Annotated, Final, NamedTuple, TypeVar, get_type_hints
from typing import Any as PythonAny

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.cli.output import Format
from coordinator.core.instants import from_duration, to_timestamp
from coordinator.dataflow import durations
from saga.v1.types_pb2 import SagaState

Options = TypeVar("Options")

_STATE_PREFIX: Final = "SAGA_STATE_"
_ADDRESS: Final = re.compile(r"unix:[^\s:].*|(?:[^\s:/\[\]]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")
_PORT_MAX: Final = 65_535
_INSTANT: Final = "an instant such as 2026-01-31T12:00:00Z, or a duration such as 2h"


class Pair(NamedTuple):
    """What stands on both sides of the first `=`."""

    key: str
    value: str


def parse_address(text: str) -> str:
    """Where a server listens. Raises BadParameter.

    gRPC would take more for an address than can be one, and would print lines of its own about the rest.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None or (found["port"] is not None and not 0 < int(found["port"]) <= _PORT_MAX):
        raise typer.BadParameter(f"`{text}` is no address: expected HOST:PORT, [IPv6]:PORT or unix:PATH")
    return text


def parse_duration(text: str) -> Duration:
    """A duration that is not negative. Raises BadParameter."""
    try:
        duration = durations.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}: expected {durations.EXPECTED}") from None
    if from_duration(duration) < 0:
        raise typer.BadParameter(f"`{text}` is negative")
    return duration


def parse_past(text: str) -> Timestamp:
    """An instant, or how long ago it was. Raises BadParameter."""
    return _instant(text, -1)


def parse_future(text: str) -> Timestamp:
    """An instant, or how long until then. Raises BadParameter."""
    return _instant(text, +1)


def parse_pair(text: str) -> Pair:
    """`KEY=VALUE`. Raises BadParameter."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"`{text}`: expected two texts with `=` between them")
    return Pair(key, value)


def unique(pairs: Iterable[Pair], option: str) -> dict[str, str]:
    """The pairs by key. Raises BadParameter where a key comes twice."""
    by_key: dict[str, str] = {}
    for key, value in pairs:
        if key in by_key:
            raise typer.BadParameter(f"`{key}` is given twice", param_hint=option)
        by_key[key] = value
    return by_key


def parse_state(text: str) -> SagaState.ValueType:
    """A saga's state, with or without the enum's prefix. Raises BadParameter."""
    names = {name.removeprefix(_STATE_PREFIX): value for name, value in SagaState.items() if value}
    state = names.get(text.upper().removeprefix(_STATE_PREFIX))
    if state is None:
        raise typer.BadParameter(f"`{text}` is no state: expected one of {', '.join(names)}")
    return state


def taking(options: type[Options]) -> Callable[[Callable[[typer.Context, Options], None]], Callable[..., None]]:
    """Makes a command of a function that takes its options as one dataclass; each field becomes a parameter of typer's.

    For commands with so many that a signature is no place for them.
    """
    hints = get_type_hints(options, include_extras=True)
    parameters = [
        Parameter(
            field.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(options)  # type: ignore[arg-type]  # mypy has no bound for "a dataclass"
    ]

    def decorate(function: Callable[[typer.Context, Options], None]) -> Callable[..., None]:
        @wraps(function)
        def command(ctx: typer.Context, **given: PythonAny) -> None:
            function(ctx, options(**given))

        context = next(iter(signature(function, eval_str=True).parameters.values()))
        command.__signature__ = signature(command).replace(  # type: ignore[attr-defined]  # typer reads it
            parameters=[context, *parameters]
        )
        return command

    return decorate


def _instant(text: str, sign: int) -> Timestamp:
    try:
        return to_timestamp(time.time_ns() + sign * from_duration(durations.parse(text)))
    except ValueError:
        pass  # then it is an instant
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"`{text}`: expected {_INSTANT}") from None
    timestamp = Timestamp()
    timestamp.FromDatetime(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return timestamp


OutputOption = Annotated[Format, typer.Option("--output", "-o", help="`json`: canonical protobuf JSON.")]
SagaIdArgument = Annotated[str, typer.Argument(metavar="ID", help="The saga's id.", show_default=False)]
VersionOption = Annotated[int, typer.Option("--version", min=0, help="0: the newest that is not deprecated.")]
LabelsOption = Annotated[
    list[Pair] | None, typer.Option("--label", metavar="KEY=VALUE", parser=parse_pair, help="May be repeated.")
]
