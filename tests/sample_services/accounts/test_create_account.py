"""`create_account.yaml` fits the services: every expression type-checks against what they describe."""

from pathlib import Path

from sample_services.accounts import demo, users, wallets, welcome
from tests.sample_services.definitions import problems


def test_the_definition_fits_the_services(tmp_path: Path) -> None:
    [path] = demo.Accounts(tmp_path).definitions()
    modules = (users, wallets, welcome)
    assert problems(path, [module.participant(tmp_path / "any.db") for module in modules]) == []
