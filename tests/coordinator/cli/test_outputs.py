"""The type of an operator's JSON: as it says, as the step yielded before, or as its participant describes today."""

import pytest
from google.protobuf.any_pb2 import Any as AnyPayload

from coordinator.cli.errors import ExitCode
from saga.v1 import coordinator_pb2 as pb
from saga.v1.participant_pb2 import Action, DescribeResponse
from tests.coordinator.cli.fake import FakeCoordinator, order, saga

OUTPUT = ("--completed", '{"orderId": "42"}')
RESOLVE = ("resolve", "order-42", "charge", "--reason", "seen at the bank", *OUTPUT)
COMPLETE = ("complete", "order-42", "charge", "--key", "key-1", *OUTPUT)


def participant(output_type: str = "shop.v1.Order", action: str = "ChargeCard") -> pb.Participant:
    return pb.Participant(
        name="payment",
        description=DescribeResponse(
            actions=[Action(name="Refund", output_type="other"), Action(name=action, output_type=output_type)]
        ),
    )


def stands(fake: FakeCoordinator, *participants: pb.Participant, output: AnyPayload | None = None) -> None:
    step = pb.Step(name="charge", participant="payment", action="ChargeCard", output=output)
    fake.answers["GetSaga"] = pb.GetSagaResponse(saga=saga(steps=[pb.Step(name="reserve"), step]))
    fake.answers["ListParticipants"] = pb.ListParticipantsResponse(
        participants=[pb.Participant(name="inventory"), *participants]
    )
    fake.answers["ResolveStep"] = pb.ResolveStepResponse(saga=saga())
    fake.answers["CompleteStep"] = pb.CompleteStepResponse(saga=saga())


@pytest.mark.parametrize(("command", "rpc"), [(RESOLVE, "ResolveStep"), (COMPLETE, "CompleteStep")])
def test_the_type_is_assumed_from_the_participant_and_the_assumption_is_said(
    fake: FakeCoordinator, command: tuple[str, ...], rpc: str
) -> None:
    stands(fake, participant())
    result = fake.run(*command)
    assert (result.exit_code, result.stdout) == (0, "order-42  RUNNING\n")
    assert result.stderr == "taken for a `shop.v1.Order`, which payment.ChargeCard yields\n"
    assert fake.asked(rpc).completed.output == order(order_id="42")


@pytest.mark.parametrize(("command", "rpc"), [(RESOLVE, "ResolveStep"), (COMPLETE, "CompleteStep")])
def test_an_output_is_of_the_type_that_the_step_has_yielded_before(
    fake: FakeCoordinator, command: tuple[str, ...], rpc: str
) -> None:
    stands(fake, participant("shop.v1.Line"), output=order(order_id="41"))
    result = fake.run(*command)
    assert (result.exit_code, result.stderr) == (0, "")
    assert fake.asked(rpc).completed.output == order(order_id="42")
    assert fake.asked("GetSaga").payloads == pb.PAYLOAD_VIEW_FULL


@pytest.mark.parametrize(
    ("participants", "why"),
    [
        ([], "there is no participant payment in the coordinator's configuration"),
        ([pb.Participant(name="payment")], "payment describes no action ChargeCard"),
        ([participant(action="Charge")], "payment describes no action ChargeCard"),
        (
            [participant("other.v1.Thing")],
            "payment.ChargeCard yields a `other.v1.Thing` today, which the saga does not know",
        ),
    ],
)
def test_a_type_that_nothing_says_is_asked_for(
    fake: FakeCoordinator, participants: list[pb.Participant], why: str
) -> None:
    stands(fake, *participants)
    result = fake.run(*RESOLVE)
    assert result.exit_code == ExitCode.REFUSED
    first, reason, known = result.stderr.splitlines()
    assert first == 'error: the output\'s type is not known: name it, as in {"@type": "type.googleapis.com/…", …}'
    assert reason == f"  {why}"
    types = known.removeprefix("  types of the saga's definition: ").split(", ")
    assert "shop.v1.Order" in types
    assert "shop.v1.Priority" not in types  # enums are no outputs
    assert "ResolveStep" not in fake.requests


def test_an_output_that_does_not_fit_the_assumed_type_is_not_sent(fake: FakeCoordinator) -> None:
    stands(fake, participant("shop.v1.Line"))
    result = fake.run(*RESOLVE)
    assert result.exit_code == ExitCode.REFUSED
    assert "taken for a `shop.v1.Line`" in result.stderr
    assert "orderId" in result.stderr
    assert "ResolveStep" not in fake.requests


def test_a_step_that_the_saga_does_not_have(fake: FakeCoordinator) -> None:
    stands(fake)
    result = fake.run("resolve", "order-42", "chrage", "--reason", "why", "--completed", "{}")
    assert result.exit_code == ExitCode.REFUSED
    assert result.stderr == "error: the saga has no step `chrage`\n  its steps: reserve, charge\n"
