import json
from collections.abc import Callable

import pytest
from rich.text import Text

from coordinator.cli.output import json_text, short_name, show, show_line, table, visible
from saga.v1.types_pb2 import StepState

LONG_ID = "order-" + "x" * 300


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_pipe_gets_whole_ids_no_colours_and_no_padding(capsys: pytest.CaptureFixture[str]) -> None:
    show(table(["ID", "STATE", "NOTE"], [[LONG_ID, Text("FAILED", style="bold red"), ""], ["b", "RUNNING", "wait"]]))
    header, first, second = lines(capsys)
    assert header.split() == ["ID", "STATE", "NOTE"]
    assert first.split() == [LONG_ID, "FAILED", "-"]
    assert second.split() == ["b", "RUNNING", "wait"]
    assert not any(line.endswith(" ") or "\x1b" in line for line in (header, first, second))


@pytest.mark.parametrize("write", [show, show_line])
def test_markup_is_text(capsys: pytest.CaptureFixture[str], write: Callable[[Text], None]) -> None:
    write(Text("[red]:smile: 'a' 12"))
    assert lines(capsys) == ["[red]:smile: 'a' 12"]


def test_a_line_is_never_broken(capsys: pytest.CaptureFixture[str]) -> None:
    show_line(Text("x" * 200_000))
    assert lines(capsys) == ["x" * 200_000]


def test_columns_without_content_can_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    show(table(["A", "B", "C"], [["1", "", ""], ["2", "", "3"]], drop_empty=True))
    assert [line.split() for line in lines(capsys)] == [["A", "C"], ["1", "-"], ["2", "3"]]


def test_control_characters_are_written_out() -> None:
    assert visible("a\x1b[31m\nb\u202ec é 日") == "a\\x1b[31m\\nb\\u202ec é 日"


def test_json_is_readable_and_steers_nothing() -> None:
    document = {"name": "Jürgen \x1b\x9b\u202e", "n": [1, 2]}
    text = json_text(document)
    assert text == '{"name": "Jürgen \\u001b\\u009b\\u202e", "n": [1, 2]}'
    assert json.loads(text) == document


def test_enum_values_lose_their_prefix_and_newer_ones_are_numbers() -> None:
    assert short_name(StepState.DESCRIPTOR, StepState.STEP_STATE_COMPENSATION_FAILED) == "COMPENSATION_FAILED"
    assert short_name(StepState.DESCRIPTOR, 99) == "99"
