"""The scenes of the account services: accounts that are created, one whose address is taken, one without a wallet.

What the rows say afterwards is read from the services' own databases, as nobody but a demo should.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED
from sample_services.accounts.v1.accounts_pb2 import Person, Registration
from sample_services.demo import show
from sample_services.demo.sample import Example, Service, Sum
from sample_services.demo.stage import Stage, select

_DEFINITION: Final = "create_account"
_DEFINITION_FILE: Final = Path(__file__).with_name(f"{_DEFINITION}.yaml")

_USERS: Final = "SELECT name, email, state FROM users ORDER BY name, state DESC"
_ACTIVE: Final = "SELECT user_id FROM users WHERE state = 'ACTIVE'"
_OWNERS: Final = "SELECT user_id FROM wallets WHERE state = 'OPEN'"
_WELCOMED: Final = "SELECT user_id FROM messages"


class Accounts:
    """The entry of the account services in the demo."""

    name = "accounts"

    def __init__(self, directory: Path) -> None:
        self._users = directory / "users.db"
        self._wallets = directory / "wallets.db"
        self._welcome = directory / "welcome.db"

    def services(self) -> Sequence[Service]:
        """Return users, wallets and welcome."""
        return tuple(
            Service(database.stem, f"sample_services.accounts.{database.stem}", (f"--database={database}",))
            for database in (self._users, self._wallets, self._welcome)
        )

    def definitions(self) -> Sequence[Path]:
        """Return `create_account`."""
        return (_DEFINITION_FILE,)

    async def play(self, stage: Stage) -> None:
        """Show the four scenes. Errors: `SceneFailed`."""
        await self._is_created(stage)
        await self._email_is_taken(stage)
        await self._wallet_is_refused(stage)
        await self._email_is_free_again(stage)
        stage.console.print(show.rows("users: users", self._users, _USERS))

    def sums(self) -> Sequence[Sum]:
        """Return that each active user has one wallet and one message, and that there are no other wallets."""
        return tuple(self._sums())

    def example(self) -> Example:
        """Return an account that was created, and another that can be."""
        return Example(_DEFINITION, "account-1001", "account-2001", _registration("Edsger", "NL"))

    async def _is_created(self, stage: Stage) -> None:
        stage.scene("An account that is created: user, wallet, welcome message")
        await stage.begin(_DEFINITION, "account-1001", _registration("Ada", "GB"))
        await stage.end("account-1001", SAGA_STATE_COMPLETED)

    async def _email_is_taken(self, stage: Stage) -> None:
        stage.scene("An account with the same e-mail address: refused, and there is nothing to compensate")
        await stage.begin(_DEFINITION, "account-1002", _registration("Ada", "NL"))
        await stage.end("account-1002", SAGA_STATE_COMPENSATED)

    async def _wallet_is_refused(self, stage: Stage) -> None:
        stage.scene("An account from where there are no wallets: its user is closed again")
        await stage.begin(_DEFINITION, "account-1003", _registration("Grace", "US"))
        await stage.end("account-1003", SAGA_STATE_COMPENSATED)

    async def _email_is_free_again(self, stage: Stage) -> None:
        stage.scene("An account with the e-mail address of the user who was closed: it is free again")
        await stage.begin(_DEFINITION, "account-1004", _registration("Grace", "PT"))
        await stage.end("account-1004", SAGA_STATE_COMPLETED)

    def _sums(self) -> Iterator[Sum]:
        active = self._user_ids(self._users, _ACTIVE)
        owners = self._user_ids(self._wallets, _OWNERS)
        welcomed = self._user_ids(self._welcome, _WELCOMED)
        complete = sum(owners[user_id] == welcomed[user_id] == 1 for user_id in active)
        served = (("complete", complete),)
        yield Sum("users with one wallet and one message", served, active.total(), "active users")
        wallets = (("open wallets", owners.total()),)
        yield Sum("wallets", wallets, active.total(), "active users")
        messages = (("welcome messages", welcomed.total()),)
        yield Sum("messages", messages, active.total(), "active users")

    @staticmethod
    def _user_ids(database: Path, query: str) -> Counter[str]:
        return Counter(user_id for (user_id,) in select(database, query))


def _registration(name: str, country_code: str) -> Registration:
    return Registration(person=Person(name=name, email=f"{name.lower()}@example.com"), country_code=country_code)
