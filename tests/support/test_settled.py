"""What must be so once every saga has ended."""

from saga.v1.coordinator_pb2 import Saga
from tests.support.settled import overlapping, turns_by_key


def holding(key: str, start_s: int, end_s: int) -> Saga:
    saga = Saga(exclusive_keys=[key])
    saga.start_time.seconds, saga.end_time.seconds = start_s, end_s
    return saga


def test_turns_are_taken_where_one_begins_at_the_other_s_end_or_later() -> None:
    turns = turns_by_key([holding("a", 3, 5), holding("a", 1, 3), holding("b", 2, 4)])
    assert turns["a"] == [(1_000_000_000, 3_000_000_000), (3_000_000_000, 5_000_000_000)]
    assert list(overlapping(turns)) == []


def test_two_at_once_are_found() -> None:
    assert list(overlapping(turns_by_key([holding("a", 1, 4), holding("a", 3, 5), holding("b", 1, 2)]))) == ["a"]
