"""What a coordinator offers as a participant, and when a version fits a step."""

from __future__ import annotations

import pytest

from coordinator.engine.loaded import LoadedDefinition
from coordinator.engine.offer import offer_of, why_misfit
from saga.v1.participant_pb2 import Action, DescribeResponse
from tests.coordinator.core.protos import files, proto
from tests.coordinator.engine.bench import Bench, bench, step


async def _loaded(b: Bench, name: str, version: int = 0) -> LoadedDefinition:
    return await b.definitions.get(name, version)


async def test_definitions_whose_types_clash_are_not_offered_together() -> None:
    """The same name means another thing to a second participant; one of the two is left out, and it is said which."""
    async with bench() as b:
        other = files(proto("shop.proto", "shop", {"Text": ["text", "more"]}))
        act = Action(name="Act", input_type="shop.Text", output_type="shop.Text")
        b.descriptions["other"] = DescribeResponse(participant="other", actions=[act], descriptors=other)
        await b.register(step("a"), name="first")
        await b.register(step("a", participant="other"), name="second")
        offer = offer_of([await _loaded(b, "first"), await _loaded(b, "second")], "1.0")
        assert [action.name for action in offer.description.actions] == ["first"]
        (problem,) = offer.problems
        assert problem.startswith("`second` is not offered: shop.Text of")


async def test_nothing_offered_is_an_answer() -> None:
    offer = offer_of([], "1.0")
    assert (offer.description.participant, offer.description.barriered) == ("coordinator", True)
    assert list(offer.description.actions) == []


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ({"kind": "PIVOT"}, "version 2 does not serve as COMPENSATABLE"),
        ({"input_type": "shop.Other"}, "version 2 takes `shop.Other`, not `shop.Text`"),
        ({"output": "a"}, "version 2 yields `shop.Text`, not `google.protobuf.Empty`"),
        ({"description": "the same otherwise"}, None),
    ],
)
async def test_a_version_fits_while_kind_and_types_are_as_they_were_checked(
    second: dict[str, str], why: str | None
) -> None:
    async with bench() as b:
        await b.register(step("a"), name="ship")
        await b.register(step("parcel", participant="coordinator", action="ship"))
        kind, fields = second.pop("kind", "COMPENSATABLE"), {"input": "shop.Text{text: input.text}"}
        await b.register(step("a", kind, **fields), name="ship", **second)
        parent = await _loaded(b, "order")
        assert why_misfit(parent, parent.plan.steps[0], await _loaded(b, "ship", 2)) == why
