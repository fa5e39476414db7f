"""`transfer_….yaml` fit the banks, and are each other's mirror image."""

from pathlib import Path

import pytest

from coordinator.dataflow import yamlform
from coordinator.dataflow.check import check
from sample_services.transfer import demo
from sample_services.transfer.bank import Bank, participant


def definitions(tmp_path: Path) -> list[Path]:
    return list(demo.Transfers(tmp_path).definitions())


@pytest.mark.parametrize("which", [0, 1])
def test_each_definition_fits_the_banks(tmp_path: Path, which: int) -> None:
    path = definitions(tmp_path)[which]
    definition = yamlform.load(path.read_text(encoding="utf-8"), path.name).definition
    assert list(definition.exclusive_keys) == ["'account:' + input.from_account", "'account:' + input.to_account"]
    banks = [participant(bank, tmp_path / "any.db") for bank in Bank]
    assert check(definition, {bank.name: bank.description for bank in banks}).problems == ()


def test_one_direction_is_the_other_with_the_banks_changed_over(tmp_path: Path) -> None:
    there, back = (path.read_text(encoding="utf-8") for path in definitions(tmp_path))
    assert there.replace("north", "*").replace("south", "north").replace("*", "south") == back
    assert there != back
