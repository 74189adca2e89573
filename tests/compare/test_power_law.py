"""Power laws of loss over compute: planted ones are found, and gains in compute come with their uncertainty."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from harness.compare.power_law import BORROWED, PowerLaw, equivalent_gain, fit_power_law, gain_interval

BUDGETS = [1e15 * 4.0**k for k in range(5)]
LAWS = [PowerLaw(1.6, 100.0, 0.0941), PowerLaw(0.0, 30.0, 0.07), PowerLaw(2.0, 5e4, 0.35), PowerLaw(1.0, 1e9, 0.7)]


def loss(law: PowerLaw, compute: float) -> float:
    assert law.scale is not None
    return law.floor + law.scale * compute**-law.exponent


@pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{law.floor}-{law.exponent}")
@pytest.mark.parametrize("rungs", [3, 5])
def test_a_planted_law_is_found(law: PowerLaw, rungs: int) -> None:
    found = fit_power_law(BUDGETS[:rungs], [loss(law, c) for c in BUDGETS[:rungs]])
    assert found is not None
    assert found.exponent == pytest.approx(law.exponent, rel=1e-5)
    assert found.floor == pytest.approx(law.floor, abs=1e-5)
    assert found.scale == pytest.approx(law.scale, rel=1e-3)
    assert found.compute_for(loss(law, 3e15)) == pytest.approx(3e15, rel=1e-4)


@pytest.mark.parametrize("start", range(4))
def test_with_noise_no_other_law_has_less_error(start: int) -> None:
    generator = np.random.default_rng(start)
    compute = np.repeat(BUDGETS, 3)
    losses = np.array([loss(LAWS[2], c) for c in compute]) + generator.normal(0, 0.01, len(compute))
    found = fit_power_law(compute.tolist(), losses.tolist())
    assert found is not None

    def residuals(x: np.ndarray) -> np.ndarray:
        return x[0] + np.exp(x[1]) * (compute / 1e16) ** -x[2] - losses

    best = min(
        (optimize.least_squares(residuals, [1.5, math.log(0.3), e], bounds=([0, -20, 1e-3], [9, 9, 10]), xtol=1e-14, ftol=1e-14)
         for e in (0.1, 0.4, 1.0)),
        key=lambda fit: fit.cost,
    )  # fmt: skip
    assert found.scale is not None
    ours = residuals(np.array([found.floor, math.log(found.scale * 1e16**-found.exponent), found.exponent]))
    assert (ours**2).sum() / 2 <= best.cost * (1 + 1e-9)
    assert found.exponent == pytest.approx(best.x[2], rel=1e-3)


def test_a_floor_below_0_is_none() -> None:
    concave = fit_power_law([1.0, 2.0, 4.0], [3.0, 2.9, 2.0])
    assert concave is not None
    assert concave.floor == 0.0


def test_losses_that_are_no_power_law_have_none() -> None:
    assert fit_power_law(BUDGETS[:2] * 3, [3.0, 2.0] * 3) is None, "two budgets do not tell a floor"
    assert fit_power_law([], []) is None
    assert fit_power_law([1.0, 2.0, 4.0], [2.0, 2.0, 2.0]) is None
    assert fit_power_law([1.0, 2.0, 4.0], [2.0, 2.1, 2.2]) is None
    assert fit_power_law([1.0, 2.0, 4.0], [3.0, 2.0, 2.0]) is None, "the exponent runs away"
    for compute, losses in (([1.0], []), ([1.0, math.nan], [1.0, 1.0]), ([1.0, 2.0], [1.0, math.inf]), ([0.0], [1.0])):
        with pytest.raises(ValueError, match=r"beside|finite|above 0"):
            fit_power_law(compute, losses)


def test_a_gain_is_the_ratio_of_compute() -> None:
    law = LAWS[2]
    base, better = loss(law, 1e16), loss(law, 2.5e16)
    assert equivalent_gain(law, base, better) == pytest.approx(2.5)
    assert equivalent_gain(law, better, base) == pytest.approx(1 / 2.5)
    assert equivalent_gain(law, base, better) == pytest.approx(law.compute_for(better) / law.compute_for(base))
    # By hand: ((3.3 − 1.6) / (3.28 − 1.6))^(1/0.0941)
    assert equivalent_gain(BORROWED, 3.3, 3.28) == pytest.approx((1.7 / 1.68) ** 10.62699256, rel=1e-9)
    assert equivalent_gain(BORROWED, 1e300, 1.6 + 1e-12) == math.inf, "too large for a number"


def test_what_the_law_does_not_reach_is_infinite_or_refused() -> None:
    law = LAWS[2]
    assert law.compute_for(2.0) == law.compute_for(1.0) == math.inf
    assert equivalent_gain(law, 2.5, 2.0) == math.inf
    with pytest.raises(ValueError, match="baseline's loss 2 is not above the law's floor 2"):
        equivalent_gain(law, 2.0, 1.9)
    with pytest.raises(ValueError, match="not a finite number"):
        equivalent_gain(law, math.nan, 1.9)
    assert BORROWED.borrowed == "marin"
    with pytest.raises(ValueError, match="ratios of compute only"):
        BORROWED.compute_for(3.0)


def study(
    seeds: int, gain: float, shared: float, own: float, start: int = 0
) -> tuple[dict[float, dict[int, float]], dict[int, float]]:
    """A ladder and an arm at its top, of a planted law; what a seed does to all runs, and to each by itself."""
    generator, law = np.random.default_rng(start), LAWS[2]
    shift = generator.normal(0, shared, seeds)

    def runs(compute: float) -> dict[int, float]:
        return {s: loss(law, compute) + float(shift[s] + generator.normal(0, own)) for s in range(seeds)}

    return {c: runs(c) for c in BUDGETS[:4]}, runs(BUDGETS[3] * gain)


def test_a_gain_comes_with_its_interval_times_the_throughput() -> None:
    ladder, arm = study(5, 1.3, 0.02, 0.001)
    found = gain_interval(ladder, BUDGETS[3], arm)
    assert found is not None
    point, interval = found
    assert interval is not None
    assert interval[0] < point < interval[1]
    assert 1.1 < interval[0] < 1.3 < interval[1] < 1.5
    assert gain_interval(ladder, BUDGETS[3], arm) == found
    half = gain_interval(ladder, BUDGETS[3], arm, throughput_ratio=0.5)
    assert half is not None
    assert (half[0], half[1]) == (point / 2, pytest.approx([end / 2 for end in interval]))


def test_the_interval_of_a_mean_of_seeds_is_students() -> None:
    arm = {1: 1.00, 2: 1.02, 3: 0.97, 4: 1.04}
    found = gain_interval({1.0: dict.fromkeys(arm, 2.0)}, 1.0, arm, law=PowerLaw(0.0, None, 1.0), resamples=40_000)
    assert found is not None
    assert found[1] is not None
    low, high = stats.t.interval(0.95, 3, loc=np.mean(list(arm.values())), scale=stats.sem(list(arm.values())))
    assert np.diff([2 / end for end in found[1]]) == pytest.approx(low - high, rel=0.03)
    assert found[1] == pytest.approx((2 / high, 2 / low), rel=0.01)


def test_with_a_borrowed_law_only_losses_vary_and_only_one_rung_is_read() -> None:
    ladder, arm = study(5, 1.3, 0.02, 0.001)
    one = {BUDGETS[3]: ladder[BUDGETS[3]]}
    found = gain_interval(one, BUDGETS[3], arm, law=BORROWED)
    assert found == gain_interval(ladder, BUDGETS[3], arm, law=BORROWED)
    assert found is not None
    base = sum(one[BUDGETS[3]].values()) / 5
    assert found[0] == pytest.approx(equivalent_gain(BORROWED, base, sum(arm.values()) / 5))
    assert gain_interval(one, BUDGETS[3], arm) is None, "one rung has no law of its own"


def test_resamples_without_a_law_are_infinite_on_the_side_of_their_arm() -> None:
    ladder, _ = study(4, 1.0, 0.0, 0.08)  # more noise than the ladder falls at its end
    top = ladder[BUDGETS[3]]
    for by, low, high in ((-0.01, 1.0, math.inf), (0.01, 0.0, 1.0)):
        found = gain_interval(ladder, BUDGETS[3], {seed: value + by for seed, value in top.items()})
        assert found is not None
        assert found[1] is not None
        print(f"better by {-by}: gain {found[0]:.3f}, interval {found[1]}")
        assert low <= found[1][0] <= found[1][1] <= high
        assert (low, high)[by < 0] in found[1], "the side of which a part of the resamples says nothing"


def test_without_seeds_or_a_law_there_is_no_gain() -> None:
    ladder, arm = study(3, 1.2, 0.02, 0.001)
    once = gain_interval(ladder, BUDGETS[3], {1: arm[1], 9: 1.0})
    assert once is not None
    assert once[1] is None
    assert once[0] == pytest.approx(1.2, rel=0.1)
    assert gain_interval(ladder, BUDGETS[3], {9: 1.0}) is None
    assert gain_interval({c: dict.fromkeys(range(3), 2.0) for c in BUDGETS}, BUDGETS[3], arm) is None, (
        "it does not fall"
    )
    low = {BUDGETS[0]: {1: 1.2, 2: 1.3}}
    assert gain_interval(low, BUDGETS[0], {1: 1.1, 2: 1.2}, law=BORROWED) is None, "the floor is above the baseline"
    for change, said in (
        ({"budget": 7.0}, "no rung at 7; there are: 1e"),
        ({"throughput_ratio": 0.0}, "ratio of throughputs"),
    ):
        with pytest.raises(ValueError, match=said):
            gain_interval(**{"ladder": ladder, "budget": BUDGETS[3], "arm": arm, **change})
    with pytest.raises(ValueError, match="not a finite number"):
        gain_interval(ladder, BUDGETS[3], {**arm, 1: math.nan})
