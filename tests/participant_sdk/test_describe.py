from datetime import timedelta
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import StringValue

from participant_sdk import PIVOT, RESERVABLE, Action, Step, describe
from saga.v1.participant_pb2 import StepContext
from saga.v1.types_pb2 import STEP_KIND_COMPENSATABLE, STEP_KIND_RESERVABLE
from tests.participant_sdk.support import Scripted


class Charge(Action[StepContext, StringValue]):
    """Charges a card."""

    kinds = (PIVOT,)

    async def execute(self, request: StepContext, step: Step) -> StringValue:
        return StringValue()


def test_describes_from_the_annotations() -> None:
    description = describe.describe(
        "payment", "1.2", [Scripted(), Charge()], barriered=True, key_retention=timedelta(days=30)
    )
    scripted, charge = description.actions
    assert (description.participant, description.version, description.barriered) == ("payment", "1.2", True)
    assert description.key_retention.ToTimedelta() == timedelta(days=30)
    assert (scripted.input_type, scripted.output_type) == ("google.protobuf.Struct", "google.protobuf.StringValue")
    assert list(scripted.kinds) == [STEP_KIND_COMPENSATABLE, STEP_KIND_RESERVABLE]
    assert [(reason.reason, reason.description) for reason in scripted.rejection_reasons] == [
        ("SOLD_OUT", "Nothing is left.")
    ]
    assert (charge.name, charge.description) == ("Charge", "Charges a card.")
    assert not description.HasField("exchange")


def test_without_key_retention_it_is_not_said() -> None:
    assert not describe.describe("p", "", [Charge()], barriered=False, key_retention=None).HasField("key_retention")


def test_descriptors_come_with_their_imports_each_before_its_importer() -> None:
    files = describe.describe("p", "", [Charge(), Scripted()], barriered=True, key_retention=None).descriptors.file
    names = [file.name for file in files]
    assert len(set(names)) == len(names)
    for position, file in enumerate(files):
        assert set(file.dependency) <= set(names[:position])
    assert {"saga/v1/participant.proto", "google/rpc/status.proto", "google/protobuf/struct.proto"} <= set(names)
    pool = describe.descriptor_pool(descriptor_pb2.FileDescriptorSet(file=files))
    assert pool.FindMessageTypeByName("saga.v1.StepContext").fields_by_name["attempt"]


def message_in_file(name: str, field: str) -> type[Message]:
    """A message type of a pool of its own, as a participant with descriptors from elsewhere has them."""
    file = descriptor_pb2.FileDescriptorProto(name=name, package="shop", syntax="proto3")
    file.message_type.add(name="Order").field.add(
        name=field, number=1, type=descriptor_pb2.FieldDescriptorProto.TYPE_STRING
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Order"))


def action_of(types: Any) -> Action[Any, Any, Any]:
    class Dynamic(Action[types, StringValue]):
        kinds = (PIVOT,)

        async def execute(self, request: Any, step: Step) -> StringValue:
            return StringValue()

    Dynamic.name = types.DESCRIPTOR.fields[0].name
    return Dynamic()


def test_types_of_a_pool_of_their_own() -> None:
    action = action_of(message_in_file("order.proto", "sku"))
    description = describe.describe("p", "", [action], barriered=True, key_retention=None)
    assert description.actions[0].input_type == "shop.Order"
    assert "order.proto" in [file.name for file in description.descriptors.file]


def test_two_files_of_one_name_that_differ() -> None:
    actions = [action_of(message_in_file("order.proto", field)) for field in ("sku", "number")]
    with pytest.raises(ValueError, match=r"two files are named order\.proto"):
        describe.describe("p", "", actions, barriered=True, key_retention=None)


class TestActionsByName:
    def test_by_name(self) -> None:
        charge = Charge()
        assert describe.actions_by_name([charge]) == {"Charge": charge}

    def test_none(self) -> None:
        with pytest.raises(ValueError, match="1 to 256 actions"):
            describe.actions_by_name([])

    def test_two_of_one_name(self) -> None:
        with pytest.raises(ValueError, match="two actions are named Charge"):
            describe.actions_by_name([Charge(), Charge()])

    def test_a_name_that_definitions_cannot_use(self) -> None:
        class Odd(Charge):
            name = "charge-card"

        with pytest.raises(ValueError, match="not a name"):
            describe.actions_by_name([Odd()])

    def test_no_kinds(self) -> None:
        class Kindless(Charge):
            kinds = ()  # type: ignore[assignment]  # that is the mistake

        with pytest.raises(ValueError, match="kinds is empty"):
            describe.actions_by_name([Kindless()])

    def test_a_kind_without_its_handler(self) -> None:
        class Reserve(Action[Struct, Struct]):
            async def execute(self, request: Struct, step: Step) -> Struct:
                return Struct()

        with pytest.raises(ValueError, match="needs `compensate`"):
            describe.actions_by_name([Reserve()])

        class Hold(Reserve):
            kinds = (RESERVABLE,)

            async def compensate(self, request: Struct, output: Struct | None, step: Step) -> None:
                return None

        with pytest.raises(ValueError, match="needs `confirm`"):
            describe.actions_by_name([Hold()])
