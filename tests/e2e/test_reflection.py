"""What grpcurl does, done by `buf curl`: list, describe, and calls with typed JSON, all from reflection."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.e2e.system import DEFINITION, Finished, OrderSystem, run

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

BUF = shutil.which("buf", path=f"{Path(sys.executable).parent}") or "buf"
ORDER = "sample_services.orders.v1.Order"


@pytest.fixture
def system(shared_system: OrderSystem) -> OrderSystem:
    """One for all tests, each of which has sagas of its own."""
    return shared_system


async def buf_curl(system: OrderSystem, *arguments: str) -> Finished:
    base = ("curl", "--protocol", "grpc", "--http2-prior-knowledge")
    return await run(BUF, *base, *arguments)


async def call(system: OrderSystem, method: str, request: object) -> Finished:
    url = f"http://{system.address}/{method}"
    return await buf_curl(system, "--data", json.dumps(request), url)


async def test_services_are_listed_under_their_names(system: OrderSystem) -> None:
    listed = await buf_curl(system, "--list-services", f"http://{system.address}")
    assert {
        "saga.v1.CoordinatorService",
        "saga.v1.DefinitionService",
        "saga.v1.ParticipantDirectoryService",
        "grpc.health.v1.Health",
        "grpc.channelz.v1.Channelz",
    } <= set(listed.out.split())


async def test_a_saga_is_started_with_typed_json_and_read_back(system: OrderSystem) -> None:
    """The participants' own types resolve inside Any, in both directions."""
    request = {
        "sagaId": "typed",
        "definition": DEFINITION,
        "input": {
            "@type": f"type.googleapis.com/{ORDER}",
            "orderId": "typed",
            "lines": [{"sku": "teapot", "quantity": 2}],
            "cardToken": "tok_gold",
            "destination": {"recipient": "Ada", "street": "1", "city": "Delft", "countryCode": "NL"},
        },
    }
    started = await call(system, "saga.v1.CoordinatorService/StartSaga", request)
    assert started.code == 0, started
    assert started.json["created"]
    waited = await call(system, "saga.v1.CoordinatorService/WaitSaga", {"sagaId": "typed"})
    saga = waited.json["saga"]
    assert saga["state"] == "SAGA_STATE_COMPLETED"
    assert saga["output"] == {
        "@type": "type.googleapis.com/sample_services.orders.v1.FulfilledOrder",
        "orderId": "typed",
        "totalCents": "7000",
        "trackingNumber": saga["output"]["trackingNumber"],
    }
    assert [step["state"] for step in saga["steps"]] == [
        "STEP_STATE_CONFIRMED",
        "STEP_STATE_COMPLETED",
        "STEP_STATE_COMPLETED",
    ]


async def test_bad_input_names_the_field_and_what_would_be_right(system: OrderSystem) -> None:
    """G13: a wrong type is refused with BadRequest, and nothing is started."""
    wrong = {"sagaId": "wrong", "definition": DEFINITION, "input": {"@type": "type.googleapis.com/saga.v1.Confirmed"}}
    refused = await call(system, "saga.v1.CoordinatorService/StartSaga", wrong)
    assert refused.code != 0
    assert "invalid_argument" in refused.err
    assert f"a `{ORDER}`" in refused.err
    missing = await call(system, "saga.v1.CoordinatorService/GetSaga", {"sagaId": "wrong"})
    assert "not_found" in missing.err
