"""A run as a whole: what is chosen, what is skipped and why, and what ends it early."""

from collections import Counter
from pathlib import Path

import pytest

from coordinator.conform import limits, runner
from coordinator.conform.caller import Lane
from coordinator.conform.check import Check
from coordinator.conform.checks import CHECKS
from coordinator.conform.examples import Examples, ExamplesError, load
from coordinator.conform.process import free_port
from coordinator.conform.report import Report, Verdict
from coordinator.conform.runner import Chosen, NoFastLane, Unreachable, conform
from coordinator.conform.trial import Trial
from tests.coordinator.conform.suite import TEXT, examples, tried
from tests.coordinator.conform.wrong_participant import HOLD, NOTE, serving

UNARY = (Lane.UNARY,)


def verdicts(report: Report) -> dict[tuple[str, str], Verdict]:
    return {(result.action, result.check): result.verdict for result in report.results}


async def test_only_what_is_chosen_is_tried(tmp_path: Path) -> None:
    chosen = Chosen(only=["confirm", "compensate", "describe"], skip=["compensate"], actions=[HOLD], lanes=UNARY)
    report = await tried(tmp_path, "", chosen)
    assert verdicts(report) == {("", "describe"): Verdict.PASSED, (HOLD, "confirm"): Verdict.PASSED}
    assert (report.participant, report.has_passed) == ("wrong", True)


async def test_without_examples_only_the_description_is_tried(tmp_path: Path) -> None:
    async with serving(tmp_path / "wrong.db", "") as target:
        report = await conform(target, Examples())
    counts = Counter(result.verdict for result in report.results)
    tried_over = sum(len(check.lanes) for check in CHECKS if check.of_description is None)
    assert counts == {Verdict.PASSED: 3, Verdict.SKIPPED: 2 * tried_over}
    assert {result.action for result in report.results} == {"", HOLD, NOTE}


async def test_without_a_way_to_count_the_report_says_so(tmp_path: Path) -> None:
    uncounted = load(TEXT[TEXT.index("actions:") :], "x", tmp_path)
    async with serving(tmp_path / "wrong.db", "") as target:
        report = await conform(
            target, uncounted, Chosen(only=["execute-repeated", "hold-until"], actions=[HOLD], lanes=UNARY)
        )
    assert [result.is_unobserved for result in report.results] == [True, False]


async def test_where_execute_fails_the_rest_of_the_action_is_not_tried(tmp_path: Path) -> None:
    report = await tried(tmp_path, "other-output", Chosen(only=["execute", "compensate"], actions=[HOLD], lanes=UNARY))
    failed, skipped = report.results
    assert (failed.verdict, skipped.verdict, skipped.why) == (Verdict.FAILED, Verdict.SKIPPED, ("`execute` failed",))


async def test_of_a_participant_that_cannot_be_described_nothing_else_is_tried(tmp_path: Path) -> None:
    report = await tried(tmp_path, "no-types", Chosen())
    assert verdicts(report).pop(("", "describe")) is Verdict.FAILED
    assert {result.verdict for result in report.results[1:]} == {Verdict.SKIPPED}
    assert "do not hold the input type" in report.results[0].came


async def test_a_participant_that_is_gone_is_not_tried_any_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tmp_path / "wrong.db", "") as target:
        pass  # gone when the check is made
    checks = [Check("dies", "It dies.", "G3", of_action=_goes), Check("next", "Next.", "G3", of_action=_goes)]
    monkeypatch.setattr(runner, "CHECKS", checks)
    async with serving(tmp_path / "wrong.db", "", target) as again:
        assert again == target
        report = await conform(target, examples(tmp_path), Chosen(actions=[HOLD], lanes=UNARY), timeout_s=0.5)
    dies, after = report.results
    assert (dies.verdict, dies.expected) == (Verdict.FAILED, "completed")
    assert (after.verdict, after.why) == (Verdict.SKIPPED, ("the participant does not answer any more",))


async def _goes(trial: Trial) -> None:
    """Stands in for a check that a participant does not survive: from here on nobody answers."""
    trial.caller.target = f"127.0.0.1:{free_port('127.0.0.1')}"
    await trial.caller.reconnect()
    trial.require(await trial.subject().execute(), "completed")


async def test_a_check_that_does_not_end_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHECK_MAX_S", 0.05)
    report = await tried(tmp_path, "pending-for-ever", Chosen(only=["pending"], actions=[HOLD], lanes=UNARY))
    assert [(result.verdict, result.came) for result in report.results] == [(Verdict.FAILED, "none")]


async def test_a_file_that_does_not_fit_is_refused_before_anything_is_tried(tmp_path: Path) -> None:
    wrong = load("actions: {Held: {inputs: [{}]}, Hold: {inputs: [{amount: 5}]}}", "x.yaml", tmp_path)
    async with serving(tmp_path / "wrong.db", "") as target:
        with pytest.raises(ExamplesError) as raised:
            await conform(target, wrong)
    assert len(raised.value.problems) == 2


async def test_where_nobody_answers_nothing_is_reported() -> None:
    with pytest.raises(Unreachable):
        await conform(f"127.0.0.1:{free_port('127.0.0.1')}", Examples(), timeout_s=2.0)


async def test_what_runs_already_is_not_started(tmp_path: Path) -> None:
    """And so not killed either."""
    started = examples(tmp_path, start="false")
    async with serving(tmp_path / "wrong.db", "") as target:
        report = await conform(
            target, started, Chosen(only=["kill-completed"], actions=[HOLD], lanes=UNARY), starts=False
        )
    [result] = report.results
    assert (result.verdict, "--running" in result.why[0]) == (Verdict.SKIPPED, True)


async def test_each_lane_is_tried_where_it_is_offered(tmp_path: Path) -> None:
    only = ["execute-repeated", "request-undecodable", "exchange-batch"]
    report = await tried(tmp_path, "", Chosen(only=only, actions=[HOLD]))
    assert [(result.lane, result.check, result.verdict) for result in report.results] == [
        (Lane.UNARY, "execute-repeated", Verdict.PASSED),
        (Lane.UNARY, "request-undecodable", Verdict.PASSED),
        (Lane.FAST, "execute-repeated", Verdict.PASSED),
        (Lane.FAST, "exchange-batch", Verdict.PASSED),
    ]


async def test_a_participant_without_the_fast_lane_is_tried_over_unary_calls(tmp_path: Path) -> None:
    only = ["execute-repeated", "exchange-batch"]
    report = await tried(tmp_path, "no-lane", Chosen(only=only, actions=[HOLD]))
    assert [(result.lane, result.check) for result in report.results] == [(Lane.UNARY, "execute-repeated")]
    with pytest.raises(NoFastLane):
        await tried(tmp_path, "no-lane", Chosen(lanes=(Lane.FAST,)))
