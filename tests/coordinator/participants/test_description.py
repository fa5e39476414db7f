import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from coordinator.core import limits
from coordinator.participants.description import InvalidDescriptionError, read_description, without_descriptors
from saga.v1.participant_pb2 import Action, DescribeResponse
from tests.coordinator.core.protos import files, proto
from tests.coordinator.participants.fakes import RESERVE, RESERVED, SHOP, description


def problems(described: DescribeResponse) -> tuple[str, ...]:
    with pytest.raises(InvalidDescriptionError) as caught:
        read_description(described.SerializeToString())
    return caught.value.problems


def test_a_good_description_is_taken_as_it_is() -> None:
    described = description("Reserve", "Release")
    assert read_description(described.SerializeToString()) == described


def test_a_participant_without_actions_is_no_error() -> None:
    assert read_description(b"") == DescribeResponse()


def test_what_does_not_decode_is_refused() -> None:
    with pytest.raises(InvalidDescriptionError, match="does not decode"):
        read_description(b"\xff")


@pytest.mark.parametrize("name", ["", "1st", "a/b", "é", "a b", "A" * 129, "_a", "a\n"])
def test_a_bad_name_is_a_problem(name: str) -> None:
    (problem,) = problems(description(name))
    assert "has a bad name" in problem


def test_a_name_may_be_as_long_as_the_limit() -> None:
    read_description(description("A" * limits.NAME_LENGTH_MAX).SerializeToString())


def test_an_action_may_stand_once_only() -> None:
    assert problems(description("Reserve", "Reserve")) == ("action `Reserve` stands there 2 times",)


def test_there_may_not_be_too_many_actions() -> None:
    names = [f"A{number}" for number in range(limits.ACTIONS_MAX + 1)]
    read_description(description(*names[:-1]).SerializeToString())
    assert problems(description(*names)) == ("it has 257 actions; at most 256 are allowed",)


def test_every_type_of_an_action_must_be_described() -> None:
    described = description(descriptors=files(proto("shop.proto", "shop", {"ReserveRequest": []})))
    described.actions.append(Action(name="Ping"))
    assert problems(described) == (
        "action `Reserve`: its descriptors do not hold the output type `shop.Reservation`",
        "action `Ping`: its descriptors do not hold the input type ``",
        "action `Ping`: its descriptors do not hold the output type ``",
    )


def test_an_enum_is_no_message_type() -> None:
    shop = proto("shop.proto", "shop", {"ReserveRequest": []})
    shop.enum_type.add(name="Reservation").value.add(name="NONE", number=0)
    assert problems(description(descriptors=files(shop))) == (
        "action `Reserve`: its descriptors do not hold the output type `shop.Reservation`",
    )


def test_files_that_do_not_stand_by_themselves_are_a_problem() -> None:
    broken = files(proto("a.proto", "shop", {"ReserveRequest": ["x:.shop.Gone"]}, imports=["gone.proto"]))
    assert problems(description(descriptors=broken)) == ("a.proto imports gone.proto, which is not there",)


def test_oversize_descriptors_are_a_problem() -> None:
    big = FileDescriptorSet(file=[SHOP])
    big.file[0].source_code_info.location.add(leading_comments="x" * limits.DESCRIPTOR_BYTES_MAX)
    (problem,) = problems(description(descriptors=big))
    assert "at most 4194304 are allowed" in problem


def test_a_text_that_is_too_long_is_a_problem() -> None:
    described = description()
    described.actions[0].description = "x" * (limits.DESCRIPTION_BYTES_MAX + 1)
    assert problems(described) == ("the text about action `Reserve` is over 4096 bytes",)


def test_all_problems_are_named_at_once() -> None:
    described = description("Reserve", "Reserve", "a b", descriptors=FileDescriptorSet())
    assert len(problems(described)) == 2 + 3 * 2


def test_people_are_shown_all_but_the_files() -> None:
    described = description(version="7")
    short = without_descriptors(described)
    assert not short.HasField("descriptors")
    assert (short.version, [action.input_type for action in short.actions]) == ("7", [RESERVE])
    assert described.HasField("descriptors")
    assert short.actions[0].output_type == RESERVED
