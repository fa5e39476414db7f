"""The journal's tools beside a real coordinator, and what they make opened by another one."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from coordinator.cli.errors import ExitCode
from sample_services.demo.processes import Supervisor
from tests.e2e.system import DEFINITION, OrderSystem, order, run

pytestmark = [pytest.mark.e2e, pytest.mark.long]

CLI = (sys.executable, "-m", "coordinator.cli")


async def test_a_backup_of_a_coordinator_at_work_is_a_sound_journal(system: OrderSystem, tmp_path: Path) -> None:
    ids = [f"order-{number}" for number in range(20)]
    async with system.client() as sagas:
        starting = asyncio.gather(*(sagas.start(DEFINITION, order(i), saga_id=i) for i in ids))
        copied = [await system.saga("journal", "backup", str(system.journal), str(tmp_path / f"{n}.db")) for n in "12"]
        await starting
    await system.wait_all(ids)
    copied.append(await system.saga("journal", "backup", str(system.journal), str(tmp_path / "3.db")))
    assert [done.code for done in copied] == [0, 0, 0], copied
    for name in "123":
        verified = await run(*CLI, "journal", "verify", str(tmp_path / f"{name}.db"), "-o", "json")
        assert (verified.code, verified.json["problems"]) == (0, [])
    assert verified.json["sagas"] == {"COMPLETED": len(ids)}
    system.assert_sums_hold()


async def test_an_exported_saga_is_looked_at_in_another_coordinator(system: OrderSystem, tmp_path: Path) -> None:
    async with system.client() as sagas:
        await sagas.start(DEFINITION, order("a", country="XX"), saga_id="a")
        await sagas.start(DEFINITION, order("b"), saga_id="b")
    await system.wait_all(["a", "b"])
    system.gateway_hold.touch()
    async with system.client() as sagas:
        await sagas.start(DEFINITION, order("running"), saga_id="running")
    export, other = tmp_path / "export.jsonl.gz", tmp_path / "other.db"
    done = await system.saga("journal", "export", str(system.journal), str(export), "a", "b")
    assert (done.code, done.out) == (0, f"2 sagas exported to {export}\n"), done
    unfinished = tmp_path / "running.jsonl.gz"
    await system.saga("journal", "export", str(system.journal), str(unfinished), "running")
    system.gateway_hold.unlink()
    refused = await run(*CLI, "journal", "import", str(other), str(unfinished))
    assert (refused.code, "only sagas that have ended" in refused.err) == (ExitCode.REFUSED, True)
    assert not other.exists()
    imported = await run(*CLI, "journal", "import", str(other), str(export))
    assert imported.code == 0, imported
    shown = [(await system.saga("get", saga_id, "-o", "json")).json for saga_id in ("a", "b")]
    async with Supervisor(tmp_path) as supervisor:
        server = await supervisor.start("another", (*CLI, "serve", f"--journal={other}"))
        get = [await run(*CLI, "--server", server.address, "get", saga_id, "-o", "json") for saga_id in ("a", "b")]
        listed = await run(*CLI, "--server", server.address, "list", "-o", "json")
    assert [found.json for found in get] == shown
    assert shown[0]["state"] == "SAGA_STATE_COMPENSATED"
    assert len([json.loads(line) for line in listed.out.splitlines()]) == 2
    await system.wait_all(["running"])
    system.assert_sums_hold()
