"""The user service: who can log in, each with an e-mail address that no other active user has.

A user who was created has been real: others may have seen the name. So Compensate does not delete anything; it closes
the account, and the e-mail address is free again. All it does happens in its own database, in the database transaction
of the barrier.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import typer

from participant_sdk import COMPENSATABLE, Action, Participant, Rejected, SqliteBarrier, Step
from sample_services.accounts.v1.users_pb2 import CreateUserRequest, User
from sample_services.service import KEY_RETENTION, Database, Listen, reference, serve


class CreateUser(Action[CreateUserRequest, User]):
    """Creates a user who can log in at once."""

    kinds = (COMPENSATABLE,)
    rejections: ClassVar[Mapping[str, str]] = {
        "EMAIL_TAKEN": "An active user has this e-mail address.",
        "INVALID_EMAIL": "That is no e-mail address.",
    }

    async def execute(self, request: CreateUserRequest, step: Step) -> User:
        """Insert the user, unless the address is taken."""
        email = request.person.email.strip().lower()
        if "@" not in email.strip("@"):
            raise Rejected("INVALID_EMAIL", f"not an e-mail address: {email}")
        user_id = reference(step)
        created = step.transaction.execute(
            """INSERT INTO users (user_id, name, email, state) VALUES (?, ?, ?, 'ACTIVE')
               ON CONFLICT (email) WHERE state = 'ACTIVE' DO NOTHING RETURNING 1""",
            (user_id, request.person.name, email),
        ).fetchall()
        if not created:
            raise Rejected("EMAIL_TAKEN", f"there is a user with {email}")
        return User(user_id=user_id)

    async def compensate(self, _request: CreateUserRequest, _output: User | None, step: Step) -> None:
        """Close the account."""
        step.transaction.execute("UPDATE users SET state = 'CLOSED' WHERE user_id = ?", (reference(step),))


def participant(database: Path) -> Participant:
    """Return the service over its database."""
    schema = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    return Participant("users", [CreateUser()], SqliteBarrier(database, schema), key_retention=KEY_RETENTION)


def main(listen: Listen = "127.0.0.1:0", database: Database = Path("users.db")) -> None:
    """Serve the users."""
    serve(participant(database), listen)


if __name__ == "__main__":
    typer.run(main)
