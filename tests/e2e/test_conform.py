"""`saga conform` against every sample service, in a process of its own, with its effects read from its database."""

import asyncio
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

from coordinator.conform import limits
from coordinator.conform.check import Need
from coordinator.conform.checks import CHECKS
from coordinator.conform.examples import Examples, load
from coordinator.conform.process import free_port
from coordinator.conform.report import Report, Verdict
from coordinator.conform.runner import conform
from tests.e2e.system import run
from tests.support.sample_files import CONFORMANCE
from tests.test_docs import shown

pytestmark = [pytest.mark.e2e, pytest.mark.long]

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "sample_services"
INVENTORY = SAMPLES / "orders" / "inventory.conformance.yaml"
FILES_HERE = [file for file in CONFORMANCE if file != INVENTORY]  # that one is for the command line
RUNS_AT_ONCE = 4  # each waits more than it works
MAY_BE_SKIPPED = {Need.REFUSED, Need.PENDING, Need.COMPENSATE, Need.CONFIRM, Need.NO_CONFIRM}  # as the actions are


@pytest.fixture(scope="module")
def python_in_path() -> Iterator[None]:
    """`python`, as the files' start commands say it, is the one that runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
        yield


@pytest.fixture(scope="module")
def reports(python_in_path: None) -> Mapping[Path, Report]:
    """All runs, made beside one another."""
    return asyncio.run(_all_tried())


async def _all_tried() -> Mapping[Path, Report]:
    places = asyncio.Semaphore(RUNS_AT_ONCE)

    async def tried(examples: Examples) -> Report:
        async with places:
            return await conform(f"127.0.0.1:{free_port('127.0.0.1')}", examples)

    return dict(zip(FILES_HERE, await asyncio.gather(*map(tried, map(_loaded, FILES_HERE))), strict=True))


def _loaded(file: Path) -> Examples:
    return load(file.read_text(encoding="utf-8"), file.name, file.parent)


@pytest.mark.parametrize("file", FILES_HERE, ids=lambda file: file.stem)
def test_a_sample_service_keeps_the_contract(reports: Mapping[Path, Report], file: Path) -> None:
    """Without a warning, and with its effects counted wherever one matters."""
    report = reports[file]
    wrong = [result for result in report.results if result.verdict in (Verdict.FAILED, Verdict.WARNED)]
    assert wrong == []
    assert not any(result.is_unobserved for result in report.results)
    reasons = {result.why for result in report.results if result.verdict is Verdict.SKIPPED}
    takes_many = (f"it takes more than {limits.IN_FLIGHT_MAX} calls at a time",)
    assert reasons <= {takes_many, *((need.value,) for need in MAY_BE_SKIPPED)}


async def test_on_the_command_line_in_ci(python_in_path: None, tmp_path: Path) -> None:
    """One run gives the table, the JUnit file and the exit code."""
    junit = tmp_path / "conformance.xml"
    command = (sys.executable, "-m", "coordinator.cli", "conform", "127.0.0.1:0")
    ended = await run(*command, f"--examples={INVENTORY}", f"--junit={junit}")
    assert (ended.code, ended.err) == (0, "")
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert [line for line in shown("saga conform") if line not in lines] == []  # as the README has it
    assert lines[-1] == "70 passed, 0 warned, 0 failed, 7 skipped"
    suite = ElementTree.parse(junit).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("77", "0", "7")
    assert {case.get("name") for case in suite} == {check.id for check in CHECKS}


def test_every_service_has_its_file() -> None:
    services = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in SAMPLES.glob("*/[!_]*.py")
        if "typer.run(main)" in path.read_text(encoding="utf-8")
    }
    tried = {
        name for file in CONFORMANCE for name in re.findall(r"python -m ([\w.]+)", file.read_text(encoding="utf-8"))
    }
    assert tried == services
