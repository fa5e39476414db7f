"""Failpoints: places at which a test makes this coordinator die, fail, or wait. For testing only.

Each place is declared in `Failpoint`, with a sentence that says what has and has not happened when it is reached. One
environment variable, SAGA_FAILPOINTS, arms them when the server starts:

    SAGA_FAILPOINTS="journal.before_commit=kill@3, dispatch.after_reply(step=charge)=delay:200ms@1"

    entries   ENTRY, ENTRY, …
    ENTRY     POINT=ACTION, or POINT(KEY=PATTERN KEY=PATTERN …)=ACTION where it is to count only what matches; the
              keys are saga, step, operation (EXECUTE) and event (step_completed), as far as the point knows them, the
              patterns those of a shell
    ACTION    kill           SIGKILL to this process, as `kill -9` does
              raise          the exception that a real failure of that place leads to: the point's sentence says which
              delay:LENGTH   wait (`200ms`, `2s`), and then go on
              each followed by nothing (every time), by @N (the N-th time only), or by @N+ (from the N-th time on)

The ideas are those of FreeBSD's fail(9), of TiKV's fail-rs and of libfiu: named points in the code, armed from outside,
with an action and a count. What differs is chosen for crash tests: nothing is left to chance, so there are no
percentages, and a point can be narrowed to one saga, so that a test kills at the boundary that it means.

While none is armed a point costs a look at one variable. This module must not know what stands round a point, and the
core must not have any: it is pure.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
import os
import re
import signal
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Final, Literal, TypeAlias

from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import OPERATION_UNSPECIFIED, Operation

log = logging.getLogger(__name__)

VARIABLE: Final = "SAGA_FAILPOINTS"

_About: TypeAlias = Mapping[str, Sequence[str]]
_SAGA: Final[tuple[str, ...]] = ("saga",)
_APPEND: Final[tuple[str, ...]] = ("saga", "event")
_CALL: Final[tuple[str, ...]] = ("saga", "step", "operation")
_ANY: Final[tuple[str, ...]] = ()


class Failpoint(Enum):
    """Every place; its name, what it can be narrowed by, and how things stand when it is reached."""

    START_BEFORE_APPEND = (
        "start.before_append",
        _SAGA,
        "A start was admitted, of a client's saga or of a child; nothing of it is on disk. "
        "`raise`: the journal cannot be written.",
    )
    START_AFTER_APPEND = (
        "start.after_append",
        _SAGA,
        "A saga's first events are on disk; nobody drives it, and who started it was not answered. "
        "`raise`: the journal does not say whether it wrote.",
    )
    START_BEFORE_ANSWER = (
        "start.before_answer",
        _SAGA,
        "A client's saga is on disk and driven; the client was not answered. "
        "`raise`: the journal does not say whether it wrote.",
    )
    APPEND_BEFORE = (
        "append.before",
        _APPEND,
        "A saga has taken inputs in, in memory; nothing of what follows is on disk, and nobody was told. "
        "`raise`: the journal cannot be written.",
    )
    APPEND_AFTER = (
        "append.after",
        _APPEND,
        "What follows from a saga's inputs is on disk; nobody was told, and nothing was dispatched. "
        "`raise`: the journal does not say whether it wrote.",
    )
    RELOAD_BEFORE_READ = (
        "reload.before_read",
        _SAGA,
        "An append failed, and the saga is about to be read back from the journal. "
        "`raise`: the journal cannot be read.",
    )
    JOURNAL_BEFORE_BEGIN = (
        "journal.before_begin",
        _SAGA,
        ("The writer has taken a group of appends; its transaction has not begun. `raise`: SQLite reports an error."),
    )
    JOURNAL_BETWEEN_ROWS = (
        "journal.between_rows",
        _SAGA,
        "Inside the transaction: rows of new sagas are written, the events are not. `raise`: SQLite reports an error.",
    )
    JOURNAL_BETWEEN_APPENDS = (
        "journal.between_appends",
        _SAGA,
        "Inside the transaction of a group that did not fit as a whole: appends before this one are written. "
        "`raise`: SQLite reports an error.",
    )
    JOURNAL_BEFORE_COMMIT = (
        "journal.before_commit",
        _SAGA,
        ("Inside the transaction: all of the group is written, and not committed. `raise`: SQLite reports an error."),
    )
    JOURNAL_AFTER_COMMIT = (
        "journal.after_commit",
        _SAGA,
        ("The group is committed, and on disk; nobody was told. `raise`: SQLite reports an error all the same."),
    )
    JOURNAL_BEFORE_CHANGE = (
        "journal.before_change",
        _ANY,
        "Any other change of the journal (a definition, a quarantine, a retirement) is written, and not committed. "
        "`raise`: SQLite reports an error.",
    )
    JOURNAL_AFTER_CHANGE = (
        "journal.after_change",
        _ANY,
        "Any other change of the journal is committed; nobody was told. `raise`: SQLite reports an error all the same.",
    )
    DISPATCH_BEFORE_CALL = (
        "dispatch.before_call",
        _CALL,
        ("An attempt is on disk; its call has not gone out. `raise`: the call is lost, its outcome unknown."),
    )
    DISPATCH_AFTER_REPLY = (
        "dispatch.after_reply",
        _CALL,
        ("The participant has replied; the reply is not recorded. `raise`: the reply is lost, the outcome unknown."),
    )
    POLL_BEFORE_CALL = (
        "poll.before_call",
        _CALL,
        ("A pending operation is about to be asked for its outcome. `raise`: the call is lost."),
    )
    POLL_AFTER_REPLY = (
        "poll.after_reply",
        _CALL,
        "A pending operation was asked, and the participant has replied; the reply is not recorded. "
        "`raise`: the reply is lost.",
    )
    EXCHANGE_BEFORE_WRITE = (
        "exchange.before_write",
        _SAGA,
        "Attempts are on disk; the message of the fast lane with their calls was not written. "
        "`raise`: the stream breaks; the outcomes of the message's calls, and of all in flight, are unknown.",
    )
    EXCHANGE_AFTER_READ = (
        "exchange.after_read",
        _SAGA,
        "A message of the fast lane with answers was read; none of them is recorded. "
        "`raise`: the stream breaks; the answers are lost, and the outcomes of all calls in flight are unknown.",
    )
    ASK_BEFORE = (
        "ask.before",
        _SAGA,
        "A cancel, a report, an operator's word, or a parent's to its child was accepted; the saga has not heard it. "
        "`raise`: the journal cannot be written.",
    )
    ASK_AFTER = (
        "ask.after",
        _SAGA,
        "What follows from such a word is on disk; who gave it was not answered. "
        "`raise`: the journal does not say whether it wrote.",
    )
    CHILD_BEFORE_BEGIN = (
        "child.before_begin",
        _SAGA,
        "A parent called a child that is not there; it is not begun, nor barred. "
        "`raise`: the journal cannot be written.",
    )
    CHILD_AFTER_BEGIN = (
        "child.after_begin",
        _SAGA,
        "A child has begun, or is barred, on disk; its parent was not answered. "
        "`raise`: the journal does not say whether it wrote.",
    )
    RECOVERY_BEFORE_KEYS = (
        "recovery.before_keys",
        _ANY,
        "The journal is open; who holds and awaits exclusive keys was not read, and nobody is served. "
        "`raise`: the journal cannot be read.",
    )
    RECOVERY_BEFORE_PAGE = (
        "recovery.before_page",
        _ANY,
        "The next page of unfinished sagas was not read; those of the pages before are driven. "
        "`raise`: the journal cannot be read.",
    )
    RECOVERY_BEFORE_SAGA = (
        "recovery.before_saga",
        _SAGA,
        "A saga that nobody drives is about to be read from the journal; others may be driven already. "
        "`raise`: the journal cannot be read.",
    )
    RECOVERY_BEFORE_LOST = (
        "recovery.before_lost",
        _SAGA,
        "A saga was read from the journal; its open attempts are not marked as lost, and nobody drives it. "
        "`raise`: the journal cannot be read.",
    )
    DRAIN_BEGIN = (
        "drain.begin",
        _ANY,
        ("The coordinator stops: nothing new is decided, and calls are in flight. `raise`: the process ends at once."),
    )
    DRAIN_END = (
        "drain.end",
        _ANY,
        ("What came back in time is recorded; the server and the journal are open. `raise`: the process ends at once."),
    )

    def __init__(self, label: str, knows: tuple[str, ...], meaning: str) -> None:
        self.label = label
        self.knows = knows
        self.meaning = meaning


class Injected(Exception):
    """A failpoint's `raise`, where nothing more telling fits."""


class FailpointsError(Exception):
    """The failpoints cannot be understood: `problems` has a line for each reason."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


# --- What stands in the code ---


def hit(
    point: Failpoint,
    *,
    error: Callable[[str], Exception] = Injected,
    sagas: Iterable[str] = (),
    events: Iterable[str] = (),
    step: str = "",
    operation: Operation.ValueType = OPERATION_UNSPECIFIED,
) -> None:
    """A place on a thread that may wait. `error` makes what `raise` raises; the others say what it is about."""
    if not _armed:
        return
    due = _due(point, _about(sagas, events, step, operation))
    if delay_s := sum(entry.delay_s for entry in due):
        time.sleep(delay_s)
    _raise(due, error)


def reached(
    point: Failpoint,
    *,
    error: Callable[[str], Exception] = Injected,
    sagas: Iterable[str] = (),
    events: Iterable[str] = (),
    step: str = "",
    operation: Operation.ValueType = OPERATION_UNSPECIFIED,
) -> Awaitable[None]:
    """A place on the event loop: as `hit`, and others go on while it waits."""
    if not _armed:
        return _NOTHING  # not even a coroutine: the places are on the way of every step
    return _wait(_due(point, _about(sagas, events, step, operation)), error)


class _Nothing:
    """Awaited, it is over at once."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


_NOTHING: Final = _Nothing()


async def _wait(due: Sequence[_Entry], error: Callable[[str], Exception]) -> None:
    if delay_s := sum(entry.delay_s for entry in due):
        await asyncio.sleep(delay_s)
    _raise(due, error)


# --- What arms them ---


def arm(text: str) -> None:
    """Arm what the text says, in place of what was armed before; nothing where it is empty. FailpointsError."""
    global _armed
    _armed = _parse(text)
    if _armed:
        log.warning("FAILPOINTS ARE ARMED: this coordinator fails on purpose", extra={"failpoints": text.strip()})


@dataclass(slots=True)
class _Entry:
    """A point that is armed, and how often it was reached."""

    text: str
    point: Failpoint
    only: Mapping[str, str]
    action: Literal["kill", "raise", "delay"]
    delay_s: float
    first: int
    last: int | None
    reached: int = 0

    def is_due(self, point: Failpoint, about: _About) -> bool:
        """Whether it acts; counts the times."""
        if point is not self.point or not all(_fits(about[key], pattern) for key, pattern in self.only.items()):
            return False
        self.reached += 1
        return self.first <= self.reached and (self.last is None or self.reached <= self.last)


_armed: Sequence[_Entry] = ()


def _fits(values: Iterable[str], pattern: str) -> bool:
    return any(fnmatchcase(value, pattern) for value in values)


def _about(sagas: Iterable[str], events: Iterable[str], step: str, operation: Operation.ValueType) -> _About:
    return {"saga": tuple(sagas), "event": tuple(events), "step": (step,), "operation": (_name(operation),)}


def _name(operation: Operation.ValueType) -> str:
    """As it stands in an entry."""
    return Operation.Name(operation).removeprefix("OPERATION_")


def _due(point: Failpoint, about: _About) -> Sequence[_Entry]:
    """Which entries act now; does not return where one of them kills."""
    due = [entry for entry in _armed if entry.is_due(point, about)]
    for entry in due:
        # The handlers of this program write each line at once, so the line is there when the process is not.
        log.warning("failpoint reached", extra={"failpoint": entry.text, "sagas": " ".join(about["saga"])})
    if any(entry.action == "kill" for entry in due):
        os.kill(os.getpid(), signal.SIGKILL)
    return due


def _raise(due: Sequence[_Entry], error: Callable[[str], Exception]) -> None:
    for entry in due:
        if entry.action == "raise":
            raise error(f"failpoint {entry.point.label}")


# --- From text ---

_LABELS: Final = {point.label: point for point in Failpoint}
_ACTIONS: Final = "kill, raise or delay:LENGTH (`delay:200ms`), then nothing, @N or @N+"
_ENTRY: Final = re.compile(r"(?P<label>[^=()\s]+)\s*(?:\((?P<only>[^()]*)\))?\s*=\s*(?P<action>\S+)")
_ACTION: Final = re.compile(r"(?P<name>kill|raise|delay(?=:))(?P<delay>:(?P<count>\d+)(?P<unit>ms|s))?(?P<at>@\S*)?")
_AT: Final = re.compile(r"@(?P<first>[1-9]\d*)(?P<on>\+)?")
_VALUES: Final[Mapping[str, Sequence[str]]] = {
    "operation": [_name(value) for value in Operation.values() if value != OPERATION_UNSPECIFIED],
    "event": [field.name for field in SagaEvent.DESCRIPTOR.oneofs_by_name["event"].fields],
}
_SECONDS: Final = {"ms": 0.001, "s": 1.0}


class _Wrong(Exception):
    """What is wrong with an entry."""


def _parse(text: str) -> Sequence[_Entry]:
    entries, problems = [], []
    for number, part in enumerate(text.split(","), 1):
        if not part.strip():
            if text.strip():
                problems.append(f"entry {number}: it is empty; entries are separated by one comma")
            continue
        try:
            entries.append(_entry(part.strip()))
        except _Wrong as wrong:
            problems.append(f"entry {number}, `{part.strip()}`: {wrong}")
    if problems:
        raise FailpointsError(problems)
    return tuple(entries)


def _entry(text: str) -> _Entry:
    match = _ENTRY.fullmatch(text)
    if match is None:
        raise _Wrong("it is not POINT=ACTION, nor POINT(KEY=PATTERN …)=ACTION")
    point = _point(match["label"])
    only = _only(point, match["only"] or "")
    action = _ACTION.fullmatch(match["action"])
    if action is None or (action["name"] == "delay") != (action["delay"] is not None):
        raise _Wrong(f"`{match['action']}` is not an action; expected: {_ACTIONS}")
    first, last = _times(action["at"])
    delay_s = int(action["count"]) * _SECONDS[action["unit"]] if action["delay"] else 0.0
    return _Entry(text, point, only, action["name"], delay_s, first, last)  # type: ignore[arg-type]  # as the pattern says


def _point(label: str) -> Failpoint:
    point = _LABELS.get(label)
    if point is None:
        near = difflib.get_close_matches(label, _LABELS, n=1)
        known = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(_LABELS)}"
        raise _Wrong(f"there is no failpoint `{label}`; {known}")
    return point


def _only(point: Failpoint, text: str) -> Mapping[str, str]:
    only: dict[str, str] = {}
    for word in text.split():
        key, equals, pattern = word.partition("=")
        if not (equals and pattern):
            raise _Wrong(f"`{word}` is not KEY=PATTERN")
        if key not in point.knows:
            knows = f"it can be narrowed only by {' and '.join(point.knows)}" if point.knows else "nor by anything else"
            raise _Wrong(f"`{point.label}` cannot be narrowed by `{key}`; {knows}")
        _require_a_fit(key, pattern)
        only[key] = pattern
    return only


def _require_a_fit(key: str, pattern: str) -> None:
    """A pattern that fits nothing would never act, and a test that it arms would prove nothing."""
    known = _VALUES.get(key)
    if known is None or any(fnmatchcase(value, pattern) for value in known):
        return
    # Of a word in capitals or small letters the near one is found in either.
    near = difflib.get_close_matches(pattern.upper(), [value.upper() for value in known], n=1)
    meant = [value for value in known if value.upper() in near]
    hint = f"did you mean `{meant[0]}`? " if meant else ""
    raise _Wrong(f"no {key} fits `{pattern}`; {hint}there are: {', '.join(known)}")


def _times(at: str | None) -> tuple[int, int | None]:
    """The first and the last time that it acts."""
    if at is None:
        return 1, None
    match = _AT.fullmatch(at)
    if match is None:
        raise _Wrong(f"`{at}` is not @N or @N+, with N from 1")
    first = int(match["first"])
    return first, None if match["on"] else first
