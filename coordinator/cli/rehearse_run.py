"""Puts a rehearsal together from its options, and runs it path by path.

Everything that can be wrong with the options is found before any participant is sent anything but Describe. This module
must not show results, only how far it has come.
"""

from __future__ import annotations

import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from google.protobuf.any_pb2 import Any
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from coordinator import config
from coordinator.api.reflection import SHARED_FILES
from coordinator.api.views import view_of_saga
from coordinator.cli.errors import CommandError, ExitCode
from coordinator.cli.options import unique
from coordinator.cli.output import json_text, short_name
from coordinator.cli.payloads import no_input, payload_from_json, text_of, to_json
from coordinator.cli.rehearse import PATH_TIMEOUT_DEFAULT, LiveOptions
from coordinator.core.definition import BUILT_IN, Problem
from coordinator.core.instants import from_duration
from coordinator.core.limits import SECOND_NS
from coordinator.dataflow.yamlform import DefinitionText, DefinitionTextError, load
from coordinator.engine.clock import SystemClock
from coordinator.engine.definitions import Definitions
from coordinator.engine.errors import InvalidRequest
from coordinator.engine.loaded import LoadedDefinition
from coordinator.journal.memory import MemoryJournal
from coordinator.participants.directory import Directory
from coordinator.rehearse.invariants import InvalidInvariantError, Invariants
from coordinator.rehearse.paths import InvalidPathError, Path, path_named, paths_of
from coordinator.rehearse.rehearsal import Rehearsal, Rehearsed
from coordinator.rehearse.script import NoSuchCommandError, Script
from coordinator.rehearse.shortened import shortened
from saga.v1 import coordinator_pb2 as pb
from saga.v1.definition_pb2 import GetDefinitionResponse
from saga.v1.types_pb2 import SagaState

FAILURES_SHOWN_MAX: Final = 10
"""Of the paths that failed. The first of them mostly tell why all the others did; JSON has all."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a rehearsal came to. `cut`: there are more paths than were asked for."""

    definition: str
    run: str
    cut: bool
    seconds: float
    paths: Sequence[Rehearsed]

    @property
    def failed(self) -> Sequence[Rehearsed]:
        """The paths on which something did not hold."""
        return [each for each in self.paths if each.violations]

    @property
    def holds(self) -> bool:
        """Whether everything held on every path."""
        return not self.failed

    @property
    def calls(self) -> int:
        """How many calls participants were sent."""
        return sum(each.calls for each in self.paths)

    @property
    def injected(self) -> int:
        """How many failures were made."""
        return sum(len(each.path.injections) - len(each.not_reached) for each in self.paths)

    @property
    def states(self) -> Mapping[str, int]:
        """How many sagas ended in each state."""
        return dict(sorted(Counter(short_name(SagaState.DESCRIPTOR, each.saga.state) for each in self.paths).items()))


async def rehearse(definition_file: str, options: LiveOptions) -> Found:
    """Rehearse the definition of a file. CommandError where that cannot be begun."""
    text, children = _read(definition_file), [_read(file) for file in options.children or ()]
    targets = _targets(options)
    template = text_of(options.input_, "input") if options.input_ is not None else None
    async with Directory(targets, shared=SHARED_FILES) as directory:
        _demand_reachable(directory, [text, *children])
        definitions = Definitions(MemoryJournal(), directory.descriptions, SystemClock())
        for child in children:
            await _register(definitions, child)
        loaded = await _register(definitions, text)
        paths, cut = _paths(loaded, options)
        inputs = _Inputs(loaded, template)
        rehearsal = _rehearsal(loaded, definitions, directory, options)
        run, began_s = uuid.uuid4().hex[:8], time.monotonic()
        rehearsed = [each async for each in _run(rehearsal, paths, inputs, run)]
    return Found(loaded.plan.name, run, cut, time.monotonic() - began_s, rehearsed)


async def _run(rehearsal: Rehearsal, paths: Sequence[Path], inputs: _Inputs, run: str) -> AsyncIterator[Rehearsed]:
    with _Progress(len(paths)) as progress:
        for number, path in enumerate(paths, 1):
            saga_id = f"rehearsal-{run}-{number}"
            try:
                rehearsed = await rehearsal.rehearse(path, saga_id, inputs.input_of(saga_id, number))
            except InvalidRequest as error:
                raise CommandError("the input does not fit", details=[_line(one) for one in error.problems]) from None
            progress.done(rehearsed)
            yield rehearsed


# --- What is needed ---------------------------------------------------------------------------------------------------


def _read(file: str) -> DefinitionText:
    try:
        return load(text_of(file if file == "-" else f"@{file}", "definition"), file)
    except DefinitionTextError as error:
        raise CommandError("the definition is invalid", details=[str(each) for each in error.problems]) from None


def _targets(options: LiveOptions) -> Mapping[str, str]:
    """Where the participants are: from the same sources as those of a coordinator."""
    given = unique(options.participant, "--participant") if options.participant else None
    try:
        return config.load(options.config_file, participants=given).targets
    except config.ConfigurationError as error:
        raise CommandError("the configuration cannot be used", ExitCode.USAGE, str(error).splitlines()) from None


def _demand_reachable(directory: Directory, texts: Sequence[DefinitionText]) -> None:
    """CommandError where a participant that is needed cannot be used."""
    needed = {step.participant for text in texts for step in text.definition.steps} - {BUILT_IN}
    known = {each.name: each for each in directory.participants()}
    missing = [f"{name}: give it with --participant {name}=HOST:PORT" for name in sorted(needed - known.keys())]
    if missing:
        raise CommandError("nobody says where these participants are", ExitCode.USAGE, missing)
    down = [known[name] for name in sorted(needed) if known[name].state != pb.PARTICIPANT_STATE_READY]
    if down:
        details = [f"{each.name} at {each.target}: {each.last_failure}" for each in down]
        raise CommandError("these participants cannot be used", ExitCode.UNAVAILABLE, details)


async def _register(definitions: Definitions, text: DefinitionText) -> LoadedDefinition:
    """The definition as it is rehearsed. CommandError where it, as it is written, has problems."""
    problems = await definitions.validate(text.definition)
    if problems:
        raise CommandError("the definition is invalid", details=[str(text.locate(each)) for each in problems])
    return (await definitions.register(shortened(text.definition))).loaded


def _paths(loaded: LoadedDefinition, options: LiveOptions) -> tuple[Sequence[Path], bool]:
    """The paths to go by, and whether there are more."""
    if options.paths:
        try:
            return [path_named(loaded.plan, name) for name in options.paths], False
        except InvalidPathError as error:
            raise CommandError(f"--path: {error}", ExitCode.USAGE) from None
    found = list(islice(paths_of(loaded.plan, options.depth), options.max_paths + 1))
    return found[: options.max_paths], len(found) > options.max_paths


def _rehearsal(
    loaded: LoadedDefinition, definitions: Definitions, directory: Directory, options: LiveOptions
) -> Rehearsal:
    types = loaded.program.types
    try:
        invariants = Invariants(options.invariants or (), loaded.pinned)
        scripts = [Script(command, lambda saga: json_text(to_json(saga, types))) for command in options.checks or ()]
    except InvalidInvariantError as error:
        raise CommandError("--invariant does not type-check", ExitCode.USAGE, error.problems) from None
    except NoSuchCommandError as error:
        raise CommandError(f"--check {error}", ExitCode.USAGE) from None
    return Rehearsal(
        loaded=loaded,
        definitions=definitions,
        participants=directory,
        view=lambda saga: view_of_saga(saga, pb.PAYLOAD_VIEW_FULL),
        invariants=invariants,
        scripts=scripts,
        path_timeout_s=from_duration(options.path_timeout or PATH_TIMEOUT_DEFAULT) / SECOND_NS,
    )


class _Inputs:
    """The inputs of the sagas: one text, in which `${saga_id}` and `${n}` are filled in."""

    def __init__(self, loaded: LoadedDefinition, template: str | None) -> None:
        self._definition = GetDefinitionResponse(definition=loaded.definition, descriptors=loaded.pinned.descriptors)
        self._template = template

    def input_of(self, saga_id: str, number: int) -> Any:
        """The input of one saga. CommandError where it does not fit the definition."""
        if self._template is None:
            return no_input(self._definition)
        text = self._template.replace("${saga_id}", saga_id).replace("${n}", str(number))
        return payload_from_json(text, self._definition)


def _line(problem: Problem) -> str:
    return f"{problem.path}: {problem.message}"


# --- How far it has come ----------------------------------------------------------------------------------------------


class _Progress:
    """On a terminal a bar; elsewhere lines for the first paths that fail. On the standard error, either way."""

    def __init__(self, count: int) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("rehearsing"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._failed = 0
        self._task = self._bar.add_task("rehearsing", total=count)

    def __enter__(self) -> _Progress:
        self._bar.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._bar.stop()
        if (more := self._failed - FAILURES_SHOWN_MAX) > 0:
            self._console.print(f"failed: and {more:,} more")

    def done(self, rehearsed: Rehearsed) -> None:
        """One more."""
        self._bar.advance(self._task)
        if rehearsed.violations:
            self._failed += 1
            if self._failed <= FAILURES_SHOWN_MAX:
                self._console.print(f"failed: {rehearsed.path.name}")
