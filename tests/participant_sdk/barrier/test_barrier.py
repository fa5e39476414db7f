"""The barrier's contract, for every store: each sentence is a test."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue

from participant_sdk import Noop, Participant, Pending, Rejected, Step
from participant_sdk.barrier.barrier import StoreBarrier
from participant_sdk.errors import CallError
from participant_sdk.testing import ActionHarness
from saga.v1.participant_pb2 import ExecuteRequest, StepContext
from saga.v1.types_pb2 import Failure
from tests.participant_sdk.support import External, Scripted, Stores, struct
from tests.support.passing_time import HOUR, let_pass

REQUEST = struct(sku="book", quantity=1)


def writes(stores: Stores, name: str, value: str = "done") -> Callable[[Step[Any]], Awaitable[StringValue]]:
    async def handler(step: Step[Any]) -> StringValue:
        await stores.write(step.transaction, name)
        return StringValue(value=value)

    return handler


def output(response: Any) -> str:
    value = StringValue()
    assert response.completed.output.Unpack(value)
    return value.value


class TestExecute:
    async def test_without_a_row_runs_and_commits_reply_and_business_row_together(
        self, stores: Stores, action: Scripted
    ) -> None:
        action.on_execute = writes(stores, "reserved")
        async with stores.harness(action) as harness:
            assert output(await harness.execute(REQUEST)) == "done"
        assert (stores.business(), stores.states()) == (["reserved"], ["COMPLETED"])

    async def test_g2_completed_row_gives_the_stored_reply_byte_for_byte(
        self, stores: Stores, action: Scripted
    ) -> None:
        async with stores.harness(action) as harness:
            first = await harness.execute(REQUEST)
            action.on_execute = writes(stores, "again", "other")
            second = await harness.execute(REQUEST)
        assert second.SerializeToString(deterministic=True) == first.SerializeToString(deterministic=True)
        assert action.calls == ["execute"]
        assert stores.business() == []

    async def test_g2_the_row_outlives_a_restart(self, stores: Stores, action: Scripted) -> None:
        async with stores.harness(action) as harness:
            await harness.execute(REQUEST, saga_uid="u")
        async with stores.harness(action) as harness:
            assert output(await harness.execute(REQUEST, saga_uid="u", attempt=2)) == "done"
        assert action.calls == ["execute"]

    async def test_steps_and_sagas_have_rows_of_their_own(self, stores: Stores, action: Scripted) -> None:
        async with stores.harness(action) as harness:
            for saga_uid, step in (("u", "a"), ("u", "b"), ("v", "a")):
                await harness.execute(REQUEST, saga_uid=saga_uid, step=step)
        assert action.calls == ["execute"] * 3

    async def test_g8_after_compensate_it_is_barred(self, stores: Stores, action: Scripted) -> None:
        async with stores.harness(action) as harness:
            await harness.execute(REQUEST)
            await harness.compensate()
            assert (await harness.execute(REQUEST, attempt=1)).rejected.reason == "BARRED"
            assert (await harness.execute(REQUEST, attempt=9)).rejected.reason == "BARRED"
        assert action.calls == ["execute", "compensate(done)"]

    async def test_an_exception_leaves_no_row(self, stores: Stores, action: Scripted) -> None:
        async def breaks(step: Step[Any]) -> StringValue:
            await stores.write(step.transaction, "half")
            raise OSError("disk")

        action.on_execute = breaks
        async with stores.harness(action) as harness:
            with pytest.raises(CallError) as failed:
                await harness.execute(REQUEST)
            assert failed.value.code == grpc.StatusCode.INTERNAL
            assert (stores.business(), stores.states()) == ([], [])
            action.on_execute = writes(stores, "whole")
            await harness.execute(REQUEST)
        assert stores.business() == ["whole"]

    async def test_a_cancelled_call_leaves_no_row_and_a_usable_barrier(self, stores: Stores, action: Scripted) -> None:
        wrote = asyncio.Event()

        async def waits(step: Step[Any]) -> StringValue:
            await stores.write(step.transaction, "half")
            wrote.set()
            await asyncio.Event().wait()
            raise AssertionError

        action.on_execute = waits
        async with stores.harness(action) as harness:
            call = asyncio.create_task(harness.execute(REQUEST))
            await wrote.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert (stores.business(), stores.states()) == ([], [])
            action.on_execute = writes(stores, "whole")
            await harness.execute(REQUEST)
        assert stores.business() == ["whole"]

    async def test_a_handler_that_overruns_is_cut_off_and_rolled_back(self, stores: Stores, action: Scripted) -> None:
        entered = asyncio.Event()

        async def waits(step: Step[Any]) -> StringValue:
            await stores.write(step.transaction, "half")
            entered.set()
            await asyncio.Event().wait()
            raise AssertionError

        action.on_execute = waits
        async with stores.harness(action) as harness:
            call = asyncio.create_task(harness.execute(REQUEST, timeout=HOUR))
            await entered.wait()
            let_pass(HOUR)
            with pytest.raises(CallError) as cut:
                await call
        assert cut.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
        assert (stores.business(), stores.states()) == ([], [])


class TestRejection:
    async def test_rolls_back_to_the_savepoint_and_covers_attempts_up_to_its_own(
        self, stores: Stores, action: Scripted
    ) -> None:
        async def refuses(step: Step[Any]) -> StringValue:
            await stores.write(step.transaction, "half")
            raise Rejected("SOLD_OUT", "none left", sku="book")

        action.on_execute = refuses
        async with stores.harness(action) as harness:
            first = await harness.execute(REQUEST, attempt=2)
            assert first.rejected.reason == "SOLD_OUT"
            assert dict(first.rejected.metadata) == {"sku": "book"}
            assert (stores.business(), stores.states()) == ([], ["REJECTED"])
            action.on_execute = writes(stores, "reserved")
            assert await harness.execute(REQUEST, attempt=1) == first
            assert await harness.execute(REQUEST, attempt=2) == first
            assert action.calls == ["execute"]
            assert output(await harness.execute(REQUEST, attempt=3)) == "done"
        assert (stores.business(), stores.states()) == (["reserved"], ["COMPLETED"])

    async def test_a_later_attempt_that_breaks_leaves_the_rejection(self, stores: Stores, action: Scripted) -> None:
        async def refuses(_step: Step[Any]) -> StringValue:
            raise Rejected("SOLD_OUT")

        async def breaks(_step: Step[Any]) -> StringValue:
            raise OSError

        async with stores.harness(action) as harness:
            action.on_execute = refuses
            await harness.execute(REQUEST, attempt=1)
            action.on_execute = breaks
            with pytest.raises(CallError):
                await harness.execute(REQUEST, attempt=2)
            assert (await harness.execute(REQUEST, attempt=1)).rejected.reason == "SOLD_OUT"

    async def test_compensate_finds_nothing_to_do_and_bars(self, stores: Stores, action: Scripted) -> None:
        async def refuses(_step: Step[Any]) -> StringValue:
            raise Rejected("SOLD_OUT")

        action.on_execute = refuses
        async with stores.harness(action) as harness:
            await harness.execute(REQUEST)
            assert (await harness.compensate()).compensated.noop
            assert (await harness.execute(REQUEST)).rejected.reason == "BARRED"
        assert action.calls == ["execute"]


class TestPending:
    @staticmethod
    def accepts(stores: Stores, name: str) -> Callable[[Step[Any]], Awaitable[Pending]]:
        async def handler(step: Step[Any]) -> Pending:
            await stores.write(step.transaction, name)
            return Pending(poll_after=timedelta(seconds=2), message="the warehouse looks")

        return handler

    async def test_commits_what_was_written_and_is_never_replayed(self, stores: Stores, action: Scripted) -> None:
        action.on_execute = self.accepts(stores, "asked")
        async with stores.harness(action) as harness:
            first = await harness.execute(REQUEST, attempt=1)
            assert (first.pending.poll_after.ToTimedelta(), first.pending.message) == (
                timedelta(seconds=2),
                "the warehouse looks",
            )
            assert (stores.business(), stores.states()) == (["asked"], ["PENDING"])
            action.on_poll = writes(stores, "found", "polled")
            assert output(await harness.execute(REQUEST, attempt=1)) == "polled"
            assert output(await harness.execute(REQUEST, attempt=1)) == "polled"
        assert action.calls == ["execute", "poll"]
        assert (stores.business(), stores.states()) == (["asked", "found"], ["COMPLETED"])

    async def test_polls_execute_with_step_pending_unless_overridden(self, stores: Stores, action: Scripted) -> None:
        action.on_execute = self.accepts(stores, "asked")
        async with stores.harness(action) as harness:
            await harness.execute(REQUEST, attempt=1)
            action.on_execute = writes(stores, "found")
            await harness.execute(REQUEST, attempt=1)
        assert action.calls == ["execute", "execute"]
        assert [step.pending for step in action.steps] == [False, True]

    async def test_a_rejection_out_of_it_commits_its_clean_up(self, stores: Stores, action: Scripted) -> None:
        async def cleans_up(step: Step[Any]) -> StringValue:
            await stores.write(step.transaction, "released")
            raise Rejected("SOLD_OUT")

        action.on_execute = self.accepts(stores, "asked")
        action.on_poll = cleans_up
        async with stores.harness(action) as harness:
            await harness.execute(REQUEST, attempt=1)
            assert (await harness.execute(REQUEST, attempt=1)).rejected.reason == "SOLD_OUT"
            assert (stores.business(), stores.states()) == (["asked", "released"], ["REJECTED"])
            assert (await harness.execute(REQUEST, attempt=1)).rejected.reason == "SOLD_OUT"
        assert action.calls == ["execute", "poll"]

    async def test_a_poll_that_breaks_leaves_it_pending(self, stores: Stores, action: Scripted) -> None:
        async def breaks(step: Step[Any]) -> StringValue:
            await stores.write(step.transaction, "half")
            raise OSError

        action.on_execute = self.accepts(stores, "asked")
        action.on_poll = breaks
        async with stores.harness(action) as harness:
            await harness.execute(REQUEST, attempt=1)
            with pytest.raises(CallError):
                await harness.execute(REQUEST, attempt=1)
        assert (stores.business(), stores.states()) == (["asked"], ["PENDING"])

    async def test_compensate_is_told_no_output(self, stores: Stores, action: Scripted) -> None:
        action.on_execute = self.accepts(stores, "asked")
        async with stores.harness(action) as harness:
            await harness.execute(REQUEST)
            assert not (await harness.compensate()).compensated.noop
            assert (await harness.execute(REQUEST)).rejected.reason == "BARRED"
        assert action.calls == ["execute", "compensate(None)"]


class TestCompensate:
    async def test_completed_is_compensated_with_its_output_and_the_cause(
        self, stores: Stores, action: Scripted
    ) -> None:
        async def releases(step: Step[Any]) -> None:
            await stores.write(step.transaction, "released")

        action.on_compensate = releases
        async with stores.harness(action) as harness:
            await harness.execute(REQUEST)
            response = await harness.compensate(cause=Failure(reason="CARD_DECLINED"))
        assert response.HasField("compensated")
        assert not response.compensated.noop
        assert action.calls == ["execute", "compensate(done)"]
        assert action.steps[-1].cause == Failure(reason="CARD_DECLINED")
        assert (stores.business(), stores.states()) == (["released"], ["COMPENSATED"])

    async def test_g8_without_execute_it_succeeds_changes_nothing_and_bars(
        self, stores: Stores, action: Scripted
    ) -> None:
        async with stores.harness(action) as harness:
            assert (await harness.compensate(REQUEST)).compensated.noop
            assert (await harness.execute(REQUEST, attempt=1)).rejected.reason == "BARRED"
            assert (await harness.compensate()).compensated.noop
        assert action.calls == []
        assert stores.states() == ["BARRED"]

    async def test_a_repeated_one_gets_the_stored_reply(self, stores: Stores, action: Scripted) -> None:
        async def nothing_left(_step: Step[Any]) -> Noop:
            return Noop()

        async with stores.harness(action) as harness:
            await harness.execute(REQUEST)
            action.on_compensate = nothing_left
            first = await harness.compensate()
            assert first.compensated.noop
            assert await harness.compensate() == first
        assert action.calls == ["execute", "compensate(done)"]

    async def test_pending_bars_execute_and_is_polled_with_the_output(self, stores: Stores, action: Scripted) -> None:
        async def accepts(_step: Step[Any]) -> Pending:
            return Pending()

        async def releases(step: Step[Any]) -> None:
            assert step.pending

        async with stores.harness(action) as harness:
            await harness.execute(REQUEST)
            action.on_compensate = accepts
            response = await harness.compensate(attempt=1)
            assert response.HasField("pending")
            assert not response.pending.HasField("poll_after")
            assert (await harness.execute(REQUEST)).rejected.reason == "BARRED"
            action.on_compensate = releases
            assert (await harness.compensate(attempt=1)).HasField("compensated")
        assert action.calls == ["execute", "compensate(done)", "compensate(done)"]

    async def test_a_refusal_is_rolled_back_remembered_by_attempt_and_bars(
        self, stores: Stores, action: Scripted
    ) -> None:
        async def refuses(step: Step[Any]) -> None:
            await stores.write(step.transaction, "half")
            raise Rejected("SHIPPED")

        async def releases(step: Step[Any]) -> None:
            assert not step.pending

        async with stores.harness(action) as harness:
            await harness.execute(REQUEST)
            action.on_compensate = refuses
            assert (await harness.compensate(attempt=1)).rejected.reason == "SHIPPED"
            assert stores.business() == []
            assert (await harness.execute(REQUEST)).rejected.reason == "BARRED"
            action.on_compensate = releases
            assert (await harness.compensate(attempt=1)).rejected.reason == "SHIPPED"
            assert (await harness.compensate(attempt=2)).HasField("compensated")
        assert action.calls == ["execute", "compensate(done)", "compensate(done)"]

    async def test_one_that_breaks_leaves_the_row_as_it_was(self, stores: Stores, action: Scripted) -> None:
        async def breaks(step: Step[Any]) -> None:
            await stores.write(step.transaction, "half")
            raise OSError

        async with stores.harness(action) as harness:
            await harness.execute(REQUEST)
            action.on_compensate = breaks
            with pytest.raises(CallError):
                await harness.compensate()
        assert (stores.business(), stores.states()) == ([], ["COMPLETED"])


class TestConfirm:
    async def test_runs_once_with_the_output(self, stores: Stores, action: Scripted) -> None:
        async def makes_final(step: Step[Any]) -> None:
            await stores.write(step.transaction, "final")

        action.on_confirm = makes_final
        async with stores.harness(action) as harness:
            await harness.execute(REQUEST)
            first = await harness.confirm()
            assert first.HasField("confirmed")
            assert await harness.confirm() == first
            assert output(await harness.execute(REQUEST)) == "done"
        assert action.calls == ["execute", "confirm(done)"]
        assert (stores.business(), stores.states()) == (["final"], ["CONFIRMED"])

    async def test_pending_is_polled(self, stores: Stores, action: Scripted) -> None:
        async def accepts(_step: Step[Any]) -> Pending:
            return Pending()

        async def finishes(step: Step[Any]) -> None:
            assert step.pending

        async with stores.harness(action) as harness:
            await harness.execute(REQUEST)
            action.on_confirm = accepts
            assert (await harness.confirm(attempt=1)).HasField("pending")
            action.on_confirm = finishes
            assert (await harness.confirm(attempt=1)).HasField("confirmed")

    async def test_a_refusal_is_remembered_by_attempt(self, stores: Stores, action: Scripted) -> None:
        async def refuses(_step: Step[Any]) -> None:
            raise Rejected("LAPSED")

        async with stores.harness(action) as harness:
            await harness.execute(REQUEST)
            action.on_confirm = refuses
            assert (await harness.confirm(attempt=1)).rejected.reason == "LAPSED"
            assert (await harness.confirm(attempt=1)).rejected.reason == "LAPSED"
        assert action.calls == ["execute", "confirm(done)"]

    async def test_a_confirmed_hold_cannot_be_compensated(self, stores: Stores, action: Scripted) -> None:
        async with stores.harness(action) as harness:
            await harness.execute(REQUEST)
            await harness.confirm()
            assert (await harness.compensate()).rejected.reason == "CONFIRMED"
        assert action.calls == ["execute", "confirm(done)"]

    async def test_what_is_not_held_cannot_be_confirmed(self, stores: Stores, action: Scripted) -> None:
        async with stores.harness(action) as harness:
            assert (await harness.confirm(REQUEST, saga_uid="never")).rejected.reason == "NOT_EXECUTED"
            await harness.compensate(REQUEST, saga_uid="gone")
            assert (await harness.confirm(saga_uid="gone")).rejected.reason == "BARRED"
        assert action.calls == []


class Other(Scripted):
    """Another action with the same types."""


class TestKeyReused:
    async def check_refused(self, harness: ActionHarness, request: Struct, action: str = "Scripted") -> None:
        for call in (harness.execute, harness.compensate, harness.confirm):
            with pytest.raises(CallError) as refused:
                await call(request, action=action)
            assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "KEY_REUSED")

    async def test_with_another_action(self, stores: Stores, action: Scripted) -> None:
        async with stores.harness(action, Other()) as harness:
            await harness.execute(REQUEST, action="Scripted")
            with pytest.raises(CallError, match="called before with another action") as refused:
                await harness.execute(REQUEST, action="Other")
        assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "KEY_REUSED")

    async def test_with_another_input(self, stores: Stores, action: Scripted) -> None:
        async with stores.harness(action) as harness:
            await harness.execute(REQUEST)
        async with stores.harness(action) as other:
            other._saga_uid = harness._saga_uid
            await self.check_refused(other, struct(sku="book", quantity=2))
        assert action.calls == ["execute"]

    async def test_the_same_input_encoded_otherwise_is_the_same(self, stores: Stores, action: Scripted) -> None:
        forward, backward = (
            Struct(fields={name: REQUEST.fields[name] for name in names}).SerializeToString()
            for names in (("sku", "quantity"), ("quantity", "sku"))
        )
        # Map entries are records of their own: either order on the wire is the same message.
        entries = [struct(sku="book").SerializeToString(), struct(quantity=1).SerializeToString()]
        first, second = b"".join(entries), b"".join(reversed(entries))
        assert Struct.FromString(first) == Struct.FromString(second) == Struct.FromString(forward)
        assert Struct.FromString(backward) == Struct.FromString(first)
        assert first != second
        async with stores.harness(action) as harness:
            for data in (first, second):
                context = StepContext(
                    saga_uid="u", step="s", action="Scripted", idempotency_key="u/s/execute", attempt=1
                )
                request = ExecuteRequest(context=context)
                request.input.type_url = "type.googleapis.com/google.protobuf.Struct"
                request.input.value = data
                await harness._servicer.answer(request, {}, None)
        assert action.calls == ["execute"]


class TestOverlap:
    async def test_calls_on_one_row_wait_for_each_other(self, stores: Stores, action: Scripted) -> None:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def waits(_step: Step[Any]) -> StringValue:
            entered.set()
            await leave.wait()
            return StringValue(value="slow")

        action.on_execute = waits
        async with stores.harness(action) as harness:
            first = asyncio.create_task(harness.execute(REQUEST))
            await entered.wait()
            second = asyncio.create_task(harness.execute(REQUEST))
            compensation = asyncio.create_task(harness.compensate())
            await asyncio.sleep(0)
            leave.set()
            assert output(await first) == output(await second) == "slow"
            assert not (await compensation).compensated.noop
        assert action.calls == ["execute", "compensate(slow)"]

    async def test_a_call_that_cannot_have_its_turn_in_time_is_aborted(self, stores: Stores, action: Scripted) -> None:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def waits(_step: Step[Any]) -> StringValue:
            entered.set()
            await leave.wait()
            return StringValue()

        action.on_execute = waits
        async with stores.harness(action) as harness:
            first = asyncio.create_task(harness.execute(REQUEST))
            await entered.wait()
            second = asyncio.create_task(harness.execute(REQUEST, timeout=HOUR))
            await asyncio.sleep(0)  # it begins to wait
            let_pass(HOUR)
            with pytest.raises(CallError) as refused:
                await second
            assert (refused.value.code, refused.value.reason) == (grpc.StatusCode.ABORTED, "BUSY")
            leave.set()
            await first
        assert action.calls == ["execute"]


class TestExternal:
    async def test_a_row_says_started_before_the_handler_runs(self, stores: Stores, external: External) -> None:
        async def looks(step: Step[Any]) -> StringValue:
            assert stores.states() == ["STARTED"]
            with pytest.raises(RuntimeError, match=r"step\.record"):
                _ = step.transaction
            return StringValue(value="paid")

        external.on_execute = looks
        async with stores.harness(external) as harness:
            assert output(await harness.execute(REQUEST)) == "paid"
            assert output(await harness.execute(REQUEST)) == "paid"
        assert external.calls == ["execute"]
        assert stores.states() == ["COMPLETED"]

    async def test_records_commit_with_the_reply(self, stores: Stores, external: External) -> None:
        async def pays(step: Step[Any]) -> StringValue:
            step.record(lambda transaction: stores.write(transaction, "charge 1"))
            step.record(lambda transaction: stores.write(transaction, "charge 2"))
            assert stores.business() == []
            return StringValue(value="paid")

        external.on_execute = pays
        async with stores.harness(external) as harness:
            await harness.execute(REQUEST)
        assert (stores.business(), stores.states()) == (["charge 1", "charge 2"], ["COMPLETED"])

    async def test_a_record_that_fails_stores_neither(self, stores: Stores, external: External) -> None:
        async def pays(step: Step[Any]) -> StringValue:
            step.record(lambda transaction: stores.write(transaction, "charge"))
            step.record(lambda _transaction: 1 / 0)
            return StringValue(value="paid")

        external.on_execute = pays
        async with stores.harness(external) as harness:
            with pytest.raises(CallError):
                await harness.execute(REQUEST)
            assert (stores.business(), stores.states()) == ([], ["STARTED"])
            with pytest.raises(CallError):
                await harness.execute(REQUEST)
        assert external.calls == ["execute", "execute"]

    async def test_repeated_execute_on_started_runs_the_handler_again_with_the_same_key(
        self, stores: Stores, external: External
    ) -> None:
        async def breaks(_step: Step[Any]) -> StringValue:
            raise ConnectionError("gateway")

        async def pays(_step: Step[Any]) -> StringValue:
            return StringValue(value="paid")

        external.on_execute = breaks
        async with stores.harness(external) as harness:
            with pytest.raises(CallError):
                await harness.execute(REQUEST)
            assert stores.states() == ["STARTED"]
            external.on_execute = pays
            assert output(await harness.execute(REQUEST)) == "paid"
        assert external.calls == ["execute", "execute"]
        assert len({step.key for step in external.steps}) == 1
        assert not external.steps[-1].pending

    async def test_compensate_on_started_is_never_a_noop(self, stores: Stores, external: External) -> None:
        async def breaks(_step: Step[Any]) -> StringValue:
            raise ConnectionError("gateway")

        external.on_execute = breaks
        async with stores.harness(external) as harness:
            with pytest.raises(CallError):
                await harness.execute(REQUEST)
            assert not (await harness.compensate()).compensated.noop
            assert (await harness.execute(REQUEST)).rejected.reason == "BARRED"
        assert external.calls == ["execute", "compensate(None)"]
        assert stores.states() == ["COMPENSATED"]

    async def test_every_call_is_aborted_while_a_handler_of_the_row_lives(
        self, stores: Stores, external: External
    ) -> None:
        entered, leave = asyncio.Event(), asyncio.Event()

        async def waits(_step: Step[Any]) -> StringValue:
            entered.set()
            await leave.wait()
            return StringValue(value="paid")

        external.on_execute = waits
        async with stores.harness(external) as harness:
            first = asyncio.create_task(harness.execute(REQUEST))
            await entered.wait()
            for call in (harness.execute(REQUEST), harness.compensate(REQUEST), harness.confirm(REQUEST)):
                with pytest.raises(CallError) as refused:
                    await call
                assert refused.value.code == grpc.StatusCode.ABORTED
            async with asyncio.timeout(5):  # other rows go on
                elsewhere = asyncio.create_task(harness.compensate(REQUEST, saga_uid="other"))
                assert (await elsewhere).compensated.noop
            leave.set()
            assert output(await first) == "paid"
            assert not (await harness.compensate()).compensated.noop
        assert external.calls == ["execute", "compensate(paid)"]

    async def test_a_cut_off_handler_is_not_alive(self, stores: Stores, external: External) -> None:
        entered = asyncio.Event()

        async def waits(_step: Step[Any]) -> StringValue:
            entered.set()
            await asyncio.Event().wait()
            raise AssertionError

        external.on_execute = waits
        async with stores.harness(external) as harness:
            call = asyncio.create_task(harness.execute(REQUEST, timeout=HOUR))
            await entered.wait()
            let_pass(HOUR)
            with pytest.raises(CallError) as cut:
                await call
            assert cut.value.code == grpc.StatusCode.DEADLINE_EXCEEDED
            assert not (await harness.compensate()).compensated.noop
        assert external.calls == ["execute", "compensate(None)"]

    async def test_a_cancelled_handler_is_not_alive(self, stores: Stores, external: External) -> None:
        entered = asyncio.Event()

        async def waits(_step: Step[Any]) -> StringValue:
            entered.set()
            await asyncio.Event().wait()
            raise AssertionError

        external.on_execute = waits
        async with stores.harness(external) as harness:
            call = asyncio.create_task(harness.execute(REQUEST))
            await entered.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert not (await harness.compensate()).compensated.noop
        assert external.calls == ["execute", "compensate(None)"]

    async def test_an_effect_is_stored_although_the_caller_gives_up_meanwhile(
        self, stores: Stores, external: External
    ) -> None:
        async def pays(step: Step[Any]) -> StringValue:
            step.record(lambda transaction: stores.write(transaction, "charge"))
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)
            return StringValue(value="paid")

        external.on_execute = pays
        async with stores.harness(external) as harness:
            call = asyncio.create_task(harness.execute(REQUEST))
            await asyncio.wait([call])
            assert (stores.business(), stores.states()) == (["charge"], ["COMPLETED"])
            assert output(await harness.execute(REQUEST)) == "paid"
        assert external.calls == ["execute"]

    async def test_a_rejection_drops_its_records_and_is_remembered_by_attempt(
        self, stores: Stores, external: External
    ) -> None:
        async def declines(step: Step[Any]) -> StringValue:
            step.record(lambda transaction: stores.write(transaction, "half"))
            raise Rejected("DECLINED")

        async def breaks(_step: Step[Any]) -> StringValue:
            raise ConnectionError

        external.on_execute = declines
        async with stores.harness(external) as harness:
            assert (await harness.execute(REQUEST, attempt=1)).rejected.reason == "DECLINED"
            assert (stores.business(), stores.states()) == ([], ["REJECTED"])
            external.on_execute = breaks
            with pytest.raises(CallError):
                await harness.execute(REQUEST, attempt=2)
            # The second attempt's outcome is not known; the first one's still is.
            assert (await harness.execute(REQUEST, attempt=1)).rejected.reason == "DECLINED"
            assert not (await harness.compensate()).compensated.noop

    async def test_a_rejection_out_of_pending_keeps_its_records(self, stores: Stores, external: External) -> None:
        async def accepts(step: Step[Any]) -> Pending:
            step.record(lambda transaction: stores.write(transaction, "asked"))
            return Pending()

        async def declines(step: Step[Any]) -> StringValue:
            assert stores.states() == ["PENDING"]
            step.record(lambda transaction: stores.write(transaction, "dropped"))
            raise Rejected("DECLINED")

        external.on_execute = accepts
        external.on_poll = declines
        async with stores.harness(external) as harness:
            assert (await harness.execute(REQUEST, attempt=1)).HasField("pending")
            assert (await harness.execute(REQUEST, attempt=1)).rejected.reason == "DECLINED"
        assert (stores.business(), stores.states()) == (["asked", "dropped"], ["REJECTED"])

    async def test_a_compensation_bars_execute_before_its_handler_runs(
        self, stores: Stores, external: External
    ) -> None:
        async def breaks(_step: Step[Any]) -> None:
            assert stores.states() == ["COMPENSATING"]
            raise ConnectionError

        async with stores.harness(external) as harness:
            await harness.execute(REQUEST)
            external.on_compensate = breaks
            with pytest.raises(CallError):
                await harness.compensate()
            assert (await harness.execute(REQUEST)).rejected.reason == "BARRED"
            with pytest.raises(CallError):
                await harness.compensate()
        assert external.calls == ["execute", "compensate(done)", "compensate(done)"]

    async def test_confirm_is_repeated_until_it_is_stored(self, stores: Stores, external: External) -> None:
        async def breaks(_step: Step[Any]) -> None:
            raise ConnectionError

        async def captures(step: Step[Any]) -> None:
            step.record(lambda transaction: stores.write(transaction, "captured"))

        async with stores.harness(external) as harness:
            await harness.execute(REQUEST)
            external.on_confirm = breaks
            with pytest.raises(CallError):
                await harness.confirm()
            external.on_confirm = captures
            assert (await harness.confirm()).HasField("confirmed")
            assert (await harness.confirm()).HasField("confirmed")
        assert external.calls == ["execute", "confirm(done)", "confirm(done)"]
        assert stores.business() == ["captured"]


class TestPrune:
    async def test_deletes_finished_rows_that_are_old_enough(self, stores: Stores, action: Scripted) -> None:
        async def accepts(_step: Step[Any]) -> Pending:
            return Pending()

        barrier = stores.barrier()
        assert isinstance(barrier, StoreBarrier)
        async with ActionHarness(Participant("test", [action], barrier)) as harness:
            await harness.execute(REQUEST, saga_uid="done")
            await harness.compensate(REQUEST, saga_uid="barred")
            action.on_execute = accepts
            await harness.execute(REQUEST, saga_uid="pending")
            assert await barrier.prune(timedelta(days=1)) == 0
            assert await barrier.prune(timedelta(0)) == 2
            assert stores.states() == ["PENDING"]
