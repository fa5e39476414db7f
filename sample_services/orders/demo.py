"""The scenes of the order services: one order that goes well, one that is refused, and two that meet a `kill -9`.

What the rows say afterwards is read from the services' own databases, as nobody but a demo should.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED
from sample_services.demo import show
from sample_services.demo.sample import Example, Service, Sum
from sample_services.demo.stage import Stage, number, select
from sample_services.orders.v1.orders_pb2 import Address, Order, OrderLine

_DEFINITION: Final = "order_fulfillment"
_DEFINITION_FILE: Final = Path(__file__).with_name(f"{_DEFINITION}.yaml")

_STOCK: Final = "SELECT sku, price_cents, available, reserved, shipped FROM stock ORDER BY sku"
_RESERVATIONS: Final = """
    SELECT order_id, sku, quantity, state FROM reservations JOIN reservation_lines USING (reservation_id)
    ORDER BY order_id, sku"""
_CHARGES: Final = """
    SELECT order_id, card_token, charge.amount_cents AS charged, refund.amount_cents AS refunded, reason
    FROM charges AS charge LEFT JOIN refunds AS refund USING (charge_id) ORDER BY order_id"""
_AT_THE_GATEWAY: Final = "SELECT charge_id, card_token, amount_cents, state FROM charges ORDER BY charge_id"
_SHIPMENTS: Final = "SELECT order_id, tracking_number, recipient, country_code, state FROM shipments ORDER BY order_id"


class Orders:
    """The entry of the order services in the demo."""

    name = "orders"

    def __init__(self, directory: Path) -> None:
        self._inventory = directory / "inventory.db"
        self._payment = directory / "payment.db"
        self._shipping = directory / "shipping.db"
        self._gateway = directory / "card_gateway.db"
        self._gateway_hold = directory / "card_gateway.hold"
        self._pieces_before: dict[str, int] = {}

    def services(self) -> Sequence[Service]:
        """Return inventory, payment and shipping."""
        gateway = (f"--gateway-database={self._gateway}", f"--gateway-hold={self._gateway_hold}")
        return (
            Service("inventory", "sample_services.orders.inventory", (f"--database={self._inventory}",)),
            Service("payment", "sample_services.orders.payment", (f"--database={self._payment}", *gateway)),
            Service("shipping", "sample_services.orders.shipping", (f"--database={self._shipping}",)),
        )

    def definitions(self) -> Sequence[Path]:
        """Return `order_fulfillment`."""
        return (_DEFINITION_FILE,)

    async def play(self, stage: Stage) -> None:
        """Show the four scenes. Errors: `SceneFailed`."""
        self.remember()
        await self._completes(stage)
        await self._is_refused(stage)
        await self._payment_is_killed(stage)
        await self._coordinator_is_killed(stage)

    def remember(self) -> None:
        """Note how many pieces there are, before the first order."""
        self._pieces_before = self._pieces()

    def sums(self) -> Sequence[Sum]:
        """Return that no piece and no cent is lost or made."""
        return tuple(self._sums())

    def example(self) -> Example:
        """Return an order that went well, and another that can be placed."""
        return Example(_DEFINITION, "order-1001", "order-2001", _order("order-2001", cup=4))

    async def _completes(self, stage: Stage) -> None:
        stage.scene("An order that completes")
        await stage.begin(_DEFINITION, "order-1001", _order("order-1001", teapot=1, cup=6))
        await stage.end("order-1001", SAGA_STATE_COMPLETED)
        self._show_rows(stage)

    async def _is_refused(self, stage: Stage) -> None:
        stage.scene("An order to where no carrier goes: refused at shipping, compensated in reverse order")
        await stage.begin(_DEFINITION, "order-1002", _order("order-1002", country_code="AQ", kettle=1))
        await stage.end("order-1002", SAGA_STATE_COMPENSATED)
        self._show_rows(stage)

    async def _payment_is_killed(self, stage: Stage) -> None:
        stage.scene("An order whose payment service is killed in the middle of the charge, and comes back")
        payment = stage.servers["payment"]
        await self._begin_and_hold(stage, "order-1003", _order("order-1003", kettle=2))
        stage.say(f"The gateway has taken the money, payment does not know it yet: kill -9 {payment.pid}")
        await payment.kill()
        self._gateway_hold.unlink()
        await payment.start()
        stage.say(f"payment is back, process {payment.pid}: the gateway tells it that this charge was made already")
        await stage.end("order-1003", SAGA_STATE_COMPLETED)
        self._show_rows(stage)

    async def _coordinator_is_killed(self, stage: Stage) -> None:
        stage.scene("An order whose coordinator is killed in mid-saga, and restarted on its journal")
        await self._begin_and_hold(stage, "order-1004", _order("order-1004", teapot=3))
        stage.say(f"The charge is under way: kill -9 {stage.coordinator.pid}, the coordinator")
        await stage.coordinator.kill()
        self._gateway_hold.unlink()
        await stage.coordinator.start()
        stage.say(
            f"The coordinator is back, process {stage.coordinator.pid}: the open attempt is lost, another follows"
        )
        await stage.end("order-1004", SAGA_STATE_COMPLETED)
        self._show_rows(stage)

    async def _begin_and_hold(self, stage: Stage, saga_id: str, order: Order) -> None:
        """Start a saga, and return when its charge is made at the gateway, which holds its answer back."""
        self._gateway_hold.touch()
        saga = await stage.begin(_DEFINITION, saga_id, order)
        await stage.found(self._gateway, "SELECT 1 FROM charges WHERE charge_id = ?", (f"{saga.uid}/charge",))

    def _show_rows(self, stage: Stage) -> None:
        for title, database, query in (
            ("inventory: stock", self._inventory, _STOCK),
            ("inventory: reservations", self._inventory, _RESERVATIONS),
            ("payment: charges and refunds, in cents", self._payment, _CHARGES),
            ("card gateway: charges", self._gateway, _AT_THE_GATEWAY),
            ("shipping: shipments", self._shipping, _SHIPMENTS),
        ):
            stage.console.print(show.rows(title, database, query))

    def _sums(self) -> Iterator[Sum]:
        for sku, _, available, reserved, shipped in select(self._inventory, _STOCK):
            terms = (("available", available), ("reserved", reserved), ("shipped", shipped))
            yield Sum(f"pieces of {sku}", terms, self._pieces_before[sku], "pieces before the first order")
        charged = number(self._payment, "SELECT coalesce(sum(amount_cents), 0) FROM charges")
        refunded = number(self._payment, "SELECT coalesce(sum(amount_cents), 0) FROM refunds")
        gone = number(self._inventory, "SELECT sum(price_cents * (reserved + shipped)) FROM stock")
        taken = number(self._gateway, "SELECT coalesce(sum(amount_cents), 0) FROM charges WHERE state = 'CHARGED'")
        paid = (("charges", charged), ("refunds", -refunded))
        yield Sum("cents in the books", paid, gone, "cents that the pieces reserved and shipped cost")
        yield Sum("cents in the books", paid, taken, "cents that the gateway took")

    def _pieces(self) -> dict[str, int]:
        return {sku: sum(pieces) for sku, _, *pieces in select(self._inventory, _STOCK)}


def _order(order_id: str, *, country_code: str = "NL", **quantities: Any) -> Order:
    return Order(
        order_id=order_id,
        lines=[OrderLine(sku=sku, quantity=quantity) for sku, quantity in quantities.items()],
        card_token="tok_gold",  # noqa: S106 - the name of a made-up card
        destination=Address(
            recipient="Ada Lovelace", street="Keizersgracht 1", city="Amsterdam", country_code=country_code
        ),
    )
