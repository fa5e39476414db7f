"""A line per transition and end at debug, a line per saga that went back at info, never a payload."""

import logging

import pytest

from coordinator.logs import JsonFormatter, TextFormatter
from tests.coordinator.engine.bench import COMPENSATE, EXECUTE, REFUSED, bench, done, step

SECRET = "card-4242"


async def _run(caplog: pytest.LogCaptureFixture, level: int) -> None:
    caplog.set_level(level, "coordinator")
    async with bench() as b:
        await b.register(step("a"), step("b"), output="b")
        b.participants.script("a", EXECUTE, done(SECRET))
        b.participants.script("b", EXECUTE, done(SECRET), REFUSED)
        b.participants.script("a", COMPENSATE, REFUSED)
        await b.start("well", SECRET)
        await b.ended("well")
        await b.start("stranded", SECRET)
        await b.ended("stranded")
        b.participants.script("a", EXECUTE, REFUSED)
        await b.start("back", SECRET)
        await b.ended("back")


async def test_every_transition_is_a_line_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    await _run(caplog, logging.DEBUG)
    lines = [record for record in caplog.records if record.message == "saga transition" and _is_of(record, "well")]
    assert {record.levelno for record in lines} == {logging.DEBUG}
    assert [vars(record)["sequence"] for record in lines] == list(range(1, 9))
    assert [vars(record)["event"] for record in lines][:3] == ["saga_created", "saga_started", "attempt_started"]
    started = vars(lines[2])
    assert (started["step"], started["operation"], started["attempt"]) == ("a", "EXECUTE", 1)


async def test_every_end_is_a_line_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    await _run(caplog, logging.DEBUG)
    [well] = [vars(record) for record in caplog.records if record.message == "saga ended" and _is_of(record, "well")]
    assert (well["levelname"], well["state"], well["definition"], well["events"]) == (
        "DEBUG",
        "COMPLETED",
        "order@1",
        8,
    )
    assert well["duration_ms"] >= 0


async def test_a_saga_that_went_back_is_a_line_at_info_and_one_that_needs_an_operator_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await _run(caplog, logging.INFO)
    stranded, back = [vars(record) for record in caplog.records if record.name == "coordinator.saga"]
    assert (back["message"], back["levelname"], back["saga_id"], back["state"]) == (
        "saga ended",
        "INFO",
        "back",
        "COMPENSATED",
    )
    assert (stranded["message"], stranded["levelname"]) == ("saga needs an operator", "WARNING")
    assert (stranded["state"], stranded["failure"], stranded["failed_step"], stranded["reason"]) == (
        "FAILED",
        "REJECTED",
        "b",
        "NO",
    )


async def test_no_line_has_a_payload(caplog: pytest.LogCaptureFixture) -> None:
    await _run(caplog, logging.DEBUG)
    assert len(caplog.records) > 15
    for formatter in (TextFormatter(), JsonFormatter()):
        assert not [line for line in map(formatter.format, caplog.records) if SECRET in line]


async def test_nothing_is_formatted_that_nobody_reads(caplog: pytest.LogCaptureFixture) -> None:
    await _run(caplog, logging.ERROR)
    assert not [record for record in caplog.records if record.name == "coordinator.saga"]


def _is_of(record: logging.LogRecord, saga_id: str) -> bool:
    return bool(vars(record).get("saga_id") == saga_id)
