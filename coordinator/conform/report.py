"""What came of a run, as values, as JSON and as JUnit XML. This module must not judge and must not print."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from xml.etree import ElementTree

from coordinator.conform.caller import Lane

_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SUITE: Final = "saga conform"


class Verdict(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    WARNED = "warned"
    """It passed, and what the contract advises is not done."""
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Result:
    """One check of one action; `action` is empty for what is about the whole participant."""

    check: str
    action: str
    verdict: Verdict
    why: Sequence[str] = ()
    """Of a skipped one the reason, of a warned one the warnings."""
    expected: str = ""
    came: str = ""
    request: str = ""
    """Of a failed one: the call that it failed at, for a person to repeat."""
    key: str = ""
    """And its idempotency key, to be looked for in the participant's log."""
    is_unobserved: bool = False
    """It was judged from replies alone: the file does not say how effects are counted."""
    seconds: float = 0.0
    lane: str = ""
    """Over which lane it was made; empty for what is about the whole participant."""


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run."""

    target: str
    participant: str
    version: str
    results: Sequence[Result]

    @property
    def counts(self) -> Mapping[Verdict, int]:
        """How many ended how."""
        counted = Counter(result.verdict for result in self.results)
        return {verdict: counted[verdict] for verdict in Verdict}

    @property
    def has_passed(self) -> bool:
        """Whether nothing failed."""
        return not self.counts[Verdict.FAILED]


def to_json(report: Report) -> dict[str, Any]:
    """The report as one JSON document."""
    return {
        "target": report.target,
        "participant": report.participant,
        "version": report.version,
        "passed": report.has_passed,
        "counts": {verdict.value: count for verdict, count in report.counts.items()},
        "results": [_result_to_json(result) for result in report.results],
    }


def to_junit(report: Report) -> str:
    """The report as JUnit XML: one suite, one case for each check of each action."""
    counts = report.counts
    numbers = {
        "tests": str(len(report.results)),
        "failures": str(counts[Verdict.FAILED]),
        "errors": "0",
        "skipped": str(counts[Verdict.SKIPPED]),
        "time": f"{sum(result.seconds for result in report.results):.3f}",
    }
    suites = ElementTree.Element("testsuites", {"name": _SUITE, **numbers})
    name = _clean(f"{_SUITE}: {report.participant or report.target}")
    suite = ElementTree.SubElement(suites, "testsuite", {"name": name, **numbers})
    for result in report.results:
        _add_case(suite, report, result)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def explanation(result: Result) -> Sequence[str]:
    """Why a check ended as it did, in lines."""
    lines = list(result.why)
    if result.verdict is Verdict.FAILED:
        lines += [f"expected: {result.expected}", f"came: {result.came}"]
        lines += [f"request: {result.request}"] if result.request else []
        lines += [f"key: {result.key}"] if result.key else []
    if result.is_unobserved:
        lines.append("effect not observed: judged from replies alone")
    return lines


def _result_to_json(result: Result) -> dict[str, Any]:
    document: dict[str, Any] = {
        "check": result.check,
        "action": result.action,
        "lane": result.lane,
        "verdict": result.verdict.value,
        "effectObserved": not result.is_unobserved,
        "seconds": round(result.seconds, 3),
    }
    optional = {
        "why": list(result.why),
        "expected": result.expected,
        "came": result.came,
        "request": result.request,
        "key": result.key,
    }
    return document | {name: value for name, value in optional.items() if value}


def _add_case(suite: ElementTree.Element, report: Report, result: Result) -> None:
    lane = result.lane if result.lane == Lane.FAST else ""  # the other names are older than the lanes
    parts = (report.participant or report.target, result.action, lane)
    classname = ".".join(part for part in parts if part)
    attributes = {"classname": _clean(classname), "name": result.check, "time": f"{result.seconds:.3f}"}
    case = ElementTree.SubElement(suite, "testcase", attributes)
    text = _clean("\n".join(explanation(result)))
    if result.verdict is Verdict.FAILED:
        message = _clean(f"expected {result.expected}, came {result.came}")
        ElementTree.SubElement(case, "failure", {"type": result.check, "message": message}).text = text
    elif result.verdict is Verdict.SKIPPED:
        ElementTree.SubElement(case, "skipped", {"message": text})
    elif text:
        ElementTree.SubElement(case, "system-out").text = text


def _clean(text: str) -> str:
    """Without the characters that XML cannot hold, which are written out."""
    return _NOT_IN_XML.sub(lambda found: repr(found[0])[1:-1], text)
