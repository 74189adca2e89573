"""Words for differences: the rules, one by one."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from harness.compare.statistics import Pairs, holm, pairs
from harness.compare.verdicts import best_group, verdicts


def made(mean: float, sd: float, n: int = 6) -> Pairs:
    """Pairs with exactly this mean and about this standard deviation of their differences."""
    spread = [sd * (-1) ** seed for seed in range(n)]
    found = pairs(dict(enumerate(mean + s for s in spread)), dict.fromkeys(range(n), 0.0))
    assert found is not None
    return found


def words(family: list[Pairs | None], margin: float = 0.1) -> list[str]:
    return [judged.verdict for judged in verdicts(family, margin)]


def test_each_rule_gives_its_word() -> None:
    one = pairs({1: 2.0}, {1: 3.0})
    family = [made(-0.5, 0.1), made(0.5, 0.1), made(0.01, 0.02), made(0.1, 0.5), one, None]
    assert words(family) == ["better", "worse", "equivalent", "unresolved", "unresolved", "unresolved"]
    assert [judged.p is None for judged in verdicts(family, 0.1)] == [False] * 4 + [True] * 2


def test_significant_and_trivial_is_trivial() -> None:
    (judged,) = verdicts([made(-0.02, 0.01)], 0.1)
    assert judged.p is not None
    assert judged.p < 0.05
    assert judged.verdict == "equivalent"
    assert words([made(-0.02, 0.01)], 0.0) == ["better"], "no margin, no equivalence"


def test_the_p_values_are_those_of_scipys_tests_after_holm() -> None:
    draw, margin = random.Random(3), 0.1
    samples = [
        [draw.gauss(mean, sd) for _ in range(n)] for mean, sd, n in ((-0.04, 0.05, 6), (0.06, 0.08, 9), (0, 0.05, 4))
    ]
    family = [pairs(dict(enumerate(sample)), dict.fromkeys(range(len(sample)), 0.0)) for sample in samples]
    two_sided = [float(stats.ttest_1samp(sample, 0).pvalue) for sample in samples]
    trivial = [
        float(max(
            stats.ttest_1samp(sample, -margin, alternative="greater").pvalue,
            stats.ttest_1samp(sample, margin, alternative="less").pvalue,
        ))
        for sample in samples
    ]  # fmt: skip
    first, unpaired, *others = verdicts([family[0], None, *family[1:]], margin)
    assert (unpaired.p, unpaired.p_equivalent) == (None, None)
    assert [one.p for one in (first, *others)] == pytest.approx(holm(two_sided))
    assert [one.p_equivalent for one in (first, *others)] == pytest.approx(holm(trivial))


def test_a_family_has_to_show_more_than_an_arm_alone() -> None:
    alone = made(-0.12, 0.1)
    assert alone.p is not None
    assert 0.01 < alone.p < 0.05
    assert words([alone]) == ["better"]
    assert words([alone, *[made(0.1, 0.5)] * 4]) == ["unresolved"] * 5
    assert words([alone, None, None, None, None])[0] == "better", "what was not compared does not count"


def test_differences_without_spread_are_judged_by_their_mean() -> None:
    same = pairs({1: 1.0, 2: 2.0}, {1: 1.0, 2: 2.0})
    apart = pairs({1: 1.25, 2: 2.25}, {1: 1.0, 2: 2.0})
    assert words([same, apart]) == ["equivalent", "worse"]
    assert words([same, apart], 0.0) == ["unresolved", "worse"]
    assert words([]) == []


@pytest.mark.parametrize("margin", [-0.1, math.nan, math.inf])
def test_a_margin_that_is_none_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match=r"negative margin|not a finite number"):
        verdicts([], margin)


def arm(*values: float, first: int = 0) -> dict[int, float]:
    return dict(enumerate(values, first))


def test_the_best_group_is_the_best_and_what_cannot_be_told_from_it() -> None:
    values = {
        "clear": arm(3.00, 3.11, 2.90, 3.04, 3.02),
        "best": arm(2.80, 2.92, 2.70, 2.86, 2.81),
        "close": arm(2.84, 2.90, 2.75, 2.84, 2.83),
    }
    assert best_group(values) == {"best", "close"}
    assert best_group({**values, "empty": {}}) == {"best", "close"}
    assert best_group(values, alpha=0.9) == {"best"}


def test_an_arm_of_one_seed_is_left_out_and_as_the_lowest_leaves_nothing_to_tell() -> None:
    pair = {"a": arm(2.0, 2.1, 2.2), "b": arm(3.0, 3.1, 3.21)}
    assert best_group({**pair, "once": arm(2.6)}) == {"a"}
    assert best_group({**pair, "once": arm(1.0)}) == set()
    assert best_group({"a": arm(2.0), "b": arm(3.0)}) == set()
    assert best_group({"a": arm(2.0)}) == {"a"}
    assert best_group({}) == set()
    with pytest.raises(ValueError, match="finite"):
        best_group({"a": arm(2.0, math.nan), "b": arm(3.0, 1.0)})


def test_an_arm_is_not_best_for_having_the_easier_seeds() -> None:
    hard = {"a": arm(2.0, 2.1, 5.0, 5.1), "b": arm(2.5, 2.62), "c": arm(2.9, 3.0, 5.9, 6.0)}
    assert "b" not in best_group(hard), "lowest over its own seeds, worse on those that all have"
    # Without seeds common to all, the lowest of its own may lose a pair; an arm that beats it is not left out for that.
    few = {"a": arm(2.0, 2.1, 2.2, 9.0), "b": arm(2.5, 2.6, 2.7), "c": arm(9.0, 9.1, first=3)}
    assert "a" in best_group(few)
    # One seed that all have is no ground to choose the best by.
    ten = {"a": arm(*[2.0] * 10), "b": arm(1.99, *[3.0] * 9), "once": arm(2.5)}
    assert best_group(ten) == {"a"}
