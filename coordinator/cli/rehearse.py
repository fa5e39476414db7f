"""`saga explore DEFINITION --live`: every failure path of a definition, with the real participants.

Here are its options and its exit codes; `rehearse_run` does it, `rehearse_report` shows it. It needs no coordinator:
one runs in this process for as long as the rehearsal takes. This module must not call anybody.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer
from google.protobuf.duration_pb2 import Duration

from coordinator.cli.errors import CommandError, ExitCode
from coordinator.cli.options import Pair, parse_duration, parse_pair
from coordinator.cli.output import Format

_LIVE: Final = "With --live"
MAX_PATHS_DEFAULT: Final = 500
PATH_TIMEOUT_DEFAULT: Final = Duration(seconds=30)

LiveFlag = Annotated[
    bool,
    typer.Option(
        "--live",
        help="Go down every failure path with the real participants. It makes real effects, by the hundred: "
        "only where nothing of worth is.",
        rich_help_panel=_LIVE,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveOptions:
    """What a rehearsal can be told; `taking` makes options of it, and of a dataclass that extends it."""

    participant: Annotated[
        list[Pair] | None,
        typer.Option(
            "--participant",
            metavar="NAME=HOST:PORT",
            parser=parse_pair,
            help="Where a participant is, as for `saga serve`. May be repeated.",
            rich_help_panel=_LIVE,
        ),
    ] = None
    config_file: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Settings of `saga serve`, as TOML.", rich_help_panel=_LIVE),
    ] = None
    input_: Annotated[
        str | None,
        typer.Option(
            "--input",
            "-i",
            metavar="JSON|@FILE|-",
            help="The input of every saga as JSON; `${saga_id}` and `${n}` in it differ from saga to saga.",
            rich_help_panel=_LIVE,
        ),
    ] = None
    children: Annotated[
        list[str] | None,
        typer.Option(
            "--child", metavar="FILE", help="A definition that this one runs as a step.", rich_help_panel=_LIVE
        ),
    ] = None
    invariants: Annotated[
        list[str] | None,
        typer.Option(
            "--invariant",
            metavar="CEL",
            help="Must be true after each path; sees `saga`, `input`, `path` and the steps' outputs. May be repeated.",
            rich_help_panel=_LIVE,
        ),
    ] = None
    checks: Annotated[
        list[str] | None,
        typer.Option(
            "--check",
            metavar="COMMAND",
            help="Must exit with 0 after each path; gets the saga as JSON, SAGA_ID, SAGA_STATE and SAGA_PATH.",
            rich_help_panel=_LIVE,
        ),
    ] = None
    depth: Annotated[
        int,
        typer.Option(
            "--depth", min=1, max=3, help="How many failures a path has on its way forward.", rich_help_panel=_LIVE
        ),
    ] = 1
    max_paths: Annotated[
        int,
        typer.Option("--max-paths", min=1, help="How many paths are rehearsed at most.", rich_help_panel=_LIVE),
    ] = MAX_PATHS_DEFAULT
    paths: Annotated[
        list[str] | None,
        typer.Option("--path", metavar="NAME", help="Only the path of this name.", rich_help_panel=_LIVE),
    ] = None
    path_timeout: Annotated[
        Duration | None,
        typer.Option(
            "--path-timeout",
            metavar="DURATION",
            parser=parse_duration,
            show_default="30s",
            help="After how long a saga is taken to be stuck.",
            rich_help_panel=_LIVE,
        ),
    ] = None


def live(definition_file: str, options: LiveOptions, output: Format = Format.TEXT) -> None:
    """Rehearse the definition of a file. Ends with 1 where something does not hold. CommandError."""
    from coordinator.cli import rehearse_report, rehearse_run

    try:
        found = asyncio.run(rehearse_run.rehearse(definition_file, options))
    except KeyboardInterrupt:
        hint = "its effects are still there: nothing compensates it any more"
        raise CommandError("the saga under way was left where it stood", ExitCode.INTERRUPTED, [hint]) from None
    rehearse_report.show_report(found, definition_file, options, output)
    if not found.holds:
        raise typer.Exit(ExitCode.REFUSED)
