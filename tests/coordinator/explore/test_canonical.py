"""A branch goes its own way, and a state is known again whatever the clock says."""

from coordinator.core.definition import Plan
from coordinator.explore.canonical import branch, saturation
from coordinator.explore.moves import Deed, Move
from coordinator.explore.world import Allowance, State, World
from tests.coordinator.core.sagas import picture
from tests.coordinator.explore.definitions import definition

BESIDE = Plan(definition((("COMPENSATABLE", "COMPENSATABLE"), frozenset()), one_at_a_time=False))


def after(world: World, state: State, deed: Deed, step: int = -1) -> State:
    return next(found for move, found in world.following(state) if move[:2] == (deed, step) and not move.stopping)


def begun(world: World) -> State:
    return next(
        state for move, state in world.beginnings(Allowance()) if move == Move(Deed.START, told="bb", asked=(0, 1))
    )


def test_a_branch_leaves_what_it_came_from_alone() -> None:
    world = World(BESIDE)
    state = begun(world)
    before = picture(state.saga)
    assert picture(branch(state.saga)) == before
    for _, following in world.following(state):
        list(world.following(following))
    assert picture(state.saga) == before


def test_steps_that_nothing_tells_apart_may_change_places() -> None:
    world = World(BESIDE)
    state = begun(world)
    first, second = (after(world, state, Deed.REFUSE, step) for step in (0, 1))
    assert world.form(first) == world.form(second)
    other = after(world, state, Deed.COMPLETE, 0)
    assert world.form(first) != world.form(other)


def test_what_stands_at_a_participant_tells_states_apart() -> None:
    world = World(BESIDE)
    state = begun(world)
    assert world.form(after(world, state, Deed.LAND, 0)) != world.form(state)


def test_a_budget_without_a_limit_matters_until_the_backoff_has_grown() -> None:
    policies = BESIDE.steps[0].policies
    assert {saturation(policy) for policy in policies.values()} == {1, 2}
