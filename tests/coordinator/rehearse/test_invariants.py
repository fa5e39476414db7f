"""Invariants in CEL: what they see, and how they are refused."""

import pytest

from coordinator.core.definition import Plan
from coordinator.dataflow.check import check
from coordinator.dataflow.pinned import PinnedDefinition
from coordinator.dataflow.types import encode
from coordinator.dataflow.yamlform import load
from coordinator.rehearse.invariants import InvalidInvariantError, Invariants
from coordinator.rehearse.paths import path_named
from saga.v1.coordinator_pb2 import Saga, Step
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED
from sample_services.orders.v1.orders_pb2 import Order
from tests.coordinator.rehearse.shop import DEFINITION, Shop, payload


@pytest.fixture
def pinned(tmp_path_factory: pytest.TempPathFactory) -> PinnedDefinition:
    described = Shop(tmp_path_factory.mktemp("shop") / "ledger").Describe(None, None)
    checked = check(load(DEFINITION, "errand.yaml").definition, {"shop": described})
    assert checked.pinned is not None, checked.problems
    return checked.pinned


def violations(pinned: PinnedDefinition, *texts: str) -> list[str]:
    """Of a saga that went back behind `hold`."""
    saga = Saga(
        saga_id="s-1",
        state=SAGA_STATE_COMPENSATED,
        input=encode(Order(order_id="s-1")),
        steps=[Step(name="hold", output=payload(850)), Step(name="pay")],
    )
    path = path_named(Plan(pinned.definition), "pay.execute#1=refused")
    return list(Invariants(texts, pinned).violations(saga, path))


@pytest.mark.parametrize(
    "text",
    [
        "saga.state == SagaState.SAGA_STATE_COMPENSATED",
        "saga.saga_id == input.order_id",
        "saga.steps.exists(step, step.name == 'hold' && step.output.total_cents == 850)",
        "hold.?total_cents.orValue(0) == 850",
        "!pay.hasValue()",
        "path.name == 'pay.execute#1=refused' && path.failures == ['pay.execute#1=refused']",
        "path.ends == ['COMPENSATED']",
    ],
)
def test_what_an_invariant_sees(pinned: PinnedDefinition, text: str) -> None:
    assert violations(pinned, text) == []


def test_one_that_does_not_hold_is_named(pinned: PinnedDefinition) -> None:
    assert violations(pinned, "pay.hasValue()", "hold.hasValue()") == ["invariant `pay.hasValue()` does not hold"]


def test_one_that_fails_on_the_data_does_not_hold(pinned: PinnedDefinition) -> None:
    [violation] = violations(pinned, "saga.steps[7].name == ''")
    assert violation.startswith("invariant `saga.steps[7].name == ''` fails: ")


def test_all_that_is_wrong_is_said_before_anything_runs(pinned: PinnedDefinition) -> None:
    with pytest.raises(InvalidInvariantError) as caught:
        Invariants(["saga.stat == 1", "input.order_id", "true", "nobody.hasValue()"], pinned)
    first, second, third = caught.value.problems
    assert first.startswith("`saga.stat == 1`, 1:5: undefined field 'stat'")
    assert second.endswith("the expression yields string; expected bool")
    assert third.startswith("`nobody.hasValue()`, 1:1: undeclared reference to 'nobody'")
