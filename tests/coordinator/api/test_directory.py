from saga.v1 import coordinator_pb2 as pb
from saga.v1.definition_pb2 import SagaDefinition, StepDefinition
from tests.coordinator.api.serving import outcome, serving
from tests.coordinator.engine.bench import Bench
from tests.coordinator.participants.fakes import RESERVE, FakeParticipant, description
from tests.coordinator.participants.fakes import serving as participant_serving


async def test_the_participants_of_the_configuration_are_listed_by_name() -> None:
    async with (
        participant_serving(FakeParticipant()) as target,
        serving(targets={"up": target, "down": "127.0.0.1:1"}) as api,
    ):
        response = await api.directory.ListParticipants(pb.ListParticipantsRequest())
        itself, down, up = response.participants
        assert (itself.name, itself.target, itself.state) == ("coordinator", "", pb.PARTICIPANT_STATE_READY)
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


async def test_g11_what_a_participant_no_longer_fits_is_shown_as_soon_as_it_was_asked_again() -> None:
    step = StepDefinition(name="reserve", participant="shop", action="Reserve", input="input")
    fake, bench = FakeParticipant(), Bench()
    async with participant_serving(fake) as target, serving(bench, targets={"shop": target}) as api:
        bench.descriptions = {"shop": fake.description}
        await bench.definitions.register(SagaDefinition(name="order", input_type=RESERVE, steps=[step]))
        fake.description = description("Other")
        refreshed = await api.directory.RefreshParticipant(pb.RefreshParticipantRequest(name="shop"))
        problem = "order@1 (new sagas start on it), step `reserve`: action `Reserve` is not offered any more"
        assert list(refreshed.participant.problems) == [problem]
        listed = await api.directory.ListParticipants(pb.ListParticipantsRequest())
        assert list(listed.participants)[1:] == [refreshed.participant]
        fake.description = description()
        refreshed = await api.directory.RefreshParticipant(pb.RefreshParticipantRequest(name="shop"))
        assert list(refreshed.participant.problems) == []
