"""Looking at sagas: at one, at a list of them, at their events as they happen. Nothing here changes a saga."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice
from typing import Annotated

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.text import Text

from coordinator.cli import times
from coordinator.cli.children import Unseen, children
from coordinator.cli.connection import Connection, connect, paged
from coordinator.cli.eventline import event_line
from coordinator.cli.options import (
    LabelsOption,
    OutputOption,
    SagaIdArgument,
    parse_past,
    parse_state,
    taking,
    unique,
)
from coordinator.cli.output import Cell, Format, show, show_json, show_line, table, visible
from coordinator.cli.payloads import to_json, types_of_saga
from coordinator.cli.timeline import marks, payloads, timeline, took
from coordinator.cli.words import failure_text, labels_text, state_text
from coordinator.core.instants import from_timestamp
from coordinator.core.limits import PAGE_SIZE_MAX
from saga.v1 import coordinator_pb2 as pb
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import SagaState

commands = typer.Typer()

AfterOption = Annotated[int, typer.Option("--after", min=0, metavar="SEQUENCE", help="Only events behind this one.")]
_LIST_HEADERS = ("ID", "DEFINITION", "STATE", "CREATED", "DURATION", "MARKS", "LABELS", "FAILURE")


@commands.command(epilog="Examples:\n\nsaga get order-42 --events\n\nsaga get order-42 --children")
def get(
    ctx: typer.Context,
    saga_id: SagaIdArgument,
    with_payloads: Annotated[bool, typer.Option("--payloads", help="Show inputs and outputs too.")] = False,
    with_events: Annotated[bool, typer.Option("--events", help="Show every event too.")] = False,
    with_children: Annotated[
        bool, typer.Option("--children", help="Show the sagas that run as its steps too, and those below them.")
    ] = False,
    output: OutputOption = Format.TEXT,
) -> None:
    """Show where a saga stands, how each step went, and what it waits for."""
    wanted = with_payloads or output is Format.JSON
    view = pb.PAYLOAD_VIEW_FULL if wanted else pb.PAYLOAD_VIEW_NONE
    with connect(ctx) as server:
        saga = server.get(saga_id, view)
        for shown in chain((saga,), children(server, saga, view) if with_children else ()):
            if isinstance(shown, Unseen):
                typer.echo(visible(shown.text), err=True)
            elif output is Format.JSON:
                document = to_json(shown, types_of_saga(server, shown.definition, shown.version))
                show_json(document, indent=None if with_children else 2)
            else:
                if shown is not saga:
                    show_line(Text())
                _show(server, shown, with_payloads=with_payloads, with_events=with_events)


def _show(server: Connection, saga: pb.Saga, *, with_payloads: bool, with_events: bool) -> None:
    show(timeline(saga, time.time_ns()))
    if with_payloads:
        for part in payloads(saga, types_of_saga(server, saga.definition, saga.version)):
            show_line(part)
    if with_events:
        show_line(Text("\nevents", style="bold"))
        for event in _events(server, saga.saga_id, 0, pb.PAYLOAD_VIEW_NONE):
            show_line(_line(event, saga))


@dataclass(frozen=True)
class Listing:
    """Which sagas are listed, in which order and how."""

    states: Annotated[
        list[SagaState.ValueType] | None,
        typer.Option("--state", metavar="STATE", parser=parse_state, help="One of these; may be repeated."),
    ] = None
    definition: Annotated[str, typer.Option("--definition", help="Of this definition.")] = ""
    version: Annotated[int, typer.Option("--version", min=0, help="Of this version; 0: any.")] = 0
    labels: LabelsOption = None
    since: Annotated[
        Timestamp | None,
        typer.Option("--since", metavar="INSTANT", parser=parse_past, help="Created then or later; `2h`: 2 hours ago."),
    ] = None
    until: Annotated[
        Timestamp | None, typer.Option("--until", metavar="INSTANT", parser=parse_past, help="Created before.")
    ] = None
    needs_attention: Annotated[
        bool | None, typer.Option("--needs-attention/--no-needs-attention", help="Whether an operator is needed.")
    ] = None
    paused: Annotated[bool | None, typer.Option("--paused/--no-paused", help="Whether it is paused.")] = None
    overdue: Annotated[
        bool | None,
        typer.Option("--overdue/--no-overdue", help="Whether its deadline passed where it could not go back."),
    ] = None
    participant: Annotated[str, typer.Option("--participant", help="With a step of this participant.")] = ""
    failure: Annotated[str, typer.Option("--failure", help="With this text in its failure.")] = ""
    key: Annotated[
        str, typer.Option("--key", help="That holds this exclusive key, waits for it (PENDING), or held it.")
    ] = ""
    parent: Annotated[str, typer.Option("--parent", metavar="ID", help="That runs as a step of this saga.")] = ""
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="The oldest first.")] = False
    limit: Annotated[int, typer.Option("--limit", min=0, help="How many at most; 0: all.")] = 100
    output: OutputOption = Format.TEXT

    def filter(self) -> pb.SagaFilter:
        """What must hold of a saga. Raises BadParameter."""
        return pb.SagaFilter(
            states=self.states or (),
            definition=self.definition,
            version=self.version,
            labels=unique(self.labels or (), "--label"),
            create_time_from=self.since,
            create_time_until=self.until,
            needs_attention=self.needs_attention,
            paused=self.paused,
            overdue=self.overdue,
            participant=self.participant,
            failure_text=self.failure,
            exclusive_key=self.key,
            parent_saga_id=self.parent,
        )

    def request(self) -> pb.ListSagasRequest:
        """The first page. Raises BadParameter."""
        return pb.ListSagasRequest(
            page_size=min(self.limit + 1 if self.limit else PAGE_SIZE_MAX, PAGE_SIZE_MAX),
            filter=self.filter(),
            order=pb.SAGA_ORDER_OLDEST_FIRST if self.oldest_first else pb.SAGA_ORDER_UNSPECIFIED,
        )


@commands.command("list", epilog="Example: saga list --state running --definition order_fulfillment --since 2h")
@taking(Listing)
def list_(ctx: typer.Context, listing: Listing) -> None:
    """List sagas, the newest first. All that is asked for must hold."""
    request = listing.request()
    with connect(ctx) as server:

        def page(token: str) -> tuple[Iterable[pb.Saga], str]:
            request.page_token = token
            response = server.call(server.sagas.ListSagas, request)
            return response.sagas, response.next_page_token

        found = paged(page)
        wanted = islice(found, listing.limit or None)
        if listing.output is Format.JSON:
            for saga in wanted:
                show_json(to_json(saga))
        else:
            now_ns = time.time_ns()
            show(table(_LIST_HEADERS, [_row(saga, now_ns) for saga in wanted]))
        if next(found, None) is not None:
            typer.echo(f"more than {listing.limit} match; --limit shows more", err=True)


@commands.command(epilog="Example: saga events order-42")
def events(
    ctx: typer.Context, saga_id: SagaIdArgument, after: AfterOption = 0, output: OutputOption = Format.TEXT
) -> None:
    """Show a saga's events, one a line."""
    with connect(ctx) as server:
        saga = server.get(saga_id)
        if output is Format.JSON:
            types = types_of_saga(server, saga.definition, saga.version)
            for event in _events(server, saga_id, after, pb.PAYLOAD_VIEW_FULL):
                show_json(to_json(event, types))
        else:
            for event in _events(server, saga_id, after, pb.PAYLOAD_VIEW_NONE):
                show_line(_line(event, saga))


@commands.command(epilog="Example: saga watch order-42")
def watch(
    ctx: typer.Context, saga_id: SagaIdArgument, after: AfterOption = 0, output: OutputOption = Format.TEXT
) -> None:
    """Show a saga's events as they happen, until it ends. While it is FAILED, wait for an operator."""
    with connect(ctx) as server:
        saga = server.get(saga_id)
        if output is Format.JSON:
            types = types_of_saga(server, saga.definition, saga.version)
            for response in server.watch(saga_id, after, pb.PAYLOAD_VIEW_FULL):
                show_json(to_json(response.event, types))
        else:
            for response in server.watch(saga_id, after, pb.PAYLOAD_VIEW_NONE):
                show_line(_line(response.event, saga))


def _events(server: Connection, saga_id: str, after: int, view: pb.PayloadView.ValueType) -> Iterable[SagaEvent]:
    def page(token: str) -> tuple[Iterable[SagaEvent], str]:
        request = pb.ListSagaEventsRequest(
            saga_id=saga_id, after_sequence=after, page_size=PAGE_SIZE_MAX, page_token=token, payloads=view
        )
        response = server.call(server.sagas.ListSagaEvents, request)
        return response.events, response.next_page_token

    return paged(page)


def _line(event: SagaEvent, saga: pb.Saga) -> Text:
    return event_line(event, from_timestamp(saga.create_time))


def _row(saga: pb.Saga, now_ns: int) -> tuple[Cell, ...]:
    return (
        saga.saga_id,
        f"{saga.definition}@{saga.version}",
        state_text(saga.state),
        times.instant(saga.create_time),
        took(saga, now_ns),
        marks(saga),
        labels_text(saga.labels),
        failure_text(saga.failure) if saga.HasField("failure") else "",
    )
