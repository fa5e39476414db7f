"""`Forbidden`: what the saga's state does not allow, and what would be possible instead."""


class Forbidden(Exception):
    """The saga's state does not allow what was asked for. `possible` says what would be."""

    def __init__(self, message: str, possible: str) -> None:
        super().__init__(message)
        self.possible = possible
