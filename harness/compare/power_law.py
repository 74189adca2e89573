"""What a difference of losses is worth in compute, by a power law of loss over compute."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.compare.statistics import SEED, finite

EXPONENTS = (1e-3, 10.0)
"""Where exponents are sought. One at an end has run away: the losses do not bend as a power law does."""


@dataclass(frozen=True)
class PowerLaw:
    """L(C) = floor + scale · C^−exponent, with floor ≥ 0 and exponent > 0, in the units of the losses and of C."""

    floor: float
    scale: float | None
    """None where only ratios of compute are known."""
    exponent: float
    borrowed: str = ""
    """Whose constants they are, where they were not fitted to the losses at hand."""

    def compute_for(self, loss: float) -> float:
        """C at which the law has this loss; inf at or below the floor. Raises ValueError for a law without scale and
        for a loss that is not finite."""
        if self.scale is None:
            raise ValueError("the law has no scale: it knows ratios of compute only")
        above = finite([loss])[0] - self.floor
        return (self.scale / above) ** (1 / self.exponent) if above > 0 else math.inf


BORROWED = PowerLaw(1.6, None, 0.0941, borrowed="marin")
"""Constants of marin's family of models (nats per token of its tokenizer; issue #7409 of marin-community/marin). Not
fitted to anything here: losses in other units, bytes for one, have another floor."""


def fit_power_law(compute: Sequence[float], losses: Sequence[float]) -> PowerLaw | None:
    """Least squares in the losses over all three constants. A budget may come several times. None for fewer than three
    distinct budgets, and where no power law fits: the losses do not fall, or the exponent runs away.

    Raises ValueError for unequal lengths, for values that are not finite, and for budgets that are not above 0.
    """
    if len(compute) != len(losses):
        raise ValueError(f"{len(compute)} budgets beside {len(losses)} losses")
    if any(budget <= 0 for budget in finite(compute)):
        raise ValueError("a budget that is not above 0")
    finite(losses)
    if len(set(compute)) < 3:
        return None
    floor, scale, exponent = _fit(np.asarray(compute, np.float64), np.asarray([losses], np.float64))
    if math.isnan(exponent[0]):
        return None
    return PowerLaw(float(floor[0]), float(scale[0]), float(exponent[0]))


def _fit(compute_R: NDArray[np.float64], losses_BR: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """(floor, scale, exponent) of B ladders at once, NaN where none fits. At a given exponent the law is linear, so
    that floor and scale are a regression and only the exponent is sought (variable projection): on a grid, then on ever
    finer ones about the best."""
    middle = np.log(compute_R).mean()
    logs_R11, losses_RB1 = (np.log(compute_R) - middle)[:, None, None], losses_BR.T[:, :, None]
    low_B, high_B = (np.full(len(losses_BR), math.log(end)) for end in EXPONENTS)
    places = np.linspace(0.0, 1.0, 65)
    for _ in range(8):
        exponent_BG = np.exp(low_B[:, None] + (high_B - low_B)[:, None] * places)
        floor_BG, scale_BG, error_BG = _regress(np.exp(-exponent_BG * logs_R11), losses_RB1)
        best_B1 = error_BG.argmin(1)[:, None]
        step_B = (high_B - low_B) * (places[1] - places[0])
        centre_B = np.log(np.take_along_axis(exponent_BG, best_B1, 1)[:, 0])
        low_B = np.maximum(centre_B - step_B, math.log(EXPONENTS[0]))
        high_B = np.minimum(centre_B + step_B, math.log(EXPONENTS[1]))
        places = np.linspace(0.0, 1.0, 17)
    floor_B, scale_B, exponent_B, error_B = (
        np.take_along_axis(found_BG, best_B1, 1)[:, 0] for found_BG in (floor_BG, scale_BG, exponent_BG, error_BG)
    )
    ran_away_B = (exponent_B < EXPONENTS[0] * 1.001) | (exponent_B > EXPONENTS[1] / 1.001) | ~np.isfinite(error_B)
    scale_B = scale_B * np.exp(exponent_B * middle)
    return tuple(np.where(ran_away_B, math.nan, found_B) for found_B in (floor_B, scale_B, exponent_B))


def _regress(x_RBG: NDArray[np.float64], y_RB1: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """(floor, scale, squared error) of y = floor + scale·x with floor ≥ 0; the error is inf where y does not fall
    beyond rounding."""
    x_mean, y_mean = x_RBG.mean(0), y_RB1.mean(0)
    x_centred = x_RBG - x_mean
    scale = (x_centred * y_RB1).sum(0) / (x_centred**2).sum(0)
    floor = y_mean - scale * x_mean
    sunk = floor < 0
    scale = np.where(sunk, (x_RBG * y_RB1).sum(0) / (x_RBG**2).sum(0), scale)
    floor = np.where(sunk, 0.0, floor)
    error = ((y_RB1 - floor - scale * x_RBG) ** 2).sum(0)
    falls = scale * (x_RBG.max(0) - x_RBG.min(0)) > 1e-12 * np.abs(y_RB1).max(0)
    return floor, scale, np.where(falls, error, math.inf)


def equivalent_gain(law: PowerLaw, baseline_loss: float, arm_loss: float) -> float:
    """How many times the compute the baseline would need for the arm's loss, by the law: C(arm_loss) /
    C(baseline_loss) = ((baseline_loss − floor) / (arm_loss − floor))^(1/exponent). Below 1 where the arm is worse, inf
    where its loss is at or below the floor.

    Raises ValueError where a loss is not finite, or the baseline's own is at or below the floor: the law is not about
    it.
    """
    finite([baseline_loss, arm_loss])
    if baseline_loss <= law.floor:
        raise ValueError(f"the baseline's loss {baseline_loss:g} is not above the law's floor {law.floor:g}")
    if arm_loss <= law.floor:
        return math.inf
    return _exp(math.log((baseline_loss - law.floor) / (arm_loss - law.floor)) / law.exponent)


def _exp(exponent: float) -> float:
    return math.exp(exponent) if exponent < 700 else math.inf


def gain_interval(
    ladder: Mapping[float, Mapping[int, float]],
    budget: float,
    arm: Mapping[int, float],
    throughput_ratio: float = 1.0,
    law: PowerLaw | None = None,
    confidence: float = 0.95,
    resamples: int = 2_000,
) -> tuple[float, tuple[float, float] | None] | None:
    """`equivalent_gain` of an arm trained at `budget`, times its throughput over the baseline's, and its interval over
    seeds. `ladder`: budget -> seed -> the baseline's loss; `arm`: seed -> loss. Without `law` one is fitted to the
    ladder, and again in every resample; with one only the losses vary, and only the ladder's rung at `budget` is read.

    Counted are the seeds that the arm and all those rungs have. They are resampled jointly, so that what a seed does
    to all runs cancels. Drawing 4 or 8 seeds with replacement covers 87% at best, for then no mean is outside of the
    seeds': each seed's deviation gets a normal weight instead, and all of them a common factor √((n−1)/χ²), by which
    the interval of a mean is exactly Student's.
    Simulated coverage of 95%, with the law refitted: 93 to 95%.

    A resample without a law, or whose law has its floor above the baseline, counts as infinite on the side on which
    its arm is: inf where it is better than the baseline, 0 where it is worse. The interval is None for one seed; all is
    None where no seed is common, or the mean losses have no law or one whose floor is above the baseline.

    Raises ValueError for a budget that is no rung, for losses that are not finite, and for a ratio that is not above 0.
    """
    if budget not in ladder:
        raise ValueError(f"no rung at {budget:g}; there are: {', '.join(f'{rung:g}' for rung in sorted(ladder))}")
    if not 0 < throughput_ratio < math.inf:
        raise ValueError(f"not a ratio of throughputs: {throughput_ratio}")
    rungs = sorted(ladder) if law is None else [budget]
    seeds = sorted(set.intersection(set(arm), *(set(ladder[rung]) for rung in rungs)))
    if not seeds:
        return None
    losses_SR = np.array([finite([*(ladder[rung][s] for rung in rungs), arm[s]]) for s in seeds])
    mean_R = losses_SR.mean(0)
    own, place = law or fit_power_law(rungs, mean_R[:-1].tolist()), rungs.index(budget)
    if own is None or mean_R[place] <= own.floor:
        return None
    point = throughput_ratio * equivalent_gain(own, float(mean_R[place]), float(mean_R[-1]))
    n = len(seeds)
    if n < 2:
        return point, None
    generator = np.random.default_rng(SEED)
    weight_BS = generator.normal(size=(resamples, n)) / np.sqrt(n * generator.chisquare(n - 1, (resamples, 1)))
    drawn_BR = mean_R + weight_BS @ (losses_SR - mean_R)
    floor_B, exponent_B = np.full(resamples, own.floor), np.full(resamples, own.exponent)
    if law is None:
        floor_B, _, exponent_B = _fit(np.asarray(rungs, np.float64), drawn_BR[:, :-1])
    baseline_B, arm_B = drawn_BR[:, place], drawn_BR[:, -1]
    log_B = np.where(arm_B < baseline_B, math.inf, -math.inf)
    # NaN, where there is no law, is above nothing.
    told_B = (baseline_B > floor_B) & (arm_B > floor_B)
    ratio_B = (baseline_B - floor_B)[told_B] / (arm_B - floor_B)[told_B]
    log_B[told_B] = np.log(ratio_B) / exponent_B[told_B]
    log_B.sort()
    cut = int((1 - confidence) / 2 * resamples)
    return point, (throughput_ratio * _exp(float(log_B[cut])), throughput_ratio * _exp(float(log_B[-1 - cut])))
