"""The command line `saga`: runs a coordinator, and talks to one over the public contract like any other client.

Most commands are gRPC clients of `saga.v1` and must not reach into the engine or the journal: what they show is what
any client can see. The others are `serve`, `journal`, `conform`, which talks to a participant, and `explore`, which
works on a definition. Each module holds the commands of one subject and offers them as `commands`; a new command is a
function in its subject's module and nothing else.
"""

from __future__ import annotations

from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration

from coordinator.cli import conform, definition, explore, journal, operator, participants, saga, serve, start
from coordinator.cli.connection import CALL_TIMEOUT_DEFAULT, SERVER_DEFAULT, Address
from coordinator.cli.errors import EXIT_CODES_HELP, Commands
from coordinator.cli.options import parse_address, parse_duration
from coordinator.dataflow import durations

app = typer.Typer(
    name="saga",
    cls=Commands,
    help="Run a saga coordinator, and talk to one.",
    epilog=EXIT_CODES_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _root(
    ctx: typer.Context,
    server: Annotated[
        str,
        typer.Option(
            "--server",
            envvar="SAGA_SERVER",
            metavar="HOST:PORT",
            parser=parse_address,
            help="Where the coordinator listens.",
        ),
    ] = SERVER_DEFAULT,
    call_timeout: Annotated[
        Duration | None,
        typer.Option(
            "--call-timeout",
            metavar="DURATION",
            parser=parse_duration,
            show_default=durations.write(CALL_TIMEOUT_DEFAULT),
            help="How long one call may take.",
        ),
    ] = None,
) -> None:
    ctx.obj = Address(server, call_timeout or CALL_TIMEOUT_DEFAULT)


app.add_typer(serve.commands)
app.add_typer(definition.commands, name="definition")
app.add_typer(explore.commands)
app.add_typer(start.commands)
app.add_typer(saga.commands)
app.add_typer(operator.commands)
app.add_typer(participants.commands, name="participants")
app.add_typer(journal.commands, name="journal")
app.add_typer(conform.commands)


def main() -> None:
    """The console script."""
    app(prog_name="saga")
