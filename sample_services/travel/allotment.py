"""What flights, hotels and car rental have in common: an allotment, of which units are held and then booked.

A hold lapses at an instant that the coordinator is told, so that it can turn back in good time. One that has lapsed is
given up when the next request for units comes, and can be confirmed until then. All this happens in the service's own
database, in the database transaction of the barrier.

This module must not know what the units are.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import ClassVar, Final, Generic, TypeVar

from google.protobuf.message import Message

from participant_sdk import RESERVABLE, Action, Held, Rejected, SqliteBarrier, SqliteTransaction, Step
from sample_services.service import reference
from sample_services.travel.v1.trips_pb2 import Booking, Dates

HOLD: Final = timedelta(minutes=15)
"""How long a hold lasts."""
STAY_DAYS_MAX: Final = 30

In = TypeVar("In", bound=Message)
Clock = Callable[[], datetime]


def now() -> datetime:
    """Return the time of the system's clock."""
    return datetime.now(UTC)


class Book(Action[In, Booking], Generic[In]):
    """Holds units of an allotment: all that are wanted, or none."""

    kinds = (RESERVABLE,)
    rejections: ClassVar[Mapping[str, str]] = {
        "SOLD_OUT": "Fewer are free than wanted.",
        "NOT_OFFERED": "There is no such thing, or not on that day.",
        "INVALID_REQUEST": "Nothing is wanted, or the dates are no stay of 1 to 30 days.",
        "HOLD_LAPSED": "Of Confirm: the hold had lapsed, and the units went to somebody else.",
    }

    def __init__(self, clock: Clock = now) -> None:
        self._clock = clock

    @abstractmethod
    def wanted(self, request: In) -> Mapping[str, int]:
        """Return how many units of which items a request is for. Errors: `Rejected`."""

    async def execute(self, request: In, step: Step) -> Held[Booking]:
        """Move the units from free to held."""
        wanted = self.wanted(request)
        if not wanted or min(wanted.values()) < 1:
            raise Rejected("INVALID_REQUEST", "nothing is wanted")
        at = self._clock()
        booking_id = reference(step)
        until = at + HOLD
        _give_up_lapsed(step.transaction, at)
        step.transaction.execute(
            "INSERT INTO bookings (booking_id, saga_id, hold_until_s, state) VALUES (?, ?, ?, 'HELD')",
            (booking_id, step.saga_id, until.timestamp()),
        )
        total_cents = sum(_hold(step.transaction, booking_id, item, units) for item, units in wanted.items())
        return Held(Booking(booking_id=booking_id, total_cents=total_cents), until)

    async def compensate(self, _request: In, _output: Booking | None, step: Step) -> None:
        """Release the hold, where it has not lapsed before."""
        _settle(step.transaction, reference(step), "RELEASED")

    async def confirm(self, _request: In, _output: Booking, step: Step) -> None:
        """Make the hold a booking."""
        if not _settle(step.transaction, reference(step), "BOOKED"):
            raise Rejected("HOLD_LAPSED", "the units went to somebody else")


def days(stay: Dates) -> list[str]:
    """Return the days of a stay, the last one without, as `YYYY-MM-DD`. Errors: `Rejected`."""
    try:
        first, end = date.fromisoformat(stay.check_in), date.fromisoformat(stay.check_out)
    except ValueError as wrong:
        raise Rejected("INVALID_REQUEST", str(wrong)) from None
    if not 1 <= (end - first).days <= STAY_DAYS_MAX:
        raise Rejected("INVALID_REQUEST", f"a stay is 1 to {STAY_DAYS_MAX} days: {first} to {end}")
    return [str(first + timedelta(days=day)) for day in range((end - first).days)]


def barrier(database: Path, service: str) -> SqliteBarrier:
    """Return the barrier of a service over its database, with the tables of its allotment."""
    schemas = (Path(__file__).with_name(f"{name}.sql") for name in ("allotment", service))
    return SqliteBarrier(database, "\n".join(schema.read_text(encoding="utf-8") for schema in schemas))


def _hold(database: SqliteTransaction, booking_id: str, item: str, units: int) -> int:
    """Hold units of one item and return what they cost, in cents."""
    found = database.execute("SELECT price_cents, free FROM allotment WHERE item = ?", (item,)).fetchone()
    if found is None:
        raise Rejected("NOT_OFFERED", f"there is no {item}", item=item)
    price_cents, free = found
    if free < units:
        raise Rejected("SOLD_OUT", f"{item}: {units} wanted, {free} free", item=item)
    database.execute("UPDATE allotment SET free = free - ?1, held = held + ?1 WHERE item = ?2", (units, item))
    database.execute("INSERT INTO booking_units (booking_id, item, units) VALUES (?, ?, ?)", (booking_id, item, units))
    return int(price_cents) * units


def _give_up_lapsed(database: SqliteTransaction, at: datetime) -> None:
    lapsed = database.execute(
        "SELECT booking_id FROM bookings WHERE state = 'HELD' AND hold_until_s <= ?", (at.timestamp(),)
    ).fetchall()
    for (booking_id,) in lapsed:
        _settle(database, booking_id, "LAPSED")


def _settle(database: SqliteTransaction, booking_id: str, state: str) -> bool:
    """End a hold: its units are booked, or else free again. False: it was none any more, and nothing changes."""
    settled = {"booking_id": booking_id, "state": state}
    held = database.execute(
        "UPDATE bookings SET state = :state WHERE booking_id = :booking_id AND state = 'HELD' RETURNING 1", settled
    ).fetchall()
    if held:
        database.execute(
            """UPDATE allotment SET
                   held = held - units,
                   booked = booked + iif(:state = 'BOOKED', units, 0),
                   free = free + iif(:state = 'BOOKED', 0, units)
               FROM booking_units AS booking
               WHERE booking.item = allotment.item AND booking.booking_id = :booking_id""",
            settled,
        )
    return bool(held)
