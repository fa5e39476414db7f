"""Events and calls as lines of text, for people: a scenario read from a file, played, and told line by line.

A transcript file holds the scenario and its recorded outcome. What begins with `#` is prose. Then come the steps, one a
line, and what holds for the saga:

    charge COMPENSATABLE attempts=2 timeout=5s
    ship PIVOT after=reserve,charge
    saga order=graph compensation=one_at_a_time timeout=60s hold_margin=5s skipped=gift failing=ship
    saga child keys=account:1,account:2 deadline=60s

A line that begins with `> ` is something that happens, and the lines below it are what the coordinator makes of it:
`#7 …` is an event, `→ …` what must be under way from then on.

    > start                                  it is created, and begins if it is time; `start in 30s`: later
    > execute charge completed hold=60s      a reply to the last attempt: completed, rejected WHY [covers],
                                             unavailable (nobody answered), aborted, invalid, pending 5s [attention]
    > poll charge                            a poll is on its way
    > wait 5s, wait                          time passes; without a length: until something is due
    > cancel WHY                             a client wants the saga to go back
    > pause WHY, resume WHY                  an operator stops new dispatches, and takes that back
    > retry WHY                              an operator has what is open tried again
    > resolve charge no_effect WHY           an operator states what happened: completed, no_effect, compensated or
                                             confirmed
    > report charge execute completed        the participant says by itself what a reply could have said
    > keys granted, keys refused             the saga's turn to hold its keys has come, or never would
    > parent confirms, parent goes back WHY  the saga that this one is a step of decides
    > crash                                  the coordinator dies and reads the saga back
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from google.protobuf.any_pb2 import Any
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import (
    Accepted,
    CancelRequested,
    Done,
    Input,
    KeysGranted,
    KeysRefused,
    ParentConfirmed,
    ParentWentBack,
    PauseRequested,
    Refused,
    Reply,
    Reported,
    ResolveRequested,
    ResumeRequested,
    RetryRequested,
)
from coordinator.core.instants import from_duration, from_timestamp
from coordinator.core.limits import SECOND_NS
from saga.v1.definition_pb2 import SagaDefinition, StepDefinition
from saga.v1.event_pb2 import ParentStep, Resolution, SagaEvent
from saga.v1.types_pb2 import FAILURE_KIND_CANCELLED, OPERATION_EXECUTE, Failure, FailureKind, Operation
from tests.coordinator.core.sagas import (
    ABORTED,
    INVALID,
    T0_NS,
    UNAVAILABLE,
    Answers,
    Bench,
    attempts,
    define,
    ns,
    pending,
    step,
)


def play(text: str) -> str:
    """The transcript with what happens when its scenario is played today."""
    lines = [line for line in text.splitlines() if not (line.startswith("→") or _is_event(line))]
    start = next(index for index, line in enumerate(lines) if line.startswith("> "))
    stage = _Stage(lines[:start])
    told = lines[:start]
    for line in lines[start:]:
        told.append(line)
        if line.startswith("> "):
            told += stage.happen(line.removeprefix("> ").split())
    return "\n".join(told) + "\n"


def _is_event(line: str) -> bool:
    return line.startswith("#") and line[1:2].isdigit()


class _Stage:
    """Reads a scenario line by line and drives its saga."""

    def __init__(self, lines: list[str]) -> None:
        described = [line.split() for line in lines if line and not line.startswith("#")]
        self._of_saga = of_saga = next((_options(words[1:]) for words in described if words[0] == "saga"), {})
        steps = [_step(words) for words in described if words[0] != "saga"]
        self._definition = _definition(steps, of_saga)
        self._answers = Answers(
            skipped=_names(of_saga.get("skipped", "")),
            failing=_names(of_saga.get("failing", "")),
            output_failure=of_saga.get("output", ""),
        )
        self._bench: Bench

    def happen(self, words: list[str]) -> Iterator[str]:
        """Do what the line says; yields what follows, as lines."""
        if words[0] == "start":
            start_after = _seconds(words[2]) if words[1:2] == ["in"] else None
            self._bench = Bench(
                self._definition,
                self._answers,
                start_after=start_after,
                child="child" in self._of_saga,
                keys=_names(self._of_saga.get("keys", "")),
                deadline=_maybe_seconds(self._of_saga, "deadline"),
            )
        before = len(self._bench.journal) if words[0] != "start" else 0
        try:
            self._do(words[0], words[1:])
        except Forbidden as forbidden:
            yield f"→ refused: {forbidden}; {forbidden.possible}"
            return
        yield from map(describe, self._bench.journal[before:])
        yield from self._under_way()

    def _do(self, verb: str, words: list[str]) -> None:
        bench = self._bench
        match verb:
            case "start":
                bench.turn()
            case "wait":
                if words:
                    bench.wait(_seconds(words[0]))
                else:
                    assert bench.out.wake_ns is not None, "there is nothing to wait for"
                    bench.now_ns = bench.out.wake_ns
                    bench.turn()
            case "poll":
                (poll,) = [poll for poll in bench.out.polls if poll.step == words[0]]
                bench.polled_until_ns[poll.step] = bench.now_ns + poll.timeout_ns
            case "crash":
                bench.crash()
            case "execute" | "compensate" | "confirm":
                operation = Operation.Value(f"OPERATION_{verb.upper()}")
                reply = _reply(words[1], words[2:])
                if operation == OPERATION_EXECUTE and reply != UNAVAILABLE:
                    bench.polled_until_ns.pop(words[0], None)
                bench.reply(words[0], reply, operation)
            case _:
                bench.turn(_INPUTS[verb](words))

    def _under_way(self) -> Iterator[str]:
        out = self._bench.out
        for call in out.calls:
            yield (
                f"→ call {call.step} {operation_word(call.operation)} {call.attempt}, until {instant(call.deadline_ns)}"
            )
        for poll in out.polls:
            yield f"→ poll {poll.step} {operation_word(poll.operation)} {poll.attempt}, every {length(poll.every_ns)}"
        if out.keys:
            yield "→ ask for its keys"
        if self._bench.saga.held:
            yield "→ held: its parent decides"
        if out.wake_ns is not None:
            yield f"→ look again at {instant(out.wake_ns)}"
        if out.idle:
            yield f"→ nothing: {self._bench.state}"


# --- Reading ----------------------------------------------------------------------------------------------------------


def _definition(steps: list[StepDefinition], options: Mapping[str, str]) -> SagaDefinition:
    return define(
        *steps,
        graph=options.get("order") == "graph",
        one_at_a_time=options.get("compensation") == "one_at_a_time",
        timeout=_maybe_seconds(options, "timeout"),
        hold_margin=_maybe_seconds(options, "hold_margin"),
    )


def _step(words: list[str]) -> StepDefinition:
    options = _options(words[2:])
    return step(
        words[0],
        words[1],
        *_names(options.get("after", "")),
        timeout=_maybe_seconds(options, "step_timeout"),
        execute=attempts(_maybe_int(options, "attempts"), _maybe_seconds(options, "timeout")),
        compensate=attempts(_maybe_int(options, "compensate_attempts")),
    )


def _options(words: list[str]) -> dict[str, str]:
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def _maybe_seconds(options: Mapping[str, str], name: str) -> float | None:
    return _seconds(options[name]) if name in options else None


def _maybe_int(options: Mapping[str, str], name: str) -> int | None:
    return int(options[name]) if name in options else None


def _reply(word: str, words: list[str]) -> Reply:
    return _REPLIES[word](words)


def _resolve(words: list[str]) -> Input:
    resolution = Resolution.Value(f"RESOLUTION_{words[1].upper()}")
    output = Any(value=b"output") if words[1] == "completed" else None
    return ResolveRequested(words[0], resolution, " ".join(words[2:]), "ada", output)


def _report(words: list[str]) -> Input:
    reply = _reply(words[2], words[3:])
    assert not isinstance(reply, Accepted)
    return Reported(words[0], Operation.Value(f"OPERATION_{words[1].upper()}"), reply)


def _parent(words: list[str]) -> Input:
    if words == ["confirms"]:
        return ParentConfirmed()
    return ParentWentBack(Failure(kind=FAILURE_KIND_CANCELLED, message=" ".join(words[2:])))


_INPUTS: Final[Mapping[str, Callable[[list[str]], Input]]] = {
    "cancel": lambda words: CancelRequested(" ".join(words), actor="ada"),
    "pause": lambda words: PauseRequested(" ".join(words), actor="ada"),
    "resume": lambda words: ResumeRequested(" ".join(words), actor="ada"),
    "retry": lambda words: RetryRequested(" ".join(words), actor="ada"),
    "resolve": _resolve,
    "report": _report,
    "keys": lambda words: KeysGranted() if words == ["granted"] else KeysRefused(),
    "parent": _parent,
}


def _done(words: list[str]) -> Reply:
    hold = _maybe_seconds(_options(words), "hold")
    return Done(Any(value=b"output"), hold_until_ns=T0_NS + ns(hold) if hold is not None else None)


_REPLIES: Final[Mapping[str, Callable[[list[str]], Reply]]] = {
    "completed": _done,
    "compensated": lambda _: Done(),
    "confirmed": lambda _: Done(),
    "rejected": lambda words: Refused(words[0], covers_earlier="covers" in words),
    "unavailable": lambda _: UNAVAILABLE,
    "aborted": lambda _: ABORTED,
    "invalid": lambda _: INVALID,
    "pending": lambda words: pending(_seconds(words[0]), needs_attention="attention" in words),
}


# --- Telling ----------------------------------------------------------------------------------------------------------


def describe(event: SagaEvent) -> str:
    """An event in one line: `#7 2s AttemptFailed charge execute 1 …`."""
    fact: Message = getattr(event, event.WhichOneof("event") or "")
    words = [f"#{event.sequence}", instant(from_timestamp(event.time)), type(fact).__name__]
    words += [text for field, value in fact.ListFields() if (text := _field(field, value))]
    if event.actor:
        words.append(f"by {event.actor}")
    return " ".join(words)


def instant(instant_ns: int) -> str:
    """Seconds since the saga was created."""
    return length(instant_ns - T0_NS)


def length(length_ns: int) -> str:
    """Seconds, with no more digits than needed."""
    return f"{length_ns / SECOND_NS:.9f}".rstrip("0").rstrip(".") + "s"


def _field(field: FieldDescriptor, value: object) -> str:
    if field.name in _SILENT or isinstance(value, Any):
        return ""
    if field.name in ("step", "attempt"):
        return str(value)
    if field.name == "operation":
        return operation_word(value)  # type: ignore[arg-type]  # an enum's value
    if isinstance(value, Failure):
        return _failure(value)
    if field.enum_type is not None:
        return f"{field.name}={field.enum_type.values_by_number[value].name.rpartition('_STATE_')[2]}"  # type: ignore[index]
    if isinstance(value, ParentStep):
        return f"{field.name}={value.saga_id}/{value.step}"
    if isinstance(value, Timestamp):
        return f"{field.name}={instant(from_timestamp(value))}"
    if isinstance(value, Duration):
        return f"{field.name}={length(from_duration(value))}"
    if isinstance(value, Mapping):  # its order in the message follows from nothing
        return f"{field.name}={dict(sorted(value.items()))}"
    return field.name if value is True else f"{field.name}={value}"


# What every transcript has alike says nothing.
_SILENT = frozenset({"uid", "definition", "version", "request_digest", "labels", "root_saga_id"})


def operation_word(operation: Operation.ValueType) -> str:
    """`execute`, `compensate` or `confirm`."""
    return Operation.Name(operation).removeprefix("OPERATION_").lower()


def _failure(failure: Failure) -> str:
    words = [FailureKind.Name(failure.kind).removeprefix("FAILURE_KIND_")]
    words += [failure.reason] if failure.reason else []
    words += [f'"{failure.message}"'] if failure.message else []
    return f"({' '.join(words)})"
