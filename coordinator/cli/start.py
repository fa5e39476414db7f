"""`saga start`: starts a saga and, if asked to, stays with it until it ends.

The saga's id is made here where the user gives none, so that a call that has to be repeated starts one saga only (G10).
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Final

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

from coordinator.cli.connection import Connection, connect
from coordinator.cli.errors import CommandError, ExitCode, code_of_state, has_stopped
from coordinator.cli.eventline import event_line
from coordinator.cli.options import LabelsOption, OutputOption, VersionOption, parse_duration, parse_future, unique
from coordinator.cli.output import Format, console, show, show_json, show_line
from coordinator.cli.payloads import no_input, payload_from_json, text_of, to_json, types_of
from coordinator.cli.timeline import timeline
from coordinator.core.instants import from_duration, from_timestamp, to_duration
from coordinator.core.limits import SECOND_NS, WAIT_DEFAULT_NS
from coordinator.dataflow.types import Types
from saga.v1 import coordinator_pb2 as pb
from saga.v1.definition_pb2 import GetDefinitionRequest
from saga.v1.event_pb2 import SagaEvent

commands = typer.Typer()

Display = Callable[[SagaEvent, pb.Saga], None]

_WAIT_S: Final = WAIT_DEFAULT_NS / SECOND_NS  # of one call; the next takes it up


@commands.command(
    epilog="Examples:\n\n"
    """saga start order_fulfillment --input '{"orderId": "42", "sku": "book"}'\n\n"""
    "saga start order_fulfillment --input @order.json --id order-42 --label region=eu --wait"
)
def start(
    ctx: typer.Context,
    definition: Annotated[str, typer.Argument(metavar="DEFINITION", help="Its name.", show_default=False)],
    input_: Annotated[
        str | None,
        typer.Option(
            "--input",
            "-i",
            metavar="JSON|@FILE|-",
            help="The input message as JSON; `-`: standard input. May be left out where it has no fields.",
        ),
    ] = None,
    version: VersionOption = 0,
    saga_id: Annotated[str, typer.Option("--id", help="The saga's id.", show_default="a new UUID")] = "",
    labels: LabelsOption = None,
    timeout: Annotated[
        Duration | None,
        typer.Option("--timeout", metavar="DURATION", parser=parse_duration, help="How long the saga may take."),
    ] = None,
    start_time: Annotated[
        Timestamp | None,
        typer.Option("--start-time", metavar="INSTANT", parser=parse_future, help="Not before; `10m`: in 10 minutes."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until it ends, and exit by how it ended.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="The same, and show what happens.")] = False,
    wait_timeout: Annotated[
        Duration | None,
        typer.Option("--wait-timeout", metavar="DURATION", parser=parse_duration, help="How long to stay at most."),
    ] = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Start a saga and print its id."""
    request = pb.StartSagaRequest(
        saga_id=saga_id or str(uuid.uuid4()),
        definition=definition,
        version=version,
        labels=unique(labels or (), "--label"),
        timeout=timeout,
        start_time=start_time,
    )
    text = text_of(input_, "input") if input_ is not None else None
    until_s = time.monotonic() + from_duration(wait_timeout) / SECOND_NS if wait_timeout else math.inf
    view = pb.PAYLOAD_VIEW_FULL if output is Format.JSON else pb.PAYLOAD_VIEW_NONE
    with connect(ctx) as server:
        found = server.call(server.definitions.GetDefinition, GetDefinitionRequest(name=definition, version=version))
        request.input.CopyFrom(no_input(found) if text is None else payload_from_json(text, found))
        look = f"look with `saga get {request.saga_id}`"
        with _where_to_look(f"the saga may have been started all the same; {look}"):
            saga = server.call(server.sagas.StartSaga, request).saga
        if output is Format.TEXT:
            show_line(Text(saga.saga_id))
        with _where_to_look(f"the saga was started, and goes on without this command; {look}"):
            if follow:
                with _display(saga, types_of(found), output) as display:
                    saga = _follow(server, saga, until_s, view, display)
            elif wait:
                saga = _wait(server, saga, until_s, view)
    if output is Format.JSON and not follow:
        show_json(to_json(saga, types_of(found)), indent=2)
    elif wait and not follow:
        show(timeline(saga, time.time_ns()))
    if wait or follow:
        raise typer.Exit(code_of_state(saga.state))


@contextmanager
def _where_to_look(hint: str) -> Iterator[None]:
    """Where the coordinator is lost, the hint is what its user has to know of the saga."""
    try:
        yield
    except CommandError as error:
        if error.code is not ExitCode.UNAVAILABLE:
            raise
        raise CommandError(str(error), error.code, [*error.details, hint]) from error


def _wait(server: Connection, saga: pb.Saga, until_s: float, view: pb.PayloadView.ValueType) -> pb.Saga:
    """The saga when it has stopped, or as it stands when the wait is over."""
    while not has_stopped(saga.state) and (left_s := until_s - time.monotonic()) > 0:
        timeout_s = min(left_s, _WAIT_S)
        timeout = to_duration(max(int(timeout_s * SECOND_NS), 1))
        request = pb.WaitSagaRequest(saga_id=saga.saga_id, timeout=timeout, payloads=view)
        saga = server.call(server.sagas.WaitSaga, request, longer_s=timeout_s).saga
    return saga


def _follow(
    server: Connection, saga: pb.Saga, until_s: float, view: pb.PayloadView.ValueType, display: Display
) -> pb.Saga:
    """The same, with every event on display."""
    for response in server.watch(saga.saga_id, 0, view, until_s):
        event = response.event
        if event.sequence > saga.last_sequence:
            saga = server.get(saga.saga_id)
        display(event, saga)
        if has_stopped(saga.state) and event.sequence >= saga.last_sequence:
            return saga
    return _wait(server, saga, until_s, view)


@contextmanager
def _display(saga: pb.Saga, types: Types, output: Format) -> Iterator[Display]:
    """Shows events line by line or, on a terminal, the saga as it changes."""
    start_ns, screen = from_timestamp(saga.create_time), console()
    if output is Format.JSON:
        yield lambda event, _saga: show_json(to_json(event, types))
    elif not screen.is_terminal:
        yield lambda event, _saga: show_line(event_line(event, start_ns))
    else:
        picture = _Picture(saga)
        with Live(picture, console=screen):
            yield picture.update


class _Picture:
    """The saga as last seen, drawn anew several times a second so that what is under way is seen to last."""

    def __init__(self, saga: pb.Saga) -> None:
        self._saga = saga

    def update(self, _event: SagaEvent, saga: pb.Saga) -> None:
        self._saga = saga

    def __rich__(self) -> RenderableType:
        return timeline(self._saga, time.time_ns())
