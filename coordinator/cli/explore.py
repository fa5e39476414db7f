"""`saga explore`: what can become of a saga of a definition, before one is started.

A definition is read from a file, or asked of the coordinator by its name. Everything else happens here, in this
process. What was found is gathered by `coordinator.explore.report`; this module words it. It must not call
participants: that is for `--live`, which is `coordinator.cli.rehearse`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Annotated, Final
from typing import Any as PythonAny

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from coordinator.cli import output
from coordinator.cli.connection import connect
from coordinator.cli.definition import read
from coordinator.cli.errors import CommandError, ExitCode
from coordinator.cli.options import taking
from coordinator.cli.output import show, show_json, table
from coordinator.cli.rehearse import LiveFlag, LiveOptions, live
from coordinator.cli.words import coloured, count, operation_name, state_text
from coordinator.core.definition import DEFINITION_NAME, Plan, StepPlan, check_structure
from coordinator.core.instants import to_duration
from coordinator.core.limits import SECOND_NS
from coordinator.dataflow import durations as duration_text
from coordinator.dataflow.yamlform import DefinitionTextError, load
from coordinator.explore.durations import Durations, StepDurations, Way, durations
from coordinator.explore.mermaid import diagram
from coordinator.explore.moves import Move
from coordinator.explore.normal import normal
from coordinator.explore.report import Cause, Outcome, Report, Why, endless
from coordinator.explore.report import explore as explore_plan
from coordinator.explore.story import RUN_MIN, in_short, tell_all, tell_in_short
from coordinator.explore.world import Allowance
from saga.v1.definition_pb2 import GetDefinitionRequest, SagaDefinition
from saga.v1.types_pb2 import Operation, SagaState, StepKind, StepState

commands = typer.Typer()

FAILURES_DEFAULT: Final = 2
STATES_MAX_DEFAULT: Final = 200_000
"""For definitions of up to `INTERLEAVED_STEPS_MAX` steps. With more of them states are larger, so fewer can be kept."""
INTERLEAVED_STEPS_MAX: Final = 8
"""Of definitions with more steps, what happens at the same time is explored in one order only."""
OUTCOMES_SHOWN_MAX: Final = 40

_STATE_PREFIX: Final = "SAGA_STATE_"
_REGISTERED: Final = re.compile(rf"(?P<name>{DEFINITION_NAME.pattern})(@(?P<version>[0-9]{{1,9}}))?")
_NO_LIMIT: Final = "no limit"
_CHILD: Final = " + the child's own time"
_NOT_LIVE: Final = ("failures", "crashes", "cancels", "max_states", "unbarriered")
_UNCHECKED: Final = "Expressions were not type-checked: `saga definition validate` and `apply` do that."
_PROGRESS_EACH: Final = 1_000  # states


class Format(StrEnum):
    """What is written."""

    TEXT = "text"
    JSON = "json"
    MERMAID = "mermaid"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options(LiveOptions):
    """The options of both: of trying everything out without participants, and with them."""

    definition: Annotated[
        str,
        typer.Argument(
            metavar="DEFINITION", help="A YAML or JSON file, or NAME[@VERSION] of a registered one.", show_default=False
        ),
    ]
    failures: Annotated[int, typer.Option("--failures", min=0, help="How many things may go wrong on one path.")] = (
        FAILURES_DEFAULT
    )
    crashes: Annotated[
        int, typer.Option("--crashes", min=0, help="How many of them are crashes of the coordinator.")
    ] = 1
    cancels: Annotated[int, typer.Option("--cancels", min=0, help="How often somebody cancels on one path.")] = 1
    max_states: Annotated[
        int | None,
        typer.Option(
            "--max-states",
            min=1,
            help="Where to give up.",
            show_default=f"{STATES_MAX_DEFAULT}; fewer for more than {INTERLEAVED_STEPS_MAX} steps",
        ),
    ] = None
    unbarriered: Annotated[
        bool, typer.Option("--unbarriered", help="Assume that no participant keeps the SDK's barrier.")
    ] = False
    output: Annotated[Format, typer.Option("--output", "-o", help="`mermaid`: a flow chart.")] = Format.TEXT
    live: LiveFlag = False


@commands.command(epilog="Example: saga explore order.yaml --failures 3")
@taking(Options)
def explore(ctx: typer.Context, options: Options) -> None:
    """Try out everything that can happen to a saga of a definition; without --live no participant is called.

    Shows where sagas can end, each with a shortest path, what needs an operator, and how long it all takes at worst.
    """
    _check_that_options_fit(ctx, live=options.live)
    if options.live:
        _rehearse(options)
    else:
        _explore(definition_of(ctx, options.definition), options)


def _check_that_options_fit(ctx: typer.Context, *, live: bool) -> None:
    """An option that would do nothing is wrong usage: whoever gives it believes that it does something."""
    wrong = _NOT_LIVE if live else [field.name for field in fields(LiveOptions)]
    given = [
        max(parameter.opts, key=len)
        for parameter in ctx.command.params
        if parameter.name in wrong and _is_given(ctx, parameter.name)
    ]
    if given:
        fit = "not with --live" if live else "only with --live"
        raise CommandError(f"{', '.join(given)}: {fit}", ExitCode.USAGE)


def _is_given(ctx: typer.Context, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"  # by name: typer exports no such enum


def _rehearse(options: Options) -> None:
    if options.output is Format.MERMAID:
        raise typer.BadParameter("there is no chart of a rehearsal: expected text or json", param_hint="--output")
    live(options.definition, options, output.Format(options.output.value))


def _explore(definition: SagaDefinition, options: Options) -> None:
    states_max = options.max_states or _states_max(len(definition.steps))
    with _progress() as reached:
        report = explore_plan(
            normal(definition),
            Allowance(crashes=options.crashes, cancels=options.cancels, inputs=1, failures=options.failures),
            states_max=states_max,
            barriered=not options.unbarriered,
            interleaved=len(definition.steps) <= INTERLEAVED_STEPS_MAX,
            reached=reached,
        )
    _check(report)
    longest = durations(Plan(definition))
    match options.output:
        case Format.TEXT:
            show(*_as_text(report, longest, states_max))
            if not _REGISTERED.fullmatch(options.definition) or Path(options.definition).is_file():
                show(Text(_UNCHECKED, style="dim"))
        case Format.JSON:
            show_json(_as_json(report, longest), indent=2)
        case Format.MERMAID:
            typer.echo(diagram(report), nl=False)
    if not report.exploration.complete:
        typer.echo(f"incomplete: more than {states_max:,} states; see --max-states, --failures", err=True)
        raise typer.Exit(ExitCode.INCOMPLETE)


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """Shows how many states there are so far, where the standard error is a terminal."""
    screen = Console(stderr=True, highlight=False, quiet=not sys.stderr.isatty())
    with screen.status("exploring") as status:

        def reached(states: int) -> None:
            if states % _PROGRESS_EACH == 0:
                status.update(f"exploring: {states:,} states")

        yield reached


def _states_max(steps: int) -> int:
    return STATES_MAX_DEFAULT * INTERLEAVED_STEPS_MAX // max(steps, INTERLEAVED_STEPS_MAX)


def definition_of(ctx: typer.Context, text: str) -> SagaDefinition:
    """The definition that a command is given, by file or by name. Raises CommandError where there is no valid one."""
    if text == "-" or Path(text).is_file():
        try:
            loaded = load(*read(text))
        except DefinitionTextError as error:
            raise CommandError("the definition is invalid", details=[str(one) for one in error.problems]) from None
        if problems := [str(loaded.locate(problem)) for problem in check_structure(loaded.definition)]:
            raise CommandError("the definition is invalid", details=problems)
        return loaded.definition
    named = _REGISTERED.fullmatch(text)
    if named is None or Path(text).suffix in (".yaml", ".yml", ".json"):
        raise CommandError(f"there is no file {text}", ExitCode.USAGE)
    with connect(ctx) as server:
        request = GetDefinitionRequest(name=named["name"], version=int(named["version"] or 0))
        return server.call(server.definitions.GetDefinition, request).definition


def _check(report: Report) -> None:
    """A coordinator that breaks its own promises must not be believed in anything else."""
    violation = report.exploration.violation
    if violation is not None:
        path = list(tell_all(report.exploration.path, report.plan))
        raise CommandError(f"the coordinator itself is at fault, please report it: {violation}", details=path)


# --- Text -------------------------------------------------------------------------------------------------------------


def _as_text(report: Report, longest: Durations, states_max: int) -> Iterator[RenderableType]:
    yield from _head(report, states_max)
    so_far = "" if report.exploration.complete else ", as far as it was explored"
    yield from _section(f"Where it ends{so_far}", _outcomes(report))
    yield from _section(f"When an operator is needed{so_far}", _operator(report))
    if tries := endless(report.plan):
        yield from _section("Tried for ever, until the participant does it", Text(_tries_text(report.plan, tries)))
    yield from _section("How long it takes at worst", *_longest(longest, report.plan))


def _tries_text(plan: Plan, tries: Iterable[tuple[int, Operation.ValueType]]) -> str:
    """`hold (confirm), a … f (execute)`."""
    runs = groupby(tries, key=lambda each: each[1])
    return ", ".join(
        in_short([step for step, _ in run], plan, f" ({operation_name(operation)}), ")
        + f" ({operation_name(operation)})"
        for operation, run in runs
    )


def _section(title: str, *parts: RenderableType) -> Iterator[RenderableType]:
    yield Text()
    yield Text(title, style="bold underline")
    yield from parts


def _head(report: Report, states_max: int) -> Iterator[RenderableType]:
    plan, exploration, allowance = report.plan, report.exploration, report.allowance
    yield Text.assemble((plan.name, "bold"), f": {count(len(report.outcomes), 'distinct outcome')}")
    if exploration.complete:
        most = f"every path with up to {count(allowance.failures, 'failure')}"
    else:
        most = f"INCOMPLETE, only {states_max:,} states of the paths with up to {count(allowance.failures, 'failure')}"
    order = "" if len(plan.steps) <= INTERLEAVED_STEPS_MAX else "; what happens at the same time, in one order only"
    yield Text(f"{exploration.states:,} states, {exploration.transitions:,} transitions: {most}{order}")
    if allowance.failures:
        yield Text(
            f"among the failures up to {count(allowance.crashes, 'crash')} of the coordinator; besides them "
            f"{count(allowance.cancels, 'cancel')} (a passed deadline or a lapsing hold acts alike)"
        )


def _outcomes(report: Report) -> RenderableType:
    rows = [
        (state_text(outcome.state), _steps_text(report.plan, outcome), _path(report, path))
        for outcome, path in list(report.outcomes.items())[:OUTCOMES_SHOWN_MAX]
    ]
    left = len(report.outcomes) - len(rows)
    if left > 0:
        rows.append((Text(f"… {left:,} more"), Text("-o json has all"), Text()))
    return table(("SAGA", "STEPS", "SHORTEST PATH"), rows)


def _steps_text(plan: Plan, outcome: Outcome) -> Text:
    """Each step and its state, in the order of the definition; those that never began say nothing."""
    said = [_standing(step, state, outcome) for step, state in zip(plan.steps, outcome.steps, strict=True)]
    parts = []
    for standing, run in groupby(plan.steps, key=lambda step: said[step.index]):
        steps = [step.index for step in run]
        if standing is None:
            continue
        groups = [steps] if len(steps) >= RUN_MIN else [[index] for index in steps]
        parts += [Text.assemble(f"{in_short(group, plan)} ", standing) for group in groups]
    return Text(", ").join(parts) if parts else Text("none began", style="dim")


def _standing(step: StepPlan, state: StepState.ValueType, outcome: Outcome) -> Text | None:
    word = StepState.Name(state).removeprefix("STEP_STATE_")
    if step.index in outcome.stuck:
        return Text("STUCK", style="bold red")
    if word == "WAITING":
        return None
    stands = " (its effect stands)" if step.index in outcome.stands and word == "COMPENSATION_FAILED" else ""
    return Text.assemble(coloured(word), stands)


def _operator(report: Report) -> RenderableType:
    if not report.causes:
        return Text("never, on these paths")
    rows = [(Text(_cause_text(cause)), _path(report, path)) for cause, path in report.causes.items()]
    rows += [
        (Text(f"{name} may stay uncompensated", style="bold"), _path(report, path))
        for name, path in report.may_stand.items()
    ]
    return table(("BECAUSE", "SHORTEST PATH"), rows)


def _cause_text(cause: Cause) -> str:
    if cause.why is Why.INPUT:
        return f"{cause.step}: {cause.why.value}"
    words = {Why.REFUSED: "refused", Why.SPENT: "spends its attempts"}
    return f"{operation_name(cause.operation)} of {cause.step} {words[cause.why]}"  # type: ignore[arg-type]  # an enum's value


def _path(report: Report, path: Iterable[Move]) -> Text:
    return Text(tell_in_short(path, report.plan) or "nothing goes wrong")


# --- Durations --------------------------------------------------------------------------------------------------------


def _longest(longest: Durations, plan: Plan) -> Iterator[RenderableType]:
    headers = ("STEP", "KIND", "EXECUTE", "COMPENSATE", "CONFIRM")
    yield table(headers, [_durations_row(each) for each in longest.steps], drop_empty=True)
    yield Text()
    yield _way("forward", longest.forward, plan)
    if longest.turns_back:
        yield _way("going back", longest.back, plan)
    else:
        yield Text("going back: it cannot turn back")
    yield from _against_the_deadline(longest)
    yield Text("What a participant accepts and leaves pending comes on top; only timeouts bound it.", style="dim")


def _durations_row(each: StepDurations) -> tuple[str, ...]:
    step = each.step
    cut = f" (of {_length(each.attempts_ns)}: the step's timeout)" if each.cut_off else ""
    child = _CHILD if step.in_process else ""
    reserves = StepKind.Name(step.kind) == "STEP_KIND_RESERVABLE"
    return (
        step.name,
        StepKind.Name(step.kind).removeprefix("STEP_KIND_"),
        f"{_length(each.execute_ns)}{cut}{child}",
        f"{_length(each.compensate_ns)}{child}" if step.compensatable else "",
        f"{_length(each.confirm_ns)}{child}" if reserves else "",
    )


def _way(direction: str, way: Way, plan: Plan) -> Text:
    child = _CHILD if any(plan.steps[index].in_process for index in way.steps) else ""
    by = f"  ({in_short(way.steps, plan, ' → ')})" if len(way.steps) > 1 else ""
    return Text(f"{direction + ':':<12}{_length(way.length_ns)}{child}{by}")


def _against_the_deadline(longest: Durations) -> Iterator[Text]:
    if longest.timeout_ns is None:
        yield Text("the saga has no timeout")
    elif longest.turns_back:
        yield _timeout(longest, _length(longest.timeout_ns))
    else:
        yield Text(f"timeout:    {_length(longest.timeout_ns)}; it goes on after that")
    if longest.turns_back:
        yield Text(_compensated(longest))


def _timeout(longest: Durations, timeout: str) -> Text:
    if not longest.fits:
        needed = _length(longest.until_no_return.length_ns)
        message = f"timeout:    {timeout}; all attempts before the point of no return need {needed}:"
        return Text(f"{message} the saga may turn back before they are spent", style="yellow")
    if longest.endless_pivot is not None:
        pivot = longest.endless_pivot.name
        return Text(f"timeout:    {timeout}; all attempts before {pivot} fit in it, and those of {pivot} have no limit")
    return Text(f"timeout:    {timeout}; all attempts before the point of no return fit in it")


def _compensated(longest: Durations) -> str:
    """When a saga that turns back is compensated, or what keeps that from being known."""
    named = [f"{operation_name(operation)} of {step.name}" for step, operation in longest.without_limit]
    if named:
        have = "has" if len(named) == 1 else "have"
        return f"compensated at an unknown time, if it turns back by itself: {', '.join(named)} {have} no limit"
    child = _CHILD if any(each.step.in_process for each in longest.steps) else ""
    return f"compensated after {_length(longest.compensated_after_ns)} at the latest{child}, if it turns back by itself"


def _length(length_ns: int | None) -> str:
    """A length that people read: whole seconds from ten on."""
    if length_ns is None:
        return _NO_LIMIT
    if length_ns >= 10 * SECOND_NS:
        length_ns = -(-length_ns // SECOND_NS) * SECOND_NS
    return duration_text.write(to_duration(length_ns))


# --- JSON -------------------------------------------------------------------------------------------------------------


def _as_json(report: Report, longest: Durations) -> Mapping[str, PythonAny]:
    plan, exploration = report.plan, report.exploration
    return {
        "definition": plan.name,
        "states": exploration.states,
        "transitions": exploration.transitions,
        "complete": exploration.complete,
        "failuresMax": report.allowance.failures,
        "outcomes": [
            {
                "state": SagaState.Name(outcome.state).removeprefix(_STATE_PREFIX),
                "steps": {
                    step.name: StepState.Name(state).removeprefix("STEP_STATE_")
                    for step, state in zip(plan.steps, outcome.steps, strict=True)
                },
                "stuck": _names(plan, outcome.stuck),
                "effectsThatStand": _names(plan, outcome.stands),
                "path": list(tell_all(path, plan)),
            }
            for outcome, path in report.outcomes.items()
        ],
        "operatorNeeded": [
            {
                "step": cause.step,
                "operation": operation_name(cause.operation),  # type: ignore[arg-type]  # an enum's value
                "why": cause.why.name,
                "path": list(tell_all(path, plan)),
            }
            for cause, path in report.causes.items()
        ],
        "mayStayUncompensated": {name: list(tell_all(path, plan)) for name, path in report.may_stand.items()},
        "triedForEver": [
            {"step": plan.steps[step].name, "operation": operation_name(operation)} for step, operation in endless(plan)
        ],
        "worstCase": _durations_json(longest, plan),
    }


def _durations_json(longest: Durations, plan: Plan) -> Mapping[str, PythonAny]:
    """Durations as protobuf's JSON has them; null where there is no limit."""
    return {
        "steps": [
            {
                "step": each.step.name,
                "execute": _json_length(each.execute_ns),
                **({"compensate": _json_length(each.compensate_ns)} if each.step.compensatable else {}),
            }
            for each in longest.steps
        ],
        "forward": {
            "steps": [plan.steps[index].name for index in longest.forward.steps],
            "duration": _json_length(longest.forward.length_ns),
        },
        "back": {
            "steps": [plan.steps[index].name for index in longest.back.steps],
            "duration": _json_length(longest.back.length_ns),
        },
        "timeout": _json_length(longest.timeout_ns),
        "fitsInTimeout": longest.fits,
        "turnsBack": longest.turns_back,
        "compensatedAfter": _json_length(longest.compensated_after_ns),
    }


def _json_length(length_ns: int | None) -> str | None:
    return None if length_ns is None else f"{to_duration(length_ns).ToJsonString()}"


def _names(plan: Plan, indexes: Iterable[int]) -> Sequence[str]:
    return [plan.steps[index].name for index in sorted(indexes)]
