"""What goes wrong is drawn once, from the seed."""

from itertools import pairwise
from random import Random

from tests.chaos.plan import Act, LinkFault, ProcessFault, acts

PROCESSES = ("coordinator", "bank")
LINKS = ("clients", "bank")
HOUR_S = 3600.0


def lines(seed: int, seconds: float = HOUR_S) -> list[list[Act]]:
    return acts(Random(seed), PROCESSES, LINKS, seconds)


def test_the_same_seed_gives_the_same_plan_and_another_one_another() -> None:
    assert lines(1) == lines(1) != lines(2)


def test_the_faults_of_a_target_come_one_after_the_other_and_end_with_the_round() -> None:
    for line in lines(1):
        assert all(act.until_s < following.at_s for act, following in pairwise(line))
        assert line[-1].until_s <= HOUR_S
        assert len({act.target for act in line}) == 1


def test_processes_and_links_meet_each_of_their_faults_and_no_others() -> None:
    *processes, clients, bank = ({act.fault for act in line} for line in lines(1))
    assert processes == [set(ProcessFault)] * 2
    assert [clients, bank] == [set(LinkFault)] * 2


def test_some_faults_outlast_a_keepalive_but_not_in_a_short_round() -> None:
    def longest(seconds: float) -> float:
        return max(act.for_s for seed in range(4) for line in lines(seed, seconds) for act in line)

    assert longest(HOUR_S) > 15
    assert longest(30) < 3
