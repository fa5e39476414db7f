"""Each check catches its twin: a participant with one fault fails the checks that the fault breaks, and no other."""

import asyncio
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator.conform.caller import Lane
from coordinator.conform.checks import CHECKS
from coordinator.conform.process import free_port
from coordinator.conform.report import Report, Verdict
from coordinator.conform.runner import Chosen, conform
from tests.coordinator.conform.suite import examples, tried
from tests.coordinator.conform.wrong_participant import FAULTS, HOLD, NOTE

pytestmark = pytest.mark.long

RUNS_AT_ONCE = 6
UNANSWERED_S = 2.0  # how long an answer of the fast lane is waited for that will not come


@dataclass(frozen=True, eq=False)
class Twin:
    """A fault, and what must come of it. `perhaps`: what may, as calls happen to fall."""

    fault: str
    failed: Sequence[str] = ()
    warned: Sequence[str] = ()
    perhaps: Sequence[str] = ()
    action: str = HOLD
    lanes: Collection[Lane] = (Lane.UNARY,)
    only: Collection[str] = ()


def fast(fault: str, failed: Sequence[str] = (), warned: Sequence[str] = ()) -> Twin:
    """A fault of the fast lane itself: tried with the checks that only that can fail."""
    return Twin(fault, failed, warned, lanes=(Lane.FAST,), only=ON_FAST_LANE)


ON_FAST_LANE = ("execute", *(check.id for check in CHECKS if check.lanes == (Lane.FAST,)))
TWINS = (
    Twin("", action=HOLD, lanes=tuple(Lane)),
    Twin("", action=NOTE, lanes=tuple(Lane)),
    Twin("no-lane", lanes=tuple(Lane)),
    Twin("no-types", ["describe"]),
    Twin("kind-unspecified", ["describe"]),
    Twin("not-barriered", warned=["describe-barriered"]),
    Twin("no-retention", warned=["describe-key-retention"]),
    Twin("short-retention", ["describe-key-retention"]),
    Twin("other-output", ["execute"]),
    Twin("no-effect", ["execute"]),
    Twin("replays-differ", ["execute-repeated", "execute-overlapping"], ["key-reordered"]),
    Twin("executes-race", ["execute-overlapping"]),
    Twin("forgets-cancelled", ["execute-lost"]),
    Twin("forgets-overdue", ["execute-deadline"]),
    Twin("acts-late", ["execute-lost", "execute-deadline"]),
    Twin("mixes-keys", ["keys-in-parallel"]),
    Twin("any-input", ["key-reused"]),
    Twin("any-input-back", ["key-reused-compensate"]),
    Twin("compares-bytes", warned=["key-reordered"]),
    Twin("refuses-otherwise", ["rejected"]),
    Twin("refusal-sticks", ["rejected"]),
    Twin("refusal-with-effect", ["rejected", "rejected-compensated"]),
    Twin("refused-not-barred", ["rejected-compensated"]),
    Twin("pending-for-ever", ["pending"]),
    Twin("pending-not-barred", ["pending-compensated"]),
    Twin("held-until-past", ["hold-until"]),
    Twin(
        "not-compensated",
        ["compensate", "compensate-repeated", "compensate-overlapping", "compensate-without-output"],
        perhaps=["compensate-overtakes"],
    ),
    Twin("not-barred", ["compensate"], perhaps=["compensate-overtakes"]),
    Twin("compensates-again", ["compensate-repeated", "compensate-overlapping", "compensate-first"]),
    Twin("compensations-race", ["compensate-overlapping"], perhaps=["compensate-overtakes"]),
    Twin("needs-output", ["compensate-without-output"], perhaps=["compensate-overtakes"]),
    Twin("first-not-noop", ["compensate-first"]),
    Twin("first-not-barred", ["compensate-first"], perhaps=["compensate-overtakes"]),
    Twin("late-execute", ["compensate-overtakes"]),
    Twin("refuses-confirm", ["confirm", "confirm-repeated"]),
    Twin("confirms-once", ["confirm-repeated"]),
    Twin("confirm-keeps-nothing", ["confirm", "confirm-repeated"]),
    Twin("confirms-anything", ["confirm-first"]),
    Twin("confirms-pivots", ["confirm-unserved"], action=NOTE),
    Twin("runs-unknown", ["unknown-action"]),
    Twin("unknown-is-internal", warned=["unknown-action"]),
    Twin("any-type", ["input-of-another-type"]),
    Twin("garbage", ["input-undecodable"]),
    Twin("garbage-is-internal", warned=["input-undecodable"]),
    Twin("no-input", ["input-missing"]),
    Twin("garbage-request", ["request-undecodable"]),
    Twin("no-context", ["context-missing"]),
    Twin("no-key", warned=["key-empty"]),
    Twin("any-size", warned=["input-oversized"]),
    Twin("oversized-with-effect", ["input-oversized"]),
    Twin("lane-silent", ["exchange-batch"], lanes=(Lane.FAST,), only=["exchange-batch"]),
    fast("lane-first-only", ["exchange-batch", "exchange-over-limit", "exchange-duplicate-id", "exchange-drain"]),
    fast("lane-drops-excess", ["exchange-over-limit"]),
    fast("lane-drops-empty", ["exchange-empty-call"]),
    fast("lane-empty-is-internal", warned=["exchange-empty-call"]),
    fast("lane-takes-duplicates", ["exchange-duplicate-id"]),
    fast("lane-takes-garbage", ["exchange-garbage"]),
    fast("lane-garbage-is-internal", warned=["exchange-garbage"]),
    fast("lane-drops-drain", ["exchange-drain"]),
)
KILLED_TWINS = (
    Twin("", lanes=tuple(Lane)),
    Twin("forgets-completed", ["kill-completed"], perhaps=["kill-under-way"]),
    Twin("forgets-bars", ["kill-barred"]),
    Twin("effect-before-row", ["kill-under-way"]),
)
KILLS = ("kill-completed", "kill-barred", "kill-under-way")


async def _all_tried(directory: Path) -> Mapping[Twin, Report]:
    places = asyncio.Semaphore(RUNS_AT_ONCE)

    async def run(number: int, twin: Twin, killed: bool) -> Report:
        own = directory / str(number)
        own.mkdir()
        async with places:
            if not killed:
                chosen = Chosen(twin.only, actions=[twin.action], lanes=twin.lanes)
                return await tried(own, twin.fault, chosen, timeout_s=UNANSWERED_S if twin.only else 5.0)
            command = (
                f"exec {sys.executable} -m tests.coordinator.conform.wrong_participant"
                f' --listen "$ADDRESS" --database wrong.db --fault "{twin.fault}"'
            )
            target = f"127.0.0.1:{free_port('127.0.0.1')}"
            return await conform(
                target, examples(own, start=command), Chosen(only=KILLS, actions=[twin.action], lanes=twin.lanes)
            )

    twins = [(twin, True) for twin in KILLED_TWINS] + [(twin, False) for twin in TWINS]
    reports = await asyncio.gather(*(run(number, *twin) for number, twin in enumerate(twins)))
    return {twin: report for (twin, _), report in zip(twins, reports, strict=True)}


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Twin, Report]:
    """All runs, made beside one another: most of each is waiting."""
    return asyncio.run(_all_tried(tmp_path_factory.mktemp("twins")))


@pytest.mark.parametrize("twin", [*TWINS, *KILLED_TWINS], ids=lambda twin: f"{twin.fault or 'none'}-{twin.action}")
def test_a_fault_is_caught_by_the_checks_that_it_breaks_and_by_no_other(
    reports: Mapping[Twin, Report], twin: Twin
) -> None:
    results = [result for result in reports[twin].results if result.check not in twin.perhaps]
    found = {
        verdict: [result.check for result in results if result.verdict is verdict]
        for verdict in (Verdict.FAILED, Verdict.WARNED)
    }
    shown = [result for result in results if result.verdict in found]
    assert found == {Verdict.FAILED: list(twin.failed), Verdict.WARNED: list(twin.warned)}, shown


def test_every_check_has_a_twin_and_every_fault_is_tried() -> None:
    caught = {check for twin in (*TWINS, *KILLED_TWINS) for check in (*twin.failed, *twin.warned)}
    assert caught == {check.id for check in CHECKS}
    assert {twin.fault for twin in (*TWINS, *KILLED_TWINS)} == set(FAULTS)


def test_who_keeps_the_contract_is_tried_with_every_check(reports: Mapping[Twin, Report]) -> None:
    """No check is skipped everywhere, and none is judged without a look at the effects."""
    faultless = [report for twin, report in reports.items() if not twin.fault]
    made = {result.check for report in faultless for result in report.results if result.verdict is Verdict.PASSED}
    assert made == {check.id for check in CHECKS}
    assert not any(result.is_unobserved for report in faultless for result in report.results)


def test_a_failure_says_what_to_look_for(reports: Mapping[Twin, Report]) -> None:
    report = next(report for twin, report in reports.items() if twin.fault == "executes-race")
    [failed] = [result for result in report.results if result.verdict is Verdict.FAILED]
    assert (failed.action, failed.expected) == (HOLD, "1 effect of this step")
    assert failed.came in {f"{count} effects of this step" for count in (2, 3, 4, 5)}
    assert failed.key.endswith("/conform/execute")
    assert failed.request.startswith(f"grpcurl -plaintext -H 'idempotency-key: {failed.key}' -d '{{")
    assert '"account_id": "ok"' in failed.request or '"accountId": "ok"' in failed.request


def test_ids_are_unique_words_and_every_check_says_where_it_comes_from() -> None:
    ids = [check.id for check in CHECKS]
    assert len(set(ids)) == len(ids)
    for check in CHECKS:
        assert check.sentence.endswith(".")
        assert check.source
        ways = (check.of_description, check.of_action, check.over_kill)
        assert len([way for way in ways if way is not None]) == 1
