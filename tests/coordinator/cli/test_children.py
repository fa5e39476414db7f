"""Which sagas below a saga are looked at, and that a look ends however many there are (G14)."""

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from coordinator.cli import children, connection
from coordinator.cli.children import CHILDREN_MAX, DEPTH_MAX, Unseen
from coordinator.cli.connection import Address, Connection
from coordinator.cli.errors import CommandError
from saga.v1 import coordinator_pb2 as pb
from saga.v1 import types_pb2 as types
from tests.coordinator.cli.fake import FakeCoordinator, saga, status

VIEW = pb.PAYLOAD_VIEW_NONE


@pytest.fixture
def server(fake: FakeCoordinator) -> Iterator[Connection]:
    with grpc.insecure_channel(fake.address) as channel:
        yield Connection(channel, Address(fake.address, Duration(seconds=10)))


def with_steps(saga_id: str, count: int) -> pb.Saga:
    steps = [pb.Step(name=f"s{number}", child_saga_id=f"{saga_id}/s{number}") for number in range(count)]
    return saga(saga_id=saga_id, steps=steps)


def test_each_child_comes_before_its_own(fake: FakeCoordinator, server: Connection) -> None:
    counts = {"a/s0": 1, "a/s0/s0": 0, "a/s1": 0}
    fake.answers["GetSaga"] = lambda request: pb.GetSagaResponse(
        saga=with_steps(request.saga_id, counts[request.saga_id])
    )
    found = list(children.children(server, with_steps("a", 2), VIEW))
    assert [child.saga_id for child in found if isinstance(child, pb.Saga)] == ["a/s0", "a/s0/s0", "a/s1"]
    assert len(found) == 3


def test_more_than_can_be_shown_is_said(fake: FakeCoordinator, server: Connection) -> None:
    fake.answers["GetSaga"] = lambda request: pb.GetSagaResponse(saga=saga(saga_id=request.saga_id))
    assert len(list(children.children(server, with_steps("a", CHILDREN_MAX), VIEW))) == CHILDREN_MAX
    *shown, last = children.children(server, with_steps("a", CHILDREN_MAX + 50), VIEW)
    assert len(shown) == CHILDREN_MAX
    assert isinstance(last, Unseen)
    assert f"more than {CHILDREN_MAX} sagas run below a" in last.text


def test_nesting_without_an_end_is_followed_to_a_depth(fake: FakeCoordinator, server: Connection) -> None:
    fake.answers["GetSaga"] = lambda request: pb.GetSagaResponse(saga=with_steps(request.saga_id, 1))
    *shown, last = children.children(server, with_steps("a", 1), VIEW)
    assert len(shown) == DEPTH_MAX
    too_deep = "a" + "/s0" * (DEPTH_MAX + 1)
    assert last == Unseen(f"{too_deep} lies too deep; `saga get {too_deep}` shows it")


def test_a_coordinator_that_goes_away_is_an_error(
    fake: FakeCoordinator, server: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_BRIEF_S", ())
    fake.answers["GetSaga"] = status(grpc.StatusCode.UNAVAILABLE, "going down", types.ERROR_REASON_SHUTTING_DOWN)
    with pytest.raises(CommandError, match="going down"):
        list(children.children(server, with_steps("a", 1), VIEW))
