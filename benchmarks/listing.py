"""How long an operator waits for a list, in a journal of a million sagas.

    python -m benchmarks.listing [--sagas 1000000] [--runs 5] [--file journal.db]

Builds a journal through the real one, a file that is kept and used again where `--file` names it, then asks every
question that ListSagas takes, and the few that the coordinator asks itself. Times are medians, with the file in the
operating system's cache. This module must not reach behind the journal's port for an answer.
"""

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.population import APART_NS, EPOCH_NS, FIRST_FAILURE, IN_US_ONLY, LONG_GONE, Population, saga_id
from coordinator.core.instants import to_timestamp
from coordinator.journal.port import JournalReader, SagaCursor
from coordinator.journal.sqlite import SqliteJournal
from coordinator.journal.sqlite_view import SqliteView
from saga.v1.coordinator_pb2 import SagaFilter
from saga.v1.types_pb2 import (
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPENSATING,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    SAGA_STATE_PENDING,
    SAGA_STATE_RUNNING,
)

PAGE: Final = 50
LATER: Final = 500  # sagas that a later page has before it
AT_ONCE: Final = 4096  # appends under way

EU: Final = {"region": "eu"}

Question = tuple[str, SagaFilter]


@dataclass(frozen=True, slots=True)
class Answer:
    """How many sagas came, and the median time they took."""

    rows: int
    milliseconds: float


def questions(population: Population) -> list[Question]:
    """One of each kind, some that many sagas answer to and some that hardly any does, and the usual combinations."""
    last = population.sagas - 1
    middle_ns = EPOCH_NS + last // 2 * APART_NS
    begin, end = to_timestamp(middle_ns), to_timestamp(middle_ns + 3600 * 10**9)
    hour = SagaFilter(create_time_from=begin, create_time_until=end)
    some = population.index(last // 3)
    child = next(index for number in itertools.count() if (index := population.index(number)).parent_saga_id)
    keyed = next(index for number in itertools.count() if (index := population.index(number)).exclusive_keys)
    customer = {"customer": some.labels["customer"]}
    return [
        ("all", SagaFilter()),
        ("state PENDING", SagaFilter(states=[SAGA_STATE_PENDING])),
        ("state RUNNING", SagaFilter(states=[SAGA_STATE_RUNNING])),
        ("state COMPENSATING", SagaFilter(states=[SAGA_STATE_COMPENSATING])),
        ("state COMPLETED", SagaFilter(states=[SAGA_STATE_COMPLETED])),
        ("state COMPENSATED", SagaFilter(states=[SAGA_STATE_COMPENSATED])),
        ("state FAILED", SagaFilter(states=[SAGA_STATE_FAILED])),
        ("states FAILED, COMPENSATED", SagaFilter(states=[SAGA_STATE_FAILED, SAGA_STATE_COMPENSATED])),
        ("definition", SagaFilter(definition=some.definition)),
        ("definition and version", SagaFilter(definition=some.definition, version=1)),
        ("definition of one old saga", SagaFilter(definition=LONG_GONE)),
        ("definition of no saga", SagaFilter(definition="nobody")),
        ("label: order (one saga)", SagaFilter(labels={"order": some.labels["order"]})),
        ("label: customer (a hundred)", SagaFilter(labels=customer)),
        ("label: region (every second)", SagaFilter(labels=EU)),
        ("label: none has it", SagaFilter(labels={"order": "none"})),
        ("created within an hour", hour),
        ("needs attention", SagaFilter(needs_attention=True)),
        ("paused", SagaFilter(paused=True)),
        ("overdue", SagaFilter(overdue=True)),
        ("participant", SagaFilter(participant=some.participants[0])),
        ("failure text, frequent", SagaFilter(failure_text="NO_FUNDS")),
        ("failure text of one old saga", SagaFilter(failure_text=FIRST_FAILURE)),
        ("failure text that none has", SagaFilter(failure_text="no such text")),
        ("exclusive key", SagaFilter(exclusive_key=keyed.exclusive_keys[0])),
        ("parent", SagaFilter(parent_saga_id=child.parent_saga_id)),
        ("region, FAILED", SagaFilter(labels=EU, states=[SAGA_STATE_FAILED])),
        ("region, customer", SagaFilter(labels={**EU, **customer})),
        ("definition, FAILED", SagaFilter(definition=some.definition, states=[SAGA_STATE_FAILED])),
        ("definition, failure text", SagaFilter(definition=some.definition, failure_text="NO_FUNDS")),
        ("definition, no participant of its own", SagaFilter(definition=some.definition, participant="nobody")),
        ("region, COMPLETED, within an hour", _both(hour, SagaFilter(labels=EU, states=[SAGA_STATE_COMPLETED]))),
        ("overdue but COMPLETED", SagaFilter(overdue=True, states=[SAGA_STATE_COMPLETED])),
        ("region, definition", SagaFilter(labels=EU, definition=some.definition)),
        ("region, definition of one old saga", SagaFilter(labels=EU, definition=LONG_GONE)),
        ("region, definition never used there", SagaFilter(labels=EU, definition=f"definition_{IN_US_ONLY}")),
    ]


def _both(one: SagaFilter, other: SagaFilter) -> SagaFilter:
    result = SagaFilter()
    result.MergeFrom(one)
    result.MergeFrom(other)
    return result


async def build(file: Path, population: Population) -> float:
    """Make the journal; returns how many sagas a second it took in."""
    journal = await SqliteJournal.open(file)
    appends = population.appends()
    taken_s = 0.0
    try:
        while batch := list(itertools.islice(appends, AT_ONCE)):
            begin_s = time.perf_counter()
            await asyncio.gather(*(journal.append(append) for append in batch))
            taken_s += time.perf_counter() - begin_s
    finally:
        await journal.close()
    return population.sagas / taken_s


async def measure(file: Path, population: Population, runs: int) -> list[tuple[str, list[Answer | None]]]:
    """Answers to every question: first page and later page, newest first, then both oldest first."""
    view = await SqliteView.open(file)
    try:
        table = [(name, await _pages(view, wanted, runs)) for name, wanted in questions(population)]
        return [*table, *await _own(view, population, runs)]
    finally:
        await view.close()


async def _pages(view: JournalReader, wanted: SagaFilter, runs: int) -> list[Answer | None]:
    answers: list[Answer | None] = []
    for oldest_first in (False, True):
        place = (await view.list_sagas(wanted, None, LATER, oldest_first=oldest_first)).next
        answers.append(await _timed(lambda: _page(view, wanted, None, oldest_first), runs))  # noqa: B023  # awaited here
        answers.append(None if place is None else await _timed(lambda: _page(view, wanted, place, oldest_first), runs))  # noqa: B023
    return answers


async def _page(view: JournalReader, wanted: SagaFilter, after: SagaCursor | None, oldest_first: bool) -> int:
    return len((await view.list_sagas(wanted, after, PAGE, oldest_first=oldest_first)).items)


async def _own(view: JournalReader, population: Population, runs: int) -> list[tuple[str, list[Answer | None]]]:
    """What a coordinator asks by itself: for one saga, at its start, and for retention."""
    some = saga_id(population.sagas // 2)
    end_ns = EPOCH_NS + population.sagas * APART_NS

    async def find() -> int:
        return int(await view.find(some) is not None)

    async def unfinished() -> int:
        return len((await view.unfinished(None, PAGE)).items)

    async def keyed() -> int:
        return len((await view.keyed(None, PAGE)).items)

    async def ended() -> int:
        return len((await view.ended(end_ns, None, PAGE)).items)

    async def count_unfinished() -> int:
        return len(await view.count_unfinished())

    own = (find, unfinished, keyed, ended, count_unfinished)
    return [(f"({ask.__name__})", [await _timed(ask, runs)]) for ask in own]


async def _timed(ask: Callable[[], Awaitable[int]], runs: int) -> Answer:
    rows, taken_s = 0, []
    for _ in range(runs):
        begin_s = time.perf_counter()
        rows = await ask()
        taken_s.append(time.perf_counter() - begin_s)
    return Answer(rows, median(taken_s) * 1000)


def show(table: Sequence[tuple[str, list[Answer | None]]]) -> str:
    """The answers as a Markdown table; a page's sagas and milliseconds."""
    lines = ["| question | newest first | later page | oldest first | later page |", "| --- | --: | --: | --: | --: |"]
    for name, answers in table:
        cells = ["" if answer is None else f"{answer.rows} in {answer.milliseconds:.1f} ms" for answer in answers]
        lines.append(f"| {name} | {' | '.join(cells + [''] * (4 - len(cells)))} |")
    return "\n".join(lines)


def run(file: Path, population: Population, runs: int) -> None:
    """Build the file unless it is there, measure, print."""
    if not file.exists():
        rate = asyncio.run(build(file, population))
        size = file.stat().st_size / population.sagas
        print(f"{population.sagas} sagas taken in, {rate:.0f} a second, {size:.0f} bytes each\n", flush=True)
    print(show(asyncio.run(measure(file, population, runs))))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sagas", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--file", type=Path, help="keep the journal here, or use the one that is here")
    asked = parser.parse_args()
    population = Population(asked.sagas)
    with tempfile.TemporaryDirectory() as directory:
        run(asked.file or Path(directory) / "journal.db", population, asked.runs)


if __name__ == "__main__":
    main()
