"""What participants are sent (G2)."""

import pytest

from coordinator.core.instants import to_timestamp
from coordinator.participants.call import Call
from tests.coordinator.engine.bench import (
    ABORTED,
    COMPENSATE,
    CONFIRM,
    EXECUTE,
    REFUSED,
    bench,
    done,
    ns,
    policy,
    step,
    text,
)
from tests.support.virtual_time import EPOCH_NS


def _only(calls: list[Call], step_name: str, operation: int) -> Call:
    (call,) = [call for call in calls if (call.context.step, call.operation) == (step_name, operation)]
    return call


async def test_an_execute_carries_its_context() -> None:
    async with bench() as b:
        await b.register(step("a", timeout={"seconds": 40}), timeout={"seconds": 60})
        await b.start(labels={"city": "Delft"})
        await b.ended()
        call = _only(b.participants.calls, "a", EXECUTE)
        context = call.context
        uid = (await b.look()).uid
        assert (context.saga_id, context.saga_uid) == ("s", uid)
        assert (context.definition, context.definition_version) == ("order", 1)
        assert (context.step, context.action, context.attempt) == ("a", "Act", 1)
        assert context.idempotency_key == f"{uid}/a/execute"
        assert context.labels == {"city": "Delft"}
        assert context.deadline == to_timestamp(EPOCH_NS + ns(40))  # the earliest of several (G9)
        assert (call.participant, call.input, call.output, call.cause) == ("shop", text("in"), None, None)
        assert call.expected_output_type == "shop.Text"
        assert call.check_output(text("fine")) is None
        assert call.check_output(text("fine", prefix="x/not.")) is not None


async def test_compensate_carries_what_execute_was_sent_and_yielded_and_why() -> None:
    async with bench() as b:
        await b.register(step("a", input="shop.Text{text: 'for a'}", timeout={"seconds": 40}), step("b"))
        b.participants.script("a", EXECUTE, done("by a"))
        b.participants.script("b", EXECUTE, REFUSED)
        await b.start()
        assert await b.ended() == "COMPENSATED"
        call = _only(b.participants.calls, "a", COMPENSATE)
        assert call.context.idempotency_key.endswith("/a/compensate")
        assert (call.input, call.output) == (text("for a"), text("by a"))
        assert call.cause is not None
        assert (call.cause.step, call.cause.reason) == ("b", "NO")
        assert not call.context.HasField("deadline")


async def test_compensate_of_an_unknown_outcome_has_no_output() -> None:
    async with bench() as b:
        await b.register(step("a", execute=policy(most=1)))
        b.participants.script("a", EXECUTE, ABORTED)
        await b.start()
        assert await b.ended() == "COMPENSATED"
        assert _only(b.participants.calls, "a", COMPENSATE).output is None


async def test_confirm_carries_input_and_output() -> None:
    async with bench() as b:
        await b.register(step("a", "RESERVABLE"))
        b.participants.script("a", EXECUTE, done("by a"))
        await b.start()
        assert await b.ended() == "COMPLETED"
        call = _only(b.participants.calls, "a", CONFIRM)
        assert call.context.idempotency_key.endswith("/a/confirm")
        assert (call.input, call.output, call.cause) == (text("in"), text("by a"), None)
        assert not call.context.HasField("deadline")


@pytest.mark.parametrize(("kind", "bounded"), [("COMPENSATABLE", True), ("PIVOT", False), ("RETRIABLE", False)])
async def test_a_step_that_must_go_forward_has_no_deadline(kind: str, bounded: bool) -> None:
    async with bench() as b:
        await b.register(step("a", kind), timeout={"seconds": 60})
        await b.start()
        assert await b.ended() == "COMPLETED"
        assert b.participants.calls[0].context.HasField("deadline") == bounded


async def test_g2_every_attempt_carries_the_same_key_and_input() -> None:
    async with bench() as b:
        await b.register(step("a"))
        b.participants.script("a", EXECUTE, ABORTED, ABORTED, done())
        await b.start()
        assert await b.ended() == "COMPLETED"
        calls = b.participants.calls
        assert [call.context.attempt for call in calls] == [1, 2, 3]
        assert len({call.context.idempotency_key for call in calls}) == 1
        assert {call.input.value for call in calls} == {text("in").value}
