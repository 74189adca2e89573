"""Means, paired differences and their tests over seeds, and how many seeds a difference needs. scipy does the
distributions. Several arms at once are judged in verdicts.py."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

SEED = 20240919
"""Of everything random in the statistics: the same numbers give the same intervals."""
PERMUTATIONS = 9_999
"""Sign flips that are drawn where the 2^n of them are more."""


@dataclass(frozen=True)
class Estimate:
    """A mean over `n` seeds; `interval` is its 95% t interval and `p` the two-sided p of mean zero, both None where
    n < 2 leaves nothing to estimate them from."""

    n: int
    mean: float
    interval: tuple[float, float] | None
    p: float | None = None


@dataclass(frozen=True, kw_only=True)
class Pairs(Estimate):
    """The differences arm − baseline of `n` seeds: their mean, paired 95% t interval and two-sided t p, and what
    pairing bought. All but n, mean and seeds are None for n = 1."""

    seeds: tuple[int, ...]
    p_permutation: float | None
    """Two-sided, from flipping signs of differences: exact up to 13 seeds, then of drawn flips with the +1 correction
    (scipy.stats.permutation_test). It is never below 2^(1−n): five seeds cannot reach .05, nor seven .01."""
    sd_paired: float | None
    """Of the differences."""
    sd_unpaired: float | None
    """That differences of independent runs would have: √(s²_arm + s²_baseline) over the same seeds."""
    rho: float | None
    """Pearson's correlation of the two arms over the seeds; None also for n = 2 and for an arm without spread."""
    gain: float | None
    """sd_unpaired / sd_paired. Above 1 where pairing helps, below 1 where it hurts; None also where the differences
    have no spread beyond rounding."""


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Mean with Student's t interval. Values that are all equal give an interval of zero width and p 0 or 1.

    Raises ValueError without values.
    """
    if not values:
        raise ValueError("no values")
    n, mean = len(values), statistics.mean(values)  # exact, so that equal values have no spread
    if n < 2:
        return Estimate(n, mean, None)
    error = statistics.stdev(values, mean) / math.sqrt(n)
    half = float(special.stdtrit(n - 1, 0.5 + confidence / 2)) * error
    if error == 0.0:
        return Estimate(n, mean, (mean, mean), 1.0 if mean == 0.0 else 0.0)
    p = 2 * float(special.stdtr(n - 1, -abs(mean / error)))
    return Estimate(n, mean, (mean - half, mean + half), p)


def paired_difference(
    arm: Mapping[int, float], baseline: Mapping[int, float], confidence: float = 0.95
) -> Estimate | None:
    """Mean of arm − baseline over the seeds that both have, with the paired t interval and p; None without any."""
    seeds = sorted(arm.keys() & baseline.keys())
    return mean_interval([arm[seed] - baseline[seed] for seed in seeds], confidence) if seeds else None


def pairs(arm: Mapping[int, float], baseline: Mapping[int, float]) -> Pairs | None:
    """`paired_difference` with the permutation test and what pairing bought; None without a common seed.

    Raises ValueError for a number that is not finite at a common seed.
    """
    seeds = sorted(arm.keys() & baseline.keys())
    mine, theirs = finite(arm[seed] for seed in seeds), finite(baseline[seed] for seed in seeds)
    if not seeds:
        return None
    differences = [a - b for a, b in zip(mine, theirs, strict=True)]
    found = mean_interval(differences)
    sd_paired = sd_unpaired = rho = gain = flipped = None
    if found.n > 1:
        variances = statistics.variance(mine), statistics.variance(theirs)
        sd_paired, sd_unpaired = statistics.stdev(differences), math.sqrt(sum(variances))
        rounding = 4 * math.ulp(max(map(abs, mine + theirs)))
        gain = sd_unpaired / sd_paired if sd_paired > rounding else None
        rho = statistics.correlation(mine, theirs) if found.n > 2 and min(variances) > 0 else None
        flipped = _sign_flip_p(differences)
    return Pairs(
        found.n, found.mean, found.interval, found.p,
        seeds=tuple(seeds), p_permutation=flipped, sd_paired=sd_paired, sd_unpaired=sd_unpaired, rho=rho, gain=gain,
    )  # fmt: skip


def _sign_flip_p(differences: list[float]) -> float:
    from scipy import stats

    return float(
        stats.permutation_test(
            (np.asarray(differences),), np.mean, permutation_type="samples", vectorized=True,
            n_resamples=PERMUTATIONS, random_state=np.random.default_rng(SEED),
        ).pvalue
    )  # fmt: skip


def finite(values: Iterable[float]) -> list[float]:
    """The values as a list. Raises ValueError where one is NaN or infinite."""
    known = list(values)
    for value in known:
        if not math.isfinite(value):
            raise ValueError(f"not a finite number: {value}")
    return known


def geometric_mean(values: Sequence[float]) -> float:
    """Of positive ratios."""
    return math.exp(math.fsum(math.log(value) for value in values) / len(values))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """p values adjusted for being several (Holm 1979), in the order given: rejecting those at most α keeps the chance
    of any false rejection at most α, however the tests depend on each other. None stays None and does not count.

    Raises ValueError for a p outside of [0, 1], NaN included.
    """
    known = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    if odd := [p for p, _ in known if not 0 <= p <= 1]:
        raise ValueError(f"not a probability: {odd[0]}")
    adjusted: list[float | None] = [None] * len(ps)
    least = 0.0
    for rank, (p, place) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * p))
        adjusted[place] = least
    return adjusted


def t_test_power(effect: float, sd: float, n: int, alpha: float = 0.05) -> float:
    """Chance that a two-sided paired t test over n ≥ 2 seeds finds a mean difference `effect` where differences have
    the standard deviation sd > 0 (noncentral t)."""
    shift = abs(effect) / sd * math.sqrt(n)
    critical = special.stdtrit(n - 1, 1 - alpha / 2)
    below, wrong_sign = special.nctdtr(n - 1, shift, [critical, -critical])
    # scipy's noncentral t is NaN now and then where the chance vanishes, and for alpha ≥ 1e-4 nowhere else.
    return float(1 - np.nan_to_num(below) + np.nan_to_num(wrong_sign))


def minimum_detectable_effect(sd: float | None, n: int, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """Smallest |mean difference| that a two-sided paired t test over n seeds finds with this power, where paired
    differences have the standard deviation sd; None where n < 2 or sd is unknown, 0 where sd is 0.

    It takes sd for known: an sd from few seeds makes it as uncertain as itself. Raises ValueError for an sd that is
    negative or not finite, and unless 1e-4 ≤ alpha < power < 1.
    """
    _check(sd, alpha, power)
    if sd is None or n < 2:
        return None
    from scipy import optimize

    most = 1.0
    while t_test_power(most, 1.0, n, alpha) < power:
        most *= 2
    return sd * float(optimize.brentq(lambda effect: t_test_power(effect, 1.0, n, alpha) - power, 0.0, most))


def seeds_to_resolve(
    effect: float, sd: float | None, have: int, alpha: float = 0.05, power: float = 0.8, most: int = 10_000
) -> int | None:
    """How many seeds more than `have` let a two-sided paired t test find a true mean difference `effect` with this
    power; 0 where they are enough, None where more than `most` would be needed, have < 2 or sd is unknown.

    A difference that was found in few seeds is no true one: its number is a plan, not a promise. Raises ValueError as
    `minimum_detectable_effect` does, and for an effect that is not finite.
    """
    _check(sd, alpha, power)
    if sd is None or have < 2 or finite([effect]) == [0]:
        return None
    if sd == 0:
        return 0
    more = bisect.bisect_left(
        range(most + 1), True, key=lambda extra: t_test_power(effect, sd, have + extra, alpha) >= power
    )
    return more if more <= most else None


def _check(sd: float | None, alpha: float, power: float) -> None:
    if not 1e-4 <= alpha < power < 1:
        raise ValueError(f"not 1e-4 ≤ alpha < power < 1: alpha {alpha}, power {power}")
    if sd is not None and finite([sd])[0] < 0:
        raise ValueError(f"a negative standard deviation: {sd}")


@dataclass(frozen=True)
class McNemar:
    """Two arms' answers to the same questions where they differ: `b` only the arm has right, `c` only the baseline; `p`
    is the exact two-sided p of b and c being equally likely, 1 where there are none."""

    b: int
    c: int
    p: float


def mcnemar(arm_right: Sequence[bool], baseline_right: Sequence[bool]) -> McNemar:
    """Exact test (McNemar 1947; binomial) of paired answers, question by question.

    Raises ValueError where the lengths differ or an answer is neither right nor wrong (NaN).
    """
    if len(arm_right) != len(baseline_right):
        raise ValueError(f"{len(arm_right)} answers beside {len(baseline_right)}")
    if odd := [answer for answer in (*arm_right, *baseline_right) if answer not in (False, True)]:
        raise ValueError(f"neither right nor wrong: {odd[0]}")
    from scipy import stats

    b = sum(bool(mine) and not theirs for mine, theirs in zip(arm_right, baseline_right, strict=True))
    c = sum(bool(theirs) and not mine for mine, theirs in zip(arm_right, baseline_right, strict=True))
    return McNemar(b, c, float(stats.binomtest(b, b + c).pvalue) if b + c else 1.0)
