import pytest
from google.rpc.error_details_pb2 import ErrorInfo

from coordinator.api import paging
from coordinator.core import limits
from saga.v1 import definition_pb2 as pb
from tests.coordinator.api.serving import Api, code_and_reason, detail, failure, fields, outcome, serving
from tests.coordinator.engine.bench import EXECUTE, accepted, definition, request, step


async def register(api: Api, description: str = "", name: str = "order") -> pb.RegisterDefinitionResponse:
    asked = definition(step("a"), name=name, description=description)
    response: pb.RegisterDefinitionResponse = await api.definitions.RegisterDefinition(
        pb.RegisterDefinitionRequest(definition=asked)
    )
    return response


async def test_a_definition_is_registered_once() -> None:
    async with serving() as api:
        first, again, other = await register(api), await register(api), await register(api, "another")
        assert (first.created, again.created, other.created) == (True, False, True)
        assert [r.definition.version for r in (first, again, other)] == [1, 1, 2]
        assert first.metadata == again.metadata
        assert first.metadata.HasField("create_time")
        assert len(first.metadata.digest) == 64
        assert first.metadata.digest != other.metadata.digest


async def test_g13_every_problem_of_a_definition_is_named() -> None:
    async with serving() as api:
        wrong = definition(step("a", input="nonsense"), step("b", action="Unknown"), name="1")
        status = await failure(api.definitions.RegisterDefinition(pb.RegisterDefinitionRequest(definition=wrong)))
        assert code_and_reason(status) == ("INVALID_ARGUMENT", "DEFINITION_INVALID")
        assert {field.partition(".")[0] for field in fields(status)} == {"name", "steps[0]", "steps[1]"}
        dry = await api.definitions.ValidateDefinition(pb.ValidateDefinitionRequest(definition=wrong))
        assert [problem.path for problem in dry.problems] == list(fields(status))
        assert detail(status, ErrorInfo).metadata["problems"] == str(len(dry.problems))
        nonsense = next(problem for problem in dry.problems if problem.path == "steps[0].input")
        assert (nonsense.line, nonsense.column) == (1, 1)
        assert nonsense.message


async def test_an_empty_request_is_a_definition_with_problems() -> None:
    async with serving() as api:
        asked = pb.RegisterDefinitionRequest()
        assert await outcome(api.definitions.RegisterDefinition(asked)) == ("INVALID_ARGUMENT", "DEFINITION_INVALID")
        assert (await api.definitions.ValidateDefinition(pb.ValidateDefinitionRequest())).problems


async def test_validating_a_good_definition_finds_nothing_and_stores_nothing() -> None:
    async with serving() as api:
        good = pb.ValidateDefinitionRequest(definition=definition(step("a")))
        assert not (await api.definitions.ValidateDefinition(good)).problems
        assert not (await api.definitions.ListDefinitions(pb.ListDefinitionsRequest())).definitions


async def test_a_version_is_shown_with_its_types() -> None:
    async with serving() as api:
        await register(api)
        await register(api, "another")
        newest = await api.definitions.GetDefinition(pb.GetDefinitionRequest(name="order"))
        assert newest.definition.version == 2
        first = await api.definitions.GetDefinition(pb.GetDefinitionRequest(name="order", version=1))
        assert first.definition == definition(step("a"), version=1)
        assert [file.name for file in first.descriptors.file] == ["shop.proto"]


async def test_how_many_sagas_are_unfinished_is_shown() -> None:
    async with serving() as api:
        await register(api)
        api.bench.participants.script("a", EXECUTE, accepted(3600))
        for saga_id in ("s", "t"):
            await api.sagas.StartSaga(request(saga_id))
        for metadata in (
            (await api.definitions.GetDefinition(pb.GetDefinitionRequest(name="order"))).metadata,
            (await api.definitions.ListDefinitions(pb.ListDefinitionsRequest())).definitions[0].metadata,
            (await register(api)).metadata,
        ):
            assert metadata.unfinished_saga_count == 2


async def test_a_deprecated_version_takes_no_new_sagas() -> None:
    async with serving() as api:
        await register(api)
        asked = pb.DeprecateDefinitionRequest(name="order", version=1)
        for _ in range(2):
            response = await api.definitions.DeprecateDefinition(asked)
            assert response.metadata.deprecated
            assert response.definition.version == 1
        assert await outcome(api.sagas.StartSaga(request())) == ("FAILED_PRECONDITION", "DEFINITION_DEPRECATED")
        (entry,) = (await api.definitions.ListDefinitions(pb.ListDefinitionsRequest())).definitions
        assert entry.metadata.deprecated


async def test_what_does_not_exist_is_not_found_and_what_is_not_named_is_refused() -> None:
    async with serving() as api:
        await register(api)
        cases = {
            api.definitions.GetDefinition(pb.GetDefinitionRequest(name="x")): "NOT_FOUND",
            api.definitions.GetDefinition(pb.GetDefinitionRequest(name="order", version=2)): "NOT_FOUND",
            api.definitions.GetDefinition(pb.GetDefinitionRequest()): "INVALID_ARGUMENT",
            api.definitions.DeprecateDefinition(pb.DeprecateDefinitionRequest(name="order", version=2)): "NOT_FOUND",
        }
        for call, code in cases.items():
            assert (await outcome(call))[0] == code
        status = await failure(api.definitions.DeprecateDefinition(pb.DeprecateDefinitionRequest()))
        assert fields(status) == ["name", "version"]


# --- Lists ------------------------------------------------------------------------------------------------------------


async def _walk(api: Api, size: int, name: str = "") -> tuple[list[tuple[str, int]], int]:
    """All that is listed, and how many pages that took."""
    listed: list[tuple[str, int]] = []
    page_token, pages = "", 0
    while page_token or not pages:
        response = await api.definitions.ListDefinitions(
            pb.ListDefinitionsRequest(name=name, page_size=size, page_token=page_token)
        )
        listed += [(entry.definition.name, entry.definition.version) for entry in response.definitions]
        page_token, pages = response.next_page_token, pages + 1
    return listed, pages


async def _five_versions(api: Api) -> list[tuple[str, int]]:
    for name, count in (("a", 2), ("b", 3)):
        for number in range(count):
            await register(api, str(number), name)
    return [("a", 2), ("a", 1), ("b", 3), ("b", 2), ("b", 1)]


@pytest.mark.parametrize(("size", "pages"), [(0, 1), (1, 5), (2, 3), (5, 1), (1000, 1), (9999, 1)])
async def test_all_versions_are_listed_page_by_page(size: int, pages: int) -> None:
    async with serving() as api:
        versions = await _five_versions(api)
        assert await _walk(api, size) == (versions, pages)


async def test_versions_of_one_definition_are_listed() -> None:
    async with serving() as api:
        await _five_versions(api)
        assert await _walk(api, 2, "b") == ([("b", 3), ("b", 2), ("b", 1)], 2)
        assert await _walk(api, 2, "x") == ([], 1)


async def test_g14_a_page_that_would_not_fit_into_an_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as api:
        versions = await _five_versions(api)
        monkeypatch.setattr(paging, "ROOM_BYTES", 700)
        listed, pages = await _walk(api, 0)
        assert listed == versions
        assert 1 < pages <= 5


async def test_bad_pages_are_refused() -> None:
    async with serving() as api:
        await _five_versions(api)
        page = await api.definitions.ListDefinitions(pb.ListDefinitionsRequest(name="a", page_size=1))
        foreign = pb.ListDefinitionsRequest(name="b", page_token=page.next_page_token)
        for asked in (foreign, pb.ListDefinitionsRequest(page_token="x"), pb.ListDefinitionsRequest(page_size=-1)):
            assert await outcome(api.definitions.ListDefinitions(asked)) == ("INVALID_ARGUMENT", "INVALID_REQUEST")


def test_the_default_is_that_of_the_contract() -> None:
    assert limits.DEFINITIONS_PAGE_SIZE_DEFAULT == 100
