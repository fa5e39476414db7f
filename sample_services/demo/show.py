"""How the demo shows things: a saga's timeline, how sagas stand, rows of a database, and the sums.

Colours and the terminal's width are rich's business: they are used on a terminal only. This module must not fetch
anything from the coordinator or change any database.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from saga.v1.coordinator_pb2 import OperationProgress, Saga, Wait
from saga.v1.coordinator_pb2 import Step as SagaStep
from saga.v1.types_pb2 import Failure, FailureKind, SagaState, StepKind, StepState
from sample_services.demo.sample import Sum

_WIDTH_MIN: Final = 132
_OPERATIONS: Final = ("execute", "compensate", "confirm")
_STYLES: Final = {
    "COMPLETED": "green",
    "CONFIRMED": "green",
    "COMPENSATED": "yellow",
    "REJECTED": "red",
    "FAILED": "red",
}


class _Started(NamedTuple):
    """An operation that was started."""

    step: SagaStep
    operation: str
    progress: OperationProgress


def console() -> Console:
    """Return where the demo prints: as wide as the terminal, or wide enough for its tables."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=_WIDTH_MIN)


def timeline(saga: Saga) -> Table:
    """Return what was done for a saga, in the order in which it was begun."""
    title = Text(f"Saga {saga.saga_id}: ").append(_state(saga.state, SagaState))
    if saga.HasField("failure"):
        title.append(f", because of {_cause(saga.failure)}")
    table = _table(title, "began", "took", "step", "kind", "operation", "attempts", "last failure", "step is now")
    begin = saga.create_time.ToDatetime()
    for started in sorted(_started(saga), key=lambda each: each.progress.start_time.ToNanoseconds()):
        _add(
            table,
            _seconds(started.progress.start_time.ToDatetime(), begin, "+"),
            _took(started.progress),
            started.step.name,
            StepKind.Name(started.step.kind).removeprefix("STEP_KIND_"),
            started.operation,
            str(started.progress.attempts),
            _failure(started.progress.last_failure) if started.progress.HasField("last_failure") else "",
            _state(started.step.state, StepState),
        )
    return table


def sagas(title: str, found: Sequence[Saga]) -> Table:
    """Return how sagas stand: why they went back, and what they wait for."""
    table = _table(Text(title), "saga", "state", "failure", "waits for")
    for saga in found:
        failure = _cause(saga.failure) if saga.HasField("failure") else ""
        _add(table, saga.saga_id, _state(saga.state, SagaState), failure, ", ".join(map(_subject, saga.waits)))
    return table


def rows(title: str, database: Path, query: str) -> Table:
    """Return the rows that a query finds in a SQLite database."""
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        cursor = connection.execute(query)
        table = _table(Text(title), *(column[0] for column in cursor.description))
        for row in cursor:
            _add(table, *("" if value is None else str(value) for value in row))
    return table


def sums(title: str, checked: Sequence[Sum]) -> Table:
    """Return the sums, and whether each adds up."""
    table = _table(Text(title), "what", "sum", "must be", "")
    for each in checked:
        terms = "".join(f" {'-' if value < 0 else '+'} {name} {abs(value)}" for name, value in each.terms)
        _add(
            table,
            each.name,
            f"{terms.removeprefix(' + ')} = {each.total}",
            f"{each.expected} {each.expected_as}",
            Text("yes", "green") if each.adds_up else Text("NO", "bold red"),
        )
    return table


def _started(saga: Saga) -> Iterator[_Started]:
    for step in saga.steps:
        for operation in _OPERATIONS:
            progress: OperationProgress = getattr(step, operation)
            if progress.attempts:
                yield _Started(step, operation, progress)


def _took(progress: OperationProgress) -> str:
    if not progress.HasField("end_time"):
        return "unknown"
    return _seconds(progress.end_time.ToDatetime(), progress.start_time.ToDatetime())


def _subject(wait: Wait) -> str:
    match wait.WhichOneof("subject"):
        case "step":
            return f"step {wait.step.step}"
        case "exclusive_key":
            return f"{wait.exclusive_key.key} after {wait.exclusive_key.holder_saga_id}"
        case "timer":
            return wait.timer.reason
        case _:
            return f"saga {wait.parent.saga_id}"


def _seconds(time: datetime, since: datetime, sign: str = "") -> str:
    return f"{sign}{(time - since).total_seconds():.3f} s"


def _failure(failure: Failure) -> str:
    kind = FailureKind.Name(failure.kind).removeprefix("FAILURE_KIND_")
    return f"{kind} {failure.reason}".rstrip()


def _cause(failure: Failure) -> str:
    return f"{_failure(failure)} in step {failure.step}" if failure.step else _failure(failure)


def _state(value: int, enum: type) -> Text:
    name = str(enum.Name(value)).split("_STATE_")[1]  # type: ignore[attr-defined]  # both enums have it
    return Text(name, _STYLES.get(name, ""))


def _table(title: Text, *columns: str) -> Table:
    above = Text("\n").append_text(title)
    table = Table(title=above, title_justify="left", title_style="bold", box=SIMPLE_HEAD, show_edge=False)
    for column in columns:
        table.add_column(column)
    return table


def _add(table: Table, *cells: str | Text) -> None:
    """Add a row as it is: brackets in a row of a database are no markup."""
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))
