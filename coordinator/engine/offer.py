"""What a coordinator offers as a participant: every definition is an action (rule 9).

The newest version that takes new sagas is what is offered of a definition. This module must not read a journal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorSet

from coordinator.core.compatibility import incompatible_reader, incompatible_writer
from coordinator.core.definition import BUILT_IN, StepPlan
from coordinator.core.descriptors import WELL_KNOWN, closure, merge
from coordinator.core.instants import to_duration
from coordinator.dataflow.program import EMPTY
from coordinator.engine.loaded import LoadedDefinition
from saga.v1.participant_pb2 import Action, DescribeResponse, RejectionReason
from saga.v1.types_pb2 import StepKind

PARENT_WENT_BACK: Final = "PARENT_WENT_BACK"
"""The reason of a child's failure where its parent took it back."""
# What a parent is refused with, beside the reasons of the child's own steps.
BARRED: Final = "BARRED"
TOO_DEEP: Final = "TOO_DEEP"
PAST_POINT_OF_NO_RETURN: Final = "PAST_POINT_OF_NO_RETURN"
RETIRED: Final = "RETIRED"
COMPENSATED: Final = "COMPENSATED"
NOT_HELD: Final = "NOT_HELD"
OTHER_KIND: Final = "OTHER_KIND"

_REASONS: Final = (
    RejectionReason(reason=BARRED, description="The step was compensated before."),
    RejectionReason(reason=TOO_DEEP, description="Too many sagas stand above it, each a step of the next."),
    RejectionReason(reason=OTHER_KIND, description="The step runs it as a kind that it does not serve as."),
)


@dataclass(frozen=True, slots=True)
class Offer:
    """The answer to Describe, and why definitions are missing from it, a sentence each."""

    description: DescribeResponse
    problems: tuple[str, ...]


def offer_of(definitions: Iterable[LoadedDefinition], software: str, key_retention_ns: int | None = None) -> Offer:
    """All these definitions as actions; one whose types mean something else in another is left out, and a problem."""
    by_name = {each.plan.name: each for each in definitions}
    merged = merge({name: each.pinned.descriptors for name, each in by_name.items()})
    clashing = {clash.owner: str(clash) for clash in merged.clashes}
    offered = [each for name, each in sorted(by_name.items()) if name not in clashing]
    types = sorted({name for each in offered for name in (each.definition.input_type, each.output_type)})
    files = closure(merged.pool.FindMessageTypeByName(name).file for name in types)
    description = DescribeResponse(
        participant=BUILT_IN,
        version=software,
        actions=[_action(each) for each in offered],
        descriptors=files,
        barriered=True,
        key_retention=to_duration(key_retention_ns) if key_retention_ns is not None else None,
    )
    return Offer(description, tuple(f"`{name}` is not offered: {why}" for name, why in sorted(clashing.items())))


def _action(loaded: LoadedDefinition) -> Action:
    return Action(
        name=loaded.plan.name,
        description=loaded.definition.description,
        input_type=loaded.definition.input_type,
        output_type=loaded.output_type,
        kinds=[loaded.plan.offered_as],
        rejection_reasons=_REASONS,
        version=loaded.plan.version,
    )


def why_action_misfits(parent: LoadedDefinition, step: StepPlan, action: Action) -> str | None:
    """Why an action as it is offered now is not what the step was checked against; None where it is."""
    checked = parent.pinned.step_types[step.name]
    of = f"version {action.version}"
    if step.kind not in action.kinds:
        return f"{of} does not serve as {StepKind.Name(step.kind).removeprefix('STEP_KIND_')}"
    if action.input_type != checked.input:
        return f"{of} takes `{action.input_type}`, not `{checked.input}`"
    if action.output_type != checked.output:
        return f"{of} yields `{action.output_type}`, not `{checked.output}`"
    return None


def why_misfit(parent: LoadedDefinition, step: StepPlan, child: LoadedDefinition) -> str | None:
    """Why a version cannot run as a step of a definition that was checked before; None where it can."""
    misfit = why_action_misfits(parent, step, _action(child))
    if misfit is not None:
        return misfit
    checked = parent.pinned.step_types[step.name]
    of = f"version {child.plan.version}"
    then, now = parent.program.types, child.program.types
    misread = incompatible_reader(then.descriptor(checked.input), now.descriptor(checked.input))
    if checked.output != EMPTY:
        misread += incompatible_writer(then.descriptor(checked.output), now.descriptor(checked.output))
    return f"{of} means something else by its types: {misread[0]}" if misread else None


NOTHING: Final = Offer(DescribeResponse(participant=BUILT_IN, descriptors=FileDescriptorSet(file=WELL_KNOWN.file)), ())
