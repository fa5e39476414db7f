"""Broken twins: coordinators and barriers with one defect each, which the simulation has to find.

A simulator that never complains proves nothing. Each twin breaks one rule in one place, as a careless change might,
and names what the court must say of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any as Anything
from typing import Final
from unittest.mock import patch

from coordinator.core import decide, outstanding
from coordinator.core.inputs import KeysGranted, Refused
from coordinator.core.state import Saga, StepRecord
from coordinator.engine import requests
from coordinator.engine.driver import Driver
from coordinator.engine.engine import Engine
from coordinator.engine.exclusion import Exclusion, Tell
from coordinator.participants import replies
from participant_sdk.barrier import rules
from participant_sdk.barrier.rules import State
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_EXECUTE
from tests.simulation.seeds import Run, run

SEEDS_MAX: Final = 400


@dataclass(frozen=True)
class Twin:
    """A defect: how it is put in, and how the complaint about it begins, in one way or another."""

    name: str
    broken: Callable[[], AbstractContextManager[object]]
    complaints: tuple[str, ...]

    def caught(self) -> tuple[int, Run] | None:
        """The first seed that finds it, and its run; None where no seed does."""
        with self.broken():
            for seed in range(SEEDS_MAX):
                result = run(seed)
                if result.complaint:
                    return seed, result
        return None


def _dispatches_first() -> AbstractContextManager[object]:
    append = Driver._append

    async def dispatch_and_append(driver: Driver, events: Sequence[SagaEvent]) -> None:
        driver._dispatch()
        await asyncio.sleep(0)
        await append(driver, events)

    return patch.object(Driver, "_append", dispatch_and_append)


def _acknowledges_first() -> AbstractContextManager[object]:
    begin = Engine.begin

    async def begin_later(engine: Engine, *given: Anything) -> None:
        asyncio.ensure_future(begin(engine, *given)).add_done_callback(
            lambda task: task.cancelled() or task.exception()
        )

    return patch.object(Engine, "begin", begin_later)


def _forgets_the_bar() -> AbstractContextManager[object]:
    barred = (State.BARRED, State.COMPENSATED, State.COMPENSATING)
    runs = {(OPERATION_EXECUTE, state): lambda _row, call: rules._run_first(call) for state in barred}
    return patch.dict(rules._RULES, runs)


def _forgets_what_was_done() -> AbstractContextManager[object]:
    runs = {(OPERATION_EXECUTE, State.COMPLETED): lambda _row, call: rules._run_first(call)}
    return patch.dict(rules._RULES, runs)


def _compensates_again() -> AbstractContextManager[object]:
    runs = {(OPERATION_COMPENSATE, State.COMPENSATED): lambda row, _call: rules.Run(row, rules._output_of(row))}
    return patch.dict(rules._RULES, runs)


@contextmanager
def _does_not_wait() -> Iterator[None]:
    never = property(lambda _step: 0, lambda _step, _until_ns: None)
    with patch.object(StepRecord, "unanswered_until_ns", never):
        yield


def _key_of_every_attempt(saga: Saga, step: str, operation: int) -> str:
    return f"{saga.uid}/{step}/{operation}/{saga.last_sequence}"


def _takes_any_status_for_a_refusal(*_given: Anything, **_more: Anything) -> Refused:
    return Refused("UNAVAILABLE", covers_earlier=True)


def _grants_every_key(_exclusion: Exclusion, saga: Saga, tell: Tell) -> None:
    tell(saga.saga_id, KeysGranted())


def _forgets_how_far_the_clock_went_back() -> AbstractContextManager[object]:
    made = Driver.__init__

    def make(driver: Driver, *given: Anything) -> None:
        made(driver, *given)
        driver._skew_ns = 0

    return patch.object(Driver, "__init__", make)


def _on_the_way_back_all_at_once(saga: Saga) -> list[StepRecord]:
    return [step for step in saga.steps if OPERATION_EXECUTE in step.progress]


TWINS: Final = (
    Twin("dispatches before the append is durable", _dispatches_first, ("G1",)),
    Twin("acknowledges a start before it is durable", _acknowledges_first, ("G3: the start",)),
    Twin("the barrier forgets the bar", _forgets_the_bar, ("G8",)),
    Twin("the barrier forgets what was done", _forgets_what_was_done, ("G2",)),
    Twin("the barrier compensates again", _compensates_again, ("G2",)),
    Twin("does not wait for unanswered attempts", _does_not_wait, ("G8",)),
    Twin(
        "recovery does not mark attempts lost",
        lambda: patch.object(decide, "_recovered", lambda _saga, _now_ns: []),
        ("G8", "G3"),
    ),
    Twin(
        "another key for every attempt",
        lambda: patch.object(requests, "idempotency_key", _key_of_every_attempt),
        ("G2",),
    ),
    Twin(
        "takes a status for a refusal",
        lambda: patch.object(replies, "read_status", _takes_any_status_for_a_refusal),
        ("G4", "G7"),
    ),
    Twin("grants every key", lambda: patch.object(Exclusion, "want", _grants_every_key), ("rule 6",)),
    Twin("a clock set back strands a saga", _forgets_how_far_the_clock_went_back, ("G3",)),
    Twin(
        "compensates all steps at once",
        lambda: patch.object(outstanding, "_next_on_the_way_back", _on_the_way_back_all_at_once),
        ("G4", "rule 11"),
    ),
)
