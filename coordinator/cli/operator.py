"""What people tell a saga: to turn back, to pause, to go on, to try again, and what happened to one of its steps.

Whether it may be told so is the coordinator's to say; nothing here decides it.
"""

from __future__ import annotations

import getpass
import time
from collections.abc import Mapping
from typing import Annotated, Final

import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.text import Text

from coordinator.cli.connection import Connection, connect
from coordinator.cli.options import OutputOption, SagaIdArgument, parse_future
from coordinator.cli.output import Format, show, show_json, show_line, visible
from coordinator.cli.outputs import output_of_step
from coordinator.cli.payloads import text_of, to_json, types_of_saga
from coordinator.cli.timeline import marks, timeline
from coordinator.cli.words import state_text
from saga.v1 import coordinator_pb2 as pb
from saga.v1.types_pb2 import Compensated, Completed, Confirmed, Rejected

commands = typer.Typer()

_DRY_RUN: Final = "dry run, nothing was changed; the saga would stand so:"

ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
ActorOption = Annotated[str, typer.Option("--actor", help="Who asks, for the record.", show_default="you")]
SequenceOption = Annotated[
    int, typer.Option("--expected-sequence", min=0, help="Refuse if the saga has moved on from here; 0: do not.")
]
StepArgument = Annotated[str, typer.Argument(metavar="STEP", help="The step's name.", show_default=False)]
CompletedOption = Annotated[
    str | None,
    typer.Option("--completed", metavar="JSON|@FILE|-", help="Execute took effect, and this is the step's output."),
]
HoldUntilOption = Annotated[
    Timestamp | None,
    typer.Option(
        "--hold-until", metavar="INSTANT", parser=parse_future, help="With --completed: until when a hold is kept."
    ),
]


@commands.command(epilog="Example: saga cancel order-42 --reason 'ordered twice'")
def cancel(
    ctx: typer.Context,
    saga_id: SagaIdArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; participants are told.")] = "",
    actor: ActorOption = "",
    expected_sequence: SequenceOption = 0,
    output: OutputOption = Format.TEXT,
) -> None:
    """Turn a saga back: what it has done is compensated."""
    request = pb.CancelSagaRequest(
        saga_id=saga_id, reason=reason, actor=actor or _user(), expected_sequence=expected_sequence
    )
    with connect(ctx) as server:
        _show(server, server.call(server.sagas.CancelSaga, request).saga, output)


@commands.command(epilog="Example: saga pause order-42 --reason 'the warehouse is down'")
def pause(
    ctx: typer.Context,
    saga_id: SagaIdArgument,
    reason: ReasonOption = "",
    actor: ActorOption = "",
    expected_sequence: SequenceOption = 0,
    output: OutputOption = Format.TEXT,
) -> None:
    """Have nothing new called for a saga. What is in flight settles, and deadlines keep their force."""
    request = pb.PauseSagaRequest(
        saga_id=saga_id, reason=reason, actor=actor or _user(), expected_sequence=expected_sequence
    )
    with connect(ctx) as server:
        _show(server, server.call(server.sagas.PauseSaga, request).saga, output)


@commands.command(epilog="Example: saga resume order-42")
def resume(
    ctx: typer.Context,
    saga_id: SagaIdArgument,
    reason: ReasonOption = "",
    actor: ActorOption = "",
    expected_sequence: SequenceOption = 0,
    output: OutputOption = Format.TEXT,
) -> None:
    """Take a pause back."""
    request = pb.ResumeSagaRequest(
        saga_id=saga_id, reason=reason, actor=actor or _user(), expected_sequence=expected_sequence
    )
    with connect(ctx) as server:
        _show(server, server.call(server.sagas.ResumeSaga, request).saga, output)


@commands.command(epilog="Example: saga retry order-42 --reason 'the bank answers again'")
def retry(
    ctx: typer.Context,
    saga_id: SagaIdArgument,
    reason: ReasonOption = "",
    actor: ActorOption = "",
    expected_sequence: SequenceOption = 0,
    output: OutputOption = Format.TEXT,
) -> None:
    """Try again now what is open or has come to nothing, with a fresh budget of attempts."""
    request = pb.RetrySagaRequest(
        saga_id=saga_id, reason=reason, actor=actor or _user(), expected_sequence=expected_sequence
    )
    with connect(ctx) as server:
        _show(server, server.call(server.sagas.RetrySaga, request).saga, output)


@commands.command(
    epilog="Examples:\n\n"
    "saga resolve order-42 charge --no-effect --reason 'the bank has no such charge' --dry-run\n\n"
    "saga resolve order-42 charge --completed @receipt.json --reason 'seen at the bank'"
)
def resolve(
    ctx: typer.Context,
    saga_id: SagaIdArgument,
    step: StepArgument,
    reason: Annotated[str, typer.Option("--reason", help="How you know.", show_default=False)],
    completed: CompletedOption = None,
    hold_until: HoldUntilOption = None,
    no_effect: Annotated[bool, typer.Option("--no-effect", help="Execute had no effect and will have none.")] = False,
    compensated: Annotated[bool, typer.Option("--compensated", help="The step is compensated.")] = False,
    confirmed: Annotated[bool, typer.Option("--confirmed", help="The hold is final.")] = False,
    actor: ActorOption = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would follow, and change nothing.")] = False,
    expected_sequence: SequenceOption = 0,
    output: OutputOption = Format.TEXT,
) -> None:
    """State what happened to a step that nobody else can settle.

    The output's JSON may name its type in `@type`; otherwise it is of the type that the step's action yields.
    """
    _demand_one(
        {
            "--completed": completed is not None,
            "--no-effect": no_effect,
            "--compensated": compensated,
            "--confirmed": confirmed,
        }
    )
    _demand_with("--hold-until", given=hold_until is not None, other="--completed", other_given=completed is not None)
    text = text_of(completed, "output") if completed is not None else None
    request = pb.ResolveStepRequest(
        saga_id=saga_id,
        step=step,
        reason=reason,
        actor=actor or _user(),
        dry_run=dry_run,
        no_effect=pb.NoEffect() if no_effect else None,
        compensated=Compensated() if compensated else None,
        confirmed=Confirmed() if confirmed else None,
        expected_sequence=expected_sequence,
    )
    with connect(ctx) as server:
        if text is not None:
            output_message = output_of_step(server, saga_id, step, text)
            request.completed.CopyFrom(Completed(output=output_message, hold_until=hold_until))
        saga = server.call(server.sagas.ResolveStep, request).saga
        if dry_run and output is Format.TEXT:
            show(Text(_DRY_RUN, style="bold"), Text(), timeline(saga, time.time_ns()))
        else:
            _show(server, saga, output)


@commands.command(
    epilog="Examples:\n\n"
    "saga complete order-42 ship --key 0199-key --completed @parcel.json\n\n"
    "saga complete order-42 ship --key 0199-key --rejected ADDRESS_UNKNOWN --message 'no such street'"
)
def complete(
    ctx: typer.Context,
    saga_id: SagaIdArgument,
    step: StepArgument,
    key: Annotated[
        str,
        typer.Option("--key", help="The idempotency key that the participant was sent.", show_default=False),
    ],
    completed: CompletedOption = None,
    hold_until: HoldUntilOption = None,
    rejected: Annotated[
        str | None,
        typer.Option("--rejected", metavar="REASON", help="It was refused, and has no effect. UPPER_SNAKE_CASE."),
    ] = None,
    message: Annotated[str, typer.Option("--message", help="With --rejected: more about it, for people.")] = "",
    compensated: Annotated[bool, typer.Option("--compensated", help="Compensate succeeded.")] = False,
    confirmed: Annotated[bool, typer.Option("--confirmed", help="Confirm succeeded.")] = False,
    failed: Annotated[
        str | None,
        typer.Option("--failed", metavar="MESSAGE", help="It broke, and nobody knows how far it got."),
    ] = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Report the outcome of a step in its participant's stead.

    The output's JSON may name its type in `@type`; otherwise it is of the type that the step's action yields.
    """
    _demand_one(
        {
            "--completed": completed is not None,
            "--rejected": rejected is not None,
            "--compensated": compensated,
            "--confirmed": confirmed,
            "--failed": failed is not None,
        }
    )
    _demand_with("--hold-until", given=hold_until is not None, other="--completed", other_given=completed is not None)
    _demand_with("--message", given=bool(message), other="--rejected", other_given=rejected is not None)
    text = text_of(completed, "output") if completed is not None else None
    request = pb.CompleteStepRequest(
        saga_id=saga_id,
        step=step,
        idempotency_key=key,
        rejected=Rejected(reason=rejected, message=message) if rejected is not None else None,
        compensated=Compensated() if compensated else None,
        confirmed=Confirmed() if confirmed else None,
        failed=pb.Failed(message=failed) if failed is not None else None,
    )
    with connect(ctx) as server:
        if text is not None:
            output_message = output_of_step(server, saga_id, step, text)
            request.completed.CopyFrom(Completed(output=output_message, hold_until=hold_until))
        _show(server, server.call(server.sagas.CompleteStep, request).saga, output)


def _demand_one(options: Mapping[str, bool]) -> None:
    """BadParameter unless exactly one of the options is given."""
    if sum(options.values()) != 1:
        raise typer.BadParameter(f"say what happened with exactly one of {', '.join(options)}")


def _demand_with(option: str, *, given: bool, other: str, other_given: bool) -> None:
    """BadParameter where an option is given without the one that it belongs to."""
    if given and not other_given:
        raise typer.BadParameter(f"it has a meaning only with {other}", param_hint=option)


def _show(server: Connection, saga: pb.Saga, output: Format) -> None:
    """The saga as it stands after what it was told."""
    if output is Format.JSON:
        show_json(to_json(saga, types_of_saga(server, saga.definition, saga.version)), indent=2)
        return
    marked = marks(saga)
    show_line(Text.assemble(visible(saga.saga_id), "  ", state_text(saga.state), f"  {marked}" if marked else ""))


def _user() -> str:
    """Who runs this program; empty where the system does not know."""
    try:
        return getpass.getuser()
    except OSError:
        return ""
