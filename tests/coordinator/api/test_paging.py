import base64
import hashlib
import json

import pytest

from coordinator.api.errors import InvalidPageToken
from coordinator.api.paging import ROOM_BYTES, fitting, page_size, place, token
from coordinator.core import limits
from saga.v1.coordinator_pb2 import Saga, SagaFilter

BOTH = (str, int)


def forged(*parts: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def fingerprint(of: str) -> str:
    return hashlib.sha256(of.encode()).hexdigest()[:16]


@pytest.mark.parametrize("of", ["", "order", SagaFilter(), SagaFilter(definition="order", labels={"b": "1", "a": "2"})])
def test_a_token_stands_for_its_place(of: str | SagaFilter) -> None:
    for name in ("", "x", "héé", "a" * 100):
        assert place(token((name, -5), of), of, BOTH) == (name, -5)


def test_no_token_is_the_beginning_and_no_place_the_end() -> None:
    assert place("", "order", BOTH) is None
    assert token(None, "order") == ""


@pytest.mark.parametrize(
    "page_token",
    [
        "nonsense",
        "????",
        "é",
        "A",
        forged(),
        forged(fingerprint("order")),
        forged(fingerprint("order"), "x"),
        forged(fingerprint("order"), 1, "x"),
        forged(fingerprint("order"), "x", True),
        forged(fingerprint("order"), "x", 1.5),
        forged(fingerprint("order"), "x", 1 << 63),
        forged(fingerprint("order"), "x", 1, 2),
        forged(fingerprint("other"), "x", 1),
        forged(1, "x", 1),
        base64.urlsafe_b64encode(b"{}").decode(),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
        base64.urlsafe_b64encode(b"1" * 100_000).decode(),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    ],
)
def test_a_token_that_this_list_did_not_give_is_refused(page_token: str) -> None:
    with pytest.raises(InvalidPageToken):
        place(page_token, "order", BOTH)


def test_a_token_is_good_for_its_filter_only() -> None:
    given = token((1, 2), SagaFilter(definition="order"))
    with pytest.raises(InvalidPageToken):
        place(given, SagaFilter(), (int, int))
    same = SagaFilter(labels={"a": "1", "b": "2"})
    reordered = SagaFilter(labels={"b": "2", "a": "1"})
    assert place(token((1, 2), same), reordered, (int, int)) == (1, 2)


def test_sizes() -> None:
    assert page_size(0, 50) == 50
    assert page_size(7, 50) == 7
    assert page_size(5000, 50) == limits.PAGE_SIZE_MAX


def test_g14_a_page_holds_what_fits_into_an_answer_and_at_least_one() -> None:
    assert fitting([]) == 0
    small, large = Saga(saga_id="s"), Saga(saga_id="x" * (ROOM_BYTES // 2 - 100))
    assert fitting([small] * 10) == 10
    assert fitting([large, large, small]) == 3
    assert fitting([large, large, large]) == 2
    assert fitting([Saga(saga_id="x" * (2 * ROOM_BYTES)), small]) == 1
