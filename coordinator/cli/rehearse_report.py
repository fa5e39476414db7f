"""What a rehearsal came to, as text or as one JSON document.

This module must not judge: it shows what was found.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

import typer

from coordinator.cli.output import Format, short_name, show, show_json, table, visible
from coordinator.cli.payloads import Json
from coordinator.cli.rehearse import LiveOptions
from coordinator.cli.rehearse_run import FAILURES_SHOWN_MAX, Found
from coordinator.cli.words import count
from coordinator.rehearse.checks import describe
from coordinator.rehearse.rehearsal import Rehearsed
from saga.v1.types_pb2 import SagaState


def show_report(found: Found, definition_file: str, options: LiveOptions, output: Format) -> None:
    """Write all of it to the standard output."""
    command = _command(definition_file, options)
    if output is Format.JSON:
        show_json(_document(found, command), indent=2)
        return
    for line in _summary(found, options):
        typer.echo(visible(line))
    if found.failed:
        shown = found.failed[:FAILURES_SHOWN_MAX]
        typer.echo("")
        show(table(("FAILED PATH", "SAGA", "STATE", "VIOLATED"), _rows(shown)))
        typer.echo("\nrepeat one of them:")
        for each in shown:
            typer.echo(f"  {visible(_repeating(command, each))}")
        if more := len(found.failed) - len(shown):
            typer.echo(f"and {more:,} more: -o json has all")
    else:
        typer.echo("everything holds on every path that was rehearsed")


def _summary(found: Found, options: LiveOptions) -> Iterator[str]:
    states = ", ".join(f"{count} {state}" for state, count in found.states.items())
    yield f"{found.definition}: {count(len(found.paths), 'path')}, a saga each, in {found.seconds:.1f} s: {states}"
    made, sent = count(found.injected, "failure"), count(found.calls, "call")
    yield f"{made} made, {sent} sent; {count(len(found.failed), 'path')} failed"
    if found.cut:
        yield f"there are more paths: --max-paths {options.max_paths} cut them off"
    yield "backoffs were shortened; deadlines of the saga and its steps were left out"
    for reason, times in Counter(_refusals(found)).most_common():
        yield f"{count(times, 'saga')} went back by {'itself' if times == 1 else 'themselves'}: {reason}"
    if unreached := [each for each in found.paths if each.not_reached]:
        yield f"on {count(len(unreached), 'path')} a failure was not reached, for instance {unreached[0].path.name}"


def _refusals(found: Found) -> Iterator[str]:
    for each in found.paths:
        if each.own_refusal is not None:
            yield describe(each.own_refusal)


def _rows(failed: Sequence[Rehearsed]) -> Iterator[Sequence[str]]:
    for each in failed:
        for index, violation in enumerate(each.violations):
            known = (each.path.name, each.saga.saga_id, _state(each)) if index == 0 else (" ", " ", " ")
            yield (*known, violation)


def _state(each: Rehearsed) -> str:
    return short_name(SagaState.DESCRIPTOR, each.saga.state)


def _document(found: Found, command: Sequence[str]) -> Json:
    return {
        "definition": found.definition,
        "run": found.run,
        "holds": found.holds,
        "seconds": round(found.seconds, 3),
        "paths": len(found.paths),
        "cut": found.cut,
        "calls": found.calls,
        "injected": found.injected,
        "states": dict(found.states),
        "failed": [
            {
                "path": each.path.name,
                "sagaId": each.saga.saga_id,
                "state": _state(each),
                "violations": list(each.violations),
                "repeat": _repeating(command, each),
            }
            for each in found.failed
        ],
        "wentBackByThemselves": [
            {"path": each.path.name, "sagaId": each.saga.saga_id, "why": describe(each.own_refusal)}
            for each in found.paths
            if each.own_refusal is not None
        ],
        "notReached": [
            {"path": each.path.name, "failures": [str(one) for one in each.not_reached]}
            for each in found.paths
            if each.not_reached
        ],
    }


def _command(definition_file: str, options: LiveOptions) -> Sequence[str]:
    """The command that rehearses the same definition in the same way, but for the paths."""
    words = ["saga", "explore", definition_file, "--live"]
    given: list[tuple[str, str]] = [("--participant", f"{key}={value}") for key, value in options.participant or ()]
    given += [("--config", str(options.config_file))] if options.config_file is not None else []
    given += [("--input", options.input_)] if options.input_ is not None else []
    given += [("--child", each) for each in options.children or ()]
    given += [("--invariant", each) for each in options.invariants or ()]
    given += [("--check", each) for each in options.checks or ()]
    return [*words, *(word for pair in given for word in pair)]


def _repeating(command: Sequence[str], each: Rehearsed) -> str:
    return shlex.join([*command, "--path", each.path.name])
