"""Checks a definition against the participants it calls, and pins the types that it was checked against.

`check` finds everything at once: what `check_structure` finds, participants, actions and kinds that are not offered,
and every fault of every expression. Where something is unknown (an action, a type), what depends on it is let pass
rather than reported again; where the participants' descriptors are at odds, expressions are only parsed.

This module must not call a participant: descriptions come as arguments.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from coordinator.core import limits
from coordinator.core.definition import RESERVED_NAMES, STEP_NAME, Problem, check_structure, kind_of
from coordinator.core.descriptors import InvalidDescriptorsError
from coordinator.dataflow.expressions import CEL_VALUES, Expressions, InvalidExpressionError, check_syntax
from coordinator.dataflow.pinned import PinnedDefinition, StepTypes
from coordinator.dataflow.sites import Site, outputs, sites
from coordinator.dataflow.types import DescriptorsClashError, Types, needed_files
from saga.v1.definition_pb2 import SagaDefinition, StepDefinition
from saga.v1.participant_pb2 import Action, DescribeResponse
from saga.v1.types_pb2 import STEP_KIND_COMPENSATABLE, StepKind


@dataclass(frozen=True, slots=True)
class Checked:
    """All problems of a definition; where there are none, the definition with its types."""

    problems: tuple[Problem, ...]
    pinned: PinnedDefinition | None


def check(definition: SagaDefinition, participants: Mapping[str, DescribeResponse | None]) -> Checked:
    """Everything that is wrong with the definition, structure included.

    `participants` has every participant of the configuration by name; None: it has not described itself yet.
    """
    problems = check_structure(definition)
    if len(definition.steps) > limits.STEPS_MAX:
        return Checked(tuple(problems), None)  # what it would take to look further has no bound
    directory = _Directory(definition, participants)
    step_types = directory.resolve_steps()
    directory.resolve_input_type()
    descriptors = directory.needed_files()
    problems += directory.problems
    problems += _check_expressions(definition, step_types, descriptors)
    if problems or descriptors is None:
        return Checked(tuple(dict.fromkeys(problems)), None)
    return Checked((), PinnedDefinition(definition, step_types, descriptors))


def _check_expressions(
    definition: SagaDefinition, step_types: Mapping[str, StepTypes], descriptors: FileDescriptorSet | None
) -> Iterator[Problem]:
    types = Types(descriptors or FileDescriptorSet())
    readable = {
        name: output
        for name, output in outputs(definition, step_types).items()
        if STEP_NAME.fullmatch(name) and name not in RESERVED_NAMES
    }
    expressions = Expressions(types, definition.input_type, readable) if descriptors is not None else None
    for site in sites(definition, step_types, types):
        yield from _check_site(site, expressions)


def _check_site(site: Site, expressions: Expressions | None) -> Iterator[Problem]:
    size = len(site.text.encode())
    if size > limits.EXPRESSION_BYTES_MAX:
        yield Problem(site.path, f"{size} bytes", f"at most {limits.EXPRESSION_BYTES_MAX} bytes")
        return
    try:
        if expressions is not None and site.result:
            expressions.compile(site.text, site.scope, site.result)
        else:
            check_syntax(site.text)
    except InvalidExpressionError as error:
        for fault in error.faults:
            yield Problem(site.path, fault.message, fault.expected, fault.line, fault.column)


class _Directory:
    """What the participants offer to one definition. Collects the problems that it meets."""

    def __init__(self, definition: SagaDefinition, participants: Mapping[str, DescribeResponse | None]) -> None:
        self.problems: list[Problem] = []
        self._definition = definition
        self._participants = participants
        self._types: dict[str, Types | None] = {}
        self._wanted: dict[str, set[str]] = defaultdict(set)

    def resolve_steps(self) -> dict[str, StepTypes]:
        """The types of the steps whose actions are known and described."""
        found: dict[str, StepTypes] = {}
        for index, step in enumerate(self._definition.steps):
            path = f"steps[{index}]"
            action = self._action(path, step)
            if action is None:
                continue
            self._check_kind(path, step, action)
            if self._describes(path, step.participant, action):
                found[step.name] = StepTypes(action.input_type, action.output_type)
                self._wanted[step.participant] |= {action.input_type, action.output_type}
        return found

    def resolve_input_type(self) -> None:
        """Finds who describes the saga's input. All who do must agree."""
        name = self._definition.input_type
        if not name:
            return
        owners = [owner for owner, types in self._types.items() if types is not None and types.knows(name)]
        for owner in owners:
            self._wanted[owner].add(name)
        used = {step.participant for step in self._definition.steps}
        all_described = all(self._types.get(participant) is not None for participant in used)
        if not owners and all_described:
            expected = "a message type of one of the participants that the steps call"
            self.problems.append(Problem("input_type", f"no participant describes `{name}`", expected))

    def needed_files(self) -> FileDescriptorSet | None:
        """The files that describe all types of the definition; None where two participants disagree on them."""
        owners = {owner: types for owner, types in self._types.items() if types is not None}
        try:
            files = needed_files(owners, self._wanted)
        except DescriptorsClashError as error:
            for clash in error.clashes:
                self.problems.append(Problem(self._first_use(clash.owner), str(clash), "one meaning of a name"))
            return None
        if files.ByteSize() > limits.DESCRIPTOR_BYTES_MAX:
            expected = f"at most {limits.DESCRIPTOR_BYTES_MAX} bytes"
            self.problems.append(Problem("", f"{files.ByteSize()} bytes of descriptors are needed", expected))
        return files

    def _first_use(self, participant: str) -> str:
        used = (index for index, step in enumerate(self._definition.steps) if step.participant == participant)
        return f"steps[{next(used)}].participant"

    def _action(self, path: str, step: StepDefinition) -> Action | None:
        if not step.participant:
            return None  # a problem of structure
        if step.participant not in self._participants:
            self._add(f"{path}.participant", "there is no participant", step.participant, sorted(self._participants))
            return None
        description = self._participants[step.participant]
        if description is None:
            message = f"participant `{step.participant}` has not described itself yet"
            self.problems.append(Problem(f"{path}.participant", message, "a participant that can be reached"))
            return None
        actions = {action.name: action for action in description.actions}
        if step.action and step.action not in actions:
            what = f"participant `{step.participant}` has no action"
            self._add(f"{path}.action", what, step.action, sorted(actions))
        return actions.get(step.action)

    def _check_kind(self, path: str, step: StepDefinition, action: Action) -> None:
        kind, offered = kind_of(step), list(action.kinds) or [STEP_KIND_COMPENSATABLE]
        if kind in StepKind.values() and kind not in offered:
            message = f"action `{action.name}` does not serve as {_kind_name(kind)}"
            self.problems.append(Problem(f"{path}.kind", message, " or ".join(map(_kind_name, offered))))

    def _describes(self, path: str, participant: str, action: Action) -> bool:
        """Whether both types of the action are known, and the input is one that an expression can yield."""
        types = self._described(f"{path}.participant", participant)
        if types is None:
            return False
        unknown = [name for name in (action.input_type, action.output_type) if not types.knows(name)]
        for name in dict.fromkeys(unknown):
            message = f"participant `{participant}` does not describe `{name}`, a type of action `{action.name}`"
            self.problems.append(Problem(f"{path}.action", message, "descriptors of all types of its actions"))
        if action.input_type in CEL_VALUES:
            message = f"action `{action.name}` takes `{action.input_type}`, which CEL does not treat as a message"
            self.problems.append(Problem(f"{path}.action", message, "an action with an input message of its own"))
        return not unknown and action.input_type not in CEL_VALUES

    def _described(self, path: str, participant: str) -> Types | None:
        if participant not in self._types:
            description = self._participants[participant]
            assert description is not None
            try:
                self._types[participant] = Types(description.descriptors)
            except InvalidDescriptorsError as error:
                self._types[participant] = None
                message = f"the descriptors of participant `{participant}` cannot be used: {error}"
                self.problems.append(Problem(path, message, "files that can be built, with all that they import"))
        return self._types[participant]

    def _add(self, path: str, what: str, name: str, names: Collection[str]) -> None:
        near = get_close_matches(name, names, n=1)
        listed = "one of: " + ", ".join(names) if names else ""
        expected = f"perhaps `{near[0]}`; {listed}" if near else listed
        self.problems.append(Problem(path, f"{what} `{name}`", expected))


def _kind_name(kind: StepKind.ValueType) -> str:
    return StepKind.Name(kind).removeprefix("STEP_KIND_")
