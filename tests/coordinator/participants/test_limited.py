import pytest

from coordinator.core import limits
from coordinator.participants import limited


@pytest.mark.parametrize(
    ("given", "bytes_max", "kept"),
    [("abc", 3, "abc"), ("abcd", 3, "abc"), ("aéé", 4, "aé"), ("aéé", 3, "aé"), ("aéé", 2, "a"), ("😀", 3, "")],
)
def test_a_text_is_cut_at_a_characters_boundary(given: str, bytes_max: int, kept: str) -> None:
    assert limited.text(given, bytes_max) == kept


def test_a_message_is_cut_to_its_limit() -> None:
    assert limited.message("x" * 5000) == "x" * limits.FAILURE_MESSAGE_BYTES_MAX


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("OUT_OF_STOCK", "OUT_OF_STOCK"),
        ("out of stock!", "OUT_OF_STOCK"),
        ("", "UNSPECIFIED"),
        ("?!", "UNSPECIFIED"),
        ("a\nb\x00c", "A_B_C"),
        ("A" * 65, "A" * 64),
    ],
)
def test_a_reason_is_a_word_that_programs_can_compare(given: str, kept: str) -> None:
    assert limited.reason(given) == kept


def test_metadata_is_kept_by_key_as_far_as_it_fits() -> None:
    assert limited.metadata({"b": "2", "a": "1"}) == (("a", "1"), ("b", "2"))
    many = {f"k{number:03}": "" for number in range(100)}
    assert [key for key, _ in limited.metadata(many)] == sorted(many)[: limits.FAILURE_METADATA_ENTRIES_MAX]
    big = {"a": "x" * 3000, "b": "x" * 3000, "c": "x" * 1000}
    assert [key for key, _ in limited.metadata(big)] == ["a", "c"]


def test_problems_are_kept_as_far_as_they_fit_and_the_rest_is_counted() -> None:
    assert limited.problems(["one", "two"]) == ("one", "two")
    kept = limited.problems(f"{number:04}" for number in range(2000))
    assert kept[:1024] == tuple(f"{number:04}" for number in range(1024))
    assert kept[1024:] == ("and 976 more",)
