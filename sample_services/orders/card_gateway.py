"""A card gateway as other companies run them: outside our databases, idempotent by a key that the caller chooses.

It stands in for a call over the internet, so that the payment service can show how an action with effects elsewhere is
written. It must not know sagas.
"""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

_LOOK_AGAIN_S: Final = 0.02


class CardDeclined(Exception):
    """The gateway will not charge the card; the text says why."""


class CardGateway:
    """The gateway over its own SQLite file. While the file `hold` exists, its answers come late: after their effect."""

    def __init__(self, database: Path, hold: Path | None = None) -> None:
        self._database = database
        self._hold = hold
        with closing(sqlite3.connect(database)) as connection:
            connection.executescript(_SCHEMA)

    async def charge(self, charge_id: str, card_token: str, amount_cents: int) -> None:
        """Charge a card. The same id again is the same charge. Errors: `CardDeclined`."""
        with self._transaction() as connection:
            state = _state(connection, charge_id)
            if state not in (None, "CHARGED"):
                raise CardDeclined(f"charge {charge_id} is {state}")
            if state is None:
                _check_limit(connection, card_token, amount_cents)
                connection.execute(
                    "INSERT INTO charges (charge_id, card_token, amount_cents, state) VALUES (?, ?, ?, 'CHARGED')",
                    (charge_id, card_token, amount_cents),
                )
        await self._held()

    async def refund(self, charge_id: str) -> bool:
        """Give a charge back and return True, also where that was done before.

        False: there was no such charge, and now there never will be.
        """
        with self._transaction() as connection:
            refunded = _state(connection, charge_id) in ("CHARGED", "REFUNDED")
            connection.execute(
                """INSERT INTO charges (charge_id, state) VALUES (?, 'VOID')
                   ON CONFLICT DO UPDATE SET state = 'REFUNDED' WHERE state = 'CHARGED'""",
                (charge_id,),
            )
        await self._held()
        return refunded

    async def _held(self) -> None:
        while self._hold is not None and self._hold.exists():  # noqa: ASYNC110 - another process takes it away
            await asyncio.sleep(_LOOK_AGAIN_S)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._database, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")


def _state(connection: sqlite3.Connection, charge_id: str) -> str | None:
    found = connection.execute("SELECT state FROM charges WHERE charge_id = ?", (charge_id,)).fetchone()
    return None if found is None else str(found[0])


def _check_limit(connection: sqlite3.Connection, card_token: str, amount_cents: int) -> None:
    found = connection.execute("SELECT credit_limit_cents FROM cards WHERE card_token = ?", (card_token,)).fetchone()
    if found is None:
        raise CardDeclined(f"there is no card {card_token}")
    [spent_cents] = connection.execute(
        "SELECT coalesce(sum(amount_cents), 0) FROM charges WHERE card_token = ? AND state = 'CHARGED'", (card_token,)
    ).fetchone()
    if spent_cents + amount_cents > found[0]:
        raise CardDeclined(f"{amount_cents} cents are over the limit: {found[0] - spent_cents} are left")


_SCHEMA: Final = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
