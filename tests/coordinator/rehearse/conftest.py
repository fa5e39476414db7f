from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path as File
from typing import Any

import pytest

from coordinator.cli.options import Pair
from coordinator.cli.rehearse import LiveOptions
from coordinator.cli.rehearse_run import Found, rehearse
from tests.coordinator.rehearse.shop import DEFINITION, INPUT, Defect, Shop, serving


class Bench:
    """A shop, and the definition that is rehearsed with it."""

    def __init__(self, directory: File, stack: ExitStack) -> None:
        self.ledger = directory / "ledger.json"
        self.file = directory / "errand.yaml"
        self.file.write_text(DEFINITION, encoding="utf-8")
        self._stack = stack

    def open(self, defect: Defect | None = None) -> Shop:
        self.shop = Shop(self.ledger, defect)
        self.address = self._stack.enter_context(serving(self.shop))
        return self.shop

    async def rehearse(self, **options: Any) -> Found:
        usual: dict[str, Any] = {"participant": [Pair("shop", self.address)], "input_": INPUT}
        return await rehearse(str(self.file), LiveOptions(**usual | options))


@pytest.fixture
def bench(tmp_path: File) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(tmp_path, stack)


def violations(found: Found) -> Sequence[str]:
    """All that did not hold, each with its path in front."""
    return [f"{each.path.name}: {violation}" for each in found.failed for violation in each.violations]
