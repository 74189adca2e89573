"""Everybody once a round in an order drawn anew; ratios within a round; who fails is named and lost, and no one else."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from harness.bench.rounds import WARMUP, Rounds, Visit, paired_ratio, take_turns

NAMES = ["residual", "dhc-n4", "dfc-m4", "mhc-n4"]


def turns(visit: Callable[[str], Visit], rounds: int = 12, seed: int = 1, lost: list[str] | None = None) -> Rounds:
    gone: list[str] = [] if lost is None else lost
    return take_turns(NAMES, visit, rounds, seed, begin=lambda: None, lose=gone.append)


def test_every_round_has_everybody_once_in_an_order_of_its_own() -> None:
    seen: list[str] = []
    found = turns(lambda name: seen.append(name) or Visit(1.0, 1.0))
    assert len(found.orders) == 12
    assert all(sorted(order) == sorted(NAMES) for order in found.orders)
    assert len({tuple(order) for order in found.orders}) > 6
    assert len({order[0] for order in found.orders}) > 2, "nobody is always first"
    assert seen[WARMUP * len(NAMES) :] == [name for order in found.orders for name in order]


def test_an_order_is_drawn_from_the_seed() -> None:
    one, same, other = (turns(lambda _: Visit(1.0, 1.0), seed=seed).orders for seed in (1, 1, 2))
    assert one == same != other


def test_rounds_that_warm_up_do_not_count() -> None:
    began: list[int] = []
    calls: list[str] = []

    def visit(name: str) -> Visit:
        calls.append(name)
        return Visit(float(len(calls)), 1.0)

    found = take_turns(NAMES, visit, 5, 1, begin=lambda: began.append(len(calls)), lose=lambda _: None)
    assert began == [len(NAMES) * number for number in range(5 + WARMUP)], "at the head of every round"
    assert all(len(visits) == 5 for visits in found.visits.values())
    assert min(visit.seconds for visits in found.visits.values() for visit in visits) == WARMUP * len(NAMES) + 1


def test_what_slows_a_round_slows_both_and_leaves_the_ratio() -> None:
    """Under a load that doubles from round to round, an arm of 1.25 stays one, and its interval has no width."""
    calls = 0

    def visit(name: str) -> Visit:
        nonlocal calls
        load = 2.0 ** (calls // len(NAMES))
        calls += 1
        return Visit((1.25 if name == "dhc-n4" else 1.0) * load, load)

    found = turns(visit)
    arm, baseline = ([visit.seconds for visit in found.visits[name]] for name in ("dhc-n4", "residual"))
    assert all(late == 2 * early for early, late in pairwise(baseline))
    assert paired_ratio(arm, baseline) == (1.25, (1.25, 1.25))


def test_the_ratio_is_the_median_of_those_within_rounds() -> None:
    ratio, interval = paired_ratio([2.0, 3.0, 40.0, 1.0, 5.0], [1.0, 2.0, 10.0, 1.0, 1.0])  # 2, 1.5, 4, 1, 5
    assert ratio == 2.0
    assert interval is not None
    assert interval[0] < 2.0 < interval[1]
    assert {interval[0], interval[1]} <= {1.0, 5.0}


def test_who_fails_is_lost_at_once_and_the_others_go_on() -> None:
    lost: list[str] = []
    calls: dict[str, int] = dict.fromkeys(NAMES, 0)

    def visit(name: str) -> Visit:
        calls[name] += 1
        if name == "dfc-m4" and calls[name] == 3:
            raise MemoryError("no more\nat all")
        return Visit(1.0, 1.0)

    found = turns(visit, lost=lost)
    assert found.failed == {"dfc-m4": "MemoryError: no more"}
    assert lost == ["dfc-m4"]
    assert calls == {**dict.fromkeys(NAMES, 12 + WARMUP), "dfc-m4": 3}
    assert set(found.visits) == set(NAMES) - {"dfc-m4"}, "rounds that it has not are not made up"


def test_without_the_baseline_there_is_no_next_round() -> None:
    calls: list[str] = []

    def visit(name: str) -> Visit:
        calls.append(name)
        if name == "residual":
            raise RuntimeError("broken")
        return Visit(1.0, 1.0)

    assert turns(visit).failed == {"residual": "RuntimeError: broken"}
    assert len(calls) == len(NAMES)


@pytest.mark.parametrize(("arm", "baseline"), [([1.0], []), ([1.0, 2.0], [1.0])])
def test_rounds_that_are_not_the_same_have_no_ratio(arm: list[float], baseline: list[float]) -> None:
    with pytest.raises(ValueError, match="shorter"):
        paired_ratio(arm, baseline)
