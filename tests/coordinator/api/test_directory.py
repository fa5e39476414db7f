from saga.v1 import coordinator_pb2 as pb
from tests.coordinator.api.serving import outcome, serving
from tests.coordinator.participants.fakes import FakeParticipant
from tests.coordinator.participants.fakes import serving as participant_serving


async def test_the_participants_of_the_configuration_are_listed_by_name() -> None:
    async with (
        participant_serving(FakeParticipant()) as target,
        serving(targets={"up": target, "down": "127.0.0.1:1"}) as api,
    ):
        response = await api.directory.ListParticipants(pb.ListParticipantsRequest())
        down, up = response.participants
        assert (down.name, down.target, down.state) == ("down", "127.0.0.1:1", pb.PARTICIPANT_STATE_UNDESCRIBED)
        assert down.last_failure
        assert (up.name, up.target, up.state) == ("up", target, pb.PARTICIPANT_STATE_READY)
        assert [action.name for action in up.description.actions] == ["Reserve"]
        assert not up.description.HasField("descriptors")


async def test_a_participant_is_asked_again() -> None:
    fake = FakeParticipant()
    async with participant_serving(fake) as target, serving(targets={"shop": target}) as api:
        fake.description.version = "2"
        response = await api.directory.RefreshParticipant(pb.RefreshParticipantRequest(name="shop"))
        assert response.participant.description.version == "2"


async def test_why_a_participant_cannot_be_asked_again_is_told() -> None:
    async with serving(targets={"down": "127.0.0.1:1"}) as api:
        for name, expected in {
            "down": ("UNAVAILABLE", "PARTICIPANT_UNAVAILABLE"),
            "unknown": ("NOT_FOUND", "PARTICIPANT_NOT_FOUND"),
            "127.0.0.1:1": ("NOT_FOUND", "PARTICIPANT_NOT_FOUND"),  # a name, never an address
            "": ("INVALID_ARGUMENT", "INVALID_REQUEST"),
        }.items():
            request = pb.RefreshParticipantRequest(name=name)
            assert await outcome(api.directory.RefreshParticipant(request)) == expected
