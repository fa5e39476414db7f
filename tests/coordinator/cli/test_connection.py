"""A call survives a coordinator that restarts; a watch goes on where it broke."""

import time

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from coordinator.cli import connection
from coordinator.cli.connection import Address, Connection, paged
from coordinator.cli.errors import CommandError, ExitCode
from saga.v1 import coordinator_pb2 as pb
from saga.v1 import types_pb2 as types
from tests.coordinator.cli.fake import FakeCoordinator, event, saga, status

GONE = status(grpc.StatusCode.UNAVAILABLE, "the coordinator is shutting down", types.ERROR_REASON_SHUTTING_DOWN)
MISSING = status(grpc.StatusCode.NOT_FOUND, "there is no saga", types.ERROR_REASON_SAGA_NOT_FOUND)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_BRIEF_S", (0.01,) * 2)
    monkeypatch.setattr(connection, "_PATIENT_S", (0.01,) * 5)


def connected(fake: FakeCoordinator, timeout: Duration | None = None) -> Connection:
    address = Address(fake.address, timeout or Duration(seconds=10))
    return Connection(grpc.insecure_channel(fake.address), address)


def watched(sequence: int) -> pb.WatchSagaResponse:
    return pb.WatchSagaResponse(event=event(sequence), state=types.SAGA_STATE_RUNNING)


def sequences(fake: FakeCoordinator, until_s: float = float("inf")) -> list[int]:
    found = connected(fake).watch("order-42", 0, pb.PAYLOAD_VIEW_NONE, until_s)
    return [response.event.sequence for response in found]


def test_a_call_is_tried_again_with_the_same_request(fake: FakeCoordinator) -> None:
    fake.answers["StartSaga"] = [GONE, GONE, pb.StartSagaResponse(saga=saga())]
    server = connected(fake)
    assert server.call(server.sagas.StartSaga, pb.StartSagaRequest(saga_id="order-42")).saga == saga()
    assert fake.requests["StartSaga"] == [pb.StartSagaRequest(saga_id="order-42")] * 3


def test_a_call_is_not_tried_for_ever(fake: FakeCoordinator) -> None:
    fake.answers["GetSaga"] = GONE
    with pytest.raises(CommandError) as caught:
        connected(fake).get("order-42")
    assert caught.value.code == ExitCode.UNAVAILABLE
    assert len(fake.requests["GetSaga"]) == 3


def test_a_coordinator_that_has_answered_is_waited_for_longer(fake: FakeCoordinator) -> None:
    fake.answers["GetSaga"] = [pb.GetSagaResponse(saga=saga()), *[GONE] * 5, pb.GetSagaResponse(saga=saga())]
    server = connected(fake)
    assert server.get("order-42") == server.get("order-42")


def test_every_call_has_a_deadline(fake: FakeCoordinator) -> None:
    def slow(_request: pb.GetSagaRequest) -> pb.GetSagaResponse:
        time.sleep(0.5)
        return pb.GetSagaResponse()

    fake.answers["GetSaga"] = slow
    with pytest.raises(CommandError) as caught:
        connected(fake, Duration(nanos=50_000_000)).get("order-42")
    assert caught.value.code == ExitCode.UNAVAILABLE
    assert "DEADLINE_EXCEEDED" in str(caught.value)


def test_a_watch_that_breaks_goes_on_where_it_broke(fake: FakeCoordinator) -> None:
    fake.answers["WatchSaga"] = [
        [watched(1), watched(2), GONE],
        [GONE],
        [watched(3), GONE],
        [GONE],
        [GONE],
        [watched(4)],
    ]
    assert sequences(fake) == [1, 2, 3, 4]
    assert [request.after_sequence for request in fake.requests["WatchSaga"]] == [0, 2, 2, 3, 3, 3]


def test_a_watch_gives_up_when_the_coordinator_stays_away(fake: FakeCoordinator) -> None:
    fake.answers["WatchSaga"] = [[watched(1), GONE], [GONE]]
    with pytest.raises(CommandError) as caught:
        sequences(fake)
    assert caught.value.code == ExitCode.UNAVAILABLE
    assert len(fake.requests["WatchSaga"]) == 6


def test_a_watch_that_is_refused_is_not_taken_up(fake: FakeCoordinator) -> None:
    fake.answers["WatchSaga"] = [[MISSING]]
    with pytest.raises(CommandError, match="there is no saga"):
        sequences(fake)
    assert len(fake.requests["WatchSaga"]) == 1


def test_a_silent_watch_asks_whether_the_coordinator_is_still_there(fake: FakeCoordinator) -> None:
    silence = status(grpc.StatusCode.DEADLINE_EXCEEDED, "", types.ERROR_REASON_UNSPECIFIED)
    fake.answers["WatchSaga"] = [[silence], [watched(1)]]
    fake.answers["GetSaga"] = pb.GetSagaResponse(saga=saga())
    assert sequences(fake) == [1]
    assert len(fake.requests["GetSaga"]) == 1


def test_a_watch_ends_when_its_time_is_over(fake: FakeCoordinator) -> None:
    assert sequences(fake, until_s=time.monotonic()) == []
    assert "WatchSaga" not in fake.requests


def test_pages_follow_their_tokens() -> None:
    pages = {"": ([1, 2], "b"), "b": ([], "c"), "c": ([3], "")}
    assert list(paged(lambda token: pages[token])) == [1, 2, 3]


def test_that_a_coordinator_is_looked_for_is_said_once_for_each_outage(
    fake: FakeCoordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    found = pb.GetSagaResponse(saga=saga())
    fake.answers["GetSaga"] = [GONE, found, GONE, GONE, found, GONE, found]
    server = connected(fake)
    server.get("order-42")
    assert capsys.readouterr().err == "", "one that never answered is not waited for"
    line = f"the coordinator at {fake.address} does not answer; looking for it\n"
    for _outage in range(2):
        server.get("order-42")
        assert capsys.readouterr().err == line


def test_an_outage_that_another_call_has_met_is_not_said_again_when_the_watch_breaks_of_it(
    fake: FakeCoordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answers["WatchSaga"] = [[watched(1), GONE], [watched(2), GONE], [watched(3)]]
    fake.answers["GetSaga"] = [GONE, pb.GetSagaResponse(saga=saga())]
    server = connected(fake)
    events = server.watch("order-42", 0, pb.PAYLOAD_VIEW_NONE)
    assert next(events).event.sequence == 1
    server.get("order-42")
    line = f"the coordinator at {fake.address} does not answer; looking for it\n"
    assert capsys.readouterr().err == line
    assert next(events).event.sequence == 2
    assert capsys.readouterr().err == ""
    assert next(events).event.sequence == 3
    assert capsys.readouterr().err == line
