import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import StringValue

from participant_sdk import MemoryBarrier, Participant, SqliteBarrier, Step
from participant_sdk.servicer import SERVICE
from participant_sdk.testing import ActionHarness, CallError, sync_server
from saga.v1.participant_pb2 import CompensateRequest, ConfirmRequest, DescribeRequest, ExecuteRequest, StepContext
from saga.v1.types_pb2 import Failure
from tests.participant_sdk.support import SCHEMA, Scripted, struct

if TYPE_CHECKING:
    import grpc_testing  # type: ignore[import-untyped]  # it ships no annotations

REQUEST = struct(sku="book")


class Other(Scripted):
    pass


class TestActionHarness:
    async def test_plays_the_coordinator_for_one_action(self, action: Scripted) -> None:
        async with ActionHarness(action) as harness:
            assert (await harness.execute(REQUEST, labels={"order": "7"}, metadata={"traceparent": "t"})).HasField(
                "completed"
            )
            assert (await harness.confirm()).HasField("confirmed")
        first, second = action.steps
        assert (dict(first.labels), first.metadata["traceparent"]) == ({"order": "7"}, "t")
        assert first.metadata["idempotency-key"] == first.key == f"{first.saga_uid}/step/execute"
        assert second.key == f"{first.saga_uid}/step/confirm"
        assert action.calls == ["execute", "confirm(done)"]

    async def test_counts_attempts_of_each_operation(self, action: Scripted) -> None:
        async def breaks(_step: Step[Any]) -> StringValue:
            raise OSError

        action.on_execute = breaks
        async with ActionHarness(action) as harness:
            for _ in range(2):
                with pytest.raises(CallError):
                    await harness.execute(REQUEST)
            with pytest.raises(CallError):
                await harness.execute(REQUEST, attempt=7)
            with pytest.raises(CallError):
                await harness.execute(REQUEST)
            await harness.compensate(cause=Failure(reason="R"))
        assert [step.attempt for step in action.steps] == [1, 2, 7, 8]

    async def test_remembers_each_step_of_each_saga(self, action: Scripted) -> None:
        async with ActionHarness(action) as harness:
            await harness.execute(REQUEST, saga_uid="u", step="a")
            await harness.compensate(saga_uid="u", step="a")
            with pytest.raises(ValueError, match="never sent"):
                await harness.compensate(saga_uid="u", step="b")
            with pytest.raises(ValueError, match="never sent"):
                await harness.confirm()

    async def test_a_participant_with_several_actions(self, action: Scripted) -> None:
        other = Other()
        async with ActionHarness(Participant("test", [action, other], MemoryBarrier())) as harness:
            with pytest.raises(ValueError, match="say which action: Scripted, Other"):
                await harness.execute(REQUEST)
            await harness.execute(REQUEST, action="Other")
            await harness.compensate()
        assert (action.calls, other.calls) == ([], ["execute", "compensate(done)"])

    async def test_a_participant_has_its_own_barrier(self, action: Scripted) -> None:
        with pytest.raises(ValueError, match="own barrier"):
            ActionHarness(Participant("test", [action], MemoryBarrier()), MemoryBarrier())

    async def test_a_timeout_cuts_off(self, action: Scripted) -> None:
        async def looks(step: Step[Any]) -> StringValue:
            assert step.remaining is not None
            assert timedelta(0) < step.remaining <= timedelta(seconds=9)
            return StringValue()

        action.on_execute = looks
        async with ActionHarness(action) as harness:
            await harness.execute(REQUEST, timeout=timedelta(seconds=9))


class TestSyncServer:
    @pytest.fixture
    def server(self, action: Scripted) -> "Iterator[grpc_testing.Server]":
        barrier = SqliteBarrier(":memory:", schema=SCHEMA)
        with sync_server(Participant("test", [action], barrier)) as server:
            yield server
        assert "participant" not in {thread.name for thread in threading.enumerate()}

    def invoke(self, server: "grpc_testing.Server", method: str, request: Any) -> tuple[Any, Any, Any, str]:
        rpc = server.invoke_unary_unary(SERVICE.methods_by_name[method], (("traceparent", "t"),), request, 30)
        result: tuple[Any, Any, Any, str] = rpc.termination()
        return result

    def context(self) -> StepContext:
        return StepContext(saga_uid="u", step="s", action="Scripted", idempotency_key="k", attempt=1)

    def test_serves_the_contract_with_grpcio_testing(self, server: "grpc_testing.Server", action: Scripted) -> None:
        payload = AnyMessage()
        payload.Pack(REQUEST)
        for method, request, outcome in (
            ("Execute", ExecuteRequest(context=self.context(), input=payload), "completed"),
            ("Confirm", ConfirmRequest(context=self.context(), input=payload), "confirmed"),
            ("Compensate", CompensateRequest(context=self.context(), input=payload), "rejected"),
        ):
            response, _, code, _ = self.invoke(server, method, request)
            assert (code, response.WhichOneof("outcome")) == (grpc.StatusCode.OK, outcome)
        response, _, code, _ = self.invoke(server, "Describe", DescribeRequest())
        assert (code, response.participant) == (grpc.StatusCode.OK, "test")
        assert action.calls == ["execute", "confirm(done)"]
        assert action.steps[0].metadata == {"traceparent": "t"}

    def test_errors_are_statuses_with_details(self, server: "grpc_testing.Server") -> None:
        _, trailing, code, details = self.invoke(server, "Execute", ExecuteRequest())
        assert (code, details) == (grpc.StatusCode.INVALID_ARGUMENT, "context: required")
        assert "grpc-status-details-bin" in {key for key, _ in trailing}
