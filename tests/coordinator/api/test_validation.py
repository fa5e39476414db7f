"""What a well-formed request looks like (G13)."""

from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as Payload
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from coordinator.api import validation
from coordinator.core import limits
from coordinator.engine.errors import InvalidRequest
from saga.v1 import coordinator_pb2 as pb

NOW_NS = 1_700_000_000 * limits.SECOND_NS
NOW_S = NOW_NS // limits.SECOND_NS
DAY_S = 86_400


def start(**fields: Any) -> pb.StartSagaRequest:
    usual: dict[str, Any] = {"saga_id": "s", "definition": "order", "input": Payload(type_url="x/y")}
    return pb.StartSagaRequest(**usual | fields)


def paths(request: pb.StartSagaRequest) -> list[str]:
    return [problem.path for problem in validation.check_start(request, NOW_NS)]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"saga_id": ""},
        {"saga_id": "A-z.0:9_" * 16},
        {"labels": {"a" * 63: "x" * 256, "A.b-c_9": ""}},
        {"labels": {str(n): "" for n in range(64)}},
        {"timeout": Duration(nanos=1)},
        {"wait": Duration()},
        {"wait": Duration(seconds=600)},
        {"timeout": Duration(seconds=366 * DAY_S)},
        {"start_time": Timestamp(seconds=0)},
        {"start_time": Timestamp(seconds=NOW_S + 366 * DAY_S)},
        {"input": Payload(value=b"x" * limits.PAYLOAD_BYTES_MAX)},
        {"version": 4_000_000_000},
    ],
)
def test_a_well_formed_start_has_no_problems(fields: dict[str, Any]) -> None:
    assert paths(start(**fields)) == []


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"saga_id": "a" * 129}, ["saga_id"]),
        ({"saga_id": "with space"}, ["saga_id"]),
        ({"saga_id": "s\n"}, ["saga_id"]),
        ({"saga_id": "é"}, ["saga_id"]),
        ({"saga_id": "a/b"}, ["saga_id"]),
        ({"definition": ""}, ["definition"]),
        ({"input": None}, ["input"]),
        ({"input": Payload(value=b"x" * (limits.PAYLOAD_BYTES_MAX + 1))}, ["input"]),
        ({"labels": {"": "x"}}, ["labels['']"]),
        ({"labels": {"a b": "x"}}, ["labels['a b']"]),
        ({"labels": {"a" * 64: "x"}}, [f"labels['{'a' * 63}']"]),
        ({"labels": {"a": "x" * 257}}, ["labels['a']"]),
        ({"labels": {"a": "€" * 86}}, ["labels['a']"]),
        ({"labels": {str(n): "" for n in range(65)}}, ["labels"]),
        ({"timeout": Duration()}, ["timeout"]),
        ({"wait": Duration(seconds=-1)}, ["wait"]),
        ({"wait": Duration(seconds=600, nanos=1)}, ["wait"]),
        ({"timeout": Duration(seconds=-1)}, ["timeout"]),
        ({"timeout": Duration(seconds=1, nanos=-1)}, ["timeout"]),
        ({"timeout": Duration(seconds=1, nanos=1_000_000_000)}, ["timeout"]),
        ({"timeout": Duration(seconds=366 * DAY_S, nanos=1)}, ["timeout"]),
        ({"timeout": Duration(seconds=(1 << 63) - 1)}, ["timeout"]),
        ({"start_time": Timestamp(seconds=-1)}, ["start_time"]),
        ({"start_time": Timestamp(seconds=1, nanos=-1)}, ["start_time"]),
        ({"start_time": Timestamp(seconds=1, nanos=1_000_000_000)}, ["start_time"]),
        ({"start_time": Timestamp(seconds=NOW_S + 366 * DAY_S, nanos=1)}, ["start_time"]),
        ({"saga_id": " ", "definition": "", "input": None}, ["saga_id", "definition", "input"]),
    ],
)
def test_g13_what_is_wrong_with_a_start_is_named(fields: dict[str, Any], wrong: list[str]) -> None:
    assert paths(start(**fields)) == wrong


@pytest.mark.parametrize("seconds", [-(1 << 63), 253_402_300_800, (1 << 63) - 1])
def test_no_instant_is_too_far_away_to_be_refused(seconds: int) -> None:
    assert set(paths(start(start_time=Timestamp(seconds=seconds)))) == {"start_time"}


def test_a_saga_id_is_needed_where_one_is_asked_for() -> None:
    (problem,) = validation.check_saga_id("")
    assert problem.message == "no saga is named"
    (problem,) = validation.check_saga_id("x" * 1000)
    assert len(problem.message) < 100


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({}, []),
        ({"reason": "x" * 1024, "actor": "x" * 256, "expected_sequence": 5}, []),
        ({"reason": "x" * 1025}, ["reason"]),
        ({"actor": "x" * 257}, ["actor"]),
        ({"expected_sequence": -1}, ["expected_sequence"]),
        ({"saga_id": "", "reason": "x" * 2000, "actor": "x" * 2000}, ["saga_id", "reason", "actor"]),
    ],
)
def test_g13_what_is_wrong_with_a_request_to_steer(fields: dict[str, Any], wrong: list[str]) -> None:
    usual: dict[str, Any] = {"saga_id": "s"}
    request = pb.CancelSagaRequest(**usual | fields)
    assert [problem.path for problem in validation.check_steering(request)] == wrong


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({}, []),
        ({"states": [1, 6]}, []),
        ({"states": [1, 99]}, ["filter.states[1]"]),
        ({"labels": {f"k{number}": "v" for number in range(64)}}, []),
        ({"labels": {f"k{number}": "v" for number in range(65)}}, ["filter.labels"]),
        ({"create_time_from": Timestamp(seconds=-1)}, ["filter.create_time_from"]),
        ({"create_time_until": Timestamp(nanos=-1)}, ["filter.create_time_until"]),
    ],
)
def test_g13_what_is_wrong_with_a_filter(fields: dict[str, Any], wrong: list[str]) -> None:
    assert [problem.path for problem in validation.check_filter(pb.SagaFilter(**fields))] == wrong


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({}, []),
        ({"order": pb.SAGA_ORDER_OLDEST_FIRST, "page_size": 10}, []),
        ({"order": 3, "page_size": -1, "filter": {"states": [99]}}, ["page_size", "filter.states[0]", "order"]),
    ],
)
def test_g13_what_is_wrong_with_a_request_to_list(fields: dict[str, Any], wrong: list[str]) -> None:
    assert [problem.path for problem in validation.check_list(pb.ListSagasRequest(**fields))] == wrong


def test_g13_what_is_wrong_with_numbers() -> None:
    assert [*validation.check_page_size(0), *validation.check_page_size(5000), *validation.check_after(0)] == []
    assert [problem.path for problem in validation.check_page_size(-1)] == ["page_size"]
    assert [problem.path for problem in validation.check_after(-1)] == ["after_sequence"]


def test_demand_refuses_with_all_problems() -> None:
    validation.demand([])
    problems = [*validation.check_page_size(-1), *validation.check_after(-1)]
    with pytest.raises(InvalidRequest) as refused:
        validation.demand(iter(problems))
    assert refused.value.problems == tuple(problems)
