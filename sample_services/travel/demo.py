"""The scenes of the travel services: a trip that is booked, two that are given up, and one whose e-mail has to wait.

What the rows say afterwards is read from the services' own databases, as nobody but a demo should.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED
from sample_services.demo import show
from sample_services.demo.sample import Example, Service, Sum
from sample_services.demo.stage import Stage, number
from sample_services.travel.v1.trips_pb2 import Dates, Trip

_DEFINITION: Final = "book_trip"
_DEFINITION_FILE: Final = Path(__file__).with_name(f"{_DEFINITION}.yaml")
_ALLOTMENTS: Final = MappingProxyType({"flights": "seats", "hotels": "room nights", "cars": "car days"})

_UNITS: Final = "SELECT sum(free + held + booked) FROM allotment"
_COST: Final = "SELECT sum(price_cents * (held + booked)) FROM allotment"
_BALANCES: Final = "SELECT sum(balance_cents) FROM cards"
_PAID: Final = "SELECT coalesce(sum(amount_cents), 0) FROM payments"
_BOOKINGS: Final = """
    SELECT saga_id, state, group_concat(units || ' × ' || item, ', ') AS what
    FROM bookings JOIN booking_units USING (booking_id) GROUP BY booking_id ORDER BY saga_id"""
_PAYMENTS: Final = "SELECT trip_id, payment_card, amount_cents FROM payments ORDER BY trip_id"
_MAILS: Final = "SELECT trip_id, email FROM mails ORDER BY trip_id"


class _Before(NamedTuple):
    """What there was before the first trip: units by service, and cents on all cards."""

    units: Mapping[str, int]
    cents: int


class Travel:
    """The entry of the travel services in the demo."""

    name = "travel"

    def __init__(self, directory: Path) -> None:
        self._databases = {service: directory / f"{service}.db" for service in _ALLOTMENTS}
        self._payment = directory / "travel_payment.db"
        self._itinerary = directory / "itinerary.db"
        self._before = _Before({}, 0)

    def services(self) -> Sequence[Service]:
        """Return flights, hotels, cars, payment and itinerary."""
        databases = (*self._databases.items(), ("payment", self._payment), ("itinerary", self._itinerary))
        return tuple(
            Service(database.stem, f"sample_services.travel.{module}", (f"--database={database}",))
            for module, database in databases
        )

    def definitions(self) -> Sequence[Path]:
        """Return `book_trip`."""
        return (_DEFINITION_FILE,)

    async def play(self, stage: Stage) -> None:
        """Show the four scenes. Errors: `SceneFailed`."""
        self.remember()
        await self._is_booked(stage)
        await self._hotel_is_full(stage)
        await self._card_is_declined(stage)
        await self._mail_has_to_wait(stage)
        self._show_rows(stage)

    def remember(self) -> None:
        """Note what there is, before the first trip."""
        self._before = _Before(self._units(), number(self._payment, _BALANCES))

    def sums(self) -> Sequence[Sum]:
        """Return that no seat, room, car and cent is lost or made."""
        return tuple(self._sums())

    def example(self) -> Example:
        """Return a trip that was booked, and another that can be."""
        return Example(_DEFINITION, "trip-1001", "trip-2001", _trip("trip-2001"))

    async def _is_booked(self, stage: Stage) -> None:
        stage.scene("A trip that is booked: flight, hotel and car are held at once, paid, and confirmed")
        await stage.begin(_DEFINITION, "trip-1001", _trip("trip-1001", hotel_id="bairro"))
        await stage.end("trip-1001", SAGA_STATE_COMPLETED)

    async def _hotel_is_full(self, stage: Stage) -> None:
        stage.scene("A trip to the same hotel, which is full now: flight and car are released")
        await stage.begin(_DEFINITION, "trip-1002", _trip("trip-1002", hotel_id="bairro"))
        await stage.end("trip-1002", SAGA_STATE_COMPENSATED)

    async def _card_is_declined(self, stage: Stage) -> None:
        stage.scene("A trip whose card is declined, at the pivot: all three holds are released")
        await stage.begin(_DEFINITION, "trip-1003", _trip("trip-1003", payment_card="card_student"))
        await stage.end("trip-1003", SAGA_STATE_COMPENSATED)

    async def _mail_has_to_wait(self, stage: Stage) -> None:
        stage.scene("A trip whose itinerary service is down: paid is paid, the e-mail is tried until it is sent")
        itinerary = stage.servers["itinerary"]
        stage.say(f"kill -9 {itinerary.pid}, the itinerary service")
        await itinerary.kill()
        await stage.begin(_DEFINITION, "trip-1004", _trip("trip-1004"))
        for database in self._databases.values():
            await stage.found(database, "SELECT 1 FROM bookings WHERE saga_id = ? AND state = 'BOOKED'", ("trip-1004",))
        await itinerary.start()
        stage.say(
            f"The trip is paid and its holds are confirmed. The itinerary service is back, process {itinerary.pid}"
        )
        await stage.end("trip-1004", SAGA_STATE_COMPLETED)

    def _show_rows(self, stage: Stage) -> None:
        for service, database in self._databases.items():
            stage.console.print(show.rows(f"{service}: bookings", database, _BOOKINGS))
        stage.console.print(show.rows("travel_payment: payments, in cents", self._payment, _PAYMENTS))
        stage.console.print(show.rows("itinerary: e-mails", self._itinerary, _MAILS))

    def _sums(self) -> Iterator[Sum]:
        for service, units in _ALLOTMENTS.items():
            terms = tuple(
                (column, number(self._databases[service], f"SELECT sum({column}) FROM allotment"))  # noqa: S608 - these three
                for column in ("free", "held", "booked")
            )
            yield Sum(units, terms, self._before.units[service], f"{units} before the first trip")
        paid = number(self._payment, _PAID)
        left = (("on the cards", number(self._payment, _BALANCES)), ("paid", paid))
        yield Sum("cents of travellers", left, self._before.cents, "cents before the first trip")
        costs = tuple((service, number(database, _COST)) for service, database in self._databases.items())
        yield Sum("cents of bookings", costs, paid, "cents paid for trips")
        mails = (("e-mails", number(self._itinerary, "SELECT count(*) FROM mails")),)
        yield Sum("itineraries", mails, number(self._payment, "SELECT count(*) FROM payments"), "trips that were paid")

    def _units(self) -> dict[str, int]:
        return {service: number(database, _UNITS) for service, database in self._databases.items()}


def _trip(trip_id: str, *, hotel_id: str = "mar", payment_card: str = "card_gold") -> Trip:
    return Trip(
        trip_id=trip_id,
        flight_id="TP675",
        passengers=["Ada Lovelace", "Grace Hopper"],
        hotel_id=hotel_id,
        dates=Dates(check_in="2027-06-11", check_out="2027-06-14"),
        rooms=1,
        car_class="compact",
        payment_card=payment_card,
        email="ada@example.com",
    )
