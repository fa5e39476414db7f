"""A definition and where its sagas end, as a flow chart in Mermaid's language, which many tools draw.

Only ends that an exploration reached are drawn. Step names are of [a-z0-9_], so nothing needs to be escaped.
"""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.explore.report import Report
from saga.v1.types_pb2 import (
    OPERATION_COMPENSATE,
    SAGA_STATE_COMPENSATED,
    SAGA_STATE_COMPLETED,
    SAGA_STATE_FAILED,
    StepKind,
)


def diagram(report: Report) -> str:
    """The chart, a line each for node and arrow."""
    return "\n".join(["flowchart LR", *(f"  {line}" for line in _lines(report))]) + "\n"


def _lines(report: Report) -> Iterator[str]:
    plan, states = report.plan, report.states
    stuck = {cause.step for cause in report.causes if cause.operation != OPERATION_COMPENSATE}
    yield "start((start))"
    for step in plan.steps:
        kind = StepKind.Name(step.kind).removeprefix("STEP_KIND_")
        yield f'step{step.index}["{step.name}<br/>{kind}"]'
    for step in plan.steps:
        arrow = "-. when .->" if step.conditional else "-->"
        for before in [f"step{index}" for index in step.predecessors] or ["start"]:
            yield f"{before} {arrow} step{step.index}"
        if not step.successors and states[SAGA_STATE_COMPLETED]:
            yield f"step{step.index} --> completed([COMPLETED])"
        if not step.forward_only and states[SAGA_STATE_COMPENSATED]:
            yield f"step{step.index} -. cannot be done .-> back"
        if step.name in stuck:
            yield f"step{step.index} -. stuck .-> failed"
    if states[SAGA_STATE_COMPENSATED]:
        names = [step.name for step in reversed(plan.steps) if step.compensatable]
        yield f'back{{{{"compensate {", ".join(names) or "nothing"}"}}}} --> compensated([COMPENSATED])'
    if any(cause.operation == OPERATION_COMPENSATE for cause in report.causes):
        yield "back -. a compensation fails .-> failed"
    if states[SAGA_STATE_FAILED]:
        yield 'failed(["FAILED: an operator is needed"])'
