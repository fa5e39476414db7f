"""A step that exists only here: its calls are those of a coordinator, repeated as a coordinator repeats them."""

from pathlib import Path

import pytest

from coordinator.conform import limits
from saga.v1.participant_pb2 import ExecuteRequest
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_EXECUTE, STEP_KIND_RESERVABLE
from tests.coordinator.conform.test_caller import trial_of
from tests.coordinator.conform.wrong_participant import serving


async def test_its_requests_carry_all_that_a_coordinators_do(tmp_path: Path) -> None:
    async with serving(tmp_path / "wrong.db", "") as target:
        trial = await trial_of(target, "ok")
        subject = trial.subject()
        sent = subject.request(OPERATION_EXECUTE, 3)
        context = ExecuteRequest.FromString(sent.data).context
        assert (context.saga_uid, context.step, context.action) == (subject.uid, "conform", "Hold")
        assert (context.attempt, context.kind) == (3, STEP_KIND_RESERVABLE)
        assert context.idempotency_key == f"{subject.uid}/conform/execute" == dict(sent.call.headers)["idempotency-key"]
        assert context.HasField("deadline")
        assert len(dict(sent.call.headers)["traceparent"]) == 55
        await subject.executed()
        back = subject.request(OPERATION_COMPENSATE).call
        assert back.output == subject.output is not None
        assert not back.context.HasField("deadline")
        assert subject.variables()["KEY"] == subject.key
        await trial.caller.close()


async def test_what_is_pending_is_asked_again_with_the_same_attempt(tmp_path: Path) -> None:
    async with serving(tmp_path / "wrong.db", "") as target:
        trial = await trial_of(target, "slow")
        assert (await trial.subject().executed()).outcome == "completed"
        assert [sent.call.context.attempt for sent in trial.log] == [1, 1, 1]
        await trial.caller.close()


async def test_a_status_to_come_back_with_is_followed_by_another_attempt_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PATIENCE_S", 0.1)
    async with serving(tmp_path / "wrong.db", "") as target:
        trial = await trial_of(target, "ok")
    subject = trial.subject()
    answer = await subject.executed()
    assert answer.is_retryable
    assert [sent.call.context.attempt for sent in trial.log][:2] == [1, 2]
    await trial.caller.close()
