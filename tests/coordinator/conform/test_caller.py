"""One call, and how its answer is read: as the coordinator reads it."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from coordinator.conform.caller import Answer, Caller, DescribeFailed
from coordinator.conform.commands import Surroundings
from coordinator.conform.examples import ActionExamples, Input, Place
from coordinator.conform.subject import Subject
from coordinator.conform.trial import Trial
from coordinator.dataflow.types import Types
from coordinator.participants.replies import read_status
from saga.v1.participant_pb2 import DescribeResponse
from saga.v1.types_pb2 import OPERATION_EXECUTE
from tests.coordinator.conform.wrong_participant import serving

PLACE = Place("", 1, 1, "")
NOBODY = "127.0.0.1:1"


async def trial_of(target: str, account_id: str) -> Trial:
    caller = Caller(target, 5.0)
    description = DescribeResponse.FromString(await caller.describe())
    given = Input({"transfer_id": "${unique}", "account_id": account_id}, PLACE)
    examples = ActionExamples(PLACE, [given])
    types = Types(description.descriptors)
    return Trial(caller, types, description.actions[0], examples, Surroundings(Path(), {}))


@pytest.fixture
async def subject(tmp_path: Path) -> AsyncIterator[Subject]:
    async with serving(tmp_path / "wrong.db", "") as target:
        trial = await trial_of(target, "ok")
        yield trial.subject()
        await trial.caller.close()


async def test_an_answer_is_what_the_coordinator_makes_of_it(subject: Subject) -> None:
    completed = await subject.execute()
    assert (completed.outcome, str(completed), completed.code) == ("completed", "completed", grpc.StatusCode.OK)
    compensated = await subject.compensate()
    assert (compensated.outcome, str(compensated)) == ("compensated", "compensated")
    barred = await subject.execute(2)
    assert (barred.outcome, barred.reason, str(barred)) == ("rejected", "BARRED", "rejected, reason BARRED")


async def test_a_status_is_shown_with_its_reason(subject: Subject) -> None:
    torn = await subject.send(subject.malformed(b"\x0a\xff"))
    assert (torn.outcome, torn.reason, torn.is_retryable) == ("", "INVALID_REQUEST", False)
    assert str(torn) == "status INVALID_ARGUMENT, reason INVALID_REQUEST: INVALID_REQUEST"
    assert torn.sent.grpcurl(subject.types).endswith(f"JSON cannot show, idempotency-key {subject.key}")


def test_a_status_of_the_participants_own_without_a_reason_is_shown_as_such(subject: Subject) -> None:
    def shown(code: grpc.StatusCode) -> str:
        sent = subject.request(OPERATION_EXECUTE)
        return str(Answer(sent, code, b"", read_status(sent.call, code, "KEY_REUSED")))

    own = shown(grpc.StatusCode.FAILED_PRECONDITION)
    assert own == "status FAILED_PRECONDITION without an ErrorInfo (its message: KEY_REUSED)"
    assert shown(grpc.StatusCode.UNAVAILABLE) == "status UNAVAILABLE: KEY_REUSED"


async def test_a_call_can_be_repeated_by_hand(subject: Subject) -> None:
    line = subject.request(OPERATION_EXECUTE).grpcurl(subject.types)
    assert line.startswith(f"grpcurl -plaintext -H 'idempotency-key: {subject.key}' -d '{{ \"context\": {{")
    assert f'"sagaUid": "{subject.uid}"' in line
    assert '"@type": "type.googleapis.com/sample_services.transfer.v1.DebitAccountRequest"' in line
    assert line.endswith(f"{subject.caller.target} saga.v1.ParticipantService/Execute")


async def test_a_reply_of_the_wrong_type_breaks_the_contract(tmp_path: Path) -> None:
    """G5."""
    async with serving(tmp_path / "wrong.db", "other-output") as target:
        trial = await trial_of(target, "ok")
        answer = await trial.subject().execute()
        await trial.caller.close()
    assert answer.outcome == ""
    assert str(answer).startswith("a reply that breaks the contract: the output is of type sample_services")


async def test_a_lost_call_is_ended_and_the_connection_can_be_used_again(subject: Subject) -> None:
    for cut in (False, True):
        await subject.lose(subject.request(OPERATION_EXECUTE), 0.0, cut=cut)
    assert (await subject.executed(2)).outcome == "completed"


async def test_where_nobody_answers() -> None:
    caller = Caller(NOBODY, 5.0)
    with pytest.raises(DescribeFailed, match="Describe ended with status UNAVAILABLE") as raised:
        await caller.describe()
    assert raised.value.code is grpc.StatusCode.UNAVAILABLE
    await caller.close()
