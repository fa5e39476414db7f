"""A participant in Node.js, written from the .proto files alone, beside Python ones in sagas, and its barrier alone.

It is installed with npm, from its lock file, into a temporary directory. An install that fails is a failure; only where
there is no Node.js are these tests skipped.
"""

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_channelz.v1 import channelz
from grpc_channelz.v1.channelz_pb2 import GetSocketRequest, GetSubchannelRequest, GetTopChannelsRequest

from coordinator.conform.examples import load
from coordinator.conform.process import free_port
from coordinator.conform.report import Verdict
from coordinator.conform.runner import conform
from coordinator.participants.channel import OPTIONS
from participant_sdk import SagaError
from saga.v1.participant_pb2 import (
    CompensateRequest,
    CompensateResponse,
    ConfirmRequest,
    ConfirmResponse,
    DescribeRequest,
    ExecuteRequest,
    ExecuteResponse,
    StepContext,
)
from saga.v1.participant_pb2_grpc import ParticipantServiceStub
from saga.v1.types_pb2 import (
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    STEP_KIND_COMPENSATABLE,
    STEP_KIND_RESERVABLE,
    STEP_STATE_CONFIRMED,
    STEP_STATE_REJECTED,
)
from sample_services.demo.processes import Server, Supervisor, is_free
from tests.e2e.system import OrderSystem, order, until
from tests.support.registering import register

pytestmark = [
    pytest.mark.long,
    pytest.mark.e2e,
    pytest.mark.skipif(
        shutil.which("node") is None or shutil.which("npm") is None,
        reason="node or npm is not installed: the participant in Node.js cannot run",
    ),
]

ROOT = Path(__file__).parents[2]
NODE = ROOT / "tests" / "other_languages" / "node"
DEFINITION_FILE = NODE / "order_with_gift.yaml"
DEFINITION = "order_with_gift"
INSTALL_MAX_S = 300
CALL_MAX_S = 10
PINGS = 3  # one more than a server that counts them as an attack lets pass
SEED = int(os.environ.get("SAGA_KILL_SEED", "1"))

ADA, GRACE_WHO_IS_SUSPENDED = "ada", "grace"
POINTS_BEFORE = 1000
GIFT_POINTS = 10
CUP_POINTS = 8  # a cup costs 8.50
NOT_SERVED = "XX"
NO_PENDING = ("pending", "pending-compensated")
NO_CONFIRM = ("hold-until", "confirm", "confirm-repeated", "confirm-first")


@dataclass(frozen=True)
class Installed:
    """Where the participant is installed, and its message types."""

    directory: Path
    descriptors: FileDescriptorSet

    def message(self, name: str, **fields: Any) -> Message:
        pool = DescriptorPool()
        for file in self.descriptors.file:
            pool.Add(file)
        return GetMessageClass(pool.FindMessageTypeByName(f"loyalty.v1.{name}"))(**fields)

    def command(self, database: Path, hold: Path) -> Sequence[str]:
        return (
            "node",
            str(self.directory / "participant.js"),
            f"--database={database}",
            f"--hold-answers={hold}",
            f"--protos={ROOT / 'protos'}",
            f"--descriptors={self.directory / 'loyalty.binpb'}",
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    directory = tmp_path_factory.mktemp("node") / "loyalty"
    shutil.copytree(NODE, directory, ignore=shutil.ignore_patterns("node_modules"))
    _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", directory=directory)
    compiled = directory / "loyalty.binpb"
    protoc = (sys.executable, "-m", "grpc_tools.protoc", f"-I{NODE}", f"-I{ROOT}", "--include_imports")
    _run(*protoc, f"--descriptor_set_out={compiled}", "loyalty.proto")
    return Installed(directory, FileDescriptorSet.FromString(compiled.read_bytes()))


def _run(*command: str, directory: Path | None = None) -> None:
    ended = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=INSTALL_MAX_S, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


class Loyalty:
    """The participant in Node.js as a process, and what is in its database."""

    def __init__(self, installed: Installed, directory: Path) -> None:
        self.installed = installed
        self.hold_answers = directory / "loyalty.hold"
        self.database = directory / "loyalty.db"
        self._supervisor = Supervisor(directory)

    async def __aenter__(self) -> Self:
        await self._start("loyalty")
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._supervisor.__aexit__(*_exception)

    async def start_second(self) -> Server:
        """Another process on the same database."""
        return await self._start("second")

    async def _start(self, name: str) -> Server:
        return await self._supervisor.start(name, self.installed.command(self.database, self.hold_answers))

    @property
    def server(self) -> Server:
        return self._supervisor.servers["loyalty"]

    def select(self, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            return connection.execute(query, parameters).fetchall()

    def movements(self, saga_id: str) -> list[str]:
        """Which kinds of movements there were, by name."""
        return [kind for (kind,) in self.select("SELECT kind FROM movements WHERE saga_id = ? ORDER BY kind", saga_id)]

    def points(self, customer: str = ADA) -> tuple[int, int]:
        """Usable and held."""
        [(usable, held)] = self.select("SELECT points, held FROM customers WHERE customer_id = ?", customer)
        return usable, held


class GiftSystem(OrderSystem):
    """The order services and a coordinator that knows the participant in Node.js as well."""

    def __init__(self, directory: Path, loyalty: Loyalty) -> None:
        super().__init__(directory)
        self.loyalty = loyalty

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            await register(self.address, DEFINITION_FILE)
        except BaseException:
            await self.__aexit__()
            raise
        return self

    def serve_command(self) -> Sequence[str]:
        return (*super().serve_command(), f"--participant=loyalty={self.loyalty.server.address}")

    async def begin(self, saga_id: str, *, country: str = "NL", customer: str = ADA) -> None:
        placed: Any = self.loyalty.installed.message("OrderWithGift", customer_id=customer, gift_points=GIFT_POINTS)
        placed.order.MergeFromString(order(saga_id, country=country).SerializeToString())
        async with self.client() as sagas:
            await sagas.start(DEFINITION, placed, saga_id=saga_id)


@pytest.fixture
async def loyalty(installed: Installed, tmp_path: Path) -> AsyncIterator[Loyalty]:
    async with Loyalty(installed, tmp_path) as running:
        yield running


@pytest.fixture
async def gifts(loyalty: Loyalty, tmp_path: Path) -> AsyncIterator[GiftSystem]:
    async with GiftSystem(tmp_path, loyalty) as running:
        yield running


# In sagas, beside participants in Python.


async def test_a_saga_of_both_languages_completes(gifts: GiftSystem) -> None:
    """The hold in Node.js is confirmed, and outputs pass between the languages."""
    await gifts.begin("both")
    [saga] = await gifts.wait_all(["both"])
    assert saga.state == SAGA_STATE_COMPLETED, saga
    assert saga.steps[0].state == STEP_STATE_CONFIRMED
    output: Any = gifts.loyalty.installed.message("FulfilledOrderWithGift")
    assert saga.output.Unpack(output)
    assert output.points_earned == CUP_POINTS
    assert gifts.loyalty.movements("both") == ["GRANTED", "HELD", "SPENT"]
    assert gifts.loyalty.points() == (POINTS_BEFORE - GIFT_POINTS + CUP_POINTS, 0)
    gifts.assert_sums_hold()


async def test_node_compensates_what_python_refuses_later(gifts: GiftSystem) -> None:
    """G4: in reverse order, with the output that Execute had returned."""
    await gifts.begin("refused", country=NOT_SERVED)
    [saga] = await gifts.wait_all(["refused"])
    assert saga.state == SAGA_STATE_COMPENSATED, saga
    assert saga.failure.reason == "ADDRESS_NOT_SERVED"
    moved = gifts.loyalty.select("SELECT kind, points FROM movements ORDER BY movement_id")
    assert moved == [
        ("HELD", GIFT_POINTS),
        ("GRANTED", CUP_POINTS),
        ("TAKEN_BACK", CUP_POINTS),
        ("RELEASED", GIFT_POINTS),
    ]
    assert gifts.loyalty.points() == (POINTS_BEFORE, 0)
    gifts.assert_sums_hold()


async def test_python_compensates_what_node_refuses(gifts: GiftSystem) -> None:
    """G4: a refused step had no effect, and is not compensated; what was done before it is."""
    await gifts.begin("suspended", customer=GRACE_WHO_IS_SUSPENDED)
    [saga] = await gifts.wait_all(["suspended"])
    assert saga.state == SAGA_STATE_COMPENSATED, saga
    assert (saga.failure.step, saga.failure.reason) == ("grant_points", "CUSTOMER_SUSPENDED")
    refused = saga.steps[3]
    assert (refused.state, refused.compensate.attempts) == (STEP_STATE_REJECTED, 0)
    assert gifts.loyalty.movements("suspended") == ["HELD", "RELEASED"]
    assert gifts.loyalty.points(GRACE_WHO_IS_SUSPENDED) == (POINTS_BEFORE, 0)
    gifts.assert_sums_hold()


async def test_node_killed_between_its_commit_and_its_answer_has_done_it_once(gifts: GiftSystem) -> None:
    """G2, G5: the lost answer is no refusal; the next attempt gets the stored reply."""
    loyalty = gifts.loyalty
    loyalty.hold_answers.touch()
    await gifts.begin("cut")
    await until(lambda: loyalty.movements("cut") == ["HELD"])
    await loyalty.server.kill()
    loyalty.hold_answers.unlink()
    await loyalty.server.start()
    [saga] = await gifts.wait_all(["cut"])
    assert saga.state == SAGA_STATE_COMPLETED, saga
    assert saga.steps[0].execute.attempts > 1
    assert loyalty.movements("cut") == ["GRANTED", "HELD", "SPENT"]
    gifts.assert_sums_hold()


async def test_node_killed_at_random_moments_does_everything_once(gifts: GiftSystem) -> None:
    """G2–G4: forwards and backwards, whatever it was at when it was killed."""
    chance = random.Random(SEED)
    countries = {f"order-{number}": chance.choice(("NL", NOT_SERVED)) for number in range(18)}
    await asyncio.gather(*(gifts.begin(saga_id, country=country) for saga_id, country in countries.items()))
    wanted = sum(len(_movements_due(country)) for country in countries.values())
    for part in (1, 2, 3):
        reached = wanted * part // 4 + chance.randrange(-4, 5)
        await until(lambda reached=reached: _moved(gifts.loyalty) >= reached)  # type: ignore[misc]  # a default binds it
        await gifts.loyalty.server.kill()
        await gifts.loyalty.server.start()
    for saga in await gifts.wait_all(list(countries)):
        country = countries[saga.saga_id]
        assert saga.state == (SAGA_STATE_COMPENSATED if country == NOT_SERVED else SAGA_STATE_COMPLETED), saga
        assert gifts.loyalty.movements(saga.saga_id) == _movements_due(country)
    completed = sum(country != NOT_SERVED for country in countries.values())
    assert gifts.loyalty.points() == (POINTS_BEFORE + completed * (CUP_POINTS - GIFT_POINTS), 0)
    gifts.assert_sums_hold()


def _moved(loyalty: Loyalty) -> int:
    return int(loyalty.select("SELECT count(*) FROM movements")[0][0])


def _movements_due(country: str) -> list[str]:
    return ["GRANTED", "HELD", "RELEASED", "TAKEN_BACK"] if country == NOT_SERVED else ["GRANTED", "HELD", "SPENT"]


# What `saga conform` says of it.


async def test_node_passes_every_check_that_fits_its_actions(
    installed: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G2, G5, G8, G13: over a kill too, with its effects read from its database."""
    monkeypatch.setenv("PROTOS", str(ROOT / "protos"))
    monkeypatch.setenv("DESCRIPTORS", str(installed.directory / "loyalty.binpb"))
    file = installed.directory / "loyalty.conformance.yaml"
    examples = load(file.read_text(encoding="utf-8"), file.name, file.parent)
    report = await conform(f"127.0.0.1:{free_port('127.0.0.1')}", examples)
    by_verdict = {
        verdict: [f"{one.action}/{one.check}" for one in report.results if one.verdict is verdict]
        for verdict in (Verdict.FAILED, Verdict.WARNED, Verdict.SKIPPED)
    }
    assert by_verdict == {
        Verdict.FAILED: [],
        Verdict.WARNED: [],
        Verdict.SKIPPED: [
            *(f"HoldPoints/{check}" for check in (*NO_PENDING, "confirm-unserved")),
            *(f"GrantPoints/{check}" for check in (*NO_PENDING, *NO_CONFIRM)),
        ],
    }, report.results
    assert not any(one.is_unobserved for one in report.results)


# Its barrier, asked directly.


class Caller:
    """Plays the coordinator: sends requests for the steps of one saga, and returns the replies' bytes as they came."""

    def __init__(self, loyalty: Loyalty, channel: grpc.aio.Channel) -> None:
        self._installed = loyalty.installed
        self._channel = channel

    def payload(self, name: str, **fields: Any) -> AnyMessage:
        packed = AnyMessage()
        packed.Pack(self._installed.message(name, **fields))
        return packed

    def hold(self, points: int = GIFT_POINTS, customer: str = ADA) -> AnyMessage:
        return self.payload("HoldPointsRequest", order_id="1", customer_id=customer, points=points)

    def grant(self, cents: int, customer: str = ADA) -> AnyMessage:
        return self.payload("GrantPointsRequest", order_id="1", customer_id=customer, amount_cents=cents)

    async def send(
        self, operation: str, request: AnyMessage, *, step: str = "hold", action: str = "HoldPoints", attempt: int = 1
    ) -> bytes:
        context = StepContext(
            saga_id="direct",
            saga_uid="direct-uid",
            step=step,
            action=action,
            idempotency_key=f"direct-uid/{step}/{operation.lower()}",
            attempt=attempt,
        )
        return await self.send_bytes(
            operation, _REQUESTS[operation](context=context, input=request).SerializeToString()
        )

    async def send_bytes(self, operation: str, request: bytes) -> bytes:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(
            f"/saga.v1.ParticipantService/{operation}"
        )
        return await method(request, timeout=CALL_MAX_S)

    async def execute(self, request: AnyMessage, **which: Any) -> ExecuteResponse:
        return ExecuteResponse.FromString(await self.send("Execute", request, **which))

    async def compensate(self, request: AnyMessage, **which: Any) -> CompensateResponse:
        return CompensateResponse.FromString(await self.send("Compensate", request, **which))

    async def confirm(self, request: AnyMessage, **which: Any) -> ConfirmResponse:
        return ConfirmResponse.FromString(await self.send("Confirm", request, **which))

    async def refused(self, operation: str, request: AnyMessage, **which: Any) -> SagaError:
        """The status that a call ends with."""
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await self.send(operation, request, **which)
        return SagaError.of(raised.value)


_REQUESTS: Mapping[str, type[ExecuteRequest] | type[CompensateRequest] | type[ConfirmRequest]] = {
    "Execute": ExecuteRequest,
    "Compensate": CompensateRequest,
    "Confirm": ConfirmRequest,
}


@pytest.fixture
async def caller(loyalty: Loyalty) -> AsyncIterator[Caller]:
    async with grpc.aio.insecure_channel(loyalty.server.address) as channel:
        yield Caller(loyalty, channel)


async def test_it_describes_itself_with_the_types_that_protoc_wrote(loyalty: Loyalty) -> None:
    async with grpc.aio.insecure_channel(loyalty.server.address) as channel:
        described = await ParticipantServiceStub(channel).Describe(DescribeRequest(), timeout=CALL_MAX_S)
    assert described.descriptors == loyalty.installed.descriptors
    assert described.barriered
    assert [(action.name, list(action.kinds)) for action in described.actions] == [
        ("HoldPoints", [STEP_KIND_RESERVABLE]),
        ("GrantPoints", [STEP_KIND_COMPENSATABLE]),
    ]
    assert all(action.description and action.rejection_reasons for action in described.actions)


async def test_a_repeated_execute_gets_the_stored_reply_over_a_kill_too(loyalty: Loyalty, caller: Caller) -> None:
    """G2: byte for byte, though a new run would answer something else by now."""
    first = await caller.send("Execute", caller.hold())
    await caller.execute(caller.hold(), step="another")
    assert await caller.send("Execute", caller.hold(), attempt=2) == first
    await loyalty.server.kill()
    await loyalty.server.start()
    async with grpc.aio.insecure_channel(loyalty.server.address) as channel:
        assert await Caller(loyalty, channel).send("Execute", caller.hold(), attempt=3) == first
    assert ExecuteResponse.FromString(first).HasField("completed")
    assert loyalty.points() == (POINTS_BEFORE - 2 * GIFT_POINTS, 2 * GIFT_POINTS)


async def test_overlapping_calls_have_one_effect(loyalty: Loyalty, caller: Caller) -> None:
    """G2."""
    replies = await asyncio.gather(*(caller.send("Execute", caller.hold(), attempt=n) for n in range(1, 33)))
    assert len(set(replies)) == 1
    assert loyalty.points() == (POINTS_BEFORE - GIFT_POINTS, GIFT_POINTS)


async def test_two_processes_on_one_database_have_one_effect(loyalty: Loyalty, caller: Caller) -> None:
    """G2: as while a new release takes over from the old one."""
    second = await loyalty.start_second()
    async with grpc.aio.insecure_channel(second.address) as channel:
        callers = (caller, Caller(loyalty, channel))
        replies = await asyncio.gather(
            *(callers[n % 2].send("Execute", caller.hold(), attempt=n) for n in range(1, 65))
        )
    assert len(set(replies)) == 1
    assert loyalty.points() == (POINTS_BEFORE - GIFT_POINTS, GIFT_POINTS)


async def test_compensate_without_execute_bars_it(loyalty: Loyalty, caller: Caller) -> None:
    """G8: it succeeds, changes nothing, and a late Execute is refused for good."""
    first = await caller.send("Compensate", caller.hold())
    assert CompensateResponse.FromString(first).compensated.noop
    assert (await caller.execute(caller.hold(), attempt=7)).rejected.reason == "BARRED"
    assert await caller.send("Compensate", caller.hold(), attempt=2) == first
    assert (await caller.confirm(caller.hold())).rejected.reason == "BARRED"
    assert loyalty.movements("direct") == []


async def test_a_repeated_compensate_gets_the_stored_reply(loyalty: Loyalty, caller: Caller) -> None:
    """G2, G8."""
    await caller.execute(caller.hold())
    first = await caller.send("Compensate", caller.hold())
    reply = CompensateResponse.FromString(first)
    assert reply.HasField("compensated")
    assert not reply.compensated.noop
    assert await caller.send("Compensate", caller.hold(), attempt=2) == first
    assert (await caller.execute(caller.hold(), attempt=2)).rejected.reason == "BARRED"
    assert loyalty.movements("direct") == ["HELD", "RELEASED"]
    assert loyalty.points() == (POINTS_BEFORE, 0)


async def test_a_rejection_is_remembered_by_its_attempt(loyalty: Loyalty, caller: Caller) -> None:
    """G5: it promises that no attempt up to its own has an effect; a later one runs anew."""
    much = caller.hold(POINTS_BEFORE + 1)
    rejected = await caller.send("Execute", much, attempt=2)
    assert ExecuteResponse.FromString(rejected).rejected.reason == "NOT_ENOUGH_POINTS"
    await caller.execute(caller.grant(100), step="grant", action="GrantPoints")
    assert await caller.send("Execute", much, attempt=1) == rejected
    assert await caller.send("Execute", much, attempt=2) == rejected
    assert loyalty.movements("direct") == ["GRANTED"]
    assert (await caller.execute(much, attempt=3)).HasField("completed")
    assert loyalty.points() == (0, POINTS_BEFORE + 1)


async def test_a_rejection_leaves_nothing_and_is_barred_by_compensate(loyalty: Loyalty, caller: Caller) -> None:
    """G8: what the handler had written before it refused is gone."""
    grant = caller.grant(900, GRACE_WHO_IS_SUSPENDED)
    refused = await caller.execute(grant, step="grant", action="GrantPoints")
    assert refused.rejected.reason == "CUSTOMER_SUSPENDED"
    assert (await caller.compensate(grant, step="grant", action="GrantPoints")).compensated.noop
    barred = await caller.execute(grant, step="grant", action="GrantPoints", attempt=2)
    assert barred.rejected.reason == "BARRED"
    assert loyalty.movements("direct") == []
    assert loyalty.points(GRACE_WHO_IS_SUSPENDED) == (POINTS_BEFORE, 0)


async def test_a_confirmed_hold_stays_confirmed(loyalty: Loyalty, caller: Caller) -> None:
    """G2, G6: a repeated Confirm or Execute gets its stored reply, and a Compensate is refused."""
    executed = await caller.send("Execute", caller.hold())
    first = await caller.send("Confirm", caller.hold())
    assert ConfirmResponse.FromString(first).HasField("confirmed")
    assert await caller.send("Confirm", caller.hold(), attempt=2) == first
    assert await caller.send("Execute", caller.hold(), attempt=2) == executed
    assert (await caller.compensate(caller.hold())).rejected.reason == "CONFIRMED"
    assert loyalty.movements("direct") == ["HELD", "SPENT"]
    assert loyalty.points() == (POINTS_BEFORE - GIFT_POINTS, 0)


async def test_there_is_nothing_to_confirm_without_a_hold(loyalty: Loyalty, caller: Caller) -> None:
    assert (await caller.confirm(caller.hold())).rejected.reason == "NOT_EXECUTED"
    await caller.execute(caller.hold(POINTS_BEFORE + 1))
    assert (await caller.confirm(caller.hold(POINTS_BEFORE + 1))).rejected.reason == "NOT_EXECUTED"
    assert loyalty.movements("direct") == []


async def test_a_key_is_not_used_for_another_request(loyalty: Loyalty, caller: Caller) -> None:
    """G13: another input or action is refused, whatever the operation; nothing changes."""
    await caller.execute(caller.hold())
    for error in (
        await caller.refused("Execute", caller.hold(GIFT_POINTS + 1)),
        await caller.refused("Compensate", caller.hold(GIFT_POINTS + 1)),
        await caller.refused("Confirm", caller.hold(GIFT_POINTS + 1)),
        await caller.refused("Execute", caller.grant(100), action="GrantPoints"),
    ):
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "KEY_REUSED")
    assert loyalty.movements("direct") == ["HELD"]


async def test_inputs_are_compared_decoded(caller: Caller) -> None:
    """The same fields in another order are the same request; beyond 2^53 no digit is lost."""
    first = await caller.send("Execute", caller.hold())
    fields: Sequence[Mapping[str, Any]] = ({"points": GIFT_POINTS}, {"customer_id": ADA}, {"order_id": "1"})
    encoded = b"".join(caller.payload("HoldPointsRequest", **field).value for field in fields)
    turned = AnyMessage(type_url=caller.hold().type_url, value=encoded)
    assert turned.value != caller.hold().value
    assert await caller.send("Execute", turned, attempt=2) == first
    await caller.execute(caller.grant(2**53), step="grant", action="GrantPoints")
    error = await caller.refused("Execute", caller.grant(2**53 + 1), step="grant", action="GrantPoints")
    assert error.reason == "KEY_REUSED"


async def test_int64_amounts_are_exact(loyalty: Loyalty, caller: Caller) -> None:
    reply = await caller.execute(caller.grant(2**63 - 1), step="grant", action="GrantPoints")
    granted: Any = loyalty.installed.message("PointsGranted")
    assert reply.completed.output.Unpack(granted)
    assert granted.points == (2**63 - 1) // 100
    assert loyalty.points() == (POINTS_BEFORE + (2**63 - 1) // 100, 0)


async def test_what_breaks_leaves_no_trace_and_does_not_travel(loyalty: Loyalty, caller: Caller) -> None:
    """G5: INTERNAL says nothing of the outcome, so the same attempt may come again, and then runs."""
    _alter(loyalty, "ALTER TABLE movements RENAME TO away")
    error = await caller.refused("Execute", caller.hold())
    assert (error.code, error.reason) == (grpc.StatusCode.INTERNAL, "HANDLER_FAILED")
    assert "movements" not in error.message
    assert loyalty.select("SELECT * FROM barrier") == []
    assert loyalty.points() == (POINTS_BEFORE, 0)
    _alter(loyalty, "ALTER TABLE away RENAME TO movements")
    assert (await caller.execute(caller.hold())).HasField("completed")


def _alter(loyalty: Loyalty, statement: str) -> None:
    with closing(sqlite3.connect(loyalty.database)) as connection:
        connection.execute(statement)


async def test_malformed_calls_are_refused_and_change_nothing(loyalty: Loyalty, caller: Caller) -> None:
    """G13."""
    code = grpc.StatusCode
    torn = AnyMessage(type_url=caller.hold().type_url, value=b"\x0a\xff")
    found = [
        await caller.refused("Execute", torn),
        await caller.refused("Execute", caller.grant(100)),
        await caller.refused("Execute", caller.hold(), attempt=0),
        await caller.refused("Execute", caller.hold(), step=""),
        await caller.refused("Execute", caller.hold(), action="Fly"),
        await caller.refused("Confirm", caller.grant(100), action="GrantPoints"),
    ]
    assert [error.code for error in found] == [code.INVALID_ARGUMENT] * 4 + [code.UNIMPLEMENTED] * 2
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await caller.send_bytes("Execute", b"\x0a\xff")
    assert raised.value.code() is code.INVALID_ARGUMENT
    assert loyalty.select("SELECT * FROM barrier") == []


async def test_the_pings_of_a_coordinator_do_not_upset_it(loyalty: Loyalty) -> None:
    """With the coordinator's own options, only ten times as often: one connection outlives a call that takes long."""
    loyalty.hold_answers.touch()
    often = [(name, value // 10 if name == "grpc.keepalive_time_ms" else value) for name, value in OPTIONS]
    async with grpc.aio.insecure_channel(loyalty.server.address, [*often, ("grpc.enable_channelz", 1)]) as channel:
        caller = Caller(loyalty, channel)
        held = asyncio.ensure_future(caller.send("Execute", caller.hold()))
        await until(lambda: held.done() or _pings_sent(loyalty.server.address) >= PINGS)
        assert not held.done()
        loyalty.hold_answers.unlink()
        assert ExecuteResponse.FromString(await held).HasField("completed")
        assert _pings_sent(loyalty.server.address) >= PINGS  # counted by connection: it is still the same one


def _pings_sent(address: str) -> int:
    """How many keepalive pings the connections of this process to an address have sent."""
    shown: Any = channelz.ChannelzServicer  # called here without the context of an RPC
    parts = [
        shown.GetSubchannel(GetSubchannelRequest(subchannel_id=part.subchannel_id), None).subchannel
        for top in shown.GetTopChannels(GetTopChannelsRequest(), None).channel
        if top.data.target.endswith(address)
        for part in top.subchannel_ref
    ]
    connections = [
        shown.GetSocket(GetSocketRequest(socket_id=connection.socket_id), None).socket
        for part in parts
        for connection in part.socket_ref
    ]
    return sum(connection.data.keep_alives_sent for connection in connections)


async def test_it_drains_when_it_is_asked_to_end(loyalty: Loyalty) -> None:
    """A call under way still gets its answer, and then the process ends by itself."""
    loyalty.hold_answers.touch()
    async with grpc.aio.insecure_channel(loyalty.server.address) as channel:
        caller = Caller(loyalty, channel)
        held = asyncio.ensure_future(caller.send("Execute", caller.hold()))
        await until(lambda: loyalty.movements("direct") == ["HELD"])
        stopping = asyncio.ensure_future(loyalty.server.stop())
        await until(lambda: is_free(loyalty.server.address))
        loyalty.hold_answers.unlink()
        assert ExecuteResponse.FromString(await held).HasField("completed")
        await stopping
    assert "drained" in loyalty.server.last_words
