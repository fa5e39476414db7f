import json

import pytest
from google.protobuf.duration_pb2 import Duration

from saga.v1 import coordinator_pb2 as pb
from saga.v1.participant_pb2 import Action, DescribeResponse
from tests.coordinator.cli.fake import FakeCoordinator, at

READY = pb.Participant(
    name="inventory",
    target="127.0.0.1:50061",
    state=pb.PARTICIPANT_STATE_READY,
    description=DescribeResponse(version="1.2", actions=[Action(name="ReserveStock"), Action(name="Check")]),
    describe_time=at(0),
    fast_lane=True,
    traffic=pb.ParticipantTraffic(calls_in_flight=12, calls_max=256, breaker=pb.BREAKER_STATE_CLOSED),
)
DOWN = pb.Participant(
    name="payment",
    target="127.0.0.1:50062",
    state=pb.PARTICIPANT_STATE_UNDESCRIBED,
    last_failure="connection refused",
    problems=["a clash", "a \x1b[31mred one"],
    traffic=pb.ParticipantTraffic(
        calls_in_flight=1,
        calls_max=8,
        calls_waiting=2,
        calls_held=3,
        breaker=pb.BREAKER_STATE_OPEN,
        unanswered_calls=16,
        open_until=at(1),
    ),
)
BEHIND = pb.Participant(name="bank", traffic=pb.ParticipantTraffic(behind=Duration(seconds=3)))
SHOWN = """\
NAME       TARGET           STATE        CALLS         VERSION  ACTIONS             DESCRIBED                 PROBLEMS
inventory  127.0.0.1:50061  READY        fast 12/256   1.2      ReserveStock Check  2026-09-21T14:13:20.000Z  -
payment    127.0.0.1:50062  UNDESCRIBED  unary 1/8 +5  -        -                   -                         4

payment: connection refused
payment: the last 16 calls were not answered: further ones are held back until 2026-09-21T14:13:21.000Z
payment: a clash
payment: a \\x1b[31mred one
"""


@pytest.fixture
def known(fake: FakeCoordinator) -> FakeCoordinator:
    fake.answers["ListParticipants"] = pb.ListParticipantsResponse(participants=[READY, DOWN])
    fake.answers["RefreshParticipant"] = pb.RefreshParticipantResponse(participant=READY)
    return fake


def test_participants_are_listed(known: FakeCoordinator) -> None:
    result = known.run("participants")
    assert (result.exit_code, result.stdout) == (0, SHOWN)


def test_one_that_is_behind_says_so(known: FakeCoordinator) -> None:
    known.answers["ListParticipants"] = pb.ListParticipantsResponse(participants=[BEHIND])
    assert "bank: calls wait too long for a place" in known.run("participants").stdout


def test_as_json_one_a_line(known: FakeCoordinator) -> None:
    shown = [json.loads(line) for line in known.run("participants", "-o", "json").stdout.splitlines()]
    assert [one["name"] for one in shown] == ["inventory", "payment"]
    assert shown[0]["description"]["actions"] == [{"name": "ReserveStock"}, {"name": "Check"}]


def test_refresh(known: FakeCoordinator) -> None:
    result = known.run("participants", "refresh", "inventory")
    assert (result.exit_code, "READY" in result.stdout) == (0, True)
    assert known.asked("RefreshParticipant") == pb.RefreshParticipantRequest(name="inventory")
    assert "ListParticipants" not in known.requests
    shown = json.loads(known.run("participants", "refresh", "inventory", "-o", "json").stdout)
    assert shown["state"] == "PARTICIPANT_STATE_READY"
