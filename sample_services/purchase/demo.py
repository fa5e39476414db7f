"""The scenes of the purchase services: one that completes, and one whose third step fails after two have succeeded.

What the rows say afterwards is read from the services' own databases, as nobody but a demo should.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED
from sample_services.demo import show
from sample_services.demo.sample import Example, Service, Sum
from sample_services.demo.stage import Stage, number, select
from sample_services.purchase.v1.purchase_pb2 import Goods, Purchase

_DEFINITION: Final = "purchase"
_DEFINITION_FILE: Final = Path(__file__).with_name(f"{_DEFINITION}.yaml")
_ATLAS_CENTS: Final = 6500

_BUYERS: Final = "SELECT sum(balance_cents) FROM accounts"
_MERCHANTS: Final = "SELECT sum(balance_cents) FROM merchants"
_ENTERED: Final = "SELECT coalesce(sum(amount_cents), 0) FROM entries"
_PIECES: Final = """
    SELECT stock.sku, pieces, coalesce(sum(quantity), 0)
    FROM stock LEFT JOIN sales ON sales.sku = stock.sku AND state = 'SOLD' GROUP BY stock.sku ORDER BY stock.sku"""
_ACCOUNT_BOOKS: Final = "SELECT account_id, kind, amount_cents FROM entries ORDER BY rowid"
_MERCHANT_BOOKS: Final = "SELECT merchant_id, kind, amount_cents FROM entries ORDER BY rowid"


class _Before(NamedTuple):
    """What there was before the first purchase: cents of everybody, and pieces by article."""

    cents: int
    pieces: Mapping[str, int]


class Purchases:
    """The entry of the purchase services in the demo."""

    name = "purchase"

    def __init__(self, directory: Path) -> None:
        self._accounts = directory / "payment_accounts.db"
        self._merchants = directory / "merchants.db"
        self._warehouse = directory / "warehouse.db"
        self._notifications = directory / "notifications.db"
        self._before = _Before(0, {})

    def services(self) -> Sequence[Service]:
        """Return payment accounts, merchants, warehouse and notifications."""
        return tuple(
            Service(database.stem, f"sample_services.purchase.{database.stem}", (f"--database={database}",))
            for database in (self._accounts, self._merchants, self._warehouse, self._notifications)
        )

    def definitions(self) -> Sequence[Path]:
        """Return `purchase`."""
        return (_DEFINITION_FILE,)

    async def play(self, stage: Stage) -> None:
        """Show the two scenes. Errors: `SceneFailed`."""
        self.remember()
        await self._completes(stage)
        await self._third_step_fails(stage)
        stage.console.print(show.rows("payment_accounts: books, in cents", self._accounts, _ACCOUNT_BOOKS))
        stage.console.print(show.rows("merchants: books, in cents", self._merchants, _MERCHANT_BOOKS))

    def remember(self) -> None:
        """Note what there is, before the first purchase."""
        pieces = {sku: in_stock + sold for sku, in_stock, sold in select(self._warehouse, _PIECES)}
        self._before = _Before(number(self._accounts, _BUYERS) + number(self._merchants, _MERCHANTS), pieces)

    def sums(self) -> Sequence[Sum]:
        """Return that no cent and no piece is lost or made."""
        return tuple(self._sums())

    def example(self) -> Example:
        """Return a purchase that went well, and another that can be made."""
        return Example(_DEFINITION, "purchase-1001", "purchase-2001", _purchase("purchase-2001", 1))

    async def _completes(self, stage: Stage) -> None:
        stage.scene("A purchase that completes: debit, credit, inventory, notification")
        await stage.begin(_DEFINITION, "purchase-1001", _purchase("purchase-1001", 2))
        await stage.end("purchase-1001", SAGA_STATE_COMPLETED)

    async def _third_step_fails(self, stage: Stage) -> None:
        stage.scene("A purchase whose third step fails after the first two succeeded: both are compensated")
        await stage.begin(_DEFINITION, "purchase-1002", _purchase("purchase-1002", 4))
        await stage.end("purchase-1002", SAGA_STATE_COMPENSATED)

    def _sums(self) -> Iterator[Sum]:
        money = (("buyers", number(self._accounts, _BUYERS)), ("merchants", number(self._merchants, _MERCHANTS)))
        yield Sum("cents of everybody", money, self._before.cents, "cents before the first purchase")
        credited = (("credits less reversals", number(self._merchants, _ENTERED)),)
        debited = -number(self._accounts, _ENTERED)
        yield Sum("cents that merchants got", credited, debited, "cents that buyers paid")
        for sku, in_stock, sold in select(self._warehouse, _PIECES):
            terms = (("in stock", in_stock), ("sold", sold))
            yield Sum(f"pieces of {sku}", terms, self._before.pieces[sku], "pieces before the first purchase")
        told = (("sent", number(self._notifications, "SELECT count(*) FROM notifications")),)
        sales = number(self._warehouse, "SELECT count(*) FROM sales WHERE state = 'SOLD'")
        yield Sum("notifications", told, sales, "for the sales made")


def _purchase(purchase_id: str, atlases: int) -> Purchase:
    return Purchase(
        purchase_id=purchase_id,
        account_id="ada",
        merchant_id="bookshop",
        goods=Goods(sku="atlas", quantity=atlases),
        amount_cents=atlases * _ATLAS_CENTS,
    )
