"""Rehearses paths one after the other, and says of each what did not hold.

One at a time: a check that looks into the services' databases must find nothing under way. After a saga has ended every
call that had an outcome is sent once more, as a network that repeats it late would; only then is looked and checked.

This module must not know definitions as texts, nor where results are shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from google.protobuf.any_pb2 import Any

from coordinator.core.inputs import Done, Refused, Unknown
from coordinator.core.state import Saga
from coordinator.dataflow.types import PayloadError
from coordinator.engine.definitions import Definitions
from coordinator.engine.loaded import LoadedDefinition
from coordinator.engine.world import Caller
from coordinator.rehearse import checks
from coordinator.rehearse.caller import InjectingCaller, Key, key_of
from coordinator.rehearse.faults import Attempt, Injection
from coordinator.rehearse.invariants import Invariants
from coordinator.rehearse.paths import REHEARSED, Path
from coordinator.rehearse.script import Script
from coordinator.rehearse.stage import Stage, either
from saga.v1 import coordinator_pb2 as pb
from saga.v1.types_pb2 import (
    OPERATION_COMPENSATE,
    OPERATION_EXECUTE,
    STEP_KIND_READ_ONLY,
    Failure,
)

View = Callable[[Saga], pb.Saga]
"""A saga as GetSaga shows it."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What became of one path."""

    path: Path
    saga: pb.Saga
    violations: Sequence[str]
    not_reached: Sequence[Injection]
    """The failures whose calls were never made, as after a refusal of a participant's own, or in a skipped step."""
    own_refusal: Failure | None
    """Why the saga went back, where that was nothing that the rehearsal made."""
    calls: int
    """How many calls participants were really sent."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """How a definition's version is rehearsed. `path_timeout_s` bounds each path, in seconds."""

    loaded: LoadedDefinition
    definitions: Definitions
    participants: Caller
    view: View
    invariants: Invariants
    scripts: Sequence[Script]
    path_timeout_s: float

    async def rehearse(self, path: Path, saga_id: str, given: Any) -> Rehearsed:
        """Run one saga along the path. Raises InvalidRequest, with nothing called, where the input does not fit."""
        caller = InjectingCaller(self.participants, saga_id, path.injections, lambda: stage.cancel(saga_id, REHEARSED))
        stage = Stage(self.definitions, caller)
        plan = self.loaded.plan
        request = pb.StartSagaRequest(saga_id=saga_id, definition=plan.name, version=plan.version, input=given)
        try:
            await stage.start(request)
            with suppress(TimeoutError):  # where it stands then is for the checks to say
                async with asyncio.timeout(self.path_timeout_s):
                    await self._drive(stage, caller, saga_id)
            saga = await stage.read(saga_id, self.view)
            events = await stage.events(saga_id)
        finally:
            await stage.close()
        unanswered = [problem async for problem in _repeat(caller)]
        violations = [
            *checks.end_state(path, saga, all_reached=not caller.not_reached),
            *checks.protocol_violations(events),
            *checks.contradictions(caller.exchanges, self._canonical),
            *unanswered,
            *self.invariants.violations(saga, path),
        ]
        for script in self.scripts:
            violation = await script.violation(saga, path)
            violations += [violation] if violation is not None else []
        own_refusal = checks.own_refusal(saga)
        return Rehearsed(path, saga, violations, caller.not_reached, own_refusal, len(caller.exchanges))

    async def _drive(self, stage: Stage, caller: InjectingCaller, saga_id: str) -> None:
        """Until the saga has ended; crashes are what happens on the way."""
        while True:
            ended = asyncio.create_task(stage.end(saga_id))
            await either(ended, asyncio.create_task(_wait(caller.crashed)))
            if not caller.crashed.is_set():
                return
            await stage.crash()
            await caller.settle()
            caller.crashed.clear()
            await stage.come_back(self._longest_attempt_ns)

    @property
    def _longest_attempt_ns(self) -> int:
        return max(policy.timeout_ns for step in self.loaded.plan.steps for policy in step.policies.values())

    def _canonical(self, payload: Any) -> bytes:
        try:
            return self.loaded.program.types.canonical(payload)
        except PayloadError:  # a type of a child's participant, which this definition does not know
            return payload.SerializeToString(deterministic=True)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def _repeat(caller: InjectingCaller) -> AsyncIterator[str]:
    """Send every call that had an outcome once more, and every Execute that must have been barred."""
    await caller.settle()
    for key in _decided(caller):
        call = caller.last_calls[key]
        reply = await caller.repeat(call)
        if isinstance(reply, Unknown) and reply.retryable:
            attempt = Attempt(key.step, key.operation, call.context.attempt)
            yield f"{attempt}: sent again, it was not answered: {checks.describe(reply.failure)}"


def _decided(caller: InjectingCaller) -> Sequence[Key]:
    """The operations that participants have answered for good, in the order of their last answers."""
    known: dict[Key, None] = {}
    for exchange in caller.exchanges:
        if isinstance(exchange.reply, Done | Refused) and exchange.call.context.kind != STEP_KIND_READ_ONLY:
            key = key_of(exchange.call)
            known[key] = None
            if key.operation == OPERATION_COMPENSATE:
                known[replace(key, operation=OPERATION_EXECUTE)] = None
    return tuple(known)
