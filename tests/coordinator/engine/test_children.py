"""Sagas as steps of sagas: started once, compensated, confirmed, barred; over restarts (rule 9, G2, G4, G6, G8, G9)."""

from __future__ import annotations

import asyncio
from typing import Any as Anything

import pytest
from google.protobuf.empty_pb2 import Empty

from coordinator.core import limits
from coordinator.core.forbidden import Forbidden
from coordinator.core.inputs import CancelRequested, Done, ResolveRequested
from coordinator.core.instants import to_duration
from coordinator.engine.errors import InvalidDefinition, KeyReused, NoChildFits, OverLimit, StartedDifferently
from coordinator.engine.offer import BARRED
from coordinator.participants.call import Call
from saga.v1.definition_pb2 import StepDefinition
from saga.v1.event_pb2 import RESOLUTION_COMPENSATED, RESOLUTION_NO_EFFECT
from saga.v1.participant_pb2 import (
    Action,
    CompensateRequest,
    ConfirmRequest,
    DescribeResponse,
    ExecuteRequest,
    StepContext,
)
from saga.v1.types_pb2 import STEP_KIND_COMPENSATABLE, STEP_KIND_RESERVABLE, Failure, StepKind
from tests.coordinator.engine.bench import (
    COMPENSATE,
    CONFIRM,
    EXECUTE,
    REFUSED,
    TEXT,
    UNAVAILABLE,
    Bench,
    bench,
    definition,
    done,
    ns,
    step,
    text,
)
from tests.support.virtual_time import elapsed_s, settled


def child(
    name: str = "parcel", kind: str = "COMPENSATABLE", action: str = "ship", **fields: Anything
) -> StepDefinition:
    """A step that runs a definition."""
    return step(name, kind, participant="coordinator", action=action, **fields)


async def shop(b: Bench, *rest: StepDefinition, kind: str = "COMPENSATABLE", **fields: Anything) -> None:
    """`order` runs `ship`, of two steps, as its step `parcel`, and then what is given."""
    await b.register(step("pick", kind), step("send"), name="ship", output="send")
    await b.register(child(kind=kind), *rest, **fields)


# --- Forward ----------------------------------------------------------------------------------------------------------


async def test_a_child_runs_as_a_step_and_its_output_is_the_steps() -> None:
    async with bench() as b:
        await shop(b, step("bill", input="parcel"))
        b.participants.script("send", EXECUTE, done("parcel 7"))
        await b.start("o-1")
        assert await b.ended("o-1") == "COMPLETED"
        assert [call.context.saga_id for call in b.participants.calls] == ["o-1/parcel", "o-1/parcel", "o-1"]
        assert b.participants.calls[2].input == text("parcel 7")
        saga = await b.look("o-1/parcel")
        assert saga.parent is not None
        assert (saga.parent.saga_id, saga.parent.step) == ("o-1", "parcel")
        index = await b.journal.find("o-1/parcel")
        assert index is not None
        assert (index.parent_saga_id, index.root_saga_id) == ("o-1", "o-1")


async def test_the_parent_hears_of_its_childs_end_at_once() -> None:
    """It polls a quiet child ever more rarely, and need not wait for the next poll."""
    async with bench() as b:
        await shop(b)
        b.participants.hold("send")
        await b.start("o-1")
        await asyncio.sleep(9)
        b.participants.answer("send", done())
        assert await b.ended("o-1") == "COMPLETED"
        assert elapsed_s() == pytest.approx(9, abs=0.001)


async def test_g8_news_of_a_child_while_a_poll_of_it_is_answered_is_no_poll_that_nobody_heard() -> None:
    """A poll that went out between the answer and its record would count as lost, and hold compensations up."""
    async with bench() as b:
        await b.register(step("send"), name="ship")
        children = [child(f"c{number}") for number in range(20)]
        await b.register(*children, step("pay", "PIVOT", *(each.name for each in children)), graph=True)
        b.participants.script("pay", EXECUTE, REFUSED)
        for delay_s in (0.05, 0.0501, 0.0625, 0.1):

            async def slowly(_call: Call, delay_s: float = delay_s) -> Done:
                await asyncio.sleep(delay_s)
                return Done(output=text("out"))

            b.participants.script("send", EXECUTE, slowly)
            saga_id = f"o-{delay_s}"
            await b.start(saga_id)
            began_s = elapsed_s()
            assert await b.ended(saga_id) == "COMPENSATED"
            assert not any("attempt_lost" in line for line in await b.journaled(saga_id))
            assert elapsed_s() - began_s < 1


async def test_a_definition_without_output_yields_an_empty_message() -> None:
    async with bench() as b:
        await b.register(step("send"), name="ship")
        await b.register(child())
        await b.start("o-1")
        assert await b.ended("o-1") == "COMPLETED"
        output = (await b.look("o-1")).step("parcel").output
        assert output is not None
        assert output.Is(Empty.DESCRIPTOR)


async def test_g9_deadlines_pass_down() -> None:
    async with bench() as b:
        await shop(b, timeout=to_duration(ns(60)))
        b.participants.hold("pick")
        await b.start("o-1")
        await settled()
        parent, made = await b.look("o-1"), await b.look("o-1/parcel")
        assert made.deadline_ns == parent.deadline_ns is not None


async def test_g9_the_sagas_deadline_passes_down_to_a_child_that_is_a_pivot() -> None:
    """It can still say no in time, which is better than to be late."""
    async with bench() as b:
        await b.register(step("pick"), step("send", "PIVOT"), name="ship")
        await b.register(child(kind="PIVOT"), timeout=to_duration(ns(60)))
        b.participants.script("pick", EXECUTE, UNAVAILABLE)
        await b.start("o-1")
        await settled()
        assert (await b.look("o-1/parcel")).deadline_ns == (await b.look("o-1")).deadline_ns


async def test_labels_pass_down_and_the_childs_own_come_first() -> None:
    async with bench() as b:
        await b.register(step("send"), name="ship", labels={"city": "input.text"})
        await b.register(child())
        await b.start("o-1", "Delft", labels={"order": "7", "city": "Paris"})
        assert await b.ended("o-1") == "COMPLETED"
        assert (await b.look("o-1/parcel")).labels == {"order": "7", "city": "Delft"}


async def test_children_of_children_down_to_a_depth() -> None:
    """A definition cannot call what is not there yet, but a later version can call an earlier one of its own name."""
    async with bench() as b:
        await b.register(step("send"), name="l0")
        for level in range(1, limits.SAGA_DEPTH_MAX + 2):
            await b.register(child("c", action=f"l{level - 1}"), name=f"l{level}")
        await b.start("ok", definition=f"l{limits.SAGA_DEPTH_MAX}")
        assert await b.ended("ok") == "COMPLETED"
        assert await b.journal.find("ok" + "/c" * limits.SAGA_DEPTH_MAX) is not None
        await b.start("deep", definition=f"l{limits.SAGA_DEPTH_MAX + 1}")
        assert await b.ended("deep") == "COMPENSATED"
        saga = await b.look("deep")
        assert saga.failure is not None
        assert saga.failure.reason == "TOO_DEEP"


# --- Back -------------------------------------------------------------------------------------------------------------


async def test_g4_a_child_that_completed_is_compensated_backwards() -> None:
    async with bench() as b:
        await shop(b, step("bill"))
        b.participants.script("bill", EXECUTE, REFUSED)
        await b.start("o-1")
        assert await b.ended("o-1") == "COMPENSATED"
        assert b.participants.made() == [
            "pick execute 1",
            "send execute 1",
            "bill execute 1",
            "send compensate 1",
            "pick compensate 1",
        ]
        assert await b.state("o-1/parcel") == "COMPENSATED"


async def test_a_child_that_goes_back_by_itself_is_a_refusal() -> None:
    async with bench() as b:
        await shop(b)
        b.participants.script("send", EXECUTE, REFUSED)
        await b.start("o-1")
        assert await b.ended("o-1") == "COMPENSATED"
        failure = (await b.look("o-1")).failure
        assert failure is not None
        assert (failure.step, failure.reason) == ("parcel", "NO")
        assert "o-1/parcel" in failure.message
        assert b.participants.made().count("pick compensate 1") == 1


async def test_cancelling_a_parent_cancels_a_child_that_is_under_way() -> None:
    async with bench() as b:
        await shop(b)
        b.participants.hold("send")
        await b.start("o-1")
        await settled()
        await b.engine.cancel("o-1", CancelRequested("too dear"))
        b.participants.answer("send", done())
        assert await b.ended("o-1") == "COMPENSATED"
        assert b.participants.made()[-2:] == ["send compensate 1", "pick compensate 1"]
        failure = (await b.look("o-1/parcel")).failure
        assert failure is not None
        assert "too dear" in failure.message


async def test_a_child_of_a_child_goes_back_too() -> None:
    async with bench() as b:
        await b.register(step("pick"), name="pack")
        await b.register(child("box", action="pack"), name="ship")
        await b.register(child(), step("bill"))
        b.participants.script("bill", EXECUTE, REFUSED)
        await b.start("o-1")
        assert await b.ended("o-1") == "COMPENSATED"
        assert await b.state("o-1/parcel/box") == "COMPENSATED"
        assert b.participants.made()[-1] == "pick compensate 1"


async def test_watching_a_child_that_was_taken_back_goes_past_its_first_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench() as b:
        await shop(b, step("bill"))
        b.participants.script("bill", EXECUTE, REFUSED)
        await b.start("o-1")
        assert await b.ended("o-1") == "COMPENSATED"
        written = await b.journal.read("o-1/parcel")
        completed = next(event.sequence for event in written if event.HasField("saga_completed"))
        monkeypatch.setattr(limits, "WATCH_BUFFER_EVENTS", completed)  # what is read at a time ends just there
        seen = [event.sequence async for event, _ in b.engine.watch("o-1/parcel", 0)]
        assert seen == [event.sequence for event in written]


# --- Holds ------------------------------------------------------------------------------------------------------------


async def test_a_childs_holds_become_final_when_its_parent_confirms() -> None:
    async with bench() as b:
        await shop(b, step("pay", "PIVOT"), kind="RESERVABLE")
        b.participants.hold("pay")
        await b.start("o-1")
        await settled()
        held = await b.look("o-1/parcel")
        assert held.held
        assert "pick confirm 1" not in b.participants.made()
        with pytest.raises(Forbidden, match="its parent decides"):
            await b.engine.cancel("o-1/parcel", CancelRequested("no"))
        b.participants.answer("pay", done())
        assert await b.ended("o-1") == "COMPLETED"
        assert await b.state("o-1/parcel") == "COMPLETED"
        assert b.participants.made()[-1] == "pick confirm 1"


async def test_the_parent_goes_back_before_its_childs_holds_lapse() -> None:
    """A child says until when: its own holds, less its own margin."""
    async with bench() as b:
        await shop(b, step("check"), step("pay", "PIVOT"), kind="RESERVABLE")
        b.participants.hold("check")
        b.participants.script("pick", EXECUTE, done(hold_until_ns=b.clock.now_ns() + ns(300)))
        await b.start("o-1")
        await settled()
        hold_until_ns = (await b.look("o-1")).step("parcel").hold_until_ns
        assert hold_until_ns == b.clock.now_ns() // 10**6 * 10**6 + ns(300) - limits.HOLD_MARGIN_DEFAULT_NS


async def test_a_held_child_is_released_when_its_parent_goes_back() -> None:
    async with bench() as b:
        await shop(b, step("pay", "PIVOT"), kind="RESERVABLE")
        b.participants.script("pay", EXECUTE, REFUSED)
        await b.start("o-1")
        assert await b.ended("o-1") == "COMPENSATED"
        assert await b.state("o-1/parcel") == "COMPENSATED"
        assert "pick confirm 1" not in b.participants.made()


# --- An operator is needed --------------------------------------------------------------------------------------------


async def test_g3_a_child_that_stands_failed_marks_its_parents() -> None:
    async with bench() as b:
        await b.register(step("pick"), step("send"), name="pack")
        await b.register(child("box", action="pack"), name="ship")
        await b.register(child())
        b.participants.script("send", EXECUTE, REFUSED)
        b.participants.script("pick", COMPENSATE, REFUSED)
        await b.start("o-1")
        await asyncio.sleep(1)
        assert await b.state("o-1/parcel/box") == "FAILED"
        for saga_id in ("o-1", "o-1/parcel"):
            index = await b.journal.find(saga_id)
            assert index is not None
            assert (await b.state(saga_id), index.needs_attention) == ("RUNNING", True)
        await b.engine.steer("o-1/parcel/box", ResolveRequested("pick", RESOLUTION_COMPENSATED, "by hand", "ada"))
        assert await b.ended("o-1") == "COMPENSATED"
        index = await b.journal.find("o-1")
        assert index is not None
        assert not index.needs_attention


async def test_nobody_states_of_a_step_what_its_saga_does_not_say() -> None:
    """G4: the parent would end with its child's effects standing, or without them."""
    async with bench() as b:
        await shop(b, step("bill"))
        b.participants.hold("send")
        await b.start("o-1")
        await settled()
        key = f"{(await b.look('o-1')).uid}/parcel/execute"
        for outcome in (REFUSED, Done(output=text("never"))):
            with pytest.raises(Forbidden, match="is the saga `o-1/parcel`"):
                await b.engine.report("o-1", "parcel", key, outcome)
        word = ResolveRequested("parcel", RESOLUTION_NO_EFFECT, "I believe so", "ada")
        with pytest.raises(Forbidden, match="which stands RUNNING"):
            await b.engine.steer("o-1", word)
        with pytest.raises(Forbidden, match="which stands RUNNING"):
            await b.engine.preview("o-1", word, lambda saga: saga.state)
        b.participants.answer("send", done())
        assert await b.ended("o-1") == "COMPLETED"


async def test_a_held_child_of_another_coordinator_is_given_up_in_its_parents_name_only() -> None:
    """A cancel would break what the parent was told; who knows that the parent is lost can speak for it."""
    async with bench() as b:
        await shop(b, kind="RESERVABLE")
        await b.engine.children.execute(ExecuteRequest(context=context(), input=text("in")))
        await settled()
        with pytest.raises(Forbidden, match="its parent decides"):
            await b.engine.cancel("far-1/parcel", CancelRequested("nobody decides", "ada"))
        back = CompensateRequest(context=context("compensate"), input=text("in"))
        assert (await b.engine.children.compensate(back)).HasField("pending")
        assert await far_end(b) == "COMPENSATED"
        late = await b.engine.children.confirm(ConfirmRequest(context=context("confirm"), input=text("in")))
        assert late.rejected.reason == "COMPENSATED"


# --- Crashes ----------------------------------------------------------------------------------------------------------


async def test_a_restart_finds_parent_and_child_where_they_were() -> None:
    async with bench() as b:
        await shop(b, step("bill"))
        b.participants.hold("send")
        await b.start("o-1")
        await asyncio.sleep(5)
        again = await b.crash()
        await again.engine.recover()
        assert await again.ended("o-1") == "COMPLETED"
        assert again.participants.made()[0] == "send execute 2"
        await again.engine.close()


async def test_a_child_that_ended_while_nobody_drove_its_parent_is_noticed_at_once() -> None:
    async with bench() as b:
        await shop(b)
        b.participants.hold("send")
        await b.start("o-1")
        await asyncio.sleep(5)
        again = await b.crash()
        began_s = elapsed_s()
        await again.engine.recover()
        assert await again.ended("o-1") == "COMPLETED"
        assert elapsed_s() - began_s < 0.1
        await again.engine.close()


# --- Exclusive keys ---------------------------------------------------------------------------------------------------


async def test_a_child_does_not_wait_for_its_own_parents_keys() -> None:
    async with bench() as b:
        await b.register(step("send"), name="ship", exclusive_keys=["input.text"])
        await b.register(child(), exclusive_keys=["input.text"])
        await b.start("o-1", "ada")
        assert await b.ended("o-1") == "COMPLETED"


async def test_what_a_child_holds_is_free_when_its_root_has_ended() -> None:
    async with bench() as b:
        await b.register(step("send"), name="ship", exclusive_keys=["input.text"])
        await b.register(child(), step("bill"))
        b.participants.hold("bill")
        await b.start("o-1", "ada")
        await b.start("o-2", "ada")
        await settled()
        assert await b.state("o-1/parcel") == "COMPLETED"
        assert [each.holder for each in b.engine.blocked("o-2/parcel")] == ["o-1"]
        again = await b.crash()
        assert [each.holder for each in again.engine.blocked("o-2/parcel")] == ["o-1"]
        await again.engine.recover()
        assert await again.ended("o-1") == "COMPLETED"
        assert await again.ended("o-2") == "COMPLETED"
        await again.engine.close()


async def test_two_parents_that_would_wait_for_each_other_do_not() -> None:
    async with bench() as b:
        await b.register(step("send"), name="ship", exclusive_keys=["input.text"])
        other = child(input="shop.Text{text: input.text == 'a' ? 'b' : 'a'}")
        await b.register(step("wait"), other, exclusive_keys=["input.text"])
        b.participants.hold("wait")
        await b.start("o-1", "a")
        await b.start("o-2", "b")
        await settled()
        b.participants.answer("wait", done())
        b.participants.answer("wait", done())
        ends = {await b.ended("o-1"), await b.ended("o-2")}
        assert ends == {"COMPLETED", "COMPENSATED"}
        backed = "o-1" if await b.state("o-1") == "COMPENSATED" else "o-2"
        failure = (await b.look(backed)).failure
        assert failure is not None
        assert failure.reason == "DEADLOCK"


# --- The participant's contract ---------------------------------------------------------------------------------------


def context(operation: str = "execute", uid: str = "uid-p", **fields: Anything) -> StepContext:
    given: dict[str, Anything] = {
        "saga_id": "far-1",
        "saga_uid": uid,
        "step": "parcel",
        "action": "ship",
        "attempt": 1,
        "idempotency_key": f"{uid}/parcel/{operation}",
    }
    return StepContext(**given | fields)


async def far_end(b: Bench) -> str:
    return await b.ended("far-1/parcel")


async def test_g2_execute_twice_is_one_child_and_the_same_answer() -> None:
    async with bench() as b:
        await shop(b)
        request = ExecuteRequest(context=context(), input=text("in"))
        assert (await b.engine.children.execute(request)).HasField("pending")
        assert await far_end(b) == "COMPLETED"
        first = await b.engine.children.execute(request)
        second = await b.engine.children.execute(request)
        assert first == second
        assert first.completed.output == text("out")
        assert b.participants.made() == ["pick execute 1", "send execute 1"]


async def test_overlapping_executes_are_one_child() -> None:
    async with bench() as b:
        await shop(b)
        request = ExecuteRequest(context=context(), input=text("in"))
        answers = await asyncio.gather(*(b.engine.children.execute(request) for _ in range(5)))
        assert all(answer.WhichOneof("outcome") in ("pending", "completed") for answer in answers)
        assert await far_end(b) == "COMPLETED"
        assert b.participants.made() == ["pick execute 1", "send execute 1"]


async def test_the_same_key_with_another_input_is_refused() -> None:
    async with bench() as b:
        await shop(b)
        await b.engine.children.execute(ExecuteRequest(context=context(), input=text("in")))
        with pytest.raises(KeyReused):
            await b.engine.children.execute(ExecuteRequest(context=context(), input=text("other")))


async def test_g8_compensate_before_execute_bars_it_for_good() -> None:
    async with bench() as b:
        await shop(b)
        back = CompensateRequest(context=context("compensate"), input=text("in"), cause=Failure(message="too dear"))
        for _ in range(2):
            answer = await b.engine.children.compensate(back)
            assert answer.compensated.noop
        late = await b.engine.children.execute(ExecuteRequest(context=context(), input=text("in")))
        assert late.rejected.reason == BARRED
        assert b.participants.calls == []
        assert await b.state("far-1/parcel") == "COMPENSATED"


async def test_what_completed_and_is_forgotten_is_never_said_to_be_compensated() -> None:
    """Retention there may be shorter than parents take; the output says that an Execute had completed."""
    async with bench() as b:
        await shop(b)
        request = CompensateRequest(context=context("compensate"), input=text("in"), output=text("out"))
        assert (await b.engine.children.compensate(request)).rejected.reason == "RETIRED"
        assert await b.journal.find("far-1/parcel") is None


async def test_a_child_of_another_kind_than_its_step_is_refused_before_it_begins() -> None:
    """Held, it would wait for a Confirm that never comes."""
    async with bench() as b:
        await shop(b, kind="RESERVABLE")
        wrong = ExecuteRequest(context=context(kind=STEP_KIND_COMPENSATABLE), input=text("in"))
        assert (await b.engine.children.execute(wrong)).rejected.reason == "OTHER_KIND"
        assert await b.journal.find("far-1/parcel") is None


async def test_an_action_elsewhere_that_no_longer_fits_its_step_refuses_the_start() -> None:
    async with bench() as b:
        offered = Action(name="Act", input_type=TEXT, output_type=TEXT, kinds=[STEP_KIND_COMPENSATABLE], version=1)
        far = b.descriptions["far"] = DescribeResponse(
            participant="far",
            actions=[offered],
            descriptors=b.descriptions["shop"].descriptors,  # type: ignore[union-attr]
        )
        await b.register(step("a", participant="far"))
        await b.start("o-1")
        assert (await b.look("o-1")).action_versions == {"a": 1}
        assert far is not None
        far.actions[0].version, far.actions[0].kinds[:] = 2, [STEP_KIND_RESERVABLE]
        b.definitions.look_again()
        with pytest.raises(NoChildFits, match="version 2 does not serve as COMPENSATABLE"):
            await b.start("o-2")


async def test_compensate_of_what_was_never_there_to_be_started_succeeds() -> None:
    async with bench() as b:
        answer = await b.engine.children.compensate(CompensateRequest(context=context("compensate", action="nothing")))
        assert answer.compensated.noop


async def test_a_child_of_another_parent_of_the_same_name_is_not_touched() -> None:
    """Two coordinators can have sagas of one id."""
    async with bench() as b:
        await shop(b)
        await b.engine.children.execute(ExecuteRequest(context=context(), input=text("in")))
        assert await far_end(b) == "COMPLETED"
        stranger = context(uid="uid-x")
        with pytest.raises(StartedDifferently):
            await b.engine.children.execute(ExecuteRequest(context=stranger, input=text("in")))
        assert (await b.engine.children.compensate(CompensateRequest(context=stranger))).compensated.noop
        assert (
            await b.engine.children.confirm(ConfirmRequest(context=stranger, input=text("in")))
        ).rejected.reason == "NOT_HELD"
        assert await b.state("far-1/parcel") == "COMPLETED"


async def test_a_child_with_a_pivot_is_not_compensated_once_it_completed() -> None:
    async with bench() as b:
        await b.register(step("send", "PIVOT"), name="ship")
        await b.engine.children.execute(ExecuteRequest(context=context(), input=text("in")))
        assert await far_end(b) == "COMPLETED"
        answer = await b.engine.children.compensate(CompensateRequest(context=context("compensate"), input=text("in")))
        assert answer.rejected.reason == "PAST_POINT_OF_NO_RETURN"


async def test_confirm_is_answered_when_the_holds_are_final_and_again_the_same() -> None:
    async with bench() as b:
        await shop(b, kind="RESERVABLE")
        b.participants.script("pick", CONFIRM, UNAVAILABLE, done())
        await b.engine.children.execute(ExecuteRequest(context=context(), input=text("in")))
        await settled()
        request = ConfirmRequest(context=context("confirm"), input=text("in"))
        assert (await b.engine.children.confirm(request)).HasField("pending")
        assert await far_end(b) == "COMPLETED"
        for _ in range(2):
            assert (await b.engine.children.confirm(request)).HasField("confirmed")


async def test_confirm_too_early_is_an_error_and_changes_nothing() -> None:
    async with bench() as b:
        await shop(b, kind="RESERVABLE")
        b.participants.hold("send")
        await b.engine.children.execute(ExecuteRequest(context=context(), input=text("in")))
        await settled()
        with pytest.raises(Forbidden, match="stands RUNNING"):
            await b.engine.children.confirm(ConfirmRequest(context=context("confirm"), input=text("in")))


async def test_a_child_of_another_coordinator_takes_its_keys_again_before_it_goes_back() -> None:
    async with bench() as b:
        await b.register(step("send"), name="ship", exclusive_keys=["input.text"])
        await b.engine.children.execute(ExecuteRequest(context=context(), input=text("ada")))
        assert await far_end(b) == "COMPLETED"
        b.participants.hold("send")
        await b.start("other", "ada", definition="ship")
        await settled()
        back = CompensateRequest(context=context("compensate"), input=text("ada"))
        assert "exclusive keys" in (await b.engine.children.compensate(back)).pending.message
        await b.start("later", "ada", definition="ship")
        assert [each.holder for each in b.engine.blocked("far-1/parcel")] == ["other"]
        b.participants.script("send", EXECUTE, done())
        b.participants.answer("send", done())
        assert {await b.ended("other"), await b.ended("later")} == {"COMPLETED"}
        assert await far_end(b) == "COMPENSATED"  # it went before `later`, and nobody had to ask again
        back_at, later_at = (await b.look("far-1/parcel")).ended_ns, (await b.look("later")).started_ns
        assert back_at is not None
        assert later_at is not None
        assert back_at <= later_at
        assert (await b.engine.children.compensate(back)).HasField("compensated")


async def test_g14_children_of_others_count_as_any_saga_does_and_ones_own_always_begin() -> None:
    async with bench(unfinished_max=1) as b:
        await shop(b)
        b.participants.hold("pick")
        await b.start("o-1")
        await settled()
        assert await b.state("o-1/parcel") == "RUNNING"
        with pytest.raises(OverLimit):
            await b.engine.children.execute(ExecuteRequest(context=context(), input=text("in")))


async def test_a_child_whose_output_fails_has_none_to_give_and_is_compensated() -> None:
    async with bench() as b:
        await b.register(step("send"), name="ship", output="shop.Text{text: string(int(input.text))}")
        await b.register(child())
        await b.start("o-1", "no number")
        assert await b.ended("o-1") == "COMPENSATED"
        assert b.participants.made()[-1] == "send compensate 1"


# --- Versions ---------------------------------------------------------------------------------------------------------


async def test_g11_the_childs_version_is_pinned_when_the_parent_starts() -> None:
    async with bench() as b:
        await b.register(step("old"), name="ship")
        await b.register(step("slow"), child())
        b.participants.hold("slow")
        await b.start("o-1")
        await settled()
        assert (await b.look("o-1")).action_versions == {"parcel": 1}
        assert await b.register(step("new"), name="ship") == 2
        await b.definitions.deprecate("ship", 1)
        await b.start("o-2")
        for _ in range(2):
            await settled()
            b.participants.answer("slow", done())
        assert {await b.ended("o-1"), await b.ended("o-2")} == {"COMPLETED"}
        ran = {call.context.saga_id: call.context.step for call in b.participants.calls if "/" in call.context.saga_id}
        assert ran == {"o-1/parcel": "old", "o-2/parcel": "new"}


async def test_a_version_that_no_longer_fits_is_passed_over_and_without_any_the_start_is_refused() -> None:
    async with bench() as b:
        await b.register(step("old"), name="ship")
        await b.register(child())
        assert await b.register(step("new", "PIVOT"), name="ship") == 2
        await b.start("o-1")
        assert await b.ended("o-1") == "COMPLETED"
        assert (await b.look("o-1")).action_versions == {"parcel": 1}
        await b.definitions.deprecate("ship", 1)
        with pytest.raises(NoChildFits, match="version 2 does not serve as COMPENSATABLE"):
            await b.start("o-2")
        assert await b.journal.find("o-2") is None


async def test_a_definition_is_checked_against_what_the_coordinator_offers() -> None:
    async with bench() as b:
        await b.register(step("send", "PIVOT"), name="ship")
        with pytest.raises(InvalidDefinition) as refused:
            await b.definitions.register(definition(child(), child("other", action="shipp"), child("x", input="1")))
        found = {problem.path: problem for problem in refused.value.problems}
        assert "does not serve as COMPENSATABLE" in found["steps[0].kind"].message
        assert found["steps[1].action"].expected.startswith("perhaps `ship`")
        assert "steps[2].input" in found


@pytest.mark.parametrize(
    ("kinds", "keys", "offered"),
    [
        (["COMPENSATABLE", "READ_ONLY"], [], "COMPENSATABLE"),
        (["COMPENSATABLE", "RESERVABLE"], [], "RESERVABLE"),
        (["READ_ONLY"], [], "COMPENSATABLE"),
        (["RETRIABLE", "READ_ONLY"], [], "RETRIABLE"),
        (["RETRIABLE"], ["'k'"], "PIVOT"),
        (["READ_ONLY", "RETRIABLE"], [], "PIVOT"),
        (["COMPENSATABLE", "RETRIABLE"], [], "PIVOT"),
        (["COMPENSATABLE", "PIVOT", "RETRIABLE"], [], "PIVOT"),
    ],
)
async def test_the_kind_a_definition_offers_follows_from_its_steps(
    kinds: list[str], keys: list[str], offered: str
) -> None:
    async with bench() as b:
        steps = [step(f"s{index}", kind) for index, kind in enumerate(kinds)]
        await b.register(*steps, name="ship", exclusive_keys=keys)
        (action,) = (await b.definitions.offered()).description.actions
        assert [StepKind.Name(kind).removeprefix("STEP_KIND_") for kind in action.kinds] == [offered]
        assert (action.input_type, action.version) == (TEXT, 1)


async def test_deprecated_versions_are_not_offered() -> None:
    async with bench() as b:
        await b.register(step("a"), name="ship")
        await b.register(step("b"), name="ship")
        assert [action.version for action in (await b.definitions.offered()).description.actions] == [2]
        await b.definitions.deprecate("ship", 2)
        assert [action.version for action in (await b.definitions.offered()).description.actions] == [1]
        await b.definitions.deprecate("ship", 1)
        assert list((await b.definitions.offered()).description.actions) == []
