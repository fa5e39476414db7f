"""Where expressions stand, and what each may read."""

from coordinator.dataflow import sites
from coordinator.dataflow.expressions import ANY_MESSAGE, BOOL, STRING, Output
from coordinator.dataflow.pinned import StepTypes
from saga.v1.definition_pb2 import STEP_ORDER_GRAPH
from tests.coordinator.dataflow.shop import definition, step, types

STEP_TYPES = {
    "a": StepTypes("inventory.v1.ReserveStockRequest", "inventory.v1.Reservation"),
    "b": StepTypes("payment.v1.ChargeRequest", "payment.v1.Receipt"),
}


def test_every_expression_has_its_site() -> None:
    whole = definition(
        step("a", "A", "ReserveStock", when="W"),
        step("b", "B"),
        output="O",
        labels={"z": "Z", "it's": "I"},
        exclusive_keys=["K", "L"],
    )
    found = {site.path: site for site in sites.sites(whole, STEP_TYPES, types())}
    assert {
        path: (site.text, site.result, site.scope.package, set(site.scope.visible)) for path, site in found.items()
    } == {
        "steps[0].input": ("A", "inventory.v1.ReserveStockRequest", "inventory.v1", set()),
        "steps[0].when": ("W", BOOL, "inventory.v1", set()),
        "steps[1].input": ("B", "payment.v1.ChargeRequest", "payment.v1", {"a"}),
        "output": ("O", ANY_MESSAGE, "shop.v1", {"a", "b"}),
        'labels["it\'s"]': ("I", STRING, "shop.v1", set()),
        "labels['z']": ("Z", STRING, "shop.v1", set()),
        "exclusive_keys[0]": ("K", STRING, "shop.v1", set()),
        "exclusive_keys[1]": ("L", STRING, "shop.v1", set()),
    }


def test_a_step_sees_its_ancestors_only() -> None:
    graph = definition(
        *(step(name, name, after=after) for name, after in (("a", []), ("b", ["a"]), ("c", ["a"]), ("d", ["b"]))),
        order=STEP_ORDER_GRAPH,
    )
    visible = {site.text: set(site.scope.visible) for site in sites.sites(graph, {}, types())}
    assert visible == {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"a", "b"}}


def test_on_a_cycle_everything_is_seen_so_that_the_cycle_is_the_only_problem() -> None:
    cycle = definition(step("a", "a", after=["b"]), step("b", "b", after=["a"]), order=STEP_ORDER_GRAPH)
    assert all(set(site.scope.visible) == {"a", "b"} for site in sites.sites(cycle, {}, types()))


def test_only_a_step_with_a_condition_may_be_skipped() -> None:
    whole = definition(step("a", "A", "ReserveStock", when="W"), step("b", "B"), step("c", "C"))
    assert sites.outputs(whole, STEP_TYPES) == {
        "a": Output("inventory.v1.Reservation", optional=True),
        "b": Output("payment.v1.Receipt", optional=False),
        "c": Output("", optional=False),
    }


def test_what_a_step_of_unknown_types_is_to_yield_is_not_known() -> None:
    whole = definition(step("c", "C", when="W"))
    assert [site.result for site in sites.sites(whole, STEP_TYPES, types())] == ["", ""]
