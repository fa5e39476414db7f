"""Failpoints: what arms them, what they do, and what is said of a text that cannot be understood."""

import asyncio
import logging
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coordinator import failpoints
from coordinator.cli import app
from coordinator.cli.errors import ExitCode
from coordinator.failpoints import Failpoint, FailpointsError, Injected
from saga.v1.types_pb2 import OPERATION_COMPENSATE, OPERATION_EXECUTE

POINT = Failpoint.JOURNAL_BEFORE_COMMIT
DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def times_raised(times: int) -> list[int]:
    """At which of so many times it raises."""
    raised = []
    for number in range(1, times + 1):
        try:
            failpoints.hit(POINT)
        except Injected:
            raised.append(number)
    return raised


@pytest.mark.parametrize(("at", "expected"), [("", [1, 2, 3, 4]), ("@3", [3]), ("@3+", [3, 4]), ("@5", [])])
def test_it_acts_at_the_time_that_is_said(at: str, expected: list[int]) -> None:
    failpoints.arm(f"journal.before_commit=raise{at}")
    assert times_raised(4) == expected


def test_nothing_happens_while_none_is_armed() -> None:
    assert times_raised(3) == []
    failpoints.arm("journal.after_commit=raise")
    assert times_raised(3) == []


def test_arming_begins_anew() -> None:
    failpoints.arm("journal.before_commit=raise@2")
    assert times_raised(1) == []
    failpoints.arm("journal.before_commit=raise@2")
    assert times_raised(3) == [2]


def test_raise_is_what_a_failure_there_is() -> None:
    failpoints.arm("journal.before_commit=raise")
    with pytest.raises(sqlite3.OperationalError, match=r"failpoint journal\.before_commit"):
        failpoints.hit(POINT, error=sqlite3.OperationalError)


def test_only_what_it_is_narrowed_to_counts() -> None:
    failpoints.arm("dispatch.before_call(saga=order-* step=charge operation=EXECUTE)=raise@2")
    point = Failpoint.DISPATCH_BEFORE_CALL
    for saga, step, operation in (
        ("order-1", "charge", OPERATION_EXECUTE),
        ("other-1", "charge", OPERATION_EXECUTE),
        ("order-1", "ship", OPERATION_EXECUTE),
        ("order-1", "charge", OPERATION_COMPENSATE),
    ):
        failpoints.hit(point, sagas=(saga,), step=step, operation=operation)
    with pytest.raises(Injected):
        failpoints.hit(point, sagas=("order-2",), step="charge", operation=OPERATION_EXECUTE)


def test_of_a_group_any_saga_and_any_event_counts() -> None:
    failpoints.arm("journal.before_commit(saga=b)=raise@1, append.after(event=attempt_lost)=raise@1")
    with pytest.raises(Injected):
        failpoints.hit(POINT, sagas=(saga for saga in "abc"))
    failpoints.hit(Failpoint.APPEND_AFTER, events=["step_started"])
    with pytest.raises(Injected):
        failpoints.hit(Failpoint.APPEND_AFTER, events=["attempt_lost", "step_started"])


def test_those_that_are_due_at_once_all_act(caplog: pytest.LogCaptureFixture) -> None:
    failpoints.arm("journal.before_commit=raise@1, journal.before_commit(saga=a)=delay:1ms@1")
    with pytest.raises(Injected):
        failpoints.hit(POINT, sagas="a")
    reached = [record.failpoint for record in caplog.records if record.message == "failpoint reached"]  # type: ignore[attr-defined]  # in `extra`
    assert reached == ["journal.before_commit=raise@1", "journal.before_commit(saga=a)=delay:1ms@1"]


def test_a_delay_holds_up_its_thread() -> None:
    failpoints.arm("journal.before_commit=delay:30ms")
    begun = time.monotonic()
    failpoints.hit(POINT)
    assert time.monotonic() - begun >= 0.03


async def test_a_delay_on_the_event_loop_lets_others_go_on() -> None:
    failpoints.arm("append.before=delay:1000s")
    waiting = asyncio.ensure_future(failpoints.reached(Failpoint.APPEND_BEFORE))
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_raise_on_the_event_loop() -> None:
    failpoints.arm("append.before=raise")
    with pytest.raises(TimeoutError):
        await failpoints.reached(Failpoint.APPEND_BEFORE, error=TimeoutError)


def test_kill_ends_the_process_and_the_log_says_so() -> None:
    program = (
        "from coordinator import failpoints, logs; logs.set_up('info', 'text');"
        "failpoints.arm('journal.before_commit=kill@2');"
        "[(print(n, flush=True), failpoints.hit(failpoints.Failpoint.JOURNAL_BEFORE_COMMIT)) for n in (1, 2, 3)]"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert ended.stdout == "1\n2\n"
    armed, reached = ended.stderr.splitlines()
    assert "WARNING" in armed
    assert "FAILPOINTS ARE ARMED" in armed
    assert "failpoint reached failpoint=journal.before_commit=kill@2" in reached


def test_it_is_said_once_and_loudly_that_they_are_armed(caplog: pytest.LogCaptureFixture) -> None:
    failpoints.arm("")
    assert caplog.records == []
    failpoints.arm("append.before=raise@1, append.after=delay:1s")
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.failpoints == "append.before=raise@1, append.after=delay:1s"  # type: ignore[attr-defined]  # in `extra`


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("journal.before_comit=kill", "no failpoint `journal.before_comit`; did you mean `journal.before_commit`?"),
        ("nonsense=kill", "no failpoint `nonsense`; there are: start.before_append, "),
        ("append.before", "it is not POINT=ACTION"),
        ("append.before=", "it is not POINT=ACTION"),
        ("append.before(saga=a=kill", "it is not POINT=ACTION"),
        ("append.before=explode", "`explode` is not an action; expected: kill, raise or delay:LENGTH"),
        ("append.before=delay", "`delay` is not an action"),
        ("append.before=delay:2h", "`delay:2h` is not an action"),
        ("append.before=kill:2s", "`kill:2s` is not an action"),
        ("append.before=kill@0", "`@0` is not @N or @N+, with N from 1"),
        ("append.before=kill@two", "`@two` is not @N or @N+"),
        ("append.before(saga)=kill", "`saga` is not KEY=PATTERN"),
        ("append.before(step=a)=kill", "cannot be narrowed by `step`; it can be narrowed only by saga and event"),
        ("drain.begin(saga=a)=kill", "cannot be narrowed by `saga`; nor by anything else"),
        (
            "dispatch.before_call(operation=EXEC)=kill",
            "no operation fits `EXEC`; did you mean `EXECUTE`? there are: EXECUTE, COMPENSATE, CONFIRM",
        ),
        ("poll.before_call(operation=confirm)=kill", "no operation fits `confirm`; did you mean `CONFIRM`? there are:"),
        ("append.before(event=nonsense)=kill", "no event fits `nonsense`; there are: saga_created, "),
        ("append.after(event=step_complete)=kill", "did you mean `step_completed`? there are: saga_created, "),
    ],
)
def test_a_text_that_is_wrong_says_what_would_be_right(text: str, problem: str) -> None:
    with pytest.raises(FailpointsError) as raised:
        failpoints.arm(text)
    [line] = raised.value.problems
    assert line.startswith(f"entry 1, `{text}`: ")
    assert problem in line
    assert times_raised(1) == []


def test_every_problem_is_named_with_its_entry() -> None:
    with pytest.raises(FailpointsError) as raised:
        failpoints.arm("append.before=kill@1, , wrong.point=kill, append.after=jump")
    assert [problem.split(",")[0].split(":")[0] for problem in raised.value.problems] == [
        "entry 2",
        "entry 3",
        "entry 4",
    ]


def test_a_server_does_not_start_with_failpoints_that_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("coordinator.logs.set_up", lambda _level, _style: None)
    environment = {"SAGA_FAILPOINTS": "append.befor=kill, append.after=jump"}
    result = CliRunner().invoke(app, ["serve", "--journal", str(tmp_path / "a.db")], env=environment)
    assert result.exit_code == ExitCode.USAGE
    first, *problems = result.stderr.splitlines()
    assert first == "error: SAGA_FAILPOINTS cannot be used"
    assert [problem.split(",")[0] for problem in problems] == ["  entry 1", "  entry 2"]
    assert not (tmp_path / "a.db").exists()


def test_the_document_lists_every_point_as_it_is_declared() -> None:
    table = DOCUMENT.read_text().partition("| failpoint | narrowed by |")[2].partition("\n\n")[0].splitlines()[2:]
    assert table == [f"| `{p.label}` | {', '.join(p.knows) or '-'} | {p.meaning} |" for p in Failpoint]


def test_names_say_where_and_are_not_used_twice() -> None:
    labels = [point.label for point in Failpoint]
    assert len(set(labels)) == len(labels) == len(Failpoint)
    for point in Failpoint:
        assert point.name == point.label.replace(".", "_").upper()
        assert "`raise`" in point.meaning
