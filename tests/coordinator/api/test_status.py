"""One table from errors to google.rpc.Status."""

import inspect

import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from coordinator.api import errors as api_errors
from coordinator.api.status import bad_request, describe, to_status
from coordinator.core import limits
from coordinator.core.definition import Problem
from coordinator.core.forbidden import Forbidden
from coordinator.engine import errors as engine
from coordinator.journal import errors as journal
from coordinator.participants.directory import DescribeFailedError, UnknownParticipantError
from saga.v1.coordinator_pb2 import StartSagaRequest
from saga.v1.definition_pb2 import RegisterDefinitionRequest
from tests.coordinator.api.serving import code_and_reason, code_name, detail, failure, kinds, serving
from tests.coordinator.engine.bench import definition, step

PROBLEM = Problem("input", "there is no input", "an input")

TABLE: list[tuple[Exception, str, str, set[str]]] = [
    (api_errors.Malformed("no message"), "INVALID_ARGUMENT", "INVALID_REQUEST", set()),
    (api_errors.InvalidPageToken(), "INVALID_ARGUMENT", "INVALID_REQUEST", {"BadRequest"}),
    (api_errors.TooLarge(5), "RESOURCE_EXHAUSTED", "OVER_LIMIT", set()),
    (api_errors.Unsupported("RetrySaga"), "UNIMPLEMENTED", "UNSUPPORTED", set()),
    (engine.InvalidRequest([PROBLEM]), "INVALID_ARGUMENT", "INVALID_REQUEST", {"BadRequest"}),
    (engine.InvalidDefinition([PROBLEM]), "INVALID_ARGUMENT", "DEFINITION_INVALID", {"BadRequest"}),
    (engine.DefinitionNotFound("order", 1), "NOT_FOUND", "DEFINITION_NOT_FOUND", set()),
    (engine.DefinitionDeprecated("order", 1), "FAILED_PRECONDITION", "DEFINITION_DEPRECATED", set()),
    (engine.NoChildFits("order", "ship", "parcel", "gone"), "FAILED_PRECONDITION", "NO_CHILD_FITS", set()),
    (engine.Overloaded("starts wait"), "RESOURCE_EXHAUSTED", "OVERLOADED", {"RetryInfo"}),
    (engine.KeyReused("k"), "FAILED_PRECONDITION", "KEY_REUSED", set()),
    (engine.StartedDifferently("s"), "ALREADY_EXISTS", "SAGA_EXISTS", set()),
    (engine.SagaRetired("s", "COMPLETED"), "ALREADY_EXISTS", "SAGA_EXISTS", set()),
    (engine.SequenceMismatch("s", 1, 2), "ABORTED", "SEQUENCE_MISMATCH", set()),
    (engine.OverLimit("full", 2 * limits.SECOND_NS), "RESOURCE_EXHAUSTED", "OVER_LIMIT", {"RetryInfo"}),
    (engine.ShuttingDown(), "UNAVAILABLE", "SHUTTING_DOWN", {"RetryInfo"}),
    (Forbidden("it ended", "start another"), "FAILED_PRECONDITION", "STATE_FORBIDS", {"PreconditionFailure"}),
    (journal.SagaNotFound("s"), "NOT_FOUND", "SAGA_NOT_FOUND", set()),
    (journal.SagaExists("s"), "ALREADY_EXISTS", "SAGA_EXISTS", set()),
    (journal.Conflict("s", 3, 4), "ABORTED", "SEQUENCE_MISMATCH", set()),
    (journal.UnreadableSaga("s", "garbage"), "FAILED_PRECONDITION", "SAGA_UNREADABLE", set()),
    (journal.JournalUnavailable("disk full"), "UNAVAILABLE", "JOURNAL_UNAVAILABLE", {"RetryInfo"}),
    (UnknownParticipantError("who?"), "NOT_FOUND", "PARTICIPANT_NOT_FOUND", set()),
    (DescribeFailedError("it is down"), "UNAVAILABLE", "PARTICIPANT_UNAVAILABLE", set()),
    (KeyError("secret"), "INTERNAL", "INTERNAL", set()),
]


@pytest.mark.parametrize(("error", "code", "reason", "with_details"), TABLE, ids=lambda value: type(value).__name__)
def test_an_error_has_its_code_its_reason_and_its_details(
    error: Exception, code: str, reason: str, with_details: set[str]
) -> None:
    status = to_status(error)
    assert code_and_reason(status) == (code, reason)
    assert set(kinds(status)) == with_details
    if code != "INTERNAL":
        assert status.message == str(error)


def test_every_error_that_can_reach_a_caller_is_in_the_table() -> None:
    at_open = {journal.JournalUnusable, journal.JournalLocked, journal.NotAJournal}
    at_open |= {journal.SchemaTooNew, journal.SchemaTooOld}
    of_imports = {journal.DefinitionExists}
    bases = {engine.EngineError, journal.JournalError}
    for module in (api_errors, engine, journal):
        declared = {
            kind
            for _, kind in inspect.getmembers(module, inspect.isclass)
            if issubclass(kind, Exception) and kind.__module__ == module.__name__
        }
        assert declared - bases - at_open - of_imports <= {type(error) for error, *_ in TABLE}


def test_what_nobody_foresaw_is_logged_and_its_text_goes_nowhere_else(caplog: pytest.LogCaptureFixture) -> None:
    status = to_status(KeyError("secret"))
    assert "secret" not in str(status)
    assert "secret" in caplog.text


def test_an_error_is_shown_as_its_nearest_kind_in_the_table() -> None:
    class FullDisk(journal.JournalUnavailable):
        pass

    assert code_and_reason(to_status(FullDisk("full"))) == ("UNAVAILABLE", "JOURNAL_UNAVAILABLE")


def test_details_say_what_to_do() -> None:
    retry = detail(to_status(engine.OverLimit("full", 2_500_000_000)), RetryInfo).retry_delay
    assert (retry.seconds, retry.nanos) == (2, 500_000_000)
    (violation,) = detail(to_status(Forbidden("it ended", "start another")), PreconditionFailure).violations
    assert (violation.type, violation.subject) == ("STATE", "saga")
    assert violation.description == "it ended; start another"


def test_a_problem_is_described_in_one_line() -> None:
    assert describe(Problem("p", "wrong")) == "wrong"
    assert describe(Problem("p", "wrong", "right")) == "wrong (expected: right)"
    assert describe(Problem("p", "wrong", "right", line=3, column=7)) == "3:7: wrong (expected: right)"


def test_all_problems_are_named() -> None:
    problems = [Problem(f"labels['{n}']", "too long", "short") for n in range(20)]
    status = to_status(engine.InvalidRequest(problems))
    violations = detail(status, BadRequest).field_violations
    assert [violation.field for violation in violations] == [problem.path for problem in problems]
    assert detail(status, ErrorInfo).metadata == {"problems": "20"}


@pytest.mark.parametrize("character", ["x", "€", "😀"])
@pytest.mark.parametrize("count", [1, 200])
def test_g14_details_are_capped_and_the_problems_all_counted(character: str, count: int) -> None:
    problems = [Problem(f"steps[{n}].{character * 400}", character * 400, character * 400) for n in range(count)]
    status = to_status(engine.InvalidDefinition(problems))
    assert detail(status, BadRequest).field_violations
    assert detail(status, ErrorInfo).metadata == {"problems": str(count)}
    assert status.ByteSize() <= limits.ERROR_DETAIL_BYTES_MAX
    _fits_into_trailers(status)


@pytest.mark.parametrize(
    "error",
    [
        journal.UnreadableSaga("s", "😀" * 5000),
        Forbidden("€" * 5000, "x" * 5000),
        engine.DefinitionNotFound("x" * 100_000, 1),
        DescribeFailedError("€" * 5000),
    ],
)
def test_g14_no_text_is_too_long(error: Exception) -> None:
    status = to_status(error)
    assert status.message
    assert status.ByteSize() <= limits.ERROR_DETAIL_BYTES_MAX
    _fits_into_trailers(status)


def _fits_into_trailers(status: Status) -> None:
    """grpc-message is percent-encoded, the details are base64; above 8 KiB in all gRPC drops the call."""
    percent_encoded = 3 * len(status.message.encode())
    base64 = -(-status.ByteSize() // 3) * 4
    assert percent_encoded + base64 < 8000


def test_only_as_many_violations_as_there_is_room_for() -> None:
    problems = [Problem("p" * 500, "m" * 500)] * 10
    assert 0 < len(bad_request(problems).field_violations) < 10
    assert bad_request([]) == BadRequest()


def test_the_status_can_be_given_to_grpc() -> None:
    for error, code, *_ in TABLE:
        status = rpc_status.to_status(to_status(error))
        assert status.code.name == code


# --- Over the wire ----------------------------------------------------------------------------------------------------


async def test_g13_two_hundred_problems_arrive() -> None:
    async with serving() as api:
        labels = {f"{'ü' * 20}{n}": "" for n in range(200)}
        status = await failure(api.sagas.StartSaga(StartSagaRequest(labels=labels)))
        assert code_name(status) == "INVALID_ARGUMENT"
        assert detail(status, ErrorInfo).metadata == {"problems": "203"}  # definition, input and their number, too
        fields = [violation.field for violation in detail(status, BadRequest).field_violations]
        assert fields[:3] == ["definition", "input", "labels"]
        assert len(fields) > 20

        steps = [step(f"s{n}", input="nonsense" * 20) for n in range(200)]
        asked = RegisterDefinitionRequest(definition=definition(*steps))
        status = await failure(api.definitions.RegisterDefinition(asked))
        assert code_and_reason(status) == ("INVALID_ARGUMENT", "DEFINITION_INVALID")
        assert int(detail(status, ErrorInfo).metadata["problems"]) >= 200
