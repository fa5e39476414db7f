from typing import Any as Anything

import pytest
from google.protobuf.any_pb2 import Any

from coordinator.core import limits
from coordinator.core.instants import from_duration
from coordinator.dataflow.check import check
from coordinator.engine import admission
from coordinator.engine.errors import InvalidRequest
from coordinator.engine.loaded import LoadedDefinition
from coordinator.journal.port import DefinitionVersion
from saga.v1.coordinator_pb2 import StartSagaRequest
from tests.coordinator.engine.bench import TEXT, definition, descriptions, request, step, text


def loaded(**fields: Anything) -> LoadedDefinition:
    checked = check(definition(step("a"), **fields), descriptions())
    assert checked.pinned is not None, checked.problems
    stored = DefinitionVersion("order", 3, checked.pinned.content, checked.pinned.digest, "", 0)
    return LoadedDefinition(stored, checked.pinned.descriptor_bytes)


def problems(asked: StartSagaRequest, **fields: Anything) -> list[str]:
    with pytest.raises(InvalidRequest) as refused:
        admission.created(asked, loaded(**fields), "uid", {})
    return [problem.path for problem in refused.value.problems]


def test_the_first_event_says_what_was_asked_for() -> None:
    asked = request(labels={"a": "1"})
    asked.start_time.FromSeconds(5)
    created = admission.created(asked, loaded(), "uid", {})
    assert (created.uid, created.definition, created.version) == ("uid", "order", 3)
    assert created.input == asked.input
    assert created.labels == {"a": "1"}
    assert created.start_time == asked.start_time
    assert not created.HasField("timeout")
    assert len(created.request_digest) == 32


def test_what_was_not_asked_for_is_not_set() -> None:
    assert not admission.created(request(), loaded(), "uid", {}).HasField("start_time")


@pytest.mark.parametrize(("asked_s", "limit_s", "shorter_s"), [(5, None, 5), (None, 7, 7), (5, 7, 5), (9, 7, 7)])
def test_the_shorter_timeout_counts(asked_s: int | None, limit_s: int | None, shorter_s: int) -> None:
    asked = request()
    if asked_s:
        asked.timeout.FromSeconds(asked_s)
    fields = {"timeout": {"seconds": limit_s}} if limit_s else {}
    assert from_duration(admission.created(asked, loaded(**fields), "uid", {}).timeout) == shorter_s * limits.SECOND_NS


def test_the_definitions_labels_are_beside_the_requests() -> None:
    created = admission.created(
        request(value="Delft", labels={"a": "1"}), loaded(labels={"city": "input.text"}), "u", {}
    )
    assert created.labels == {"a": "1", "city": "Delft"}


@pytest.mark.parametrize(
    "input_",
    [
        Any(),
        Any(type_url="type.googleapis.com/shop.Other"),
        Any(type_url=f"type.googleapis.com/{TEXT}", value=b"\xff"),
        Any(type_url=TEXT),
    ],
)
def test_g13_an_input_that_does_not_fit_is_refused(input_: Any) -> None:
    assert problems(request(input=input_)) == ["input"]


def test_g13_a_label_that_fails_is_refused() -> None:
    too_long = request(value="x" * 200)
    assert problems(too_long, labels={"city": "input.text + input.text"}) == ["input"]


def test_g13_all_problems_of_the_labels_are_named() -> None:
    asked = request(labels={f"l{n}": "" for n in range(limits.LABELS_MAX)} | {"city": "", "shop": ""})
    assert problems(asked, labels={"city": "input.text", "shop": "input.text"}) == [
        "labels['city']",
        "labels['shop']",
        "labels",
    ]


def test_g10_the_digest_is_of_what_the_request_says() -> None:
    order = loaded()
    labels = {str(n): str(n) for n in range(20)}
    digest = admission.digest(request(labels=labels), order)
    assert admission.digest(request(labels=dict(reversed(labels.items()))), order) == digest
    assert admission.digest(request(labels=labels, input=text("in", prefix="a.b/c/")), order) == digest
    for wait_s in (0, 1):
        assert admission.digest(request(labels=labels, wait={"seconds": wait_s}), order) == digest
    unlike = [
        request("t", labels=labels),
        request(value="other", labels=labels),
        request(labels=labels, version=3),
        request(labels=labels | {"0": "1"}),
        request(labels=labels, timeout={"seconds": 1}),
        request(labels=labels, start_time={"seconds": 1}),
    ]
    digests = {admission.digest(asked, order) for asked in unlike}
    assert len(digests) == len(unlike)
    assert digest not in digests


def test_g10_what_does_not_decode_equals_only_itself() -> None:
    order = loaded()
    one, other = (request(input=Any(type_url="x/shop.Text", value=value)) for value in (b"\xff", b"\xfe"))
    assert admission.digest(one, order) == admission.digest(one, order) != admission.digest(other, order)


def test_the_request_is_left_as_it_is() -> None:
    asked = request()
    before = asked.SerializeToString()
    admission.digest(asked, loaded())
    assert asked.SerializeToString() == before
