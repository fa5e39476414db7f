"""A participant that comes back with another type is found out, whatever a decoder would do with it (G5, G11)."""

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sample_services.demo.processes import Supervisor
from tests.e2e import changing_participant
from tests.e2e.system import Finished, run, until

pytestmark = pytest.mark.e2e

DEFINITION = """
name: order
input_type: payment.ChargeRequest
steps:
  - name: charge
    participant: payment
    action: Charge
    input: input
"""
CHANGED = "step `charge`: input ChargeRequest.cents: int64 before, string now"


class System:
    """A payment service, which a saga waits for, and a coordinator."""

    def __init__(self, directory: Path, supervisor: Supervisor) -> None:
        self.directory = directory
        self.types = directory / "type_of_cents"
        self._supervisor = supervisor

    async def start(self) -> None:
        self.types.write_text("TYPE_INT64")
        (self.directory / "order.yaml").write_text(DEFINITION)
        service = (sys.executable, changing_participant.__file__, f"--type-file={self.types}")
        payment = await self._supervisor.start("payment", (*service, f"--database={self.directory / 'payment.db'}"))
        options = (f"--journal={self.directory / 'journal.db'}", f"--participant=payment={payment.address}")
        await self._supervisor.start("coordinator", (sys.executable, "-m", "coordinator.cli", "serve", *options))

    async def payment_comes_back_with(self, type_of_cents: str) -> None:
        payment = self._supervisor.servers["payment"]
        await payment.stop()
        self.types.write_text(type_of_cents)
        await payment.start()

    async def saga(self, *arguments: str) -> Finished:
        server = self._supervisor.servers["coordinator"].address
        done = await run(sys.executable, "-m", "coordinator.cli", "--server", server, *arguments)
        assert done.err == "", done
        return done

    async def apply(self) -> str:
        return (await self.saga("definition", "apply", str(self.directory / "order.yaml"))).out

    async def problems(self) -> list[str]:
        lines = (await self.saga("participants", "-o", "json")).out.splitlines()
        shown = next(each for each in map(json.loads, lines) if each["name"] == "payment")
        return list(shown.get("problems", ()))

    @property
    def warnings(self) -> list[str]:
        log = (self.directory / "coordinator.log").read_text()
        return [line for line in log.splitlines() if "WARNING" in line and "a participant does not fit" in line]


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    async with Supervisor(tmp_path) as supervisor:
        running = System(tmp_path, supervisor)
        await running.start()
        yield running


async def test_g5_a_participant_with_another_type_is_told_and_logged_until_nothing_needs_the_old_one(
    system: System,
) -> None:
    await system.apply()
    await system.saga("start", "order", "--id", "1", "--input", json.dumps({"cents": "500"}))
    assert await system.problems() == []

    await system.payment_comes_back_with("TYPE_STRING")
    await until(lambda: bool(system.warnings))
    [warning] = system.warnings
    assert "participant=payment definition=order version=1 step=charge unfinished_sagas=1" in warning
    assert await system.problems() == [f"order@1 (1 unfinished saga), {CHANGED}"]
    assert f"\npayment: order@1 (1 unfinished saga), {CHANGED}\n" in (await system.saga("participants")).out

    await system.saga("cancel", "1")
    assert "SagaCompensated" in (await system.saga("watch", "1")).out
    assert await system.problems() == [f"order@1 (new sagas start on it), {CHANGED}"]
    assert await system.apply() == "order version 2 registered\n"
    assert await system.problems() == []

    await system.payment_comes_back_with("TYPE_INT64")
    await until(lambda: len(system.warnings) == 2)
    refreshed = (await system.saga("participants", "refresh", "payment", "-o", "json")).json
    back = "step `charge`: input ChargeRequest.cents: string before, int64 now"
    assert refreshed["problems"] == [f"order@2 (new sagas start on it), {back}"]
