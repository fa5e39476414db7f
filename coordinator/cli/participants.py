"""`saga participants`: which services the coordinator knows, and whether it can use them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from coordinator.cli import times
from coordinator.cli.connection import connect
from coordinator.cli.options import OutputOption
from coordinator.cli.output import Format, short_name, show, show_json, table, visible
from coordinator.cli.payloads import to_json
from coordinator.core import limits
from coordinator.core.instants import from_duration
from saga.v1 import coordinator_pb2 as pb

commands = typer.Typer(invoke_without_command=True)

_HEADERS = ("NAME", "TARGET", "STATE", "CALLS", "VERSION", "ACTIONS", "DESCRIBED", "PROBLEMS")


@commands.callback()
def participants(ctx: typer.Context, output: OutputOption = Format.TEXT) -> None:
    """List the participants, or `refresh` one."""
    if ctx.invoked_subcommand is not None:
        return
    with connect(ctx) as server:
        found = server.call(server.directory.ListParticipants, pb.ListParticipantsRequest()).participants
    if output is Format.JSON:
        for participant in found:
            show_json(to_json(participant))
    else:
        show(*_shown(found))


@commands.command(epilog="Example: saga participants refresh inventory")
def refresh(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name in the configuration.", show_default=False)],
    output: OutputOption = Format.TEXT,
) -> None:
    """Ask a participant to describe itself again."""
    with connect(ctx) as server:
        request = pb.RefreshParticipantRequest(name=name)
        participant = server.call(server.directory.RefreshParticipant, request).participant
    if output is Format.JSON:
        show_json(to_json(participant), indent=2)
    else:
        show(*_shown([participant]))


def _shown(participants: Sequence[pb.Participant]) -> list[RenderableType]:
    """A table, and below it each problem in a line of its own: they are sentences, too long for a column."""
    lines = [
        Text.assemble((visible(participant.name), "bold"), f": {visible(problem)}")
        for participant in participants
        for problem in _problems(participant)
    ]
    rows = table(_HEADERS, [_row(participant) for participant in participants])
    return [rows, Text(), *lines] if lines else [rows]


def _problems(participant: pb.Participant) -> list[str]:
    said = (participant.last_failure, _trouble(participant.traffic), *participant.problems)
    return [problem for problem in said if problem]


def _calls(participant: pb.Participant) -> str:
    """On which lane, how many are in flight, of how many that may be, and how many more there would be.

    For instance `fast 12/256`, `unary 256/256 +40`.
    """
    lane, traffic = "fast" if participant.fast_lane else "unary", participant.traffic
    more = traffic.calls_waiting + traffic.calls_held
    return f"{lane} {traffic.calls_in_flight}/{traffic.calls_max}" + (f" +{more}" if more else "")


def _trouble(traffic: pb.ParticipantTraffic) -> str:
    if traffic.breaker in (pb.BREAKER_STATE_OPEN, pb.BREAKER_STATE_HALF_OPEN):
        until = f" until {times.instant(traffic.open_until)}" if traffic.HasField("open_until") else ""
        return f"the last {traffic.unanswered_calls} calls were not answered: further ones are held back{until}"
    if from_duration(traffic.behind) > limits.BEHIND_MAX_NS:
        return "calls wait too long for a place: no sagas that need it are started"
    return ""


def _row(participant: pb.Participant) -> tuple[str, ...]:
    description = participant.description
    return (
        participant.name,
        participant.target,
        short_name(pb.ParticipantState.DESCRIPTOR, participant.state),
        _calls(participant) if participant.HasField("traffic") else "",
        description.version,
        " ".join(action.name for action in description.actions),
        times.instant(participant.describe_time) if participant.HasField("describe_time") else "",
        str(len(_problems(participant)) or ""),
    )
