"""`purchase.yaml` fits the services: every expression type-checks against what they describe."""

from pathlib import Path

from sample_services.purchase import demo, merchants, notifications, payment_accounts, warehouse
from tests.sample_services.definitions import problems


def test_the_definition_fits_the_services(tmp_path: Path) -> None:
    [path] = demo.Purchases(tmp_path).definitions()
    modules = (payment_accounts, merchants, warehouse, notifications)
    assert problems(path, [module.participant(tmp_path / "any.db") for module in modules]) == []
