"""Whole rehearsals of samples, with services on sockets and a check that reads their databases after every path."""

import json
import shlex
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path as File
from typing import Any

import pytest

from coordinator.cli.options import Pair
from coordinator.cli.rehearse import LiveOptions
from coordinator.cli.rehearse_run import rehearse
from participant_sdk import Participant
from sample_services.orders import inventory, payment, shipping
from sample_services.orders.card_gateway import CardGateway
from sample_services.transfer import bank
from tests.coordinator.rehearse.conftest import violations

SAMPLES = File(__file__).parents[3] / "sample_services"

ORDERS_CHECK = """
import os, sqlite3, sys
def select(name, query, *values):
    return sqlite3.connect(f"{sys.argv[1]}/{name}.db").execute(query, values).fetchone()
id, done = os.environ["SAGA_ID"], os.environ["SAGA_STATE"] == "COMPLETED"
pieces, reserved, worth = select("inventory",
    "SELECT sum(available + reserved + shipped), sum(reserved), sum(price_cents * shipped) FROM stock")
books = select("payment", "SELECT coalesce(sum(amount_cents), 0) FROM charges")[0] - select(
    "payment", "SELECT coalesce(sum(amount_cents), 0) FROM refunds")[0]
gateway = select("gateway", "SELECT coalesce(sum(amount_cents), 0) FROM charges WHERE state = 'CHARGED'")[0]
parcels = select("shipping", "SELECT count(*) FROM shipments WHERE order_id = ? AND state = 'CREATED'", id)[0]
found = (pieces, reserved, worth - books, books - gateway, parcels)
if found != (int(sys.argv[2]), 0, 0, 0, int(done)):
    sys.exit(f"pieces, reserved, unpaid, not at the gateway, parcels: {found}")
"""

TRANSFER_CHECK = """
import os, sqlite3, sys
def select(name, query, *values):
    return sqlite3.connect(f"{sys.argv[1]}/{name}.db").execute(query, values).fetchone()[0]
id, done = os.environ["SAGA_ID"], os.environ["SAGA_STATE"] == "COMPLETED"
totals = [select(bank, "SELECT sum(balance_minor - opening_minor) FROM accounts") for bank in ("north", "south")]
in_flight = select("north", "SELECT balance_minor FROM accounts WHERE account_id = 'in_flight.EUR'")
credits = select("south", "SELECT count(*) FROM movements WHERE transfer_id = ? AND kind = 'CREDIT'", id)
owed = sum(select(bank, "SELECT sum(balance_minor) FROM accounts WHERE account_id LIKE 'interbank%'")
    for bank in ("north", "south"))
if (totals, in_flight, owed, credits) != ([0, 0], 0, 0, int(done)):
    sys.exit(f"made or lost {totals}, in flight {in_flight}, owed {owed}, credits {credits}")
"""


@asynccontextmanager
async def served(*participants: Participant) -> AsyncIterator[Sequence[Pair]]:
    """The participants on sockets."""
    async with AsyncExitStack() as stack:
        pairs = []
        for each in participants:
            pairs.append(Pair(each.name, await each.start("127.0.0.1:0")))
            stack.push_async_callback(each.stop)
        yield pairs


def change(database: File, statement: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(statement)


def python(directory: File, code: str, *arguments: Any) -> str:
    """A command that runs the code; without site packages, as it is run often."""
    (directory / "check.py").write_text(code, encoding="utf-8")
    return shlex.join([sys.executable, "-S", "-E", str(directory / "check.py"), str(directory), *map(str, arguments)])


async def test_order_fulfillment_holds_on_every_path(tmp_path: File) -> None:
    order = {
        "order_id": "${saga_id}",
        "lines": [{"sku": "cup", "quantity": 1}, {"sku": "teapot", "quantity": 1}],
        "card_token": "tok_gold",
        "destination": {"recipient": "Ada Lovelace", "country_code": "NL"},
    }
    services = (
        inventory.participant(tmp_path / "inventory.db"),
        payment.participant(tmp_path / "payment.db", CardGateway(tmp_path / "gateway.db")),
        shipping.participant(tmp_path / "shipping.db"),
    )
    async with served(*services) as participants:
        change(tmp_path / "inventory.db", "UPDATE stock SET available = 1000")
        change(tmp_path / "gateway.db", "UPDATE cards SET credit_limit_cents = 100000000")
        options = LiveOptions(
            participant=list(participants),
            input_=json.dumps(order),
            checks=[python(tmp_path, ORDERS_CHECK, 3000)],
            invariants=[
                "saga.labels['order_id'] == saga.saga_id",
                "reserve.?total_cents.orValue(4350) == charge.?amount_cents.orValue(4350)",
            ],
        )
        found = await rehearse(str(SAMPLES / "orders" / "order_fulfillment.yaml"), options)
    assert violations(found) == []
    assert found.states == {"COMPENSATED": 117, "COMPLETED": 21}
    assert (found.injected, [each for each in found.paths if each.own_refusal or each.not_reached]) == (242, [])


async def test_a_transfer_holds_on_every_path(tmp_path: File) -> None:
    transfer = {
        "transfer_id": "${saga_id}",
        "from_account": "ada@north",
        "to_account": "grace@south",
        "amount": {"minor_units": 7, "currency": "EUR"},
    }
    north = bank.participant(bank.Bank.NORTH, tmp_path / "north.db")
    south = bank.participant(bank.Bank.SOUTH, tmp_path / "south.db")
    async with served(north, south) as participants:
        options = LiveOptions(
            participant=list(participants),
            input_=json.dumps(transfer),
            checks=[python(tmp_path, TRANSFER_CHECK)],
        )
        found = await rehearse(str(SAMPLES / "transfer" / "transfer_north_to_south.yaml"), options)
    assert violations(found) == []
    assert sum(found.states.values()) == 41


async def test_the_check_of_the_orders_finds_a_compensation_that_forgets(
    tmp_path: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forget(*_arguments: Any) -> None:
        """Say that the shipment is cancelled."""

    monkeypatch.setattr(shipping.CreateShipment, "compensate", forget)
    monkeypatch.setattr(inventory.ReserveStock, "compensate", forget)
    services = (
        inventory.participant(tmp_path / "inventory.db"),
        payment.participant(tmp_path / "payment.db", CardGateway(tmp_path / "gateway.db")),
        shipping.participant(tmp_path / "shipping.db"),
    )
    order = {"lines": [{"sku": "cup", "quantity": 1}], "card_token": "tok_gold", "destination": {"country_code": "NL"}}
    async with served(*services) as participants:
        options = LiveOptions(
            participant=list(participants),
            input_=json.dumps({"order_id": "${saga_id}", **order}),
            checks=[python(tmp_path, ORDERS_CHECK, 250)],
            paths=["no-failure", "ship.execute#1=given-up"],
        )
        found = await rehearse(str(SAMPLES / "orders" / "order_fulfillment.yaml"), options)
    [violation] = violations(found)
    assert "(250, 1, 0, 0, 1)" in violation
