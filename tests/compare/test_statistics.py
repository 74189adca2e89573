"""Means, intervals, paired differences and their tests, against scipy's own and numbers worked out by hand."""

from __future__ import annotations

import math
import random
from itertools import product

import pytest
from scipy import stats

from harness.compare.statistics import (
    Estimate,
    McNemar,
    geometric_mean,
    holm,
    mcnemar,
    mean_interval,
    minimum_detectable_effect,
    paired_difference,
    pairs,
    seeds_to_resolve,
    t_test_power,
)

DRAW = random.Random(4)
SAMPLES = [[DRAW.gauss(3.0, scale) for _ in range(n)] for n in (2, 3, 4, 5, 10, 30) for scale in (1e-4, 0.02, 5.0)]


@pytest.mark.parametrize("values", SAMPLES, ids=lambda values: f"n{len(values)}")
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_the_interval_and_p_of_a_mean_are_students(values: list[float], confidence: float) -> None:
    found = mean_interval(values, confidence)
    n, mean = len(values), sum(values) / len(values)
    expected = stats.t.interval(confidence, n - 1, loc=mean, scale=stats.sem(values))
    assert (found.n, found.mean) == (n, pytest.approx(mean, rel=1e-14))
    assert found.interval == pytest.approx(expected, rel=1e-9)
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue, rel=1e-6, abs=1e-300)


@pytest.mark.parametrize("values", SAMPLES, ids=lambda values: f"n{len(values)}")
def test_a_paired_difference_is_the_paired_t_test_over_the_shared_seeds(values: list[float]) -> None:
    noise = random.Random(len(values))
    arm = {seed: value - 0.01 + noise.gauss(0, 0.01) for seed, value in enumerate(values)}
    base = dict(reversed(list(enumerate(values))))
    found = paired_difference({**arm, 99: 1.0}, {**base, 77: 1e9})
    assert found is not None
    expected = stats.ttest_rel([arm[s] for s in range(len(values))], values)
    assert found.n == len(values)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    interval = expected.confidence_interval(0.95)
    assert found.interval == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-12)


def test_one_seed_gives_a_mean_without_an_interval_or_a_p() -> None:
    assert mean_interval([2.5]) == Estimate(n=1, mean=2.5, interval=None, p=None)
    assert paired_difference({1: 2.0, 2: 9.0}, {1: 2.5, 3: 0.0}) == Estimate(1, -0.5, None, None)


def test_no_seed_gives_nothing() -> None:
    assert paired_difference({1: 2.0}, {2: 2.0}) is None
    assert paired_difference({}, {}) is None
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_equal_values_give_an_interval_of_no_width_and_never_a_division_by_zero() -> None:
    assert mean_interval([0.25] * 4) == Estimate(4, 0.25, (0.25, 0.25), 0.0)
    assert mean_interval([0.0] * 4) == Estimate(4, 0.0, (0.0, 0.0), 1.0)
    assert paired_difference({1: 2.0, 2: 3.0}, {1: 2.0, 2: 3.0}) == Estimate(2, 0.0, (0.0, 0.0), 1.0)
    assert mean_interval([0.1] * 3).interval == pytest.approx((0.1, 0.1), rel=1e-12), "whatever the mean is rounded to"


def test_pairing_takes_out_what_seeds_share() -> None:
    base = {seed: float(seed) for seed in range(1, 6)}
    arm = {seed: value - 0.1 + 0.001 * (-1) ** seed for seed, value in base.items()}
    paired = paired_difference(arm, base)
    assert paired is not None
    assert paired.interval is not None
    assert paired.interval[1] < 0
    unpaired = stats.ttest_ind(list(arm.values()), list(base.values()))
    assert unpaired.pvalue > 0.5
    assert paired.p is not None
    assert paired.p < 1e-6


def test_the_mean_of_ratios_is_geometric() -> None:
    assert geometric_mean([2.0, 0.5]) == pytest.approx(1.0)
    assert geometric_mean([1.1, 1.7, 0.3]) == pytest.approx(stats.gmean([1.1, 1.7, 0.3]))
    assert math.isfinite(geometric_mean([1e200] * 4))


def by_seed(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


@pytest.mark.parametrize("values", SAMPLES, ids=lambda values: f"n{len(values)}")
def test_pairs_are_the_paired_difference_with_what_pairing_bought(values: list[float]) -> None:
    noise = random.Random(len(values))
    arm, base = by_seed(*(value + noise.gauss(0, 0.3) for value in values)), by_seed(*values)
    found, plain = pairs({**arm, 99: math.nan}, base), paired_difference(arm, base)
    assert found is not None
    assert plain is not None
    assert isinstance(found, Estimate)
    assert (found.n, found.mean, found.interval, found.p) == (plain.n, plain.mean, plain.interval, plain.p)
    assert found.seeds == tuple(range(len(values)))
    differences = [arm[seed] - base[seed] for seed in arm]
    assert found.sd_paired == pytest.approx(stats.tstd(differences))
    assert found.sd_unpaired == pytest.approx(math.sqrt(stats.tvar(list(arm.values())) + stats.tvar(values)))
    assert found.gain == pytest.approx(found.sd_unpaired / found.sd_paired)
    expected = stats.pearsonr(list(arm.values()), values).statistic if len(values) > 2 else None
    assert found.rho == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_the_permutation_p_counts_all_flips_of_sign(n: int) -> None:
    differences = [DRAW.gauss(0.4, 1.0) for _ in range(n)]
    found = pairs(by_seed(*differences), by_seed(*[0.0] * n))
    assert found is not None
    means = [
        abs(sum(sign * d for sign, d in zip(signs, differences, strict=True))) for signs in product((-1, 1), repeat=n)
    ]
    assert found.p_permutation == pytest.approx(sum(mean >= abs(sum(differences)) - 1e-12 for mean in means) / 2**n)
    one_sided = pairs(by_seed(*range(1, n + 1)), by_seed(*[0.0] * n))
    assert one_sided is not None
    assert one_sided.p_permutation == 2.0 ** (1 - n), "the smallest that n seeds allow"


def test_with_many_seeds_the_permutation_p_is_drawn_repeats_and_is_never_0() -> None:
    base = by_seed(*[0.0] * 20)
    clear = pairs(by_seed(*range(1, 21)), base)
    vague = by_seed(*(DRAW.gauss(0.3, 1.0) for _ in range(20)))
    assert clear is not None
    assert clear.p_permutation == 2 / 10_000, "one of 10,000 on either side: itself"
    first, second = pairs(vague, base), pairs(vague, base)
    assert first == second
    assert first is not None
    assert first.p_permutation == pytest.approx(first.p, abs=0.03)


def test_planted_correlation_gives_its_gain_and_none_gives_no_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.compare.statistics._sign_flip_p", lambda _: None)  # 10,000 flips of 4000 seeds
    for rho, own in ((0.9, math.sqrt(0.1)), (0.0, 1.0)):
        draw = random.Random(7)
        shared = [draw.gauss(0, math.sqrt(rho)) for _ in range(4000)]
        arm, base = (by_seed(*(s + draw.gauss(0, own) for s in shared)) for _ in range(2))
        found = pairs(arm, base)
        assert found is not None
        assert found.gain is not None
        print(f"planted ρ {rho}: ρ {found.rho:.3f}, gain {found.gain:.3f}, expected {1 / math.sqrt(1 - rho):.3f}")
        assert found.rho == pytest.approx(rho, abs=0.04)
        assert found.gain == pytest.approx(1 / math.sqrt(1 - rho), rel=0.05)


def test_pairing_that_hurts_has_a_gain_below_1() -> None:
    found = pairs(by_seed(1.0, 2.0, 3.1), by_seed(3.0, 2.0, 1.0))
    assert found is not None
    assert found.rho == pytest.approx(-1, abs=0.01)
    assert found.gain == pytest.approx(1 / math.sqrt(2), rel=0.01)


def test_what_pairs_cannot_know_is_none() -> None:
    assert pairs({1: 2.0}, {2: 2.0}) is None
    one, two = pairs({1: 2.0}, {1: 2.5}), pairs(by_seed(2.0, 3.0), by_seed(2.5, 2.5))
    assert one is not None
    assert (one.n, one.mean, one.seeds) == (1, -0.5, (1,))
    assert {one.interval, one.p, one.p_permutation, one.sd_paired, one.sd_unpaired, one.rho, one.gain} == {None}
    assert two is not None
    assert (two.rho, two.gain, two.p_permutation) == (None, 1.0, 1.0)
    shifted = pairs(by_seed(2.1, 3.3, 4.7), by_seed(2.0, 3.2, 4.6))
    assert shifted is not None
    assert shifted.gain is None, "differences that are equal but for rounding"
    constant = pairs(by_seed(1.0, 2.0, 4.0), by_seed(1.0, 1.0, 1.0))
    assert constant is not None
    assert (constant.rho, constant.gain) == (None, 1.0)
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not a finite number"):
            pairs(by_seed(1.0, bad), by_seed(1.0, 2.0))


def test_holm_multiplies_the_smallest_by_all_and_the_others_by_fewer() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.04, None, 0.01]) == [0.04, None, 0.02]
    assert holm([0.7, 0.9]) == [1.0, 1.0]
    assert holm([0.02, 0.021]) == [0.04, 0.04], "never below that of a smaller p"
    assert holm([]) == []
    for bad in (math.nan, -0.1, 1.1):
        with pytest.raises(ValueError, match="not a probability"):
            holm([0.5, bad])


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 20, 300])
@pytest.mark.parametrize(("alpha", "power"), [(0.05, 0.8), (0.005, 0.9)])
def test_the_smallest_effect_that_can_be_found_has_just_that_power(n: int, alpha: float, power: float) -> None:
    found = minimum_detectable_effect(0.3, n, alpha, power)
    assert found is not None
    critical, shift = stats.t.isf(alpha / 2, n - 1), found / 0.3 * math.sqrt(n)
    # Of a normal over an independent χ, not of the noncentral t: integrated over χ².
    error = stats.chi2(n - 1).expect(lambda x: stats.norm.sf(critical * math.sqrt(x / (n - 1)) - shift), epsabs=1e-9)
    assert error == pytest.approx(power, abs=1e-5)


def test_the_smallest_effect_is_that_of_the_published_tables() -> None:
    # Cohen (1988), one-sample t, two-sided .05, power .80: d = .5 needs 34, d = .8 needs 15 (14.3 and 33.4 before rounding).
    assert minimum_detectable_effect(1.0, 34) == pytest.approx(0.495, abs=0.002)
    assert minimum_detectable_effect(1.0, 15) == pytest.approx(0.778, abs=0.002)
    assert minimum_detectable_effect(0.0, 4) == 0.0
    assert minimum_detectable_effect(None, 4) is None
    assert minimum_detectable_effect(1.0, 1) is None
    for sd, alpha, power in (
        (-1.0, 0.05, 0.8),
        (math.nan, 0.05, 0.8),
        (1.0, 0.0, 0.8),
        (1.0, 0.9, 0.8),
        (1.0, 0.05, 1.0),
    ):
        with pytest.raises(ValueError, match=r"deviation|finite|alpha"):
            minimum_detectable_effect(sd, 4, alpha, power)


@pytest.mark.parametrize(("effect", "have"), [(0.5, 4), (-0.5, 4), (0.8, 2), (0.2, 10), (30.0, 4), (0.031, 3)])
def test_so_many_seeds_more_resolve_an_effect_and_one_fewer_does_not(effect: float, have: int) -> None:
    more = seeds_to_resolve(effect, 1.0, have)
    assert more is not None
    assert t_test_power(effect, 1.0, have + more) >= 0.8
    detectable = minimum_detectable_effect(1.0, have + more)
    assert detectable is not None
    assert detectable <= abs(effect)
    if more:
        assert t_test_power(effect, 1.0, have + more - 1) < 0.8


def test_seeds_that_cannot_be_counted_are_none() -> None:
    assert seeds_to_resolve(0.5, 1.0, 4) == 34 - 4
    assert seeds_to_resolve(1e-4, 1.0, 4) is None
    assert seeds_to_resolve(0.5, 1.0, 4, most=29) is None
    assert seeds_to_resolve(0.5, 1.0, 4, most=30) == 30
    assert seeds_to_resolve(0.0, 1.0, 4) is None
    assert seeds_to_resolve(0.5, None, 4) is None
    assert seeds_to_resolve(0.5, 1.0, 1) is None
    assert seeds_to_resolve(0.5, 0.0, 4) == 0
    with pytest.raises(ValueError, match="finite"):
        seeds_to_resolve(math.nan, 1.0, 4)


def test_mcnemar_is_the_binomial_test_of_the_answers_that_differ() -> None:
    arm = [True] * 9 + [False] * 2 + [True] * 50 + [False] * 30
    base = [False] * 9 + [True] * 2 + [True] * 50 + [False] * 30
    # 2 (C(11,0) + C(11,1) + C(11,2)) / 2^11
    assert mcnemar(arm, base) == McNemar(9, 2, pytest.approx(2 * 67 / 2048))
    assert mcnemar(arm, arm) == McNemar(0, 0, 1.0)
    assert mcnemar([], []) == McNemar(0, 0, 1.0)
    assert mcnemar([1, 0], [0, 0]) == McNemar(1, 0, 1.0)
    with pytest.raises(ValueError, match="1 answers beside 2"):
        mcnemar([True], [True, False])
    with pytest.raises(ValueError, match="neither right nor wrong: nan"):
        mcnemar([math.nan], [True])
