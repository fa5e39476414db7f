"""A sum adds up exactly when its terms come to what is expected."""

import pytest

from sample_services.demo.sample import Sum


@pytest.mark.parametrize(("expected", "adds_up"), [(5, True), (4, False), (6, False)])
def test_a_sum_adds_up_when_its_terms_come_to_what_is_expected(expected: int, adds_up: bool) -> None:
    checked = Sum("cents", (("charges", 8), ("refunds", -3)), expected, "cents of goods")
    assert (checked.total, checked.adds_up) == (5, adds_up)
