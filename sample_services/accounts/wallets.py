"""The wallet service: a wallet for each user, in the currency of where the user lives.

All it does happens in its own database, in the database transaction of the barrier.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import typer

from participant_sdk import COMPENSATABLE, Action, Participant, Rejected, SqliteBarrier, Step
from sample_services.accounts.v1.wallets_pb2 import OpenWalletRequest, Wallet
from sample_services.service import KEY_RETENTION, Database, Listen, reference, serve


class OpenWallet(Action[OpenWalletRequest, Wallet]):
    """Opens a user's wallet, empty at first."""

    kinds = (COMPENSATABLE,)
    rejections: ClassVar[Mapping[str, str]] = {"COUNTRY_NOT_SERVED": "There are no wallets for where the user lives."}

    async def execute(self, request: OpenWalletRequest, step: Step) -> Wallet:
        """Find the currency and insert the wallet."""
        country_code = request.country_code
        found = step.transaction.execute(
            "SELECT currency FROM countries WHERE country_code = ?", (country_code,)
        ).fetchone()
        if found is None:
            raise Rejected("COUNTRY_NOT_SERVED", f"no wallets in {country_code}", country_code=country_code)
        wallet = Wallet(wallet_id=reference(step), currency=found[0])
        step.transaction.execute(
            "INSERT INTO wallets (wallet_id, user_id, currency, state) VALUES (?, ?, ?, 'OPEN')",
            (wallet.wallet_id, request.user_id, wallet.currency),
        )
        return wallet

    async def compensate(self, _request: OpenWalletRequest, _output: Wallet | None, step: Step) -> None:
        """Close the wallet."""
        step.transaction.execute("UPDATE wallets SET state = 'CLOSED' WHERE wallet_id = ?", (reference(step),))


def participant(database: Path) -> Participant:
    """Return the service over its database."""
    schema = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    return Participant("wallets", [OpenWallet()], SqliteBarrier(database, schema), key_retention=KEY_RETENTION)


def main(listen: Listen = "127.0.0.1:0", database: Database = Path("wallets.db")) -> None:
    """Serve the wallets."""
    serve(participant(database), listen)


if __name__ == "__main__":
    typer.run(main)
