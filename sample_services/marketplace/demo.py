"""The scenes of the marketplace: an order of three parcels that completes over a `kill -9`, and two that are given up.

What the rows say afterwards is read from the services' own databases, as nobody but a demo should.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED, SagaState
from sample_services.demo import show
from sample_services.demo.sample import Example, Service, Sum
from sample_services.demo.stage import Stage, number, select, until
from sample_services.marketplace.v1.orders_pb2 import MarketplaceOrder, Parcel
from sample_services.orders.demo import Orders
from sample_services.orders.v1.orders_pb2 import Address, OrderLine

_DEFINITION: Final = "marketplace_order"
_DEFINITION_FILE: Final = Path(__file__).with_name(f"{_DEFINITION}.yaml")

_ENTRIES: Final = "SELECT order_id, parcels, state FROM orders ORDER BY order_id"
_PAYOUTS: Final = """
    SELECT order_id, parcel, seller_id, paid_cents, fee_cents FROM payouts JOIN orders USING (entry_id)
    ORDER BY order_id, parcel"""
_PAID: Final = "SELECT coalesce(sum(paid_cents), 0) FROM payouts"
_FEES: Final = "SELECT coalesce(sum(fee_cents), 0) FROM payouts"
_BALANCES: Final = "SELECT sum(balance_cents) FROM sellers"
_SETTLED: Final = "SELECT count(*) FROM orders WHERE state = 'PAID'"
_CHARGED: Final = """
    SELECT charge.order_id, charge.amount_cents - coalesce(refund.amount_cents, 0)
    FROM charges AS charge LEFT JOIN refunds AS refund USING (charge_id)"""
_ON_THE_WAY: Final = "SELECT order_id FROM shipments WHERE state = 'CREATED'"
_LEFT_THE_STOCK: Final = "SELECT order_id FROM reservations WHERE state = 'SHIPPED'"
_AT_THE_GATEWAY: Final = "SELECT count(*) FROM charges WHERE state = 'CHARGED'"
_PARCELS: Final = """
    SELECT order_id, tracking_number, country_code, state FROM shipments WHERE order_id LIKE '%/%' ORDER BY order_id"""


class Marketplace:
    """The entry of the marketplace in the demo. The services of the orders do its parcels."""

    name = "marketplace"

    def __init__(self, directory: Path) -> None:
        self._orders = Orders(directory)
        self._market = directory / "market.db"
        self._payment = directory / "payment.db"
        self._inventory = directory / "inventory.db"
        self._shipping = directory / "shipping.db"
        self._gateway = directory / "card_gateway.db"
        self._gateway_hold = directory / "card_gateway.hold"

    def services(self) -> Sequence[Service]:
        """Return inventory, payment and shipping, which are those of the orders, and the marketplace's own."""
        market = Service("market", "sample_services.marketplace.market", (f"--database={self._market}",))
        return (*self._orders.services(), market)

    def definitions(self) -> Sequence[Path]:
        """Return `order_fulfillment`, and `marketplace_order`, which has it as a step."""
        return (*self._orders.definitions(), _DEFINITION_FILE)

    async def play(self, stage: Stage) -> None:
        """Show the three scenes. Errors: `SceneFailed`."""
        self.remember()
        await self._completes_over_a_kill(stage)
        await self._third_parcel_is_out_of_stock(stage)
        await self._seller_cannot_be_paid(stage)
        for title, database, query in (
            ("market: orders", self._market, _ENTRIES),
            ("market: payouts, in cents", self._market, _PAYOUTS),
            ("shipping: parcels", self._shipping, _PARCELS),
        ):
            stage.console.print(show.rows(title, database, query))

    def remember(self) -> None:
        """Note how many pieces there are, before the first order."""
        self._orders.remember()

    def sums(self) -> Sequence[Sum]:
        """Return that no piece and no cent is lost or made, and that of each order every parcel is shipped, or none."""
        return (*self._orders.sums(), *self._sums())

    def example(self) -> Example:
        """Return an order that went well, and another that can be placed."""
        return Example(_DEFINITION, "market-1001", "market-2001", _order("market-2001", tea_house={"teapot": 1}))

    async def _completes_over_a_kill(self, stage: Stage) -> None:
        stage.scene("An order of three parcels, each a saga of its own; the coordinator is killed in their middle")
        order = _order("market-1001", kettle_works={"kettle": 1}, tea_house={"teapot": 2}, cup_makers={"cup": 6})
        charges = number(self._gateway, _AT_THE_GATEWAY) + len(order.parcels)
        self._gateway_hold.touch()
        await stage.begin(_DEFINITION, "market-1001", order)
        await until(lambda: number(self._gateway, _AT_THE_GATEWAY) == charges, "a charge for each parcel")
        stage.say(f"The charges of all parcels are under way: kill -9 {stage.coordinator.pid}, the coordinator")
        await stage.coordinator.kill()
        self._gateway_hold.unlink()
        await stage.coordinator.start()
        stage.say(f"The coordinator is back, process {stage.coordinator.pid}: the order and its parcels go on")
        await _end(stage, "market-1001", SAGA_STATE_COMPLETED)

    async def _third_parcel_is_out_of_stock(self, stage: Stage) -> None:
        stage.scene("An order whose third parcel is out of stock: the two others are compensated")
        order = _order("market-1002", kettle_works={"kettle": 1}, tea_house={"teapot": 2}, cup_makers={"cup": 9999})
        await stage.begin(_DEFINITION, "market-1002", order)
        await _end(stage, "market-1002", SAGA_STATE_COMPENSATED)

    async def _seller_cannot_be_paid(self, stage: Stage) -> None:
        stage.scene("An order with a seller who cannot be paid: all parcels are done by then, and are compensated")
        order = _order("market-1003", kettle_works={"kettle": 1}, tea_house={"teapot": 2}, attic={"cup": 6})
        await stage.begin(_DEFINITION, "market-1003", order)
        await _end(stage, "market-1003", SAGA_STATE_COMPENSATED)

    def _sums(self) -> Iterator[Sum]:
        parcels = self._parcels()
        charged = sum(cents for order_id, cents in select(self._payment, _CHARGED) if order_id in parcels)
        paid, fees = number(self._market, _PAID), number(self._market, _FEES)
        shared_out = (("of sellers", paid), ("fees", fees))
        yield Sum("cents shared out", shared_out, charged, "cents that buyers paid for parcels")
        balances = (("balances", number(self._market, _BALANCES)),)
        yield Sum("cents of sellers", balances, paid, "cents paid out")
        for name, database, query in (
            ("parcels that left the stock", self._inventory, _LEFT_THE_STOCK),
            ("parcels on their way", self._shipping, _ON_THE_WAY),
        ):
            yield self._all_or_none(name, parcels, [order_id for (order_id,) in select(database, query)])
        notices = (("notices", number(self._market, "SELECT count(*) FROM notices")),)
        yield Sum("notices", notices, number(self._market, _SETTLED), "orders that were paid for")

    def _parcels(self) -> dict[str, str]:
        """Return the order of each parcel, by the parcel's number."""
        return {
            f"{order_id}/{parcel}": order_id
            for order_id, parcels, _ in select(self._market, _ENTRIES)
            for parcel in range(1, parcels + 1)
        }

    def _all_or_none(self, name: str, parcels: dict[str, str], found: Sequence[str]) -> Sum:
        """Return that of each order as many parcels are found as it must have: all if it was paid for, else none."""
        done = Counter(parcels[parcel] for parcel in found if parcel in parcels)
        entries = select(self._market, _ENTRIES)
        right = sum(done[order_id] == (of if state == "PAID" else 0) for order_id, of, state in entries)
        return Sum(name, (("orders with all or none, as it must be", right),), len(entries), "orders")


async def _end(stage: Stage, saga_id: str, expected: SagaState.ValueType) -> None:
    """Show how an order ends, and each of its parcels. Errors: `SceneFailed` where one does not end as expected."""
    order = await stage.end(saga_id, expected)
    for step in order.steps:
        if step.child_saga_id:
            stage.say(f"\nStep {step.name} of {saga_id} is saga {step.child_saga_id}:")
            await stage.end(step.child_saga_id, expected)


def _order(order_id: str, **parcels: dict[str, Any]) -> MarketplaceOrder:
    """Return an order: for each seller, how many pieces of what."""
    return MarketplaceOrder(
        order_id=order_id,
        buyer_email="ada@example.com",
        card_token="tok_gold",  # noqa: S106 - the name of a made-up card
        destination=Address(recipient="Ada Lovelace", street="Keizersgracht 1", city="Amsterdam", country_code="NL"),
        parcels=[
            Parcel(
                seller_id=seller_id,
                lines=[OrderLine(sku=sku, quantity=quantity) for sku, quantity in pieces.items()],
            )
            for seller_id, pieces in parcels.items()
        ],
    )
