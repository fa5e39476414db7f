import json
import re

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.status_pb2 import Status

from saga.v1 import coordinator_pb2 as pb
from saga.v1 import event_pb2 as events
from saga.v1 import types_pb2 as types
from saga.v1.types_pb2 import Failure
from tests.coordinator.cli.fake import FakeCoordinator, at, event, order, saga, status

ORDER_42 = order(order_id="42")
CREATED = event(1, saga_created=events.SagaCreated(definition="order_fulfillment", version=3, input=ORDER_42))
STARTED = event(2, saga_started=events.SagaStarted())
CREATED_LINE = "   1        +1s  SagaCreated             order_fulfillment@3\n"
STARTED_LINE = "   2        +2s  SagaStarted\n"


@pytest.fixture
def with_saga(fake: FakeCoordinator) -> FakeCoordinator:
    fake.answers["GetSaga"] = pb.GetSagaResponse(saga=saga(input=ORDER_42, end_time=at(3)))
    fake.answers["ListSagaEvents"] = [
        pb.ListSagaEventsResponse(events=[CREATED], next_page_token="more"),
        pb.ListSagaEventsResponse(events=[STARTED]),
    ]
    return fake


def test_get_asks_for_payloads_only_where_they_are_shown(with_saga: FakeCoordinator) -> None:
    result = with_saga.run("get", "order-42")
    assert result.exit_code == 0
    assert result.stdout.startswith("order_fulfillment@3  RUNNING  order-42\n")
    assert with_saga.asked("GetSaga") == pb.GetSagaRequest(saga_id="order-42", payloads=pb.PAYLOAD_VIEW_NONE)
    assert "GetDefinition" not in with_saga.requests


def test_get_with_payloads_and_events(with_saga: FakeCoordinator) -> None:
    shown = with_saga.run("get", "order-42", "--payloads", "--events").stdout
    assert '\nsaga input\n{\n  "@type": "type.googleapis.com/shop.v1.Order",\n  "orderId": "42"\n}\n' in shown
    assert shown.endswith(f"\n\nevents\n{CREATED_LINE}{STARTED_LINE}")
    assert with_saga.asked("GetSaga").payloads == pb.PAYLOAD_VIEW_FULL


@pytest.fixture
def with_family(fake: FakeCoordinator) -> FakeCoordinator:
    """order-42 has two steps that run as sagas: the first as one with a child of its own, the other elsewhere."""
    family = {
        "order-42": ["order-42/a", "", "order-42/b"],
        "order-42/a": ["order-42/a/x"],
        "order-42/a/x": [""],
    }

    def get(request: pb.GetSagaRequest) -> pb.GetSagaResponse | Status:
        if request.saga_id not in family:
            return status(grpc.StatusCode.NOT_FOUND, "there is no such saga", types.ERROR_REASON_SAGA_NOT_FOUND)
        steps = [pb.Step(name="s", participant="parcels", child_saga_id=child) for child in family[request.saga_id]]
        return pb.GetSagaResponse(saga=saga(saga_id=request.saga_id, steps=steps))

    fake.answers["GetSaga"] = get
    fake.answers["ListSagaEvents"] = pb.ListSagaEventsResponse(events=[CREATED])
    return fake


def test_get_with_children_shows_each_below_its_parent_and_names_those_that_cannot_be_seen(
    with_family: FakeCoordinator,
) -> None:
    result = with_family.run("get", "order-42", "--children", "--events")
    heads = [line.split()[-1] for line in result.stdout.splitlines() if line.startswith("order_fulfillment@3")]
    assert heads == ["order-42", "order-42/a", "order-42/a/x"]
    assert result.stdout.count(f"\nevents\n{CREATED_LINE}") == 3
    assert (result.exit_code, result.stderr) == (
        0,
        "order-42/b is not shown: there is no such saga (SAGA_NOT_FOUND); parcels may run it elsewhere\n",
    )


def test_get_with_children_as_json_is_one_saga_a_line(with_family: FakeCoordinator) -> None:
    lines = with_family.run("get", "order-42", "--children", "-o", "json").stdout.splitlines()
    assert [json.loads(line)["sagaId"] for line in lines] == ["order-42", "order-42/a", "order-42/a/x"]
    assert {request.payloads for request in with_family.requests["GetSaga"]} == {pb.PAYLOAD_VIEW_FULL}


def test_get_without_children_asks_for_none(with_family: FakeCoordinator) -> None:
    assert with_family.run("get", "order-42").exit_code == 0
    assert with_family.asked("GetSaga").saga_id == "order-42"


def test_get_as_json_is_one_document(with_saga: FakeCoordinator) -> None:
    shown = json.loads(with_saga.run("get", "order-42", "-o", "json").stdout)
    assert shown["input"]["orderId"] == "42"
    assert shown["endTime"] == "2026-09-21T14:13:23Z"
    definition = with_saga.asked("GetDefinition")
    assert (definition.name, definition.version) == ("order_fulfillment", 3)


def test_no_colours_in_a_pipe(with_saga: FakeCoordinator) -> None:
    for environment in ({}, {"FORCE_COLOR": "1"}, {"COLORTERM": "truecolor"}):
        assert "\x1b" not in with_saga.run("get", "order-42", env=environment).stdout


def test_events(with_saga: FakeCoordinator) -> None:
    assert with_saga.run("events", "order-42", "--after", "5").stdout == CREATED_LINE + STARTED_LINE
    first, second = with_saga.requests["ListSagaEvents"]
    assert (first.after_sequence, first.page_token, second.page_token) == (5, "", "more")
    assert first.payloads == pb.PAYLOAD_VIEW_NONE


def test_events_as_json_are_one_object_a_line(with_saga: FakeCoordinator) -> None:
    first, second = with_saga.run("events", "order-42", "-o", "json").stdout.splitlines()
    assert json.loads(first)["sagaCreated"]["input"]["orderId"] == "42"
    assert json.loads(second) == {
        "sagaId": "order-42",
        "sequence": "2",
        "time": "2026-09-21T14:13:22Z",
        "sagaStarted": {},
    }


def test_watch(with_saga: FakeCoordinator) -> None:
    stream = [pb.WatchSagaResponse(event=CREATED), pb.WatchSagaResponse(event=STARTED)]
    with_saga.answers["WatchSaga"] = [stream]
    result = with_saga.run("watch", "order-42", "--after", "1")
    assert (result.exit_code, result.stdout) == (0, CREATED_LINE + STARTED_LINE)
    assert with_saga.asked("WatchSaga") == pb.WatchSagaRequest(
        saga_id="order-42", after_sequence=1, payloads=pb.PAYLOAD_VIEW_NONE
    )
    shown = with_saga.run("watch", "order-42", "-o", "json").stdout.splitlines()
    assert [json.loads(line)["sequence"] for line in shown] == ["1", "2"]
    assert json.loads(shown[0])["sagaCreated"]["input"]["orderId"] == "42"


def listed(*ids: str, token: str = "") -> pb.ListSagasResponse:
    return pb.ListSagasResponse(sagas=[saga(saga_id=name, steps=[]) for name in ids], next_page_token=token)


def test_list_shows_whole_ids(fake: FakeCoordinator) -> None:
    long_id = "order-" + "x" * 122
    fake.answers["ListSagas"] = pb.ListSagasResponse(
        sagas=[
            saga(
                types.SAGA_STATE_COMPENSATED,
                saga_id=long_id,
                start_time=at(0),
                end_time=at(2),
                labels={"region": "eu"},
                paused=True,
                overdue=True,
                failure=Failure(kind=types.FAILURE_KIND_CANCELLED, message="ordered twice"),
            ),
            saga(types.SAGA_STATE_PENDING),
        ]
    )
    header, first, second = fake.run("list").stdout.splitlines()
    assert header.split() == ["ID", "DEFINITION", "STATE", "CREATED", "DURATION", "MARKS", "LABELS", "FAILURE"]
    assert re.split(" {2,}", first) == [
        long_id,
        "order_fulfillment@3",
        "COMPENSATED",
        "2026-09-21T14:13:20.000Z",
        "2s",
        "paused, overdue",
        "region=eu",
        "CANCELLED: ordered twice",
    ]
    assert second.split() == ["order-42", "order_fulfillment@3", "PENDING", "2026-09-21T14:13:20.000Z", *"----"]


def test_list_filters(fake: FakeCoordinator) -> None:
    fake.answers["ListSagas"] = listed()
    result = fake.run(
        *("list", "--state", "running", "--state", "SAGA_STATE_FAILED", "--definition", "d", "--version", "2"),
        *("--label", "region=eu", "--label", "order=42", "--since", "2026-01-01", "--until", "2026-02-01T00:00:00Z"),
        *(
            "--needs-attention",
            "--no-paused",
            "--overdue",
            "--participant",
            "payment",
            "--failure",
            "declined",
            "--key",
            "account:1",
            "--parent",
            "order-1",
            "--oldest-first",
            "--limit",
            "10",
        ),
    )
    assert result.exit_code == 0
    assert fake.asked("ListSagas") == pb.ListSagasRequest(
        page_size=11,
        filter=pb.SagaFilter(
            states=[types.SAGA_STATE_RUNNING, types.SAGA_STATE_FAILED],
            definition="d",
            version=2,
            labels={"region": "eu", "order": "42"},
            create_time_from=Timestamp(seconds=1_767_225_600),
            create_time_until=Timestamp(seconds=1_769_904_000),
            needs_attention=True,
            paused=False,
            overdue=True,
            participant="payment",
            failure_text="declined",
            exclusive_key="account:1",
            parent_saga_id="order-1",
        ),
        order=pb.SAGA_ORDER_OLDEST_FIRST,
    )


def test_list_without_filters_asks_for_all(fake: FakeCoordinator) -> None:
    fake.answers["ListSagas"] = listed()
    fake.run("list")
    assert fake.asked("ListSagas") == pb.ListSagasRequest(page_size=101, filter=pb.SagaFilter())


@pytest.mark.parametrize(
    ("limit", "ids", "more"), [("2", ["a", "b"], True), ("3", ["a", "b", "c"], False), ("0", ["a", "b", "c"], False)]
)
def test_list_pages_up_to_its_limit_and_says_when_there_is_more(
    fake: FakeCoordinator, limit: str, ids: list[str], *, more: bool
) -> None:
    fake.answers["ListSagas"] = [listed("a", "b", token="more"), listed("c")]
    result = fake.run("list", "--limit", limit, "-o", "json")
    assert [json.loads(line)["sagaId"] for line in result.stdout.splitlines()] == ids
    assert result.stderr == ("more than 2 match; --limit shows more\n" if more else "")
    assert fake.requests["ListSagas"][1].page_token == "more"
