"""A report as JSON and as JUnit XML."""

from xml.etree import ElementTree

from coordinator.conform.report import Report, Result, Verdict, explanation, to_json, to_junit

REPORT = Report(
    "127.0.0.1:1",
    "pay & go",
    "1.2",
    [
        Result("describe", "", Verdict.PASSED),
        Result("execute", "Pay", Verdict.PASSED, is_unobserved=True, seconds=0.5, lane="fast"),
        Result("key-empty", "Pay", Verdict.WARNED, ("an empty key is taken",), seconds=0.25),
        Result("pending", "Pay", Verdict.SKIPPED, ("no `pending`",)),
        Result(
            "confirm", "Pay", Verdict.FAILED, expected="<confirmed>", came="a \x1b[2J", request="grpcurl …", key="u/s/c"
        ),
    ],
)
JUNIT = """\
<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="saga conform" tests="5" failures="1" errors="0" skipped="1" time="0.750">
  <testsuite name="saga conform: pay &amp; go" tests="5" failures="1" errors="0" skipped="1" time="0.750">
    <testcase classname="pay &amp; go" name="describe" time="0.000" />
    <testcase classname="pay &amp; go.Pay.fast" name="execute" time="0.500">
      <system-out>effect not observed: judged from replies alone</system-out>
    </testcase>
    <testcase classname="pay &amp; go.Pay" name="key-empty" time="0.250">
      <system-out>an empty key is taken</system-out>
    </testcase>
    <testcase classname="pay &amp; go.Pay" name="pending" time="0.000">
      <skipped message="no `pending`" />
    </testcase>
    <testcase classname="pay &amp; go.Pay" name="confirm" time="0.000">
      <failure type="confirm" message="expected &lt;confirmed&gt;, came a \\x1b[2J">expected: &lt;confirmed&gt;
came: a \\x1b[2J
request: grpcurl …
key: u/s/c</failure>
    </testcase>
  </testsuite>
</testsuites>
"""


def test_as_junit() -> None:
    """What XML cannot hold is written out, and any parser reads the rest."""
    assert to_junit(REPORT) == JUNIT
    ElementTree.fromstring(JUNIT.encode())


def test_as_json() -> None:
    document = to_json(REPORT)
    assert document["counts"] == {"passed": 2, "warned": 1, "failed": 1, "skipped": 1}
    assert (document["passed"], document["participant"], document["version"]) == (False, "pay & go", "1.2")
    assert document["results"][1] == {
        "check": "execute",
        "action": "Pay",
        "lane": "fast",
        "verdict": "passed",
        "effectObserved": False,
        "seconds": 0.5,
    }
    assert document["results"][4]["key"] == "u/s/c"


def test_only_a_failure_fails_a_run() -> None:
    assert not REPORT.has_passed
    assert Report("", "", "", REPORT.results[:4]).has_passed
    assert explanation(REPORT.results[0]) == []
