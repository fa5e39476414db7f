"""The operator's RPCs and CompleteStep, over a real socket."""

from typing import Any as Anything

import pytest
from google.protobuf.any_pb2 import Any

from coordinator.core.limits import PAYLOAD_BYTES_MAX
from saga.v1 import coordinator_pb2 as pb
from saga.v1.types_pb2 import (
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPENSATING,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    SAGA_STATE_RUNNING,
    STEP_STATE_COMPLETED,
    Compensated,
    Completed,
    Rejected,
)
from tests.coordinator.api.serving import Api, failure, fields, outcome, serving
from tests.coordinator.engine.bench import COMPENSATE, EXECUTE, REFUSED, accepted, done, request, step, text
from tests.support.waiting import until

WHO: dict[str, Anything] = {"saga_id": "s", "reason": "a look", "actor": "ada"}


async def _state(api: Api) -> pb.Saga:
    saga: pb.Saga = (await api.sagas.GetSaga(pb.GetSagaRequest(saga_id="s"))).saga
    return saga


async def _stands(api: Api, state: int) -> pb.Saga:
    saga: pb.Saga = (await api.sagas.WaitSaga(pb.WaitSagaRequest(saga_id="s"))).saga
    assert saga.state == state
    return saga


async def _pending(api: Api) -> str:
    """A saga whose step `a` is pending; returns the key."""
    await api.bench.register(step("a"), step("b"))
    api.bench.participants.script("a", EXECUTE, accepted(3600))
    await api.sagas.StartSaga(request())
    await until(lambda: bool(api.bench.participants.calls))
    return str(api.bench.participants.calls[0].context.idempotency_key)


async def _failed(api: Api) -> None:
    """A saga that stands FAILED: step `a` refused to be compensated."""
    await api.bench.register(step("a"), step("b"))
    api.bench.participants.script("a", COMPENSATE, REFUSED, done())
    api.bench.participants.script("b", EXECUTE, REFUSED)
    await api.sagas.StartSaga(request())
    await _stands(api, SAGA_STATE_FAILED)


async def test_pause_and_resume() -> None:
    async with serving() as api:
        await api.bench.register(step("a"), step("b"))
        api.bench.participants.hold("a")
        await api.sagas.StartSaga(request())
        assert (await api.sagas.PauseSaga(pb.PauseSagaRequest(**WHO))).saga.paused
        api.bench.participants.answer("a", done())
        while (saga := await _state(api)).steps[0].state != STEP_STATE_COMPLETED:
            pass
        assert (saga.state, saga.paused) == (SAGA_STATE_RUNNING, True)
        listed = await api.sagas.ListSagas(pb.ListSagasRequest(filter=pb.SagaFilter(paused=True)))
        assert [each.saga_id for each in listed.sagas] == ["s"]
        assert not (await api.sagas.ResumeSaga(pb.ResumeSagaRequest(**WHO))).saga.paused
        await _stands(api, SAGA_STATE_COMPLETED)
        again = outcome(api.sagas.ResumeSaga(pb.ResumeSagaRequest(**WHO)))
        assert await again == ("FAILED_PRECONDITION", "STATE_FORBIDS")


async def test_g7_a_failed_saga_is_retried_from_disk() -> None:
    """Nobody drives a FAILED saga: it is read back, goes on, and who follows it sees that."""
    async with serving() as api:
        await _failed(api)
        retried = (await api.sagas.RetrySaga(pb.RetrySagaRequest(**WHO))).saga
        assert retried.state in (SAGA_STATE_COMPENSATING, SAGA_STATE_COMPENSATED)
        saga = await _stands(api, SAGA_STATE_COMPENSATED)
        assert saga.steps[0].compensate.attempts == 2
        events = (await api.sagas.ListSagaEvents(pb.ListSagaEventsRequest(saga_id="s"))).events
        [said] = [event for event in events if event.HasField("saga_retried")]
        assert (said.actor, said.saga_retried.reason) == ("ada", "a look")


async def test_a_step_is_resolved_and_a_dry_run_only_says_what_would_follow() -> None:
    async with serving() as api:
        await _failed(api)
        resolve = pb.ResolveStepRequest(**WHO, step="a", compensated=Compensated(), dry_run=True)
        assert (await api.sagas.ResolveStep(resolve)).saga.state == SAGA_STATE_COMPENSATED
        assert (await _state(api)).state == SAGA_STATE_FAILED
        resolve.dry_run = False
        await api.sagas.ResolveStep(resolve)
        await _stands(api, SAGA_STATE_COMPENSATED)
        assert await outcome(api.sagas.ResolveStep(resolve)) == ("FAILED_PRECONDITION", "STATE_FORBIDS")


async def test_a_dry_run_says_no_where_the_real_one_would() -> None:
    async with serving() as api:
        await _failed(api)
        wrong = pb.ResolveStepRequest(**WHO, step="b", compensated=Compensated(), dry_run=True)
        assert await outcome(api.sagas.ResolveStep(wrong)) == ("FAILED_PRECONDITION", "STATE_FORBIDS")
        late = pb.ResolveStepRequest(**WHO, step="a", compensated=Compensated(), dry_run=True, expected_sequence=1)
        assert await outcome(api.sagas.ResolveStep(late)) == ("ABORTED", "SEQUENCE_MISMATCH")


async def test_g13_a_resolution_needs_who_why_and_what() -> None:
    async with serving() as api:
        refused = await failure(api.sagas.ResolveStep(pb.ResolveStepRequest(saga_id="s")))
        assert set(fields(refused)) == {"step", "reason", "actor", "resolution"}
        await _failed(api)
        wrong = Completed(output=text("x"))
        wrong.output.type_url = "type.googleapis.com/saga.v1.Confirmed"
        typed = await failure(api.sagas.ResolveStep(pb.ResolveStepRequest(**WHO, step="a", completed=wrong)))
        assert list(fields(typed)) == ["completed.output"]


async def test_a_pending_step_is_completed_by_its_participant() -> None:
    async with serving() as api:
        key = await _pending(api)
        report = pb.CompleteStepRequest(
            saga_id="s", step="a", idempotency_key=key, completed=Completed(output=text("late"))
        )
        await api.sagas.CompleteStep(report)
        saga = await _stands(api, SAGA_STATE_COMPLETED)
        assert saga.steps[0].output == text("late")
        await api.sagas.CompleteStep(report)
        report.rejected.CopyFrom(Rejected(reason="CHANGED_MY_MIND"))
        assert await outcome(api.sagas.CompleteStep(report)) == ("FAILED_PRECONDITION", "STATE_FORBIDS")


async def test_a_report_with_a_foreign_key_or_a_wrong_output_is_refused() -> None:
    async with serving() as api:
        key = await _pending(api)
        foreign = pb.CompleteStepRequest(saga_id="s", step="b", idempotency_key=key, completed=Completed())
        assert list(fields(await failure(api.sagas.CompleteStep(foreign)))) == ["idempotency_key"]
        wrong = Completed(output=text("x"))
        wrong.output.type_url = "type.googleapis.com/saga.v1.Confirmed"
        typed = pb.CompleteStepRequest(saga_id="s", step="a", idempotency_key=key, completed=wrong)
        assert list(fields(await failure(api.sagas.CompleteStep(typed)))) == ["completed.output"]
        empty = pb.CompleteStepRequest(saga_id="s", step="a", idempotency_key=key, completed=Completed())
        assert list(fields(await failure(api.sagas.CompleteStep(empty)))) == ["completed.output"]
        large = Completed(output=Any(type_url="a/b.C", value=b"x" * (PAYLOAD_BYTES_MAX + 1)))
        huge = pb.CompleteStepRequest(saga_id="s", step="a", idempotency_key=key, completed=large)
        assert list(fields(await failure(api.sagas.CompleteStep(huge)))) == ["completed.output"]


@pytest.mark.parametrize("method", ["PauseSaga", "ResumeSaga", "RetrySaga"])
async def test_an_operator_who_has_seen_an_older_saga_is_told(method: str) -> None:
    async with serving() as api:
        await _pending(api)
        asked = getattr(pb, f"{method}Request")(**WHO, expected_sequence=1)
        assert await outcome(getattr(api.sagas, method)(asked)) == ("ABORTED", "SEQUENCE_MISMATCH")
        asked.saga_id = "nobody"
        assert await outcome(getattr(api.sagas, method)(asked)) == ("NOT_FOUND", "SAGA_NOT_FOUND")
