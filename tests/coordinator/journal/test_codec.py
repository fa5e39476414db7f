import pytest

from coordinator.journal.codec import decode_event, decode_failure, descriptors_digest, encode_event
from coordinator.journal.errors import UnreadableSaga
from saga.v1.event_pb2 import SagaEvent
from saga.v1.types_pb2 import FAILURE_KIND_UNREADABLE, Failure
from tests.coordinator.journal.builders import UNKNOWN_EVENT, event


def test_an_event_comes_back_and_the_callers_is_left_alone() -> None:
    original = event("a", 3, "pack")
    kept = SagaEvent.FromString(original.SerializeToString())
    assert decode_event("a", 3, encode_event(original)) == original
    assert original == kept


def test_the_bytes_leave_out_what_the_row_says() -> None:
    body = encode_event(event("a-very-long-name", 3))
    assert b"a-very-long-name" not in body
    assert SagaEvent.FromString(body).sequence == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"\xff\xff", "decoded"), (UNKNOWN_EVENT, "does not know"), (b"", "does not know")],
)
def test_bytes_that_are_not_understood_are_unreadable(body: bytes, reason: str) -> None:
    with pytest.raises(UnreadableSaga, match=reason) as caught:
        decode_event("a", 3, body)
    assert caught.value.saga_id == "a"


def test_a_failure_comes_back_and_a_damaged_one_says_so() -> None:
    failure = Failure(reason="NO_FUNDS")
    assert decode_failure(failure.SerializeToString()) == failure
    assert decode_failure(b"\xff\xff").kind == FAILURE_KIND_UNREADABLE


def test_descriptors_digest_is_sha_256() -> None:
    assert descriptors_digest(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
