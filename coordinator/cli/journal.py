"""`saga journal`: a journal's file itself, without a coordinator: check it, copy it, take sagas out and put sagas in.

What the commands do is in `offline`, which is loaded only when one of them runs: talking to a coordinator must not need
one in this process.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.cli.errors import ExitCode
from coordinator.cli.options import LabelsOption, OutputOption, parse_duration, parse_past, parse_state, unique
from coordinator.cli.output import Format, show_json, visible
from coordinator.core.instants import from_duration
from coordinator.core.limits import TOMBSTONE_RETENTION_DEFAULT_NS
from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED, SagaState

commands = typer.Typer(help="A journal's file: check it, copy it, take sagas out, put sagas in.", no_args_is_help=True)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The journal.", show_default=False)]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
_ENDED = (SAGA_STATE_COMPLETED, SAGA_STATE_COMPENSATED)


@commands.command(epilog="Example: saga journal verify saga.db")
def verify(file: FileArgument, output: OutputOption = Format.TEXT) -> None:
    """Read all of it: the file itself, every definition, every saga. May be done while a coordinator runs."""
    from coordinator.cli import offline

    found = asyncio.run(offline.verify_file(file))
    if output is Format.JSON:
        show_json({name: getattr(found, name) for name in found.__slots__}, indent=2)
    else:
        by_state = ", ".join(f"{count} {state}" for state, count in found.sagas.items())
        typer.echo(f"sagas        {sum(found.sagas.values())}{f' ({by_state})' if by_state else ''}")
        typer.echo(f"events       {found.events}\ndefinitions  {found.definitions}\ntombstones   {found.tombstones}")
        for problem in found.problems:
            typer.echo(visible(problem), err=True)
        typer.echo(f"problems     {len(found.problems)}")
    if found.problems:
        raise typer.Exit(ExitCode.REFUSED)


@commands.command(epilog="Example: saga journal export saga.db old.jsonl.gz --until 720h")
def export(
    file: FileArgument,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The file to make.", show_default=False)],
    saga_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="These sagas, however they stand.", show_default=False)
    ] = None,
    states: Annotated[
        list[SagaState.ValueType] | None,
        typer.Option("--state", metavar="STATE", parser=parse_state, help="May be repeated.", show_default="ended"),
    ] = None,
    definition: Annotated[str, typer.Option("--definition", help="Of this definition.")] = "",
    labels: LabelsOption = None,
    since: Annotated[
        Timestamp | None, typer.Option("--since", metavar="INSTANT", parser=parse_past, help="Created then or later.")
    ] = None,
    until: Annotated[
        Timestamp | None, typer.Option("--until", metavar="INSTANT", parser=parse_past, help="Created before.")
    ] = None,
    output: OutputOption = Format.TEXT,
) -> None:
    """Copy sagas to a compressed file, which `import` takes; without ids those that have ended."""
    from coordinator.cli import offline

    criteria = SagaFilter(
        states=states or _ENDED,
        definition=definition,
        labels=unique(labels or (), "--label"),
        create_time_from=since,
        create_time_until=until,
    )
    chosen = any((states, definition, labels, since, until))
    if saga_ids and chosen:
        raise typer.BadParameter("sagas are chosen by id or by filter, not both", param_hint="ID")
    count = asyncio.run(offline.export_to(file, target, saga_ids or (), criteria))
    if output is Format.JSON:
        show_json({"file": str(target), "sagas": count}, indent=2)
    else:
        typer.echo(f"{count} sagas exported to {visible(str(target))}")


@commands.command("import", epilog="Example: saga journal import other.db old.jsonl.gz --dry-run")
def import_(
    file: FileArgument,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="What `export` wrote.", show_default=False)],
    dry_run: DryRunOption = False,
    output: OutputOption = Format.TEXT,
) -> None:
    """Put exported sagas, and their definitions, into a journal that no coordinator has; all of them or none.

    A saga must have ended or stand FAILED, and its id must be free. The journal is made where there is none.
    """
    from coordinator.cli import offline

    done = asyncio.run(offline.import_from(file, source, dry_run=dry_run))
    if output is Format.JSON:
        counts = {"sagas": done.sagas, "definitions": done.definitions, "present": done.present}
        show_json({**counts, "dryRun": dry_run}, indent=2)
    else:
        would = "would be imported" if dry_run else "imported"
        present = f"; {done.present} sagas were there already" if done.present else ""
        typer.echo(f"{done.sagas} sagas and {done.definitions} definition versions {would}{present}")


@commands.command(epilog="Example: saga journal backup saga.db backups/monday.db")
def backup(
    file: FileArgument,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="The file to make.", show_default=False)],
    output: OutputOption = Format.TEXT,
) -> None:
    """Copy the whole journal as it is at this moment. May be done while a coordinator runs."""
    from coordinator.cli import offline

    size = asyncio.run(offline.backup_to(file, target))
    if output is Format.JSON:
        show_json({"file": str(target), "bytes": size}, indent=2)
    else:
        typer.echo(f"{size} bytes copied to {visible(str(target))}")


@commands.command(epilog="Example: saga journal retire saga.db --older-than 720h --export-directory old --dry-run")
def retire(
    file: FileArgument,
    older_than: Annotated[
        Duration,
        typer.Option(
            "--older-than",
            metavar="DURATION",
            parser=parse_duration,
            help="Sagas that ended so long ago.",
            show_default=False,
        ),
    ],
    tombstones: Annotated[
        Duration | None,
        typer.Option(
            "--tombstone-retention",
            metavar="DURATION",
            parser=parse_duration,
            help="How long a retired saga's id is remembered.",
            show_default="720h",
        ),
    ] = None,
    export_directory: Annotated[
        Path | None,
        typer.Option(
            "--export-directory", metavar="DIRECTORY", exists=True, file_okay=False, help="Export them there first."
        ),
    ] = None,
    dry_run: DryRunOption = False,
    output: OutputOption = Format.TEXT,
) -> None:
    """Delete ended sagas from a journal that no coordinator has; `saga serve` can do so itself, see `retention`."""
    from coordinator.cli import offline
    from coordinator.engine.retention import RetentionPolicy

    tombstone_ns = TOMBSTONE_RETENTION_DEFAULT_NS if tombstones is None else from_duration(tombstones)
    policy = RetentionPolicy(from_duration(older_than), tombstone_ns, export_directory)
    done = asyncio.run(offline.retire_in(file, policy, dry_run=dry_run))
    if output is Format.JSON:
        show_json({**done, "dryRun": dry_run}, indent=2)
    else:
        typer.echo(f"{done['sagas']} sagas {'would be retired' if dry_run else 'retired'}")
