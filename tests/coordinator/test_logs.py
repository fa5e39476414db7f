import json
import logging
import sys
from collections.abc import Iterator

import pytest

from coordinator.logs import JsonFormatter, TextFormatter, set_up


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("coordinator.saga", logging.INFO, __file__, 1, message, args, None)
    made.created, made.msecs = 1_700_000_000.25, 250
    vars(made).update(extra)
    return made


@pytest.fixture
def _logging_as_it_was() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("coordinator")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def test_text_is_a_line_with_names_and_values() -> None:
    line = TextFormatter().format(record("saga %s", "ended", saga_id="s-1", events=8, reason="", why="two words"))
    assert line == '2023-11-14T22:13:20.250Z INFO    saga ended saga_id=s-1 events=8 why="two words"'


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\x1b[2Jb", 'a"b', "a\u2028b"])
def test_what_comes_from_outside_makes_no_second_line(value: str) -> None:
    line = TextFormatter().format(record("%s", value, reason=value))
    assert line.isprintable()
    assert len(line.splitlines()) == 1


def test_json_is_an_object_in_a_line() -> None:
    line = JsonFormatter().format(record("saga %s", "ended", saga_id="s\n1", events=8, path=sys))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "logger": "coordinator.saga",
        "message": "saga ended",
        "saga_id": "s\n1",
        "events": 8,
        "path": str(sys),
    }


def test_exceptions_are_shown_with_their_traceback() -> None:
    failed = record("it failed")
    try:
        raise ValueError("why")
    except ValueError:
        failed.exc_info = sys.exc_info()
    first, *rest = TextFormatter().format(failed).splitlines()
    assert first.endswith("it failed")
    assert rest[-1] == "ValueError: why"
    assert json.loads(JsonFormatter().format(failed))["exception"].endswith("ValueError: why")


@pytest.mark.usefixtures("_logging_as_it_was")
@pytest.mark.parametrize("style", ["text", "json"])
def test_logs_go_to_the_standard_error(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    set_up("info", style)
    set_up("info", style)  # twice is once
    log = logging.getLogger("coordinator.somewhere")
    log.info("hello", extra={"saga_id": "s"})
    log.debug("nobody wants to know")
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert "hello" in line
    assert line.startswith("{") == (style == "json")


@pytest.mark.usefixtures("_logging_as_it_was")
def test_the_level_is_the_coordinators_own(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("debug", "text")
    logging.getLogger("coordinator.somewhere").debug("ours")
    logging.getLogger("somebody.else").debug("theirs")
    set_up("error", "text")
    logging.getLogger("coordinator.somewhere").warning("not bad enough")
    assert [line.split()[-1] for line in capsys.readouterr().err.splitlines()] == ["ours"]
