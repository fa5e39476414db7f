from typing import Any, Generic, TypeVar

import pytest
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

from participant_sdk import COMPENSATABLE, READ_ONLY, Action, AiosqliteTransaction, Noop, Rejected, Step

T = TypeVar("T", bound=Message)


class Charge(Action[Struct, StringValue]):
    """Charges a card.

    More of it.
    """

    async def execute(self, request: Struct, step: Step) -> StringValue:
        return StringValue()


class Refund(Charge):
    name = "RefundCard"
    kinds = (READ_ONLY,)


class Fetch(Action[Struct, T], Generic[T]):
    async def execute(self, request: Struct, step: Step) -> T:
        raise NotImplementedError


class FetchCount(Fetch[Int64Value]):
    pass


class Asynchronous(Action[Struct, StringValue, AiosqliteTransaction]):
    async def execute(self, request: Struct, step: Step[AiosqliteTransaction]) -> StringValue:
        return StringValue()


@pytest.mark.parametrize(
    ("action", "name", "output"),
    [
        (Charge, "Charge", StringValue),
        (Refund, "RefundCard", StringValue),
        (FetchCount, "FetchCount", Int64Value),
        (Asynchronous, "Asynchronous", StringValue),
    ],
)
def test_name_and_types_are_found_in_the_class(
    action: type[Action[Any, Any, Any]], name: str, output: type[Message]
) -> None:
    assert (action.name, action.input_type, action.output_type) == (name, Struct, output)


def test_defaults() -> None:
    assert (Charge.kinds, Charge.external, Charge.rejections) == ((COMPENSATABLE,), False, {})
    assert Charge.description() == "Charges a card."
    assert Refund.description() == ""


def test_types_that_are_missing_or_wrong_are_an_error_of_the_class() -> None:
    with pytest.raises(TypeError, match=r"Bare: write Action\[Input, Output\]"):

        class Bare(Action):  # type: ignore[type-arg]  # that is the mistake
            pass

    with pytest.raises(TypeError, match="Wrong: not a message type"):

        class Wrong(Action[Struct, int]):  # type: ignore[type-var]  # that is the mistake
            pass

    with pytest.raises(TypeError, match="Vague: not a message type"):

        class Vague(Action[Struct, Message]):
            pass

    with pytest.raises(TypeError, match="Quoted: not a message type"):

        class Quoted(Action[Struct, "StringValue"]):
            pass


def test_execute_is_required() -> None:
    class Nothing(Action[Struct, StringValue]):
        pass

    with pytest.raises(TypeError, match="abstract"):
        Nothing()  # type: ignore[abstract]  # that is the mistake


async def test_without_a_compensation_of_its_own(step: Step) -> None:
    with pytest.raises(Rejected, match="NOT_COMPENSATABLE"):
        await Charge().compensate(Struct(), None, step)
    assert await Refund().compensate(Struct(), None, step) == Noop()
    with pytest.raises(NotImplementedError):
        await Charge().confirm(Struct(), StringValue(), step)


async def test_poll_is_execute_unless_overridden(step: Step) -> None:
    assert await Charge().poll(Struct(), step) == StringValue()
