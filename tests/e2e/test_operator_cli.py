"""An operator at night, with nothing but the command line: finds the saga that needs somebody, sees why, takes it on.

The coordinator and every command are processes; the participant lives in this one, so that a test can break and heal
it. Starting them takes longer than a test, so the tests share them, each with a saga of its own.
"""

import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from coordinator.cli.errors import ExitCode
from participant_sdk import (
    COMPENSATABLE,
    PIVOT,
    RETRIABLE,
    Action,
    CoordinatorClient,
    MemoryBarrier,
    MemoryTransaction,
    Participant,
    Pending,
    Rejected,
    Step,
)
from saga.v1.coordinator_pb2 import Saga
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED, SAGA_STATE_FAILED
from sample_services.accounts.v1.accounts_pb2 import Person, Registration
from sample_services.accounts.v1.users_pb2 import CreateUserRequest, User
from sample_services.accounts.v1.wallets_pb2 import OpenWalletRequest, Wallet
from sample_services.accounts.v1.welcome_pb2 import SendWelcomeRequest, Welcome
from sample_services.demo.processes import Supervisor
from tests.e2e.system import Finished, run

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

REFUSED_COUNTRY = "XX"
DEFINITION = """
name: account
input_type: sample_services.accounts.v1.Registration
steps:
  - name: user
    participant: desk
    action: CreateUser
    input: "CreateUserRequest{person: input.person}"
  - name: wallet
    participant: desk
    action: OpenWallet
    kind: PIVOT
    input: "OpenWalletRequest{user_id: user.user_id, country_code: input.country_code}"
  - name: welcome
    participant: desk
    action: SendWelcome
    kind: RETRIABLE
    input: "SendWelcomeRequest{user_id: user.user_id, person: input.person, currency: wallet.currency}"
    execute: {max_attempts: 2, initial_backoff: 1ms, max_backoff: 1ms}
"""


@dataclass
class Desk:
    """What is out of order at the participant."""

    users_take_long: bool = False
    users_stay: bool = False
    wallets_take_long: bool = False
    mail: Exception | None = None

    def heal(self) -> None:
        self.users_take_long = self.users_stay = self.wallets_take_long = False
        self.mail = None


class CreateUser(Action[CreateUserRequest, User, MemoryTransaction]):
    """Creates a user."""

    kinds = (COMPENSATABLE,)

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def execute(self, _request: CreateUserRequest, step: Step[MemoryTransaction]) -> User | Pending:
        return Pending(message="somebody checks the passport") if self._desk.users_take_long else User(user_id="u-1")

    async def compensate(self, *_: object) -> None:
        if self._desk.users_stay:
            raise Rejected("USER_IS_ACTIVE", "the user has logged in")


class OpenWallet(Action[OpenWalletRequest, Wallet, MemoryTransaction]):
    """Opens a wallet."""

    kinds = (PIVOT,)

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def execute(self, request: OpenWalletRequest, step: Step[MemoryTransaction]) -> Wallet | Pending:
        if request.country_code == REFUSED_COUNTRY:
            raise Rejected("NOT_SERVED", "no wallets there")
        if self._desk.wallets_take_long:
            return Pending(message="somebody looks at it")
        return Wallet(wallet_id="w-1", currency="EUR")


class SendWelcome(Action[SendWelcomeRequest, Welcome, MemoryTransaction]):
    """Says welcome."""

    kinds = (RETRIABLE,)

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def execute(self, _request: SendWelcomeRequest, step: Step[MemoryTransaction]) -> Welcome:
        if self._desk.mail is not None:
            raise self._desk.mail
        return Welcome(message_id="m-1")


class Operator:
    """A command line, a client that starts and waits, and the participant."""

    def __init__(self, address: str, desk: Desk, client: CoordinatorClient) -> None:
        self.desk = desk
        self._address = address
        self._client = client

    async def saga(self, *arguments: str) -> Finished:
        return await run(sys.executable, "-m", "coordinator.cli", "--server", self._address, *arguments)

    async def told(self, *arguments: str) -> str:
        """What a command that succeeds prints."""
        done = await self.saga(*arguments)
        assert done.code == ExitCode.OK, done
        return done.out

    async def json(self, *arguments: str) -> Any:
        return json.loads(await self.told(*arguments, "-o", "json"))

    async def refused(self, *arguments: str) -> str:
        """What a command that is refused says; it prints no result."""
        done = await self.saga(*arguments)
        assert (done.code, done.out) == (ExitCode.REFUSED, ""), done
        return done.err

    async def start(self, saga_id: str, *, country: str = "NL") -> None:
        person = Person(name="Ada", email=f"{saga_id}@example.org")
        await self._client.start("account", Registration(person=person, country_code=country), saga_id=saga_id)

    async def stopped(self, saga_id: str) -> Saga:
        """The saga when it has ended or stands FAILED."""
        saga, ended = await self._client.wait(saga_id)
        assert ended, saga
        return saga

    async def until_pending(self, saga_id: str, step: str) -> None:
        async for response in self._client.watch(saga_id):
            if response.event.step_pending.step == step:
                return


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Operator]:
    directory = tmp_path_factory.mktemp("operator")
    desk = Desk()
    participant = Participant("desk", [CreateUser(desk), OpenWallet(desk), SendWelcome(desk)], MemoryBarrier())
    definition = directory / "account.yaml"
    definition.write_text(DEFINITION)
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(participant.running("127.0.0.1:0"))
        supervisor = await stack.enter_async_context(Supervisor(directory))
        serve = (sys.executable, "-m", "coordinator.cli", "serve", f"--journal={directory / 'journal.db'}")
        coordinator = await supervisor.start("coordinator", (*serve, f"--participant=desk={served}"))
        client = await stack.enter_async_context(CoordinatorClient(coordinator.address))
        operator = Operator(coordinator.address, desk, client)
        await operator.told("definition", "apply", str(definition))
        yield operator


@pytest.fixture
def operator(running: Operator) -> Iterator[Operator]:
    yield running
    running.desk.heal()


async def test_a_compensation_that_is_refused_is_resolved_by_hand(operator: Operator) -> None:
    """G7, G3: the saga stands FAILED and is found; a dry run shows what would follow, and changes nothing."""
    operator.desk.users_stay = True
    await operator.start("stays", country=REFUSED_COUNTRY)
    before = await operator.stopped("stays")
    assert before.state == SAGA_STATE_FAILED

    found = await operator.told("list", "--needs-attention", "-o", "json")
    assert [json.loads(line)["sagaId"] for line in found.splitlines()] == ["stays"]
    shown = await operator.told("get", "stays")
    assert shown.startswith("account@1  FAILED  stays\n")
    assert "REJECTED at wallet execute: NOT_SERVED: no wallets there" in shown
    assert "REJECTED at compensate: USER_IS_ACTIVE: the user has logged in" in shown

    resolve = ("resolve", "stays", "user", "--reason", "closed by hand", "--actor", "ann")
    first, possible = (await operator.refused(*resolve, "--confirmed")).splitlines()
    assert first == "error: step `user` in COMPENSATION_FAILED cannot be resolved as confirmed (STATE_FORBIDS)"
    assert "compensated" in possible
    dry = await operator.told(*resolve, "--compensated", "--dry-run")
    assert dry.startswith("dry run, nothing was changed; the saga would stand so:\n\naccount@1  COMPENSATED  stays\n")
    assert (await operator.stopped("stays")).last_sequence == before.last_sequence

    await operator.told(*resolve, "--compensated", "--expected-sequence", str(before.last_sequence))
    assert (await operator.stopped("stays")).state == SAGA_STATE_COMPENSATED
    assert "closed by hand; the saga goes on COMPENSATING  by ann" in await operator.told("events", "stays")


async def test_a_step_that_gave_up_is_retried_once_its_participant_is_healed(operator: Operator) -> None:
    """Behind the point of no return nothing is compensated (G6); a call that broke is not taken for over (G5)."""
    operator.desk.mail = ConnectionError("the mail server is down")
    await operator.start("mail")
    assert (await operator.stopped("mail")).state == SAGA_STATE_FAILED
    refusal = await operator.refused("cancel", "mail")
    assert refusal == (
        "error: the saga stands FAILED (STATE_FORBIDS)\n  a saga can be cancelled while it is PENDING or RUNNING\n"
    )
    refusal = await operator.refused("resolve", "mail", "welcome", "--reason", "phoned", "--completed", "{}")
    assert "may still be at work (STATE_FORBIDS)\n  wait until its deadline has passed" in refusal

    operator.desk.heal()
    await operator.told("retry", "mail", "--reason", "the mail server is back")
    assert (await operator.stopped("mail")).state == SAGA_STATE_COMPLETED
    assert "a saga can be retried until it has ended" in await operator.refused("retry", "mail")


async def test_a_step_that_gave_up_is_said_to_be_done(operator: Operator) -> None:
    """G3: what happened by other means is stated, in JSON of the type that the action yields."""
    operator.desk.mail = Rejected("MAILBOX_FULL", "the mailbox is full")
    await operator.start("phone")
    assert (await operator.stopped("phone")).state == SAGA_STATE_FAILED
    resolve = ("resolve", "phone", "welcome", "--reason", "phoned")
    assert "cannot be resolved as no effect" in await operator.refused(*resolve, "--no-effect")
    assert "messageNumber" in await operator.refused(*resolve, "--completed", '{"messageNumber": 1}')

    done = await operator.saga(*resolve, "--completed", '{"messageId": "by phone"}')
    assert done.code == ExitCode.OK, done
    assert done.err == "taken for a `sample_services.accounts.v1.Welcome`, which desk.SendWelcome yields\n"
    saga = await operator.stopped("phone")
    assert saga.state == SAGA_STATE_COMPLETED
    assert Welcome.FromString(saga.steps[2].output.value) == Welcome(message_id="by phone")


async def test_a_pending_step_is_completed_in_a_pause_and_what_follows_waits_for_its_end(operator: Operator) -> None:
    """G2, G3: a report needs the step's key; a pause holds back what would follow, not what has happened."""
    operator.desk.wallets_take_long = True
    await operator.start("slow")
    await operator.until_pending("slow", "wallet")
    assert await operator.told("pause", "slow", "--reason", "stocktaking") == "slow  RUNNING  paused\n"
    wallet = (await operator.json("get", "slow"))["steps"][1]
    assert wallet["state"] == "STEP_STATE_PENDING"

    complete = ("complete", "slow", "wallet", "--completed", '{"walletId": "w-7", "currency": "EUR"}', "--key")
    assert "key" in await operator.refused(*complete, "guessed")
    told = await operator.told(*complete, wallet["execute"]["idempotencyKey"])
    assert told == "slow  RUNNING  paused, past the point of no return\n"
    states = [step["state"] for step in (await operator.json("get", "slow"))["steps"]]
    assert states == ["STEP_STATE_COMPLETED", "STEP_STATE_COMPLETED", "STEP_STATE_WAITING"]

    assert (await operator.told("resume", "slow")).startswith("slow  RUNNING")
    completed = await operator.stopped("slow")
    assert completed.state == SAGA_STATE_COMPLETED
    assert Wallet.FromString(completed.steps[1].output.value).wallet_id == "w-7"
    assert "the saga stands COMPLETED (STATE_FORBIDS)" in await operator.refused("resume", "slow")


async def test_a_saga_is_cancelled(operator: Operator) -> None:
    """G4: a step that may have happened is compensated; to come late, or with an old picture, is told apart."""
    operator.desk.users_take_long = True
    await operator.start("changed")
    await operator.until_pending("changed", "user")
    assert "not at 1 (SEQUENCE_MISMATCH)" in await operator.refused("cancel", "changed", "--expected-sequence", "1")
    await operator.told("cancel", "changed", "--reason", "changed her mind")
    assert (await operator.stopped("changed")).state == SAGA_STATE_COMPENSATED
    shown = await operator.told("get", "changed", "--events")
    assert "CANCELLED: changed her mind" in shown
    assert "StepCompensated         user #1" in shown
    assert "the saga stands COMPENSATED" in await operator.refused("cancel", "changed")
    assert "(SAGA_NOT_FOUND)" in await operator.refused("cancel", "unknown")
