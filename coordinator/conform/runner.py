"""One run: the participant is found or started, described, tried with every check that was chosen, and ended.

Checks of one participant run one after another, so that what one of them sees is not another's doing. One that fails
does not end the run, unless the participant is gone. Over each lane the participant is tried by itself: one that is
started here begins anew, in a directory of its own, so that an author's file has to have enough in stock for one lane.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

import grpc

from coordinator.conform import limits
from coordinator.conform.caller import Caller, DescribeFailed, Lane
from coordinator.conform.check import Check
from coordinator.conform.checks import CHECKS
from coordinator.conform.checks.describe import DESCRIBE
from coordinator.conform.checks.execute import EXECUTE
from coordinator.conform.commands import Surroundings
from coordinator.conform.examples import ActionExamples, Examples, ExamplesError, Place, typed_problems
from coordinator.conform.process import ParticipantProcess
from coordinator.conform.report import Report, Result, Verdict
from coordinator.conform.trial import NotApplicable, Trial, Violation
from coordinator.dataflow.types import Types
from coordinator.participants.description import InvalidDescriptionError, read_description
from saga.v1.participant_pb2 import Action, DescribeResponse, ExchangeLimits

_READY_CALL_S: Final = 1.0
_NO_PLACE: Final = Place("", 0, 0, "")


class Unreachable(Exception):
    """Nobody answers at the target; the text says what came instead."""


class NoFastLane(Exception):
    """Nothing but the fast lane was chosen, and the participant does not offer it."""

    def __init__(self) -> None:
        super().__init__("the participant does not offer Exchange: its description has no `exchange`")


class NoSuchAction(Exception):
    """An action was chosen that the participant does not describe."""

    def __init__(self, names: Sequence[str], described: Collection[str]) -> None:
        missing = ", ".join(f"`{name}`" for name in names)
        super().__init__(f"there is no action {missing}; the participant describes: {', '.join(described) or 'none'}")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which checks of which actions are made, over which lanes; empty `only` and `actions`: all."""

    only: Collection[str] = ()
    skip: Collection[str] = ()
    actions: Collection[str] = ()
    lanes: Collection[Lane] = tuple(Lane)

    def checks(self) -> Sequence[Check]:
        """In their own order."""
        return [check for check in CHECKS if check.id not in self.skip and (not self.only or check.id in self.only)]


_ALL: Final = Chosen()


async def conform(
    target: str, examples: Examples, chosen: Chosen = _ALL, *, timeout_s: float = 10.0, starts: bool = True
) -> Report:
    """Tries the participant at `target`, which is started first where the file says how and `starts`.

    Errors: `Unreachable`; `NoSuchAction`; `NoFastLane`; `ExamplesError` where the file does not fit the participant;
    `CommandFailed` where one of its commands or queries fails.
    """
    first, *others = [lane for lane in Lane if lane in chosen.lanes]
    run = await _over(first, target, examples, chosen, timeout_s, starts=starts)
    results = list(run.results_in_order())
    if run.offered is not None:
        for lane in others:
            another = await _over(lane, target, examples, chosen, timeout_s, starts=starts)
            results += [result for result in another.results_in_order() if result.lane == lane]
    return Report(target, run.participant, run.version, results)


async def _over(lane: Lane, target: str, examples: Examples, chosen: Chosen, timeout_s: float, *, starts: bool) -> _Run:
    """A run over one lane, that has been made."""
    with tempfile.TemporaryDirectory(prefix="saga-conform-") as directory:
        surroundings = Surroundings(examples.directory, {"ADDRESS": target, "DIRECTORY": directory})
        caller = Caller(target, timeout_s)
        try:
            async with _running(caller, examples, surroundings, starts=starts) as process:
                run = _Run(lane, caller, examples, surroundings, chosen, process)
                await run.make()
                return run
        finally:
            await caller.close()


@asynccontextmanager
async def _running(
    caller: Caller, examples: Examples, surroundings: Surroundings, *, starts: bool
) -> AsyncIterator[ParticipantProcess | None]:
    if not (examples.start and starts):
        yield None
        return

    async def is_ready() -> bool:
        try:
            await caller.describe(_READY_CALL_S)
        except DescribeFailed:
            return False
        return True

    process = ParticipantProcess(examples.start, surroundings, is_ready)
    try:
        await process.start()
        yield process
    finally:
        await process.stop()


@dataclass
class _Run:
    """The state of a run."""

    lane: Lane
    caller: Caller
    examples: Examples
    surroundings: Surroundings
    chosen: Chosen
    process: ParticipantProcess | None
    results: dict[tuple[str, str], Result] = field(default_factory=dict)  # by action and check
    is_gone: bool = False
    participant: str = ""
    version: str = ""
    offered: ExchangeLimits | None = None
    """What the participant says of the fast lane; None: it does not offer it."""

    async def make(self) -> None:
        """Describes and tries the participant."""
        body = await self._described()
        try:
            description = read_description(body)
        except InvalidDescriptionError as error:
            self._note_unusable(error)
            return
        self.participant, self.version = description.participant, description.version
        if description.HasField("exchange"):
            self.offered = description.exchange
        if self.lane is Lane.FAST:
            if self.offered is None:
                raise NoFastLane
            self.caller.use_fast_lane(self.offered)
        self._check_description(description)
        types = Types(description.descriptors)
        actions = {action.name: action for action in description.actions}
        if unknown := [name for name in self.chosen.actions if name not in actions]:
            raise NoSuchAction(unknown, actions)
        if problems := typed_problems(self.examples, actions, types):
            raise ExamplesError(problems)
        chosen = [action for name, action in actions.items() if not self.chosen.actions or name in self.chosen.actions]
        for action in chosen:
            await self._try_action(action, types)
        await self._kill_and_restart(chosen, types)

    def results_in_order(self) -> Iterator[Result]:
        """By action as they were tried, of each by check."""
        for name in dict.fromkeys(name for name, _ in self.results):
            yield from (self.results[name, check.id] for check in CHECKS if (name, check.id) in self.results)

    async def _described(self) -> bytes:
        try:
            return await self.caller.describe()
        except DescribeFailed as error:
            if error.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise Unreachable(str(error)) from None
            return b"\xff"  # whoever is there does not describe itself, which the reading then says

    def _note_unusable(self, error: InvalidDescriptionError) -> None:
        """Of a participant whose description cannot be used nothing else can be tried."""
        failed = Result(DESCRIBE, "", Verdict.FAILED, expected="a description as in the contract", came=str(error))
        rest = (
            Result(check.id, "", Verdict.SKIPPED, (f"`{DESCRIBE}` failed",))
            for check in self.chosen.checks()
            if check.id != DESCRIBE
        )
        for result in (failed, *rest):
            self._note(result)

    def _check_description(self, description: DescribeResponse) -> None:
        for check in self.chosen.checks():
            if check.of_description is None:
                continue
            warnings: list[str] = []
            try:
                check.of_description(description, warnings.append)
            except Violation as violation:
                result = _failed(check, "", violation)
            else:
                result = _passed(check, "", warnings)
            self._note(result)

    async def _try_action(self, action: Action, types: Types) -> None:
        for check in self.chosen.checks():
            if check.of_action is not None and self.lane in check.lanes:
                await self._try(check, action, types)

    async def _try(self, check: Check, action: Action, types: Types) -> None:
        trial = self._trial(action, types)
        if reason := self._obstacle(check, trial):
            self._note(_skipped(check, trial, reason))
            return
        assert check.of_action is not None
        begun_s = time.monotonic()
        result = await self._judged(check, trial, check.of_action(trial))
        self._note(replace(result, seconds=time.monotonic() - begun_s))
        await self._after(trial, result)

    async def _kill_and_restart(self, actions: Sequence[Action], types: Types) -> None:
        """The checks that go over a kill: all their first halves, one kill, all their second halves."""
        halves: list[tuple[Check, Trial, AsyncIterator[None]]] = []
        for action in actions:
            for check in self.chosen.checks():
                if check.over_kill is None or self.lane not in check.lanes:
                    continue
                trial = self._trial(action, types)
                if reason := self._obstacle(check, trial):
                    self._note(_skipped(check, trial, reason))
                else:
                    halves.append((check, trial, check.over_kill(trial)))
        if not halves or self.process is None:
            return
        begun = [await self._judged(check, trial, anext(half)) for check, trial, half in halves]
        await self.process.kill()
        await self.caller.reconnect()
        await self.process.start()
        for (check, trial, half), first in zip(halves, begun, strict=True):
            result = first
            if first.verdict is not Verdict.FAILED:
                result = await self._judged(check, trial, anext(half, None))
            self._note(result)
            await self._after(trial, result)

    async def _judged(self, check: Check, trial: Trial, doing: Awaitable[None]) -> Result:
        """Makes a check, or half of one, and says how it ended."""
        try:
            async with asyncio.timeout(limits.CHECK_MAX_S):
                await doing
        except Violation as violation:
            return _failed(check, trial.action.name, violation, trial)
        except NotApplicable as reason:
            return _skipped(check, trial, str(reason))
        except TimeoutError:
            late = Violation(f"an end within {limits.CHECK_MAX_S:.0f} s", "none")
            return _failed(check, trial.action.name, late, trial)
        return _passed(check, trial.action.name, trial.warnings, lane=self.lane, is_unobserved=trial.is_unobserved)

    async def _after(self, trial: Trial, result: Result) -> None:
        """Takes back what the check left; finds out whether the participant has outlived it."""
        if result.verdict is Verdict.FAILED:
            try:
                await self.caller.describe()
            except DescribeFailed:
                self.is_gone = True
                return
        await trial.clean_up()

    def _trial(self, action: Action, types: Types) -> Trial:
        given = self.examples.actions.get(action.name, ActionExamples(_NO_PLACE))
        return Trial(self.caller, types, action, given, self.surroundings)

    def _obstacle(self, check: Check, trial: Trial) -> str:
        """Why a check cannot be made of an action now; empty where it can."""
        if self.is_gone:
            return "the participant does not answer any more"
        execute = self.results.get((trial.action.name, EXECUTE))
        if check.id != EXECUTE and execute is not None and execute.verdict is Verdict.FAILED:
            return f"`{EXECUTE}` failed"
        return check.lacks(trial, can_kill=self.process is not None)

    def _note(self, result: Result) -> None:
        self.results[result.action, result.check] = result


def _passed(
    check: Check, action: str, warnings: Sequence[str], *, lane: str = "", is_unobserved: bool = False
) -> Result:
    verdict = Verdict.WARNED if warnings else Verdict.PASSED
    return Result(check.id, action, verdict, tuple(warnings), lane=lane, is_unobserved=is_unobserved)


def _skipped(check: Check, trial: Trial, reason: str) -> Result:
    return Result(check.id, trial.action.name, Verdict.SKIPPED, (reason,), lane=trial.caller.lane)


def _failed(check: Check, action: str, violation: Violation, trial: Trial | None = None) -> Result:
    sent = violation.sent or (trial.log[-1] if trial and trial.log else None)
    return Result(
        check.id,
        action,
        Verdict.FAILED,
        lane=trial.caller.lane if trial else "",
        expected=violation.expected,
        came=violation.came,
        request=sent.grpcurl(trial.types) if sent and trial else "",
        key=sent.key if sent else "",
        is_unobserved=bool(trial and trial.is_unobserved),
    )
