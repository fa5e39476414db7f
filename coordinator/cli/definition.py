"""`saga definition`: files in, versions out. What is wrong with a definition is shown where it stands in the file.

The coordinator names a problem by its path and its place in the expression there; only the text, which stays here,
knows line and column in the file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli import times
from coordinator.cli.connection import Connection, connect, paged
from coordinator.cli.errors import CommandError, ExitCode
from coordinator.cli.options import OutputOption, VersionOption
from coordinator.cli.output import Format, show, show_json, table, visible
from coordinator.cli.payloads import to_json
from coordinator.core.definition import BUILT_IN, Problem
from coordinator.core.limits import PAGE_SIZE_MAX
from coordinator.dataflow.yamlform import DefinitionText, DefinitionTextError, dump, load
from coordinator.dataflow.yamltext import TextProblem
from saga.v1 import definition_pb2 as pb

commands = typer.Typer(help="Definitions: which actions, in which order, with which inputs.", no_args_is_help=True)

FilesArgument = Annotated[
    list[str], typer.Argument(metavar="FILE...", help="YAML or JSON; `-` is the standard input.", show_default=False)
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The definition's name.", show_default=False)]


@commands.command(epilog="Example: saga definition apply order.yaml refund.yaml")
def apply(ctx: typer.Context, files: FilesArgument, output: OutputOption = Format.TEXT) -> None:
    """Register definitions. All are checked first: where one has problems, none is registered.

    One that runs another of them as a child is checked when that one is registered.
    """
    with connect(ctx) as server:
        texts, problems = _load(files)
        for generation in _generations(texts):
            problems += [problem for text in generation for problem in _validate(server, text)]
            if problems:
                _show_problems(problems, output, on_error=True)
                raise typer.Exit(ExitCode.REFUSED)
            for text in generation:
                registered = _register(server, text)
                if output is Format.JSON:
                    show_json(to_json(registered))
                else:
                    typer.echo(_registered(registered))
        if problems:
            _show_problems(problems, output, on_error=True)
            raise typer.Exit(ExitCode.REFUSED)


@commands.command(epilog="Example: saga definition validate order.yaml")
def validate(ctx: typer.Context, files: FilesArgument, output: OutputOption = Format.TEXT) -> None:
    """Check definitions against the participants, and store nothing."""
    with connect(ctx) as server:
        texts, problems = _load(files)
        problems += [problem for text in texts for problem in _validate(server, text)]
    _show_problems(problems, output, on_error=False)
    if problems:
        raise typer.Exit(ExitCode.REFUSED)
    if output is Format.TEXT:
        for text in texts:
            typer.echo(f"{visible(text.definition.name)} is valid")


@commands.command("list")
def list_(
    ctx: typer.Context,
    name: Annotated[str, typer.Option("--name", help="Only versions of this definition.")] = "",
    output: OutputOption = Format.TEXT,
) -> None:
    """List all versions of all definitions."""
    with connect(ctx) as server:

        def page(token: str) -> tuple[Iterable[pb.DefinitionEntry], str]:
            request = pb.ListDefinitionsRequest(page_size=PAGE_SIZE_MAX, page_token=token, name=name)
            response = server.call(server.definitions.ListDefinitions, request)
            return response.definitions, response.next_page_token

        if output is Format.JSON:
            for entry in paged(page):
                show_json(to_json(entry))
        else:
            headers = ("NAME", "VERSION", "STEPS", "REGISTERED", "UNFINISHED", "DEPRECATED", "DESCRIPTION")
            show(table(headers, [_row(entry) for entry in paged(page)]))


@commands.command("show", epilog="Example: saga definition show order_fulfillment > order.yaml")
def show_(
    ctx: typer.Context,
    name: NameArgument,
    version: VersionOption = 0,
    output: OutputOption = Format.TEXT,
) -> None:
    """Show one version, as YAML that `apply` takes back."""
    with connect(ctx) as server:
        found = server.call(server.definitions.GetDefinition, pb.GetDefinitionRequest(name=name, version=version))
    if output is Format.JSON:
        show_json(to_json(pb.DefinitionEntry(definition=found.definition, metadata=found.metadata)), indent=2)
        return
    registered = times.instant(found.metadata.create_time)
    deprecated = ", deprecated" if found.metadata.deprecated else ""
    typer.echo(f"# version {found.definition.version}, registered {registered}{deprecated}")
    typer.echo(dump(found.definition), nl=False)


@commands.command(epilog="Example: saga definition deprecate order_fulfillment --version 3")
def deprecate(
    ctx: typer.Context,
    name: NameArgument,
    version: Annotated[int, typer.Option("--version", min=1, help="Which version.", show_default=False)],
    output: OutputOption = Format.TEXT,
) -> None:
    """Stop new sagas on a version. Those that are under way run on."""
    with connect(ctx) as server:
        request = pb.DeprecateDefinitionRequest(name=name, version=version)
        response = server.call(server.definitions.DeprecateDefinition, request)
    if output is Format.JSON:
        show_json(to_json(response), indent=2)
    else:
        open_sagas = response.metadata.unfinished_saga_count
        typer.echo(f"{name} version {response.definition.version} deprecated; {open_sagas} unfinished sagas run on")


def _load(files: list[str]) -> tuple[list[DefinitionText], list[TextProblem]]:
    """The definitions, and what keeps the others from being read as such."""
    texts: list[DefinitionText] = []
    problems: list[TextProblem] = []
    for file in files:
        try:
            text = load(*read(file))
        except DefinitionTextError as error:
            problems += error.problems
            continue
        texts.append(text)
    return texts, problems


def _generations(texts: list[DefinitionText]) -> Iterator[list[DefinitionText]]:
    """The definitions, those that others of them run as children before these; in circles in no order."""
    by_name = {text.definition.name: text for text in texts}
    children = {name: _children(text) & (by_name.keys() - {name}) for name, text in by_name.items()}
    sorter = TopologicalSorter(children)
    try:
        sorter.prepare()
    except CycleError:
        yield texts
        return
    while ready := sorter.get_ready():
        yield [text for text in texts if text.definition.name in ready]
        sorter.done(*ready)


def _children(text: DefinitionText) -> set[str]:
    """The definitions that it runs as steps."""
    return {step.action for step in text.definition.steps if step.participant == BUILT_IN}


def read(file: str) -> tuple[str, str]:
    """A file's text, and what problems call it."""
    try:
        return (sys.stdin.read(), "<stdin>") if file == "-" else (Path(file).read_text("utf-8"), file)
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}", ExitCode.USAGE) from None


def _validate(server: Connection, text: DefinitionText) -> list[TextProblem]:
    request = pb.ValidateDefinitionRequest(definition=text.definition)
    found = server.call(server.definitions.ValidateDefinition, request).problems
    return [text.locate(Problem(one.path, one.message, one.expected, one.line, one.column)) for one in found]


def _register(server: Connection, text: DefinitionText) -> pb.RegisterDefinitionResponse:
    """A participant may have changed since the check, so that registering finds problems of its own."""
    try:
        request = pb.RegisterDefinitionRequest(definition=text.definition)
        return server.call(server.definitions.RegisterDefinition, request)
    except CommandError as error:
        if not error.problems:
            raise
        located = [str(text.locate(problem)) for problem in error.problems]
        raise CommandError(str(error), error.code, located) from None


def _registered(response: pb.RegisterDefinitionResponse) -> str:
    name, version = visible(response.definition.name), response.definition.version
    return f"{name} version {version} registered" if response.created else f"{name} unchanged (version {version})"


def _show_problems(problems: Iterable[TextProblem], output: Format, *, on_error: bool) -> None:
    for one in problems:
        if output is Format.JSON:
            show_json({field: getattr(one, field) for field in TextProblem.__slots__})
        else:
            typer.echo(visible(str(one)), err=on_error)


def _row(entry: pb.DefinitionEntry) -> tuple[str, ...]:
    definition, metadata = entry.definition, entry.metadata
    return (
        definition.name,
        str(definition.version),
        str(len(definition.steps)),
        times.instant(metadata.create_time),
        str(metadata.unfinished_saga_count),
        "yes" if metadata.deprecated else "",
        definition.description.partition("\n")[0],
    )
