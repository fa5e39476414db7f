"""A saga as people read it: where it stands, how each step went, and what it waits for.

This module only turns messages into text; it must not call anything or read a clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from coordinator.cli import times
from coordinator.cli.output import Cell, json_text, short_name, table, visible
from coordinator.cli.payloads import payload_to_json
from coordinator.cli.words import coloured, failure_text, labels_text, operation_name, state_text
from coordinator.core.definition import BUILT_IN
from coordinator.core.instants import from_timestamp, to_timestamp
from coordinator.dataflow.types import Types
from saga.v1.coordinator_pb2 import OperationProgress, Saga, Step, Wait
from saga.v1.types_pb2 import SAGA_STATE_PENDING, SagaState, StepKind, StepState

_STEP_HEADERS: Final = (
    "STEP", "STATE", "KIND", "ACTION", "STARTED", "EXECUTE", "COMPENSATE", "CONFIRM", "HOLD UNTIL", "LAST ERROR",
)  # fmt: skip  # ten lines of one word each would say no more
_FACT_WIDTH: Final = 10


def timeline(saga: Saga, now_ns: int) -> RenderableType:
    """The whole of a saga but its payloads."""
    parts: list[RenderableType] = [_header(saga, now_ns)]
    if saga.steps:
        parts += [Text(), table(_STEP_HEADERS, [_step_row(step, saga, now_ns) for step in saga.steps], drop_empty=True)]
    if children := [step for step in saga.steps if step.child_saga_id]:
        parts += [Text(), Text("run as sagas of their own, which --children shows too", style="bold")]
        parts += [Text(visible(f"  {step.name}: saga get {step.child_saga_id}{_where(step)}")) for step in children]
    if saga.waits:
        parts += [Text(), Text("waits for", style="bold"), *(Text(f"  {_wait(wait, now_ns)}") for wait in saga.waits)]
    return Group(*parts)


def _where(step: Step) -> str:
    return "" if step.participant == BUILT_IN else f" (there: {step.participant} is a coordinator of its own)"


def payloads(saga: Saga, types: Types) -> Iterator[Text]:
    """Inputs and outputs as JSON, those of the saga first."""
    yield from _payloads_of("saga", saga, types)
    for step in saga.steps:
        yield from _payloads_of(step.name, step, types)


def marks(saga: Saga) -> str:
    """What else an operator should know of its state."""
    said = {
        "needs attention": saga.needs_attention,
        "paused": saga.paused,
        "overdue": saga.overdue,
        "past the point of no return": saga.past_point_of_no_return and not saga.HasField("end_time"),
    }
    return ", ".join(mark for mark, holds in said.items() if holds)


def took(saga: Saga, now_ns: int) -> str:
    """How long the saga ran, or has been running; empty before its start."""
    if not saga.HasField("start_time"):
        return ""
    if saga.HasField("end_time"):
        return times.between(saga.start_time, saga.end_time)
    return times.length(now_ns - from_timestamp(saga.start_time))


def _header(saga: Saga, now_ns: int) -> Text:
    name = visible(f"{saga.definition}@{saga.version}")
    text = Text.assemble((name, "bold"), "  ", state_text(saga.state), f"  {visible(saga.saga_id)}")
    for word, value in _facts(saga, now_ns).items():
        if value:
            text.append(f"\n  {word:<{_FACT_WIDTH}}{visible(value)}")
    return text


def _facts(saga: Saga, now_ns: int) -> dict[str, str]:
    """What the header says below its first line; what is not set is left out."""
    return {
        "uid": saga.uid,
        "runs as": _place(saga),
        "labels": labels_text(saga.labels),
        "keys": ", ".join(saga.exclusive_keys),
        "marks": marks(saga),
        "created": times.instant(saga.create_time),
        "starts" if saga.state == SAGA_STATE_PENDING else "started": (
            times.instant(saga.start_time) if saga.HasField("start_time") else ""
        ),
        "ended": times.instant(saga.end_time) if saga.HasField("end_time") else "",
        "duration": took(saga, now_ns),
        "deadline": _deadline(saga, now_ns),
        "failure": failure_text(saga.failure) if saga.HasField("failure") else "",
    }


def _place(saga: Saga) -> str:
    """Which step of which saga it runs as: the id of such a saga is `parent/step`."""
    if not saga.parent_saga_id:
        return ""
    step = saga.saga_id.removeprefix(f"{saga.parent_saga_id}/")
    return f"step `{step}` of `{saga.parent_saga_id}`"


def _deadline(saga: Saga, now_ns: int) -> str:
    """How far away it is matters only until the saga has ended."""
    if not saga.HasField("deadline"):
        return ""
    return times.instant(saga.deadline) if saga.HasField("end_time") else times.until(saga.deadline, now_ns)


def _step_row(step: Step, saga: Saga, now_ns: int) -> tuple[Cell, ...]:
    started = step.HasField("execute") and step.execute.HasField("start_time")
    return (
        step.name,
        coloured(short_name(StepState.DESCRIPTOR, step.state)),
        short_name(StepKind.DESCRIPTOR, step.kind),
        f"{step.participant}.{step.action}",
        times.offset(step.execute.start_time, from_timestamp(saga.create_time)) if started else "",
        _progress(step.execute, now_ns, under_way=_under_way(saga, step, _EXECUTE_STATES)),
        _progress(step.compensate, now_ns, under_way=_under_way(saga, step, _COMPENSATE_STATES)),
        _progress(step.confirm, now_ns, under_way=_under_way(saga, step, _CONFIRM_STATES)),
        times.until(step.hold_until, now_ns) if step.HasField("hold_until") else "",
        _last_error(step),
    )


_EXECUTE_STATES: Final = (StepState.STEP_STATE_EXECUTING, StepState.STEP_STATE_PENDING)
_COMPENSATE_STATES: Final = (StepState.STEP_STATE_COMPENSATING,)
_CONFIRM_STATES: Final = (StepState.STEP_STATE_CONFIRMING,)


def _under_way(saga: Saga, step: Step, states: tuple[StepState.ValueType, ...]) -> bool:
    return step.state in states and saga.state != SagaState.SAGA_STATE_FAILED and not saga.HasField("end_time")


def _progress(progress: OperationProgress, now_ns: int, *, under_way: bool) -> str:
    """`2 in 1.2s`: attempts and how long they took all together.

    `2, 1.2s so far` while it goes on; `2, unknown` where it does not, and nobody knows what it did.
    """
    if not progress.attempts:
        return ""
    if progress.HasField("end_time"):
        return f"{progress.attempts} in {times.between(progress.start_time, progress.end_time)}"
    if not under_way:
        return f"{progress.attempts}, unknown"
    return f"{progress.attempts}, {times.between(progress.start_time, to_timestamp(now_ns))} so far"


def _last_error(step: Step) -> str:
    """Of the operation that came last; that the failure's step is this one goes without saying."""
    for progress in (step.confirm, step.compensate, step.execute):
        if progress.HasField("last_failure"):
            return failure_text(progress.last_failure, where=operation_name(progress.last_failure.operation))
    return ""


def _wait(wait: Wait, now_ns: int) -> str:
    limit = f" until {times.until(wait.until, now_ns)}" if wait.HasField("until") else ", without a limit"
    return visible(_subject(wait)) + limit


def _subject(wait: Wait) -> str:
    match wait.WhichOneof("subject"):
        case "step":
            return f"{wait.step.step} {operation_name(wait.step.operation)}: {wait.step.reason}"
        case "exclusive_key":
            return f"the exclusive key `{wait.exclusive_key.key}`, held by `{wait.exclusive_key.holder_saga_id}`"
        case "timer":
            return wait.timer.reason
        case "parent":
            return f"its parent `{wait.parent.saga_id}` to confirm or to compensate (all steps are done)"
        case _:
            return "something newer than this program"


def _payloads_of(name: str, holder: Saga | Step, types: Types) -> Iterator[Text]:
    for field in ("input", "output"):
        if holder.HasField(field):
            yield Text(f"\n{visible(name)} {field}", style="bold")
            yield Text(json_text(payload_to_json(getattr(holder, field), types), indent=2))
