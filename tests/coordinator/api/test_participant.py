"""The coordinator as a participant, over the wire: what comes from outside is checked before anything is made (G13)."""

from __future__ import annotations

from typing import Any as Anything

import pytest
from google.protobuf.any_pb2 import Any

from saga.v1 import participant_pb2 as pb
from saga.v1.participant_pb2_grpc import ParticipantServiceStub
from tests.coordinator.api.serving import Api, code_and_reason, failure, fields, serving
from tests.coordinator.engine.bench import step, text


def context(**given: Anything) -> pb.StepContext:
    usual: dict[str, Anything] = {
        "saga_id": "far-1",
        "saga_uid": "uid-p",
        "step": "parcel",
        "action": "ship",
        "attempt": 1,
        "idempotency_key": "uid-p/parcel/execute",
    }
    return pb.StepContext(**usual | given)


def stub(api: Api) -> Anything:
    return ParticipantServiceStub(api.channel)


async def test_a_saga_of_another_coordinator_runs_one_here_as_a_step() -> None:
    async with serving() as api:
        await api.bench.register(step("send"), name="ship", output="send")
        described = await stub(api).Describe(pb.DescribeRequest())
        assert [(action.name, action.version) for action in described.actions] == [("ship", 1)]
        assert described.barriered
        assert "shop.proto" in [file.name for file in described.descriptors.file]

        request = pb.ExecuteRequest(context=context(action_version=1), input=text("in"))
        assert (await stub(api).Execute(request)).HasField("pending")
        assert await api.bench.ended("far-1/parcel") == "COMPLETED"
        assert (await stub(api).Execute(request)).completed.output == text("out")

        back = pb.CompensateRequest(context=context(idempotency_key="uid-p/parcel/compensate"), input=text("in"))
        assert (await stub(api).Compensate(back)).HasField("pending")
        assert await api.bench.ended("far-1/parcel") == "COMPENSATED"
        assert (await stub(api).Compensate(back)).HasField("compensated")


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"saga_id": "a b"}, "context.saga_id"),
        ({"saga_id": "deep" + "/c" * 9}, "context.saga_id"),
        ({"step": "Parcel"}, "context.step"),
        ({"action": ""}, "context.action"),
        ({"saga_uid": ""}, "context.saga_uid"),
        ({"saga_uid": "u" * 3000}, "context.saga_uid"),
        ({"idempotency_key": ""}, "context.idempotency_key"),
        ({"labels": {"a b": "c"}}, "context.labels['a b']"),
    ],
)
async def test_g13_what_is_malformed_is_named_and_makes_nothing(given: dict[str, Anything], wrong: str) -> None:
    async with serving() as api:
        await api.bench.register(step("send"), name="ship")
        for method, request in (
            (stub(api).Execute, pb.ExecuteRequest(context=context(**given), input=text("in"))),
            (stub(api).Compensate, pb.CompensateRequest(context=context(**given))),
            (stub(api).Confirm, pb.ConfirmRequest(context=context(**given))),
        ):
            status = await failure(method(request))
            assert code_and_reason(status) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
            assert fields(status) == [wrong]
        assert (await api.bench.journal.unfinished(None, 10)).items == []


async def test_what_cannot_be_started_says_why_and_makes_nothing() -> None:
    async with serving() as api:
        await api.bench.register(step("send"), name="ship")
        cases = {
            ("NOT_FOUND", "DEFINITION_NOT_FOUND"): pb.ExecuteRequest(
                context=context(action="nothing"), input=text("in")
            ),
            ("INVALID_ARGUMENT", "INVALID_REQUEST"): pb.ExecuteRequest(context=context(), input=Any(type_url="x/y.Z")),
        }
        for expected, request in cases.items():
            assert code_and_reason(await failure(stub(api).Execute(request))) == expected
        await api.bench.definitions.deprecate("ship", 1)
        request = pb.ExecuteRequest(context=context(), input=text("in"))
        expected = ("FAILED_PRECONDITION", "DEFINITION_DEPRECATED")
        assert code_and_reason(await failure(stub(api).Execute(request))) == expected
        assert await api.bench.journal.find("far-1/parcel") is None


async def test_a_key_that_came_with_another_input_is_refused() -> None:
    async with serving() as api:
        await api.bench.register(step("send"), name="ship")
        await stub(api).Execute(pb.ExecuteRequest(context=context(), input=text("in")))
        status = await failure(stub(api).Execute(pb.ExecuteRequest(context=context(), input=text("other"))))
        assert code_and_reason(status) == ("FAILED_PRECONDITION", "KEY_REUSED")
