"""A saga's events as people read them: one a line, so that they can be followed, searched and compared.

This module only turns messages into text; it must not call anything or read a clock. An event that is newer than this
program is shown by its name, or as unknown, rather than refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any as PythonAny
from typing import Final

from google.protobuf.message import Message
from rich.text import Text

from coordinator.cli import times
from coordinator.cli.output import short_name, visible
from coordinator.cli.words import failure_text, labels_text, operation_name
from coordinator.dataflow import durations
from saga.v1 import event_pb2 as events
from saga.v1.types_pb2 import OPERATION_UNSPECIFIED, SagaState

_STYLES: Final[Mapping[str, str]] = {
    "step_completed": "green",
    "step_confirmed": "green",
    "saga_completed": "green",
    "attempt_failed": "magenta",
    "attempt_lost": "magenta",
    "step_rejected": "red",
    "compensation_started": "yellow",
    "step_compensated": "yellow",
    "saga_compensated": "yellow",
    "step_compensation_failed": "bold red",
    "step_stuck": "bold red",
    "saga_failed": "bold red",
}
_NAME_WIDTH: Final = max(
    len(field.message_type.name) for field in events.SagaEvent.DESCRIPTOR.fields if field.message_type is not None
)


def event_line(event: events.SagaEvent, start_ns: int) -> Text:
    """An event in one line: sequence, offset from the start, event, step and attempt, what else is to be said."""
    kind: str | None = event.WhichOneof("event")
    fact: Message | None = getattr(event, kind) if kind else None
    name = fact.DESCRIPTOR.name if fact else "(newer than this program)"
    actor = f"by {event.actor}" if event.actor else ""
    summary = _SUMMARIES[kind](fact, start_ns) if kind is not None and kind in _SUMMARIES else ""
    line = Text(f"{event.sequence:>4}  {times.offset(event.time, start_ns):>9}  ")
    line.append(name, style=_STYLES.get(kind or "", ""))
    said = [part for part in (_where(fact), summary, actor) if part]
    if said:
        line.append(" " * (_NAME_WIDTH - len(name)) + visible("".join(f"  {part}" for part in said)))
    return line


def _where(fact: Message | None) -> str:
    """The step that an event speaks of, the operation and the attempt, as far as it names them."""
    operation = operation_name(getattr(fact, "operation", OPERATION_UNSPECIFIED))
    attempt = getattr(fact, "attempt", 0)
    return " ".join(part for part in (getattr(fact, "step", ""), operation, f"#{attempt}" if attempt else "") if part)


def _created(fact: events.SagaCreated, start_ns: int) -> str:
    name = f"{fact.definition}@{fact.version} {labels_text(fact.labels)}".rstrip()
    parent = f"runs as step `{fact.parent.step}` of `{fact.parent.saga_id}`" if fact.HasField("parent") else ""
    keys = f"exclusive keys {', '.join(fact.exclusive_keys)}" if fact.exclusive_keys else ""
    pinned = ", ".join(f"{step}@{version}" for step, version in sorted(fact.action_versions.items()))
    said = (name, parent, keys, _deadline(fact, start_ns), f"actions {pinned}" if pinned else "")
    return "; ".join(part for part in said if part)


def _attempt_failed(fact: events.AttemptFailed, start_ns: int) -> str:
    again = fact.HasField("next_attempt_time")
    then = f"next attempt at {times.offset(fact.next_attempt_time, start_ns)}" if again else "no further attempt"
    return f"{failure_text(fact.failure, where='')}; {then}"


def _pending(fact: events.StepPending, _start_ns: int) -> str:
    polls = f"polled every {durations.write(fact.poll_after)}" if fact.HasField("poll_after") else "polled"
    said = f"{polls}: {fact.message}" if fact.message else polls
    return f"{said}; needs attention" if fact.needs_attention else said


def _rejected(fact: events.StepRejected, _start_ns: int) -> str:
    doubt = "; an earlier attempt may have had an effect" if fact.in_doubt else ""
    return failure_text(fact.failure, where="") + doubt


def _completed(fact: events.SagaCompleted, _start_ns: int) -> str:
    return f"without an output: {failure_text(fact.output_failure)}" if fact.HasField("output_failure") else ""


def _reason(fact: events.SagaPaused | events.SagaResumed, _start_ns: int) -> str:
    return fact.reason


def _retried(fact: events.SagaRetried, _start_ns: int) -> str:
    return "; ".join(part for part in (fact.reason, _goes_on(fact)) if part)


def _resolved(fact: events.StepResolved, _start_ns: int) -> str:
    holds = f", holds until {times.instant(fact.hold_until)}" if fact.HasField("hold_until") else ""
    return f"{short_name(events.Resolution.DESCRIPTOR, fact.resolution)}{holds}: {fact.reason}; {_goes_on(fact)}"


def _goes_on(fact: events.SagaRetried | events.StepResolved) -> str:
    return f"the saga goes on {short_name(SagaState.DESCRIPTOR, fact.state)}"


def _deadline(fact: PythonAny, start_ns: int) -> str:
    return f"deadline {times.offset(fact.deadline, start_ns)}" if fact.HasField("deadline") else ""


# What an event says beyond step, operation and attempt; an event that is not here says nothing more.
_SUMMARIES: Final[Mapping[str, Callable[[PythonAny, int], str]]] = {
    "saga_created": _created,
    "saga_started": _deadline,
    "attempt_started": _deadline,
    "attempt_failed": _attempt_failed,
    "attempt_lost": lambda fact, start_ns: (
        f"nobody heard its answer; it may have been at work until {times.offset(fact.deadline, start_ns)}"
        if fact.HasField("deadline")
        else "the coordinator stopped; what the call did is not known"
    ),
    "step_pending": _pending,
    "step_completed": lambda fact, _start_ns: (
        f"holds until {times.instant(fact.hold_until)}" if fact.HasField("hold_until") else ""
    ),
    "step_rejected": _rejected,
    "step_compensated": lambda fact, _start_ns: "there was nothing to compensate" if fact.noop else "",
    "step_compensation_failed": lambda fact, _start_ns: failure_text(fact.failure, where=""),
    "step_stuck": lambda fact, _start_ns: failure_text(fact.failure, where=""),
    "compensation_started": lambda fact, _start_ns: failure_text(fact.cause),
    "saga_completed": _completed,
    "saga_failed": lambda fact, _start_ns: failure_text(fact.failure),
    "saga_paused": _reason,
    "saga_resumed": _reason,
    "saga_retried": _retried,
    "step_resolved": _resolved,
}
