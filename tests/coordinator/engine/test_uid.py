import uuid

from coordinator.engine.uid import uuid7

NOW_NS = 1_700_000_000_123_456_789


def test_it_is_a_uuid_of_version_7() -> None:
    value = uuid.UUID(uuid7(NOW_NS))
    assert value.version == 7
    assert value.variant == uuid.RFC_4122


def test_it_begins_with_the_millisecond() -> None:
    assert uuid.UUID(uuid7(NOW_NS)).int >> 80 == NOW_NS // 1_000_000


def test_names_are_in_the_order_of_time_and_none_is_given_twice() -> None:
    names = [uuid7(NOW_NS + millisecond * 1_000_000) for millisecond in range(1000)]
    assert names == sorted(names)
    assert len({uuid7(NOW_NS) for _ in range(1000)}) == 1000


def test_all_other_bits_are_drawn() -> None:
    seen = 0
    missing = (1 << 128) - 1
    for _ in range(500):
        value = uuid.UUID(uuid7(0)).int
        seen |= value
        missing &= value
    random = ((1 << 12) - 1) << 64 | ((1 << 62) - 1)
    assert seen & random == random
    assert missing & random == 0
