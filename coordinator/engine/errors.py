"""Everything the engine answers a caller with, other than success.

    EngineError
    ├── InvalidRequest        the request has problems; all of them are named (G13)
    ├── InvalidDefinition     the definition has problems; all of them are named (G13)
    ├── DefinitionNotFound    no definition of that name, or not in that version
    ├── DefinitionDeprecated  the version takes no new sagas
    ├── NoChildFits           no version of a definition that a step runs as a child fits the step any more
    ├── KeyReused             the idempotency key came with another action or input before
    ├── StartedDifferently    the id is taken by a saga that was started with another request (G10)
    ├── SagaRetired           the id was taken by a saga that has ended and was retired (rule 10)
    ├── SequenceMismatch      the saga has moved on since the caller looked
    ├── OverLimit             a limit is reached; says when to come back (G14)
    │   └── Overloaded        there is more to do than can be done
    └── ShuttingDown          the coordinator takes nothing new

What the saga's state forbids is the core's `Forbidden`; what the journal cannot do is a `JournalError`. `api.status`
turns all of them into a google.rpc.Status. This module must not know gRPC.
"""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.core import limits
from coordinator.core.definition import Problem


class EngineError(Exception):
    """The engine refuses; nothing was changed."""


class InvalidRequest(EngineError):
    """The request has problems."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(f"{p.path}: {p.message}" for p in problems))
        self.problems = tuple(problems)


class InvalidDefinition(InvalidRequest):
    """The definition has problems."""


class DefinitionNotFound(EngineError):
    """There is no such definition."""

    def __init__(self, name: str, version: int) -> None:
        super().__init__(
            f"there is no version {version} of the definition `{name}`"
            if version
            else f"there is no definition `{name}`"
        )


class DefinitionDeprecated(EngineError):
    """The version takes no new sagas."""

    def __init__(self, name: str, version: int) -> None:
        super().__init__(f"version {version} of the definition `{name}` is deprecated and takes no new sagas")


class NoChildFits(EngineError):
    """No version of a definition that a step runs as a child fits the step any more."""

    def __init__(self, definition: str, step: str, child: str, why: str) -> None:
        super().__init__(
            f"step `{step}` of `{definition}` runs `{child}`, and no version of that fits it any more: {why}; "
            f"register `{definition}` again"
        )


class KeyReused(EngineError):
    """The idempotency key came with another action or another input before."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the idempotency key `{key}` came with another action or another input before")


class StartedDifferently(EngineError):
    """The id is taken by a saga that was started with another request."""

    def __init__(self, saga_id: str) -> None:
        super().__init__(f"the saga `{saga_id}` exists and was started with a different request")
        self.saga_id = saga_id


class SagaRetired(EngineError):
    """The id was taken by a saga that has ended and was retired; whether it was started alike no longer counts."""

    def __init__(self, saga_id: str, state: str) -> None:
        super().__init__(f"the saga `{saga_id}` ended {state} and has been retired; its id is not used again")
        self.saga_id = saga_id


class SequenceMismatch(EngineError):
    """The saga has moved on since the caller looked."""

    def __init__(self, saga_id: str, expected: int, found: int) -> None:
        super().__init__(f"the saga `{saga_id}` stands at sequence {found}, not at {expected}")


class OverLimit(EngineError):
    """A limit is reached."""

    def __init__(self, message: str, retry_after_ns: int) -> None:
        super().__init__(message)
        self.retry_after_ns = retry_after_ns


class Overloaded(OverLimit):
    """There is more to do than can be done; `behind` says what has been waiting for how long."""

    def __init__(self, behind: str) -> None:
        message = f"{behind}: no more sagas are taken until that is worked off"
        super().__init__(message, limits.ADMISSION_RETRY_AFTER_NS)


class ShuttingDown(EngineError):
    """The coordinator takes nothing new."""

    def __init__(self) -> None:
        super().__init__("the coordinator is shutting down")
