"""What a sample brings to the demo: its services, its definition, its scenes, and the sums that must add up.

This module must not know any one sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.message import Message

    from sample_services.demo.stage import Stage


@dataclass(frozen=True, slots=True)
class Service:
    """A participant: its name in the coordinator's configuration, its module, and its options beside `--listen`."""

    name: str
    module: str
    options: Sequence[str]


@dataclass(frozen=True, slots=True)
class Sum:
    """Something that must add up: named terms, whose values together are `expected`, which is said in words too."""

    name: str
    terms: Sequence[tuple[str, int]]
    expected: int
    expected_as: str

    @property
    def total(self) -> int:
        """What the terms come to."""
        return sum(value for _, value in self.terms)

    @property
    def adds_up(self) -> bool:
        """Whether that is right."""
        return self.total == self.expected


@dataclass(frozen=True, slots=True)
class Example:
    """What can be tried by hand: a saga that can be looked at, and the input of one that can be started."""

    definition: str
    finished_saga_id: str
    new_saga_id: str
    new_input: Message


class Sample(Protocol):
    """One entry of the demo. It is made with the directory that its services' files go to."""

    name: str

    def services(self) -> Sequence[Service]:
        """Return the services that it needs, to be started in this order; of one name with another sample's: once."""

    def definitions(self) -> Sequence[Path]:
        """Return the definitions to register, in this order."""

    async def play(self, stage: Stage) -> None:
        """Show its scenes. Errors: `SceneFailed` where a saga does not go as it should."""

    def sums(self) -> Sequence[Sum]:
        """Return what must add up, from the services' databases as they stand."""

    def example(self) -> Example:
        """Return what can be tried by hand after its scenes."""
