"""A command with the options of a rehearsal, and a shop to rehearse with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import typer
from typer.testing import Result

from coordinator.cli.errors import Commands
from coordinator.cli.options import OutputOption, taking
from coordinator.cli.output import Format
from coordinator.cli.rehearse import LiveFlag, LiveOptions, live

app = typer.Typer(cls=Commands, pretty_exceptions_enable=False)

Live: TypeAlias = Callable[..., Result]
"""Rehearses the shop's definition with these further options; `given` is the input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(LiveOptions):
    """A command's own options beside those of a rehearsal."""

    definition: Annotated[str, typer.Argument()] = ""
    live: LiveFlag = False
    output: OutputOption = Format.TEXT


@app.command()
@taking(Options)
def explore(ctx: typer.Context, options: Options) -> None:
    assert options.live
    live(options.definition, options, options.output)


@app.command()
def other() -> None:
    """Without a second command typer would do without the name of the first."""
