"""What a test may expect of the log."""

import logging

import pytest


def logged(caplog: pytest.LogCaptureFixture, level: int = logging.NOTSET) -> list[logging.LogRecord]:
    """What was logged at that level or above.

    All event loops of a process share one queue of gRPC's, which can still have news for the loop of a test that is
    over; that it finds it closed is said by asyncio, and says nothing of the test that runs.
    """
    return [record for record in caplog.records if record.levelno >= level and not _is_of_a_loop_that_ended(record)]


def _is_of_a_loop_that_ended(record: logging.LogRecord) -> bool:
    return record.name == "asyncio" and "PollerCompletionQueue" in record.getMessage()
