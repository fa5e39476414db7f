"""`saga conform`: tries a participant, in whatever language, against the contract.

It talks to the participant itself and needs no coordinator. What is checked is in `coordinator.conform`, which is
loaded only when the command runs; this module chooses, shows and writes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import RenderableType
from rich.text import Text

from coordinator.cli.connection import Address
from coordinator.cli.errors import CommandError, ExitCode
from coordinator.cli.options import parse_address
from coordinator.cli.output import show, show_json, table, visible
from coordinator.core.instants import from_duration
from coordinator.core.limits import SECOND_NS

if TYPE_CHECKING:
    from coordinator.conform.examples import Examples
    from coordinator.conform.report import Report, Result
    from coordinator.conform.runner import Chosen

commands = typer.Typer()

_ANY_PORT: Final = re.compile(r"(.+):0")
_HEADERS: Final = ("ACTION", "LANE", "CHECK", "RESULT", "WHY")
_STYLES: Final = {"passed": "green", "warned": "yellow", "failed": "bold red", "skipped": "dim"}


class ReportFormat(StrEnum):
    """How a report is written."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"


class LaneChoice(StrEnum):
    """Over which lane calls are tried; the fast one only where the participant offers it."""

    UNARY = "unary"
    FAST = "fast"
    BOTH = "both"


def _parse_target(text: str) -> str:
    """An address; port 0 stands for any free one, where the participant is started here. Raises BadParameter."""
    found = _ANY_PORT.fullmatch(text)
    return text if found and parse_address(f"{found[1]}:1") else parse_address(text)


@commands.command(epilog="Example: saga conform 127.0.0.1:50061 --examples inventory.yaml --junit conformance.xml")
def conform(
    ctx: typer.Context,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="TARGET",
            parser=_parse_target,
            help="Where the participant serves; port 0 is any free one, where the file has `start`.",
            show_default=False,
        ),
    ] = None,
    examples: Annotated[
        Path | None,
        typer.Option(
            "--examples", metavar="FILE", help="The author's YAML: inputs, effects, start.", show_default=False
        ),
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--only", metavar="CHECK", help="May be repeated.")] = None,
    skip: Annotated[list[str] | None, typer.Option("--skip", metavar="CHECK", help="May be repeated.")] = None,
    actions: Annotated[list[str] | None, typer.Option("--action", metavar="NAME", help="May be repeated.")] = None,
    lane: Annotated[LaneChoice, typer.Option("--lane", help="Over which calls are tried.")] = LaneChoice.BOTH,
    running: Annotated[
        bool, typer.Option("--running", help="It runs already: do not start it, and make no check that kills it.")
    ] = False,
    output: Annotated[ReportFormat, typer.Option("--output", "-o", help="What to write.")] = ReportFormat.TEXT,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write a report for a CI server there, besides.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="Say which checks there are, and make none.")] = False,
) -> None:
    """Try a participant, in whatever language, against the contract."""
    if listing:
        _show_checks()
        return
    if not target:
        raise typer.BadParameter("is missing", param_hint="TARGET")
    chosen = _chosen(only or (), skip or (), actions or (), lane)
    given = _load(examples) if examples else _no_examples()
    address: Address = ctx.obj
    timeout_s = from_duration(address.call_timeout) / SECOND_NS
    report = _run(_with_port(target, given, running=running), given, chosen, timeout_s, running)
    _write(report, output)
    if junit is not None:
        _write_junit(report, junit)
    if not report.has_passed:
        raise typer.Exit(ExitCode.REFUSED)


def _run(target: str, examples: Examples, chosen: Chosen, timeout_s: float, running: bool) -> Report:
    from coordinator.conform.commands import CommandFailed
    from coordinator.conform.examples import ExamplesError
    from coordinator.conform.runner import NoFastLane, NoSuchAction, Unreachable, conform

    try:
        return asyncio.run(conform(target, examples, chosen, timeout_s=timeout_s, starts=not running))
    except Unreachable as error:
        message = f"no participant answers at {target}: {error}"
        raise CommandError(message, ExitCode.UNAVAILABLE) from None
    except ExamplesError as error:
        raise _unfit(error.problems) from None
    except (CommandFailed, NoFastLane, NoSuchAction) as error:
        raise CommandError(str(error), ExitCode.USAGE) from None


def _load(file: Path) -> Examples:
    from coordinator.conform.examples import ExamplesError, load

    try:
        return load(file.read_text(encoding="utf-8"), str(file), file.resolve().parent)
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}", ExitCode.USAGE) from None
    except ExamplesError as error:
        raise _unfit(error.problems) from None


def _unfit(problems: Sequence[object]) -> CommandError:
    return CommandError("the examples cannot be used", ExitCode.USAGE, [str(problem) for problem in problems])


def _no_examples() -> Examples:
    from coordinator.conform.examples import Examples

    return Examples()


def _with_port(target: str, given: Examples, *, running: bool) -> str:
    from coordinator.conform.process import free_port

    found = _ANY_PORT.fullmatch(target)
    if found is None:
        return target
    if running:
        raise typer.BadParameter("port 0 and --running exclude each other: one that runs already has a port")
    if not given.start:
        raise typer.BadParameter("port 0 is for a participant that is started here: it needs --examples with `start`")
    return f"{found[1]}:{free_port(found[1].strip('[]'))}"


def _chosen(only: Sequence[str], skip: Sequence[str], actions: Sequence[str], lane: LaneChoice) -> Chosen:
    from coordinator.conform.caller import Lane
    from coordinator.conform.checks import CHECKS
    from coordinator.conform.runner import Chosen

    known = {check.id for check in CHECKS}
    for option, names in (("--only", only), ("--skip", skip)):
        for name in names:
            if name not in known:
                raise typer.BadParameter(f"there is no check `{name}`; --list names them", param_hint=option)
    lanes = list(Lane) if lane is LaneChoice.BOTH else [Lane(lane)]
    return Chosen(only, skip, actions, lanes)


def _show_checks() -> None:
    from coordinator.conform.checks import CHECKS

    rows = [(check.id, check.sentence, check.source, _needs(check.needs)) for check in CHECKS]
    show(table(("CHECK", "WHAT IT DEMANDS", "WHERE THAT STANDS", "NEEDS"), rows))


def _needs(needs: Sequence[object]) -> str:
    return ", ".join(str(getattr(need, "name", need)).lower().replace("_", " ") for need in needs)


def _write(report: Report, output: ReportFormat) -> None:
    from coordinator.conform.report import to_json, to_junit

    match output:
        case ReportFormat.TEXT:
            show(*_shown(report))
        case ReportFormat.JSON:
            show_json(to_json(report), indent=2)
        case ReportFormat.JUNIT:
            typer.echo(to_junit(report), nl=False)


def _write_junit(report: Report, file: Path) -> None:
    from coordinator.conform.report import to_junit

    try:
        file.write_text(to_junit(report), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"the report cannot be written: {error}", ExitCode.USAGE) from None


def _shown(report: Report) -> list[RenderableType]:
    """A table, below it each failure with what is needed to look into it, and the counts."""
    title = " ".join(part for part in (report.participant, report.version, f"at {report.target}") if part)
    parts: list[RenderableType] = [Text(visible(title)), Text(), table(_HEADERS, map(_row, report.results)), Text()]
    for result in report.results:
        if result.verdict == "failed":
            parts += _failure(result)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in report.counts.items())
    return [*parts, Text(counts)]


def _row(result: Result) -> tuple[str | Text, ...]:
    why = f"expected {result.expected}; came {result.came}" if result.verdict == "failed" else "; ".join(result.why)
    if result.is_unobserved:
        why = "; ".join(part for part in (why, "effect not observed") if part)
    return result.action, result.lane, result.check, Text(result.verdict, style=_STYLES[result.verdict]), why


def _failure(result: Result) -> list[RenderableType]:
    from coordinator.conform.report import explanation

    name = " ".join(part for part in (result.action, result.lane, result.check) if part)
    lines = [Text.assemble((visible(name), "bold"), " failed")]
    return [*lines, *(Text(f"  {visible(line)}") for line in explanation(result)), Text()]
