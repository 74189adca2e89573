"""Curves against tokens, FLOPs and time: what is interpolated, and where curves end."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from report_support import ARMS, facts

from harness.compare.pairing import Pairing
from harness.report.facts import Budget
from harness.report.figures.along import delta_curve, deltas_along, loss_curve, losses_along, scale

BASE = {1: {0: 5.0, 10: 4.0, 20: 3.5}, 2: {0: 5.2, 10: 4.1, 20: 3.6}}


def shifted(by: float) -> dict[int, dict[int, float]]:
    return {seed: {step: loss + by for step, loss in curve.items()} for seed, curve in BASE.items()}


def test_a_step_takes_its_share_of_what_a_cell_spends() -> None:
    assert scale(Budget(tokens=2000.0, flops=None), "tokens", 20) == 100.0
    assert scale(Budget(tokens=2000.0), "flops", 20) is None
    assert scale(None, "tokens", 20) is None
    assert scale(Budget(tokens=2000.0), "tokens", 0) is None


def test_a_loss_has_the_mean_and_the_range_of_the_seeds_at_steps_that_all_have() -> None:
    points = loss_curve({**BASE, 3: {10: 4.3, 20: 3.7}}, 100.0)
    assert [point.x for point in points] == [1000.0, 2000.0]
    assert (points[0].low, points[0].high) == (4.0, 4.3)
    assert points[0].mean == pytest.approx((4.0 + 4.1 + 4.3) / 3)


def test_at_equal_tokens_the_difference_is_that_of_recorded_points() -> None:
    points = delta_curve(shifted(-0.2), BASE, 1.0, 1.0)
    assert [point.x for point in points] == [0.0, 10.0, 20.0]
    assert all(point.mean == pytest.approx(-0.2) for point in points)
    assert all(point.low == pytest.approx(-0.2) and point.high == pytest.approx(-0.2) for point in points)


def test_a_slower_arm_is_read_where_the_baseline_ends() -> None:
    # Twice the time a step: the baseline's whole run ends when the arm has done ten of twenty steps.
    points = delta_curve(BASE, BASE, 2.0, 1.0)
    assert [point.x for point in points] == [0.0, 20.0]
    assert points[-1].mean == pytest.approx(((4.0 - 3.5) + (4.1 - 3.6)) / 2)


def test_the_end_of_the_shorter_run_is_a_point_even_where_nothing_was_recorded_there() -> None:
    points = delta_curve({1: {0: 5.0, 20: 3.0}}, {1: {0: 5.0, 10: 4.0}}, 1.0, 1.0)
    assert [(point.x, point.mean) for point in points] == [(0.0, 0.0), (10.0, 0.0)]


def test_the_band_is_the_paired_t_interval_of_the_seeds() -> None:
    arm = {1: {10: 3.9}, 2: {10: 3.8}, 3: {10: 4.1}}
    base = {1: {10: 4.0}, 2: {10: 4.1}, 3: {10: 4.2}}
    (point,) = delta_curve(arm, base, 1.0, 1.0)
    differences = [-0.1, -0.3, -0.1]
    mean = sum(differences) / 3
    half = 4.302653 * math.sqrt(sum((d - mean) ** 2 for d in differences) / 2) / math.sqrt(3)
    assert point.mean == pytest.approx(mean)
    assert (point.low, point.high) == (pytest.approx(mean - half, abs=1e-6), pytest.approx(mean + half, abs=1e-6))


def test_curves_that_share_nothing_give_nothing() -> None:
    assert delta_curve({1: {0: 1.0}}, {2: {0: 1.0}}, 1.0, 1.0) == []
    assert delta_curve({1: {}}, {1: {0: 1.0}}, 1.0, 1.0) == []
    assert delta_curve({1: {30: 1.0}}, {1: {0: 1.0, 10: 0.5}}, 1.0, 1.0) == []


def test_a_single_seed_has_a_line_and_no_band() -> None:
    (point,) = delta_curve({1: {10: 1.0}}, {1: {10: 1.5}}, 1.0, 1.0)
    assert (point.mean, point.low, point.high, point.n) == (-0.5, None, None, 1)


def test_along_time_arms_end_where_their_speed_puts_them() -> None:
    (study,) = facts().studies
    ends = {arm: points[-1].x for arm, points in losses_along(study, "time").items()}
    assert ends == {arm: pytest.approx(1 / speed) for arm, (_, _, speed, _) in ARMS.items()}
    deltas = deltas_along(study, "time")
    assert set(deltas) == set(ARMS) - {"residual"}
    assert all(points[-1].x == pytest.approx(1.0) for points in deltas.values()), (
        "all are slower: the baseline ends first"
    )


def test_seeds_that_the_table_does_not_compare_are_no_pairs_along_the_way_either() -> None:
    """Another machine's seed, or a rung of the ladder with its own batches: a loss curve and no difference."""
    (study,) = facts().studies
    row = next(row for row in study.table.rows if row.arm == "shc-n2")
    one, none = (Pairing(seeds=seeds, left_out={}) for seeds in ((2,), ()))
    for pairing in (one, none):
        table = replace(study.table, rows=[replace(r, pairing=pairing) if r is row else r for r in study.table.rows])
        changed = replace(study, views={**study.views, "tokens": table})
        deltas = deltas_along(changed, "tokens")
        assert deltas["dhc-n2"] == deltas_along(study, "tokens")["dhc-n2"]
        assert "shc-n2" in losses_along(changed, "tokens")
        if pairing is none:
            assert "shc-n2" not in deltas
        else:
            own, base = study.curves["shc-n2"][2], study.curves["residual"][2]
            assert [point.mean for point in deltas["shc-n2"]] == [pytest.approx(own[s] - base[s]) for s in sorted(own)]
            assert {point.n for point in deltas["shc-n2"]} == {1}


def test_a_budget_that_is_not_recorded_leaves_the_arm_out() -> None:
    (study,) = facts().studies
    study.budgets["shc-n2"] = Budget(tokens=1.0)  # type: ignore[index]
    assert "shc-n2" not in losses_along(study, "flops")
    assert "shc-n2" not in deltas_along(study, "flops")
    assert "shc-n2" in losses_along(study, "tokens")
