"""What the statistics promise, held against simulated studies: coverage, errors of a family, power. Figures are printed.

A study is what suites make: losses of a seed share its effect, so that an arm correlates with its baseline by ρ, and all
arms with each other through the baseline.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats

from harness.compare.bootstrap import document_interval, hierarchical_interval, median_ratio
from harness.compare.power_law import PowerLaw, gain_interval
from harness.compare.statistics import (
    Pairs,
    holm,
    minimum_detectable_effect,
    paired_difference,
    pairs,
    seeds_to_resolve,
)
from harness.compare.verdicts import best_group, verdicts


def studies(count: int, arms: int, n: int, rho: float, sigma: float = 0.01, seed: int = 0) -> np.ndarray:
    """Losses (count, 1 + arms, n) without effects, the baseline first; sigma is the standard deviation of one loss."""
    generator = np.random.default_rng(seed)
    shared = generator.normal(0, sigma * math.sqrt(rho), (count, 1, n))
    return 3.0 + shared + generator.normal(0, sigma * math.sqrt(1 - rho), (count, 1 + arms, n))


def by_seed(losses: np.ndarray) -> dict[int, float]:
    return dict(enumerate(losses.tolist()))


def families(losses: np.ndarray) -> list[list[Pairs | None]]:
    """`pairs` of every arm in every study, all at once."""
    differences = losses[:, 1:] - losses[:, :1]
    n = differences.shape[-1]
    means, sds = differences.mean(-1), differences.std(-1, ddof=1)
    ps = 2 * special.stdtr(n - 1, -np.abs(means) / sds * math.sqrt(n))
    unread = {"seeds": tuple(range(n)), "p_permutation": None, "sd_unpaired": None, "rho": None, "gain": None}
    return [
        [Pairs(n, mean, None, p, sd_paired=sd, **unread) for mean, sd, p in zip(*study, strict=True)]
        for study in zip(means.tolist(), sds.tolist(), ps.tolist(), strict=True)
    ]


def assert_about(share: float, expected: float, count: int, what: str) -> None:
    """Within three standard errors of the simulation."""
    print(f"{what}: {100 * share:.1f}% of {count}")
    assert abs(share - expected) < 3 * math.sqrt(expected * (1 - expected) / count), what


def assert_at_most(share: float, expected: float, count: int, what: str) -> None:
    print(f"{what}: {100 * share:.1f}% of {count}")
    assert share < expected + 2 * math.sqrt(expected * (1 - expected) / count), what


@pytest.mark.parametrize(
    ("effect", "sigma", "rho", "n"),
    [(0.0, 0.01, 0.9, 3), (0.02, 0.01, 0.0, 4), (-0.005, 0.0014, 0.5, 5), (0.0, 0.1, -0.5, 8), (1.0, 0.03, 0.96, 12)],
)
def test_the_paired_t_interval_covers_95_percent(effect: float, sigma: float, rho: float, n: int) -> None:
    count, hits = 2500, 0
    generator = np.random.default_rng(n)
    both = generator.multivariate_normal([3 + effect, 3], sigma**2 * np.array([[1, rho], [rho, 1]]), (count, n))
    for study in both:
        found = paired_difference(by_seed(study[:, 0]), by_seed(study[:, 1]))
        assert found is not None
        assert found.interval is not None
        hits += found.interval[0] <= effect <= found.interval[1]
    assert 0.93 < hits / count < 0.97
    assert_about(
        hits / count, 0.95, count, f"coverage of the paired t interval, effect {effect}, σ {sigma}, ρ {rho}, n {n}"
    )


@pytest.mark.parametrize(("K", "tails"), [(15, "normal"), (60, "normal"), (60, "heavy"), (200, "skewed")])
def test_the_document_interval_covers_95_percent(K: int, tails: str) -> None:
    count, hits, generator = 1000, 0, np.random.default_rng(K)
    draws = {
        "normal": generator.normal(0, 1, (count, K)),
        "heavy": generator.standard_t(4, (count, K)),
        "skewed": generator.gamma(2.0, 1.0, (count, K)) - 2.0,
    }
    for differences in draws[tails]:
        low, high = document_interval(differences, resamples=500) or (math.nan, math.nan)
        hits += low <= 0 <= high
    print(f"coverage of the document interval, {K} {tails} documents: {100 * hits / count:.1f}% of {count}")
    assert 0.93 < hits / count < 0.97


@pytest.mark.parametrize("S", [4, 8])
@pytest.mark.parametrize(
    ("seeds", "documents", "rest"),
    [(0.1, 1, 1), (0.05, 0.5, 1), (1, 1, 1), (0, 1, 1), (0.1, 0, 1), (1, 0, 1), (0, 0, 1), (0, 1, 0), (1, 0, 0)],
    ids=lambda value: str(value),
)
def test_the_interval_over_seeds_and_documents_covers_95_percent(
    S: int, seeds: float, documents: float, rest: float
) -> None:
    """`seeds`, `documents`, `rest`: standard deviations of what a seed, a document and each pair of them add."""
    K, count, hits = 200, 2500, 0
    generator = np.random.default_rng([S, *(int(100 * sd) for sd in (seeds, documents, rest))])
    for _ in range(count):
        table = generator.normal(0, seeds, (S, 1)) + generator.normal(0, documents, (1, K))
        low, high = hierarchical_interval(table + generator.normal(0, rest, (S, K))) or (math.nan, math.nan)
        hits += low <= 0 <= high
    print(f"coverage over {S} seeds ({seeds}) and {K} documents ({documents}), rest {rest}: {100 * hits / count:.1f}%")
    # A simulation of 2500 is itself uncertain by 0.4.
    assert 0.93 - 0.008 < hits / count < 0.97 + 0.008


@pytest.mark.parametrize(("rounds", "shared"), [(5, 0.0), (9, 0.03), (20, 0.0)])
def test_the_interval_of_a_ratio_of_medians_covers_at_least_about_95_percent(rounds: int, shared: float) -> None:
    count, hits, generator = 1000, 0, np.random.default_rng(rounds)
    slow = np.exp(generator.normal(0, shared, (count, rounds)))
    arm, baseline = (slow * np.exp(generator.normal(0, 0.02, (count, rounds))) for _ in range(2))
    for a, b in zip(1.2 * arm, baseline, strict=True):
        _, interval = median_ratio(a, b, resamples=400)
        assert interval is not None
        hits += interval[0] <= 1.2 <= interval[1]
    print(f"coverage of the ratio of medians, {rounds} rounds: {100 * hits / count:.1f}% of {count}")
    assert 0.92 < hits / count < 0.995


@pytest.mark.parametrize(("seeds", "gain", "shared", "own"), [(4, 1.3, 0.02, 0.002), (8, 0.9, 0.0, 0.004)])
def test_the_interval_of_a_gain_covers_95_percent(seeds: int, gain: float, shared: float, own: float) -> None:
    law, count, hits, generator = PowerLaw(2.0, 5e4, 0.35), 500, 0, np.random.default_rng(seeds)
    budgets = [1e15 * 3.0**k for k in range(4)]
    means = [law.floor + 5e4 * c**-law.exponent for c in (*budgets, budgets[-1] * gain)]
    losses = np.array(means)[None, :, None] + generator.normal(0, shared, (count, 1, seeds))
    losses = losses + generator.normal(0, own, (count, 5, seeds))
    for study in losses:
        *ladder, arm = (by_seed(run) for run in study)
        found = gain_interval(dict(zip(budgets, ladder, strict=True)), budgets[-1], arm, resamples=200)
        assert found is not None
        assert found[1] is not None
        hits += found[1][0] <= gain <= found[1][1]
    assert_about(hits / count, 0.95, count, f"coverage of the gain {gain} over {seeds} seeds, law refitted")


def test_studies_are_judged_by_the_pairs_that_the_harness_makes() -> None:
    (study,), ((first, second),) = (losses := studies(1, 2, 5, 0.8)), families(losses)
    for arm, quick in ((1, first), (2, second)):
        found = pairs(by_seed(study[arm]), by_seed(study[0]))
        assert found is not None
        assert quick is not None
        assert (quick.n, quick.mean, quick.p, quick.sd_paired) == pytest.approx(
            (5, found.mean, found.p, found.sd_paired)
        )


@pytest.mark.parametrize(("arms", "n", "rho"), [(2, 4, 0.9), (6, 4, 0.5), (12, 8, 0.9)])
def test_holm_keeps_the_error_of_a_family_and_no_correction_does_not(arms: int, n: int, rho: float) -> None:
    count, plain, corrected = 30_000 // arms, 0, 0
    for family in families(studies(count, arms, n, rho, seed=arms)):
        ps = [one.p for one in family if one is not None]
        plain += min(p for p in ps if p is not None) <= 0.05
        corrected += min(p for p in holm(ps) if p is not None) <= 0.05
    assert plain / count > 0.06 if arms > 2 else plain > corrected
    print(f"{arms} arms, uncorrected: {100 * plain / count:.1f}%")
    assert_at_most(corrected / count, 0.05, count, f"any false difference among {arms} arms, n {n}, ρ {rho}, Holm")


@pytest.mark.parametrize(("n", "alpha", "power"), [(3, 0.05, 0.8), (5, 0.05, 0.8), (10, 0.05, 0.9), (5, 0.01, 0.5)])
def test_the_smallest_effect_that_can_be_found_is_right_within_a_tenth(n: int, alpha: float, power: float) -> None:
    """The effect at which simulated power is as asked, from studies that all have one noise and differ in effect."""
    count, sigma, rho = 40_000, 0.01, 0.8
    sd = sigma * math.sqrt(2 * (1 - rho))
    claimed = minimum_detectable_effect(sd, n, alpha, power)
    assert claimed is not None
    losses = studies(count, 1, n, rho, sigma, seed=n)
    differences = losses[:, 1] - losses[:, 0]
    error = differences.std(1, ddof=1) / math.sqrt(n)
    critical = stats.t.isf(alpha / 2, n - 1)
    effects = np.linspace(0.7, 1.3, 61) * claimed
    found = [(np.abs(differences.mean(1) + effect) > critical * error).mean() for effect in effects]
    simulated = float(np.interp(power, found, effects))
    print(
        f"n {n}, α {alpha}, power {power}: claimed {claimed:.5f}, simulated {simulated:.5f}, ratio {claimed / simulated:.3f}"
    )
    assert claimed / simulated == pytest.approx(1, abs=0.03)


def test_the_seeds_that_are_asked_for_give_the_power() -> None:
    effect, sd, have, count = 0.02, 0.02, 4, 40_000
    more = seeds_to_resolve(effect, sd, have)
    assert more is not None
    power = []
    for n in (have, have + more - 1, have + more):
        differences = np.random.default_rng(n).normal(effect, sd, (count, n))
        t = differences.mean(1) / differences.std(1, ddof=1) * math.sqrt(n)
        power.append(float((np.abs(t) > stats.t.isf(0.025, n - 1)).mean()))
    print(
        f"power with {have} seeds {power[0]:.3f}, with {have + more - 1} {power[1]:.3f}, with {have + more} {power[2]:.3f}"
    )
    assert power[0] < power[1] < 0.8 + 0.006
    assert power[2] > 0.8 - 0.006


@pytest.mark.parametrize(("arms", "n", "margin"), [(1, 4, 0.01), (5, 5, 0.002), (5, 5, 0.01), (5, 8, 0.02)])
def test_arms_without_an_effect_are_called_better_or_worse_in_at_most_5_percent_of_families(
    arms: int, n: int, margin: float
) -> None:
    count, wrong, equivalent = 20_000 // arms, 0, 0
    for family in families(studies(count, arms, n, rho=0.8, seed=arms + n)):
        words = [judged.verdict for judged in verdicts(family, margin)]
        wrong += bool({"better", "worse"} & set(words))
        equivalent += words.count("equivalent")
    print(f"equivalent, rightly: {100 * equivalent / count / arms:.1f}% of arms")
    assert_at_most(
        wrong / count, 0.05, count, f"better or worse without an effect, {arms} arms, n {n}, margin {margin}"
    )


@pytest.mark.parametrize(("arms", "n", "margin"), [(1, 5, 0.012), (5, 5, 0.03), (5, 8, 0.012)])
def test_effects_of_the_margin_are_called_equivalent_in_at_most_5_percent_of_families(
    arms: int, n: int, margin: float
) -> None:
    count, wrong, alone = 20_000 // arms, 0, 0
    losses = studies(count, arms, n, rho=0.8, seed=arms + n)
    losses[:, 1:] += margin * np.resize([1, -1], (arms, 1))
    for family in families(losses):
        words = [judged.verdict for judged in verdicts(family, margin)]
        wrong += "equivalent" in words
        alone += words[0] == "equivalent"
    assert_at_most(alone / count, 0.05, count, f"one arm whose effect is the margin {margin} called equivalent")
    assert_at_most(
        wrong / count, 0.05, count, f"any of {arms} arms whose effect is the margin {margin} called equivalent"
    )


@pytest.mark.parametrize(("arms", "n"), [(3, 4), (8, 5)])
def test_the_truly_best_arm_is_seldom_outside_of_the_best_group(arms: int, n: int) -> None:
    count, out, kept = 500, 0, 0
    losses = studies(count, arms - 1, n, rho=0.9, seed=arms)
    losses[:, 0] -= 0.001
    losses[:, -1] += 0.05
    for study in losses:
        group = best_group({str(arm): by_seed(seeds) for arm, seeds in enumerate(study)})
        out += "0" not in group
        kept += str(arms - 1) in group
    print(f"an arm that is plainly worse, in the best group of {arms}, n {n}: {100 * kept / count:.1f}%")
    assert kept / count < 0.2
    assert_at_most(out / count, 0.05, count, f"the truly best of {arms} arms not in the best group, n {n}")
