"""The paths of a definition: which there are, in what order, what they are called, and how a saga ends on them."""

from itertools import islice
from pathlib import Path as File

import pytest

from coordinator.core.definition import Plan
from coordinator.dataflow.yamlform import load
from coordinator.rehearse.checks import state_name
from coordinator.rehearse.paths import InvalidPathError, Path, path_named, paths_of
from saga.v1.types_pb2 import SAGA_STATE_COMPENSATED, SAGA_STATE_COMPLETED
from tests.coordinator.core.sagas import attempts, define, step
from tests.support.sample_files import DEFINITIONS


def plan(*kinds: str, graph: bool = False) -> Plan:
    """One step of each kind: a, b, c …"""
    return Plan(define(*(step(name, kind) for name, kind in zip("abcdef", kinds, strict=False)), graph=graph))


def ends(path: Path) -> str:
    return " or ".join(sorted(map(state_name, path.ends)))


def test_the_paths_of_one_step() -> None:
    assert [f"{path.name}: {ends(path)}" for path in paths_of(plan("COMPENSATABLE"))] == [
        "no-failure: COMPLETED",
        "a.execute#1=request-lost: COMPLETED",
        "a.execute#1=reply-lost: COMPLETED",
        "a.execute#1=duplicated: COMPLETED",
        "a.execute#1=crash-before: COMPLETED",
        "a.execute#1=crash-after: COMPLETED",
        "a.execute#1=given-up: COMPENSATED",
        "a.execute#1=late: COMPENSATED",
        "a.execute#1=refused: COMPENSATED",
        "a.execute#1=cancelled: COMPENSATED",
        *(
            f"a.execute#1={forward} → a.compensate#1={back}: COMPENSATED"
            for forward in ("given-up", "late", "cancelled")  # what was refused is not compensated
            for back in ("request-lost", "reply-lost", "duplicated", "crash-before", "crash-after")
        ),
    ]


def test_behind_the_pivot_nothing_goes_back() -> None:
    behind = [path for path in paths_of(plan("COMPENSATABLE", "PIVOT", "RETRIABLE")) if path.name.startswith("c.")]
    assert len(behind) == 5
    assert {ends(path) for path in behind} == {"COMPLETED"}


def test_confirm_is_lost_and_repeated() -> None:
    confirms = [path.name for path in paths_of(plan("RESERVABLE", "PIVOT")) if "confirm" in path.name]
    assert len(confirms) == 5
    assert "a.confirm#1=duplicated" in confirms


def test_a_failure_on_the_way_back_comes_at_every_compensation() -> None:
    names = {path.name for path in paths_of(plan("COMPENSATABLE", "RESERVABLE", "PIVOT"))}
    assert "c.execute#1=refused → b.compensate#1=reply-lost" in names
    assert "c.execute#1=refused → a.compensate#1=crash-after" in names
    assert "a.execute#1=refused → b.compensate#1=reply-lost" not in names


def test_where_a_budget_is_one_attempt_a_lost_request_turns_the_saga_back() -> None:
    only_once = Plan(define(step("a", execute=attempts(1))))
    assert ends(path_named(only_once, "a.execute#1=request-lost")) == "COMPENSATED"


def test_pairs_come_with_depth_and_behind_what_is_simpler() -> None:
    one, two = list(paths_of(plan("COMPENSATABLE", "PIVOT"))), list(paths_of(plan("COMPENSATABLE", "PIVOT"), 2))
    names = [path.name for path in two]
    assert {path.name for path in one} < set(names)
    assert len(names) == len(set(names))
    assert "a.execute#1=reply-lost → a.execute#2=late → a.compensate#1=request-lost" in names
    lengths = [len(path.injections) for path in two]
    assert lengths == sorted(lengths)
    assert max(path.forward_failures for path in two) == 2
    places = [[path.attempts.index(each.attempt) for each in path.injections] for path in two]
    assert all(place == sorted(set(place)) for place in places)  # one after the other, and one a call


def test_a_crash_amid_parallel_branches_may_end_either_way() -> None:
    # What the crash interrupts elsewhere may have been the last attempt there.
    parallel = plan("COMPENSATABLE", "COMPENSATABLE", graph=True)
    both = frozenset({SAGA_STATE_COMPLETED, SAGA_STATE_COMPENSATED})
    assert path_named(parallel, "a.execute#1=crash-after").ends == both
    assert path_named(parallel, "a.execute#1=reply-lost").ends == {SAGA_STATE_COMPLETED}


@pytest.mark.parametrize("file", DEFINITIONS, ids=lambda file: file.stem)
def test_the_paths_of_every_sample_are_the_same_every_time_and_found_by_name(file: File) -> None:
    found = Plan(load(file.read_text(encoding="utf-8"), file.name).definition)
    paths = list(paths_of(found))
    assert paths == list(paths_of(found))
    assert all(path_named(found, path.name) == path for path in paths[::10])
    assert len({path.name for path in paths}) == len(paths)


def test_a_large_definition_is_not_gone_through_as_a_whole() -> None:
    large = Plan(define(*(step(f"s{number}") for number in range(300))))
    assert len(list(islice(paths_of(large), 5))) == 5


def test_a_path_may_be_typed_without_unicode() -> None:
    name = "b.execute#1=refused -> a.compensate#1=reply-lost"
    assert path_named(plan("COMPENSATABLE", "PIVOT"), name).name == name.replace("->", "→")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "is no failure"),
        ("z.execute#1=refused", "is no step"),
        ("b.execute#1=late", "cannot happen"),
        ("a.compensate#1=reply-lost", "goes by"),
        ("b.execute#1=reply-lost → a.compensate#1=reply-lost", "goes by"),
    ],
)
def test_what_is_no_path_is_refused(name: str, why: str) -> None:
    with pytest.raises(InvalidPathError, match=why):
        path_named(plan("COMPENSATABLE", "PIVOT"), name)
