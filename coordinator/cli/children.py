"""The sagas that run as steps of a saga, at any depth.

A child may run on another coordinator, the one that the step's participant is; then this one does not know it, which is
said rather than taken for an error. How much is looked at has a limit (G14): whoever wants more asks for a child's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from coordinator.cli.connection import Connection
from coordinator.cli.errors import CommandError, ExitCode
from saga.v1 import coordinator_pb2 as pb

CHILDREN_MAX: Final = 100
DEPTH_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Unseen:
    """Children that cannot be shown, in one line for people."""

    text: str


def children(server: Connection, saga: pb.Saga, view: pb.PayloadView.ValueType) -> Iterator[pb.Saga | Unseen]:
    """The sagas below this one, each before those below it, in the order of the steps. Raises CommandError."""
    found = _below(server, saga, view, depth=1)
    yield from islice(found, CHILDREN_MAX)
    if next(found, None) is not None:
        yield Unseen(
            f"more than {CHILDREN_MAX} sagas run below {saga.saga_id}; `saga get ID --children` of one shows its own"
        )


def _below(server: Connection, saga: pb.Saga, view: pb.PayloadView.ValueType, depth: int) -> Iterator[pb.Saga | Unseen]:
    for step in saga.steps:
        if not step.child_saga_id:
            continue
        if depth > DEPTH_MAX:
            yield Unseen(f"{step.child_saga_id} lies too deep; `saga get {step.child_saga_id}` shows it")
            continue
        child = _child(server, step, view)
        yield child
        if isinstance(child, pb.Saga):
            yield from _below(server, child, view, depth + 1)


def _child(server: Connection, step: pb.Step, view: pb.PayloadView.ValueType) -> pb.Saga | Unseen:
    try:
        return server.get(step.child_saga_id, view)
    except CommandError as error:
        if error.code != ExitCode.REFUSED:
            raise
        return Unseen(f"{step.child_saga_id} is not shown: {error}; {step.participant} may run it elsewhere")
