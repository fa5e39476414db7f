"""`saga serve`: a coordinator in this process, until it is told to stop.

Flags win over the environment, the environment over the configuration file. What the settings mean is the
configuration's to say; this module only hands them over, and says what is wrong with them in a line each.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.errors import CommandError, ExitCode
from coordinator.cli.options import Pair, parse_pair, unique

commands = typer.Typer()


@commands.command(
    epilog="Example: saga serve --listen 127.0.0.1:7400 --journal saga.db --participant inventory=127.0.0.1:50061"
)
def serve(
    listen: Annotated[
        str | None, typer.Option("--listen", metavar="HOST:PORT", help="Where to listen; port 0 picks a free one.")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option("--journal", metavar="FILE", help="The journal, a SQLite file.")
    ] = None,
    participant: Annotated[
        list[Pair] | None,
        typer.Option("--participant", metavar="NAME=HOST:PORT", parser=parse_pair, help="May be repeated."),
    ] = None,
    config_file: Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings, as TOML.")] = None,
    log_level: Annotated[str | None, typer.Option("--log-level", help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option("--log-format", help="text or json.")] = None,
) -> None:
    """Run a coordinator. Prints `listening on HOST:PORT` when it is ready; its log goes to the standard error."""
    from coordinator import app, config, failpoints, logs

    try:
        settings = config.load(
            config_file,
            listen=listen,
            journal=journal,
            participants=unique(participant, "--participant") if participant else None,
            log_level=log_level,
            log_format=log_format,
        )
    except config.ConfigurationError as error:
        raise CommandError("the configuration cannot be used", ExitCode.USAGE, str(error).splitlines()) from None
    logs.set_up(settings.log_level, settings.log_format)
    try:
        failpoints.arm(os.environ.get(failpoints.VARIABLE, ""))
    except failpoints.FailpointsError as error:
        raise CommandError(f"{failpoints.VARIABLE} cannot be used", ExitCode.USAGE, error.problems) from None
    _spare_the_collector()
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(app.serve(settings, on_ready=_say_ready))
    except app.StartupError as error:
        raise CommandError(str(error)) from None


def _spare_the_collector() -> None:
    """Have Python's garbage collector look less often, and never at what was imported, which stays.

    Sagas hardly ever leave cycles behind; looking for them took a tenth of the time that a saga takes.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _say_ready(address: str) -> None:
    """The one line on the standard output; whoever started this process waits for it."""
    typer.echo(f"listening on {address}")  # it flushes


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """The faster event loop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
