"""The command line against a real coordinator and real participants: what it shows, and how it exits."""

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from coordinator.cli.errors import ExitCode
from saga.v1.types_pb2 import SAGA_STATE_COMPLETED
from tests.e2e.system import DEFINITION, DEFINITION_FILE, PATIENCE_S, OrderSystem, order, run, until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture
def system(shared_system: OrderSystem) -> Iterator[OrderSystem]:
    """One for all tests, each of which has sagas of its own."""
    yield shared_system
    shared_system.gateway_hold.unlink(missing_ok=True)


def order_json(order_id: str, *, country: str = "NL") -> str:
    return json.dumps(
        {
            "orderId": order_id,
            "lines": [{"sku": "cup", "quantity": 1}],
            "cardToken": "tok_gold",
            "destination": {"recipient": "Ada", "street": "Dorpsstraat 1", "city": "Delft", "countryCode": country},
        }
    )


@asynccontextmanager
async def running(system: OrderSystem, *arguments: str) -> AsyncIterator[Process]:
    """The command line as a process that is still at work; gone at the end."""
    command = (sys.executable, "-m", "coordinator.cli", "--server", system.address, *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def charged(system: OrderSystem) -> list[tuple[object, ...]]:
    return system.select("card_gateway", "SELECT * FROM charges WHERE state = 'CHARGED'")


async def ended(process: Process) -> tuple[int | None, str, str]:
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_an_order_from_its_start_to_its_timeline(system: OrderSystem) -> None:
    done = await system.saga("start", DEFINITION, "--id", "a", "--input", order_json("a"), "--wait")
    assert done.code == ExitCode.OK, done
    assert done.out.startswith("a\norder_fulfillment@1  COMPLETED  a\n")
    shown = (await system.saga("get", "a", "-o", "json")).json
    assert shown["output"]["trackingNumber"]
    assert [step["input"]["orderId"] for step in shown["steps"]] == ["a", "a", "a"]


async def test_an_order_that_goes_back_is_told_by_the_exit_code(system: OrderSystem) -> None:
    given = order_json("b", country="XX")
    done = await system.saga("start", DEFINITION, "--id", "b", "--input", given, "--follow")
    assert done.code == ExitCode.COMPENSATED, done
    assert "StepRejected            ship #1  REJECTED: ADDRESS_NOT_SERVED" in done.out
    listed = await system.saga("list", "--failure", "no carrier", "--state", "compensated", "-o", "json")
    assert [json.loads(line)["sagaId"] for line in listed.out.splitlines()] == ["b"]
    refused = await system.saga("cancel", "b")
    assert refused.code == ExitCode.REFUSED
    assert "STATE_FORBIDS" in refused.err


async def test_following_survives_a_coordinator_that_is_killed(system: OrderSystem) -> None:
    before = charged(system)
    system.gateway_hold.touch()
    async with running(system, "start", DEFINITION, "--id", "c", "--input", order_json("c"), "--follow") as follower:
        await until(lambda: len(charged(system)) > len(before))
        await system.coordinator.kill()
        system.gateway_hold.unlink()
        await system.coordinator.start()
        code, out, err = await ended(follower)
    assert code == ExitCode.OK
    assert err in ("", f"the coordinator at {system.address} does not answer; looking for it\n")
    sequences = [int(line.split()[0]) for line in out.splitlines()[1:]]
    assert sequences == list(range(1, len(sequences) + 1))
    assert "AttemptLost" in out
    assert out.splitlines()[-1].endswith("SagaCompleted")


async def test_an_interrupted_watch_ends_quietly_and_the_saga_goes_on(system: OrderSystem) -> None:
    system.gateway_hold.touch()
    await system.saga("start", DEFINITION, "--id", "d", "--input", order_json("d"))
    async with running(system, "watch", "d") as watcher:
        assert watcher.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            assert b"SagaCreated" in await watcher.stdout.readline()
        watcher.send_signal(signal.SIGINT)
        code, _, err = await ended(watcher)
    assert (code, err) == (ExitCode.INTERRUPTED, "")
    assert (await system.saga("get", "d", "-o", "json")).json["state"] == "SAGA_STATE_RUNNING"
    system.gateway_hold.unlink()


async def test_a_wrong_expression_is_shown_at_its_place_in_the_file(system: OrderSystem, tmp_path: Path) -> None:
    text = DEFINITION_FILE.read_text()
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(text.replace("reserve.total_cents", "reserve.total_sense"))
    lines = text.splitlines()
    line = next(number for number, line in enumerate(lines, start=1) if "reserve.total_cents" in line)
    column = lines[line - 1].index(".total_cents") + 1
    done = await system.saga("definition", "apply", str(wrong))
    assert done.code == ExitCode.REFUSED
    assert done.err.startswith(f"{wrong}:{line}:{column}: steps[1].input: "), done
    assert "total_sense" in done.err
    assert (await system.saga("definition", "apply", str(DEFINITION_FILE))).out == (
        "order_fulfillment unchanged (version 1)\n"
    )


async def test_a_second_coordinator_is_refused_in_a_line(system: OrderSystem) -> None:
    """G12: it says who has the journal, and the first one goes on."""

    def serve(*arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "coordinator.cli", "serve", *arguments)

    same_journal = await run(*serve("--listen", "127.0.0.1:0", "--journal", str(system.journal)))
    same_port = await run(*serve("--listen", system.address, "--journal", str(system.directory / "other.db")))
    for refused in (same_journal, same_port):
        assert refused.code == ExitCode.REFUSED
        assert "Traceback" not in refused.err
        assert refused.out == ""
    assert str(system.journal) in same_journal.err
    assert str(system.coordinator.pid) in same_journal.err
    assert system.address in same_port.err
    async with system.client() as sagas:
        await sagas.start(DEFINITION, order("after"), saga_id="after")
    [saga] = await system.wait_all(["after"])
    assert saga.state == SAGA_STATE_COMPLETED
