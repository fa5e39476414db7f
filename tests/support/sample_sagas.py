"""A mix of sagas of all samples: what is started, how each may end, and which rows of which service prove that it did.

Every way in which a participant can refuse a step has its share, and so has everything that goes well; several want the
same scarce things, or the same account. It must not know how the sagas are run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from random import Random
from typing import Final

from google.protobuf.message import Message

from sample_services.accounts.v1.accounts_pb2 import Person, Registration
from sample_services.marketplace.v1.orders_pb2 import MarketplaceOrder, Parcel
from sample_services.orders.v1.orders_pb2 import Address, Order, OrderLine
from sample_services.purchase.v1.purchase_pb2 import Goods, Purchase
from sample_services.transfer.v1.transfer_pb2 import Money, Transfer
from sample_services.travel.v1.trips_pb2 import Dates, Trip


@dataclass(frozen=True, slots=True)
class Planned:
    """A saga to start. Where `refusal` is set, it cannot complete: a participant refuses it, for that reason at the
    latest. `scarcity` is why it may be refused besides, if others were there first.
    """

    definition: str
    saga_id: str
    input: Message
    refusal: str
    scarcity: str

    @property
    def may_complete(self) -> bool:
        return not self.refusal

    @property
    def refusals(self) -> frozenset[str]:
        """Every reason for which it may be refused."""
        return frozenset({self.refusal, self.scarcity} - {""})


@dataclass(frozen=True, slots=True)
class Effect:
    """Rows that there are for each completed saga, once, and for no other: the query yields what its label says."""

    definition: str
    label: str
    service: str
    query: str


EFFECTS: Final = (
    Effect("order_fulfillment", "order_id", "inventory", "SELECT order_id FROM reservations WHERE state = 'SHIPPED'"),
    Effect(
        "order_fulfillment",
        "order_id",
        "payment",
        "SELECT order_id FROM charges LEFT JOIN refunds USING (charge_id) WHERE refunds.charge_id IS NULL",
    ),
    Effect("order_fulfillment", "order_id", "shipping", "SELECT order_id FROM shipments WHERE state = 'CREATED'"),
    Effect("book_trip", "trip_id", "travel_payment", "SELECT trip_id FROM payments"),
    Effect("book_trip", "trip_id", "itinerary", "SELECT trip_id FROM mails"),
    Effect("create_account", "email", "users", "SELECT email FROM users WHERE state = 'ACTIVE'"),
    Effect("create_account", "email", "welcome", "SELECT email FROM messages"),
    Effect("purchase", "purchase_id", "notifications", "SELECT purchase_id FROM notifications"),
    *(
        Effect(
            f"transfer_{payer}_to_{payee}",
            "transfer_id",
            f"bank_{bank}",
            f"SELECT transfer_id FROM movements WHERE kind = '{kind}'",
        )
        for payer, payee in (("north", "south"), ("south", "north"))
        for bank, kind in ((payee, "CREDIT"), (payer, "SETTLEMENT"))
    ),
    Effect("marketplace_order", "order_id", "market", "SELECT order_id FROM orders WHERE state = 'PAID'"),
    Effect("marketplace_order", "order_id", "market", "SELECT order_id FROM notices"),
)
"""What a completed saga leaves behind, in one service after the other."""

HELD: Final = (
    ("inventory", "SELECT * FROM reservations WHERE state = 'HELD'"),
    ("flights", "SELECT * FROM bookings WHERE state IN ('HELD', 'LAPSED')"),
    ("hotels", "SELECT * FROM bookings WHERE state IN ('HELD', 'LAPSED')"),
    ("cars", "SELECT * FROM bookings WHERE state IN ('HELD', 'LAPSED')"),
    ("market", "SELECT * FROM orders WHERE state = 'OPEN'"),
    ("bank_north", "SELECT * FROM accounts WHERE account_id LIKE 'in_flight.%' AND balance_minor <> 0"),
    ("bank_south", "SELECT * FROM accounts WHERE account_id LIKE 'in_flight.%' AND balance_minor <> 0"),
)
"""Where there are rows while something is reserved, held or in flight."""

_SERVED, _NOT_SERVED = "NL", "AQ"
_SEASON_DAYS: Final = 28


def mix(chance: Random, sagas_max: int) -> list[Planned]:
    """Return at most this many sagas of all samples, in an order that is drawn."""
    shares = (
        (_orders, 0.25),
        (_trips, 0.15),
        (_registrations, 0.15),
        (_purchases, 0.15),
        (_transfers, 0.18),
        (_marketplace_orders, 0.12),
    )
    planned = [saga for sagas, share in shares for saga in islice(sagas(), int(sagas_max * share))]
    chance.shuffle(planned)
    return planned


def _orders() -> Iterator[Planned]:
    cases = cycle(
        (
            ("", _order(cup=1)),
            ("", _order(cup=2, teapot=1)),
            ("", _order(kettle=1)),
            ("ADDRESS_NOT_SERVED", _order(country_code=_NOT_SERVED, cup=3)),
            ("", _order(teapot=1)),
            ("CARD_DECLINED", _order(card_token="tok_stolen", cup=1)),
            ("", _order(cup=1, kettle=1)),
            ("UNKNOWN_SKU", _order(cup=1, samovar=1)),
        )
    )
    for number, (refusal, case) in enumerate(cases):
        order = Order(order_id=f"order-{number}")
        order.MergeFrom(case)
        yield Planned("order_fulfillment", order.order_id, order, refusal, "OUT_OF_STOCK")


def _order(*, country_code: str = _SERVED, card_token: str = "tok_gold", **quantities: int) -> Order:
    return Order(lines=_lines(quantities), card_token=card_token, destination=_address(country_code))


def _trips() -> Iterator[Planned]:
    cases = cycle(
        (
            ("", Trip(flight_id="TP675")),
            ("", Trip(flight_id="TP675", hotel_id="bairro")),
            ("CARD_DECLINED", Trip(payment_card="card_student")),
            ("", Trip(flight_id="KL1693", car_class="van")),
            ("NOT_OFFERED", Trip(hotel_id="ritz")),
        )
    )
    for number, (refusal, case) in enumerate(cases):
        first = 1 + number % _SEASON_DAYS
        trip = Trip(
            trip_id=f"trip-{number}",
            flight_id="TP675",
            passengers=["Ada Lovelace"],
            hotel_id="mar",
            dates=Dates(check_in=f"2027-06-{first:02}", check_out=f"2027-06-{first + 2:02}"),
            rooms=1,
            car_class="compact",
            payment_card="card_gold",
            email="ada@example.com",
        )
        trip.MergeFrom(case)
        yield Planned("book_trip", trip.trip_id, trip, refusal, "SOLD_OUT")


def _registrations() -> Iterator[Planned]:
    """Each third person registers twice, and one of the two is too late."""
    cases = cycle((("", "NL"), ("", "PT"), ("COUNTRY_NOT_SERVED", "US"), ("", "GB")))
    for number, (refusal, country_code) in enumerate(cases):
        name = f"person-{number - 1 if number % 3 == 1 else number}"
        registration = Registration(person=Person(name=name, email=f"{name}@example.com"), country_code=country_code)
        yield Planned("create_account", f"account-{number}", registration, refusal, "EMAIL_TAKEN")


def _purchases() -> Iterator[Planned]:
    cases = cycle(
        (
            ("", Purchase()),
            ("OUT_OF_STOCK", Purchase(account_id="grace", goods=Goods(quantity=1000))),
            ("", Purchase(account_id="grace", merchant_id="bakery")),
            ("UNKNOWN_MERCHANT", Purchase(merchant_id="nobody")),
            ("", Purchase(account_id="grace", goods=Goods(sku="atlas"))),
            ("INSUFFICIENT_FUNDS", Purchase(account_id="nobody")),
        )
    )
    for number, (refusal, case) in enumerate(cases):
        purchase = Purchase(
            purchase_id=f"purchase-{number}",
            account_id="ada",
            merchant_id="bookshop",
            goods=Goods(sku="novel", quantity=1),
            amount_cents=300 + number,
        )
        purchase.MergeFrom(case)
        yield Planned("purchase", purchase.purchase_id, purchase, refusal, "OUT_OF_STOCK")


def _transfers() -> Iterator[Planned]:
    """Between four accounts, so that most have to wait for their turn."""
    cases = cycle(
        (
            ("", "ada@north", "grace@south", 310),
            ("", "grace@south", "bob@north", 290),
            ("", "bob@north", "hugo@south", 120),
            ("ACCOUNT_CLOSED", "ada@north", "otto@south", 5000),
            ("", "hugo@south", "ada@north", 210),
            ("", "ada@north", "grace@south", 20),
            ("", "grace@south", "ada@north", 70),
            ("INSUFFICIENT_FUNDS", "bob@north", "hugo@south", 99_999_999),
            ("", "hugo@south", "bob@north", 180),
            ("", "bob@north", "grace@south", 40),
            ("UNKNOWN_ACCOUNT", "grace@south", "nobody@north", 700),
        )
    )
    for number, (refusal, payer, payee, minor_units) in enumerate(cases):
        transfer = Transfer(
            transfer_id=f"transfer-{number}",
            from_account=payer,
            to_account=payee,
            amount=Money(minor_units=minor_units, currency="EUR"),
        )
        between = "_to_".join(account.partition("@")[2] for account in (payer, payee))
        yield Planned(f"transfer_{between}", transfer.transfer_id, transfer, refusal, "")


def _marketplace_orders() -> Iterator[Planned]:
    """One, two or three parcels; refused before, in, and after them."""
    cases = cycle(
        (
            ("", _market(tea_house={"cup": 1})),
            ("", _market(tea_house={"cup": 1}, kettle_works={"teapot": 1})),
            ("", _market(tea_house={"cup": 2}, kettle_works={"kettle": 1}, cup_makers={"cup": 1})),
            ("PAYOUT_BLOCKED", _market(tea_house={"cup": 1}, kettle_works={"cup": 1}, attic={"cup": 1})),
            ("OUT_OF_STOCK", _market(tea_house={"cup": 1}, kettle_works={"cup": 9999})),
            ("", _market(cup_makers={"cup": 3}, tea_house={"cup": 1})),
            ("ADDRESS_NOT_SERVED", _market(country_code=_NOT_SERVED, tea_house={"cup": 1})),
            ("UNKNOWN_SELLER", _market(tea_house={"cup": 1}, nobody={"cup": 1})),
        )
    )
    for number, (refusal, case) in enumerate(cases):
        order = MarketplaceOrder(order_id=f"market-{number}")
        order.MergeFrom(case)
        yield Planned("marketplace_order", order.order_id, order, refusal, "OUT_OF_STOCK")


def _market(*, country_code: str = _SERVED, **parcels: dict[str, int]) -> MarketplaceOrder:
    return MarketplaceOrder(
        buyer_email="ada@example.com",
        card_token="tok_gold",
        destination=_address(country_code),
        parcels=[Parcel(seller_id=seller_id, lines=_lines(pieces)) for seller_id, pieces in parcels.items()],
    )


def _lines(quantities: dict[str, int]) -> Sequence[OrderLine]:
    return [OrderLine(sku=sku, quantity=quantity) for sku, quantity in quantities.items()]


def _address(country_code: str) -> Address:
    return Address(recipient="Ada Lovelace", street="Dorpsstraat 1", city="Delft", country_code=country_code)
