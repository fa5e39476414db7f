"""Writes docs/states.md from the transition tables of coordinator/core/state.py.

    python docs/generate_states.py

A test compares the committed file with what this writes, so the diagrams cannot drift from the code. This program must
not know a transition by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final, TypeVar

from coordinator.core.state import ENDED, SAGA, STEP
from saga.v1.types_pb2 import SAGA_STATE_UNSPECIFIED, SagaState, StepState

S = TypeVar("S")

TARGET: Final = Path(__file__).with_name("states.md")

INTRODUCTION: Final = """\
# States

Generated from the transition tables in `coordinator/core/state.py` by `python docs/generate_states.py`; do not edit.
An event that the tables do not name cannot be recorded: it raises `IllegalEvent`, and nothing changes.
"""

OF_SAGAS: Final = """\
## Sagas

A saga goes forward until it is COMPLETED, or turns back and ends COMPENSATED; where neither can be done it stands
FAILED until an operator takes it on.
"""

OF_STEPS: Final = """\
## Steps

A step is executed; then it is compensated, if the saga turns back, or confirmed, if it is a hold and the saga no longer
can. A step that may have taken effect is UNKNOWN and never REJECTED, and only a compensation leads on from there.
"""

SAGA_MEANINGS: Final = {
    "PENDING": "Accepted, but not begun: a delayed start, or another saga holds a key it needs.",
    "RUNNING": "Going forward.",
    "COMPENSATING": "Going back: no Execute starts any more, and what was done, or may have been, is compensated.",
    "COMPLETED": "Ended: every step completed or was skipped, every hold is confirmed.",
    "COMPENSATED": "Ended: every step that completed, or may have, is compensated.",
    "FAILED": "Nothing is outstanding, and an operator is needed. Not an end.",
}

STEP_MEANINGS: Final = {
    "WAITING": "Never started.",
    "EXECUTING": "An Execute attempt is in flight, or the next one waits for its backoff.",
    "PENDING": "The participant accepted Execute and has not finished; it is polled while the saga goes forward.",
    "COMPLETED": "Execute is known to have taken effect.",
    "REJECTED": "Execute was refused, and certainly took no effect.",
    "UNKNOWN": "Nothing is in flight, and whether Execute took effect is not known.",
    "SKIPPED": "Its condition was false; it never starts.",
    "COMPENSATING": "A Compensate attempt is in flight or accepted, or the next one waits for its backoff.",
    "COMPENSATED": "Compensate is known to have succeeded.",
    "COMPENSATION_FAILED": "Compensate was refused, or its attempts are spent: an operator is needed.",
    "CONFIRMING": "A Confirm attempt is in flight or accepted, or the next one waits for its backoff.",
    "CONFIRMED": "The hold is known to be final.",
}


def render() -> str:
    """The whole document."""
    return "\n".join(
        [
            INTRODUCTION,
            OF_SAGAS,
            _diagram(SAGA, _saga_name, ENDED),
            _meanings(SAGA_MEANINGS),
            OF_STEPS,
            _diagram(STEP, _step_name),
            _meanings(STEP_MEANINGS).rstrip("\n") + "\n",
        ]
    )


def _diagram(table: Mapping[S, Mapping[str, S]], name: Callable[[S], str], ends: Collection[S] = frozenset()) -> str:
    lines = ["```mermaid", "stateDiagram-v2"]
    for state, happenings in table.items():
        by_target: dict[S, list[str]] = {}
        for happening, following in happenings.items():
            by_target.setdefault(following, []).append(happening)
        lines += [f"    {name(state)} --> {name(to)}: {'<br/>'.join(words)}" for to, words in by_target.items()]
        if state in ends:
            lines.append(f"    {name(state)} --> [*]")
    return "\n".join([*lines, "```", ""])


def _meanings(meanings: Mapping[str, str]) -> str:
    rows = [f"| {name} | {meaning} |" for name, meaning in meanings.items()]
    return "\n".join(["| state | meaning |", "| --- | --- |", *rows, ""])


def _saga_name(state: SagaState.ValueType) -> str:
    if state == SAGA_STATE_UNSPECIFIED:  # before its first event a saga does not exist
        return "[*]"
    return SagaState.Name(state).removeprefix("SAGA_STATE_")


def _step_name(state: StepState.ValueType) -> str:
    return StepState.Name(state).removeprefix("STEP_STATE_")


if __name__ == "__main__":
    TARGET.write_text(render())
