"""Matched views: budgets differ by what is said, and what is compared instead is equal in budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from compare_support import compared

from harness.compare.match import budget_ratio, loss_at, matched
from harness.compare.results import Comparison, Sources, View, Wanted
from harness.compare.table import to_markdown
from harness.compare.words import notes, verdict
from harness.tracking import Record

Make = Callable[..., Record]
SEEDS = (1, 2, 3, 4)
CURVE = [(100, 4.0), (200, 3.0), (400, 2.0)]
TWICE = {
    "cost__training_flops": 2e9,
    "train__tokens": 1e6,
    "cost__tokens_per_second": 250.0,
    "cost__parameters": 1500.0,
}
ONCE = {"cost__training_flops": 1e9, "train__tokens": 1e6}


def view(
    record: Make, wanted: list[Wanted], match: Any, costs: Any = None, twin: Any = None, **dhc: float
) -> Comparison:
    records = [record("residual", s, **ONCE) for s in SEEDS] + [record("dhc", s, **{**TWICE, **dhc}) for s in SEEDS]
    records += [record("dfc", s, **(TWICE if twin else ONCE)) for s in SEEDS]
    curves = {one.run_id: [(step, loss + int(one.cell[-1]) / 10) for step, loss in CURVE] for one in records}
    settings = {} if twin is None else {"dfc": {"twin_of": twin, "start": "wider"}}
    return compared(
        wanted, records, "residual", view=View(match=match), sources=Sources(costs=costs or {}, curve=curves.__getitem__),
        **settings,
    )  # fmt: skip


def test_a_curve_is_read_between_its_points_and_not_before_them() -> None:
    assert loss_at(CURVE, 1.0) == 2.0
    assert loss_at(CURVE, 0.5) == 3.0
    assert loss_at(CURVE, 0.75) == pytest.approx(2.5)
    assert loss_at(CURVE, 0.375) == pytest.approx(3.5)
    assert loss_at(CURVE, 0.2) is None
    assert loss_at([], 1.0) is None
    assert loss_at(CURVE, 1.5) == 2.0


@pytest.mark.parametrize(
    ("match", "ratio"), [("tokens", 1.0), ("params", 1.5), ("flops", 2.0), ("time", 2.0), ("memory", None)]
)
def test_budgets_are_ratios_of_what_was_spent(record: Make, match: Any, ratio: float | None) -> None:
    mine, theirs = {1: record("dhc", 1, **TWICE)}, {1: record("residual", 1, **ONCE)}
    expected = (1e6 + 16 * 1500) / (1e6 + 16 * 1000) if ratio is None else ratio
    assert budget_ratio(match, "dhc", mine, theirs, {}) == pytest.approx(expected)
    assert budget_ratio(match, "dhc", {}, theirs, {}) is None


def test_the_interleaved_measurement_goes_before_what_cells_took(record: Make) -> None:
    mine, theirs = {1: record("dhc", 1, **TWICE)}, {1: record("residual", 1, **ONCE)}
    costs = {"dhc": {"throughput_ratio": 0.8, "peak_bytes_ratio": 1.25}}
    assert budget_ratio("time", "dhc", mine, theirs, costs) == pytest.approx(1.25)
    assert budget_ratio("memory", "dhc", mine, theirs, costs) == 1.25


def test_at_equal_flops_the_dearer_arm_is_read_where_its_budget_ends(record: Make, wanted: list[Wanted]) -> None:
    table = view(record, wanted, "flops")
    dhc = table.rows[1]
    assert dhc.matched is not None
    assert (dhc.matched.how, dhc.matched.against, dhc.matched.ratio) == ("curve", "residual", pytest.approx(2.0))
    assert dhc.matched.mine == {seed: pytest.approx(3.0 + seed / 10) for seed in SEEDS}, "half of its steps"
    assert dhc.matched.theirs[1] == 3.0, "the baseline's own end"
    assert dhc.pairs is not None
    assert dhc.pairs.mean == pytest.approx(sum(3.0 + s / 10 for s in SEEDS) / 4 - (3.0 + 3.1 + 2.9 + 3.05) / 4)
    said = "dhc: 2.00 times the training FLOPs of residual; dhc read after 50% of its steps, before its learning rate"
    assert any(said in line for line in notes(table))
    assert table.rows[2].matched is not None
    assert table.rows[2].matched.how == "end", "equal budgets need no curve"
    assert (dhc.verdict, dhc.p_holm, dhc.detectable) == (None, None, None), "read early, so not judged"
    assert table.rows[2].verdict is not None
    assert "not judged" in to_markdown([table]).splitlines()[3]
    alone = replace(table, rows=table.rows[:2])
    assert verdict(alone).startswith("Nothing was trained to be compared at equal training FLOPs.")


def test_a_cheaper_arm_is_held_against_the_baseline_before_its_end(record: Make, wanted: list[Wanted]) -> None:
    dhc = view(record, wanted, "flops", cost__training_flops=0.5e9).rows[1]
    assert dhc.matched is not None
    assert dhc.matched.theirs == {seed: pytest.approx(3.0 + seed / 10) for seed in SEEDS}
    assert dhc.matched.mine[1] == 2.94
    assert "residual read after 50%" in dhc.matched.reading


def test_a_budget_that_ends_before_the_first_validation_compares_nothing(record: Make, wanted: list[Wanted]) -> None:
    dhc = view(record, wanted, "time", {"dhc": {"throughput_ratio": 0.1}}).rows[1]
    assert dhc.pairs is None
    assert dhc.matched is not None
    assert dhc.matched.mine == {}


def test_parameters_need_a_resized_arm_and_it_is_paired_by_data(record: Make, wanted: list[Wanted]) -> None:
    table = view(record, wanted, "params")
    assert table.rows[1].pairs is None
    said = "nothing of equal cost to hold it against (an arm with resize: {match: params, arm: dhc})"
    assert any(line.startswith("dhc: 1.50 times") and said in line for line in notes(table))
    table = view(record, wanted, "params", twin=("params", "dhc"))
    dhc = table.rows[1]
    assert dhc.matched is not None
    assert (dhc.matched.how, dhc.matched.against) == ("resized", "dfc")
    assert dhc.pairs is not None
    assert dhc.pairs.mean == pytest.approx((2.94 + 3.03 + 2.85 + 2.98) / 4 - (3.02 + 3.06 + 2.93 + 3.04) / 4)
    assert dhc.pairing.by_data
    assert any("held against dfc, resized to cost the same" in line for line in notes(table))


def test_no_arm_is_asked_for_that_a_suite_cannot_have(record: Make, wanted: list[Wanted]) -> None:
    peaks = {arm: {"peak_bytes_ratio": 1.5} for arm in ("dhc", "dfc")}
    table = view(record, wanted, "memory", peaks, twin=("params", "dhc"))
    said = [line for line in notes(table) if line.startswith(("dhc: ", "dfc: "))]
    assert len(said) == 1, "a control needs nothing to be held against"
    assert "(an arm with resize: {match: memory, arm: dhc})" in said[0]
    alone = view(record, [one for one in wanted if one.arm != "residual"], "flops")
    assert "residual, the baseline, is left out." in notes(alone)
    assert not any("resize" in line for line in notes(alone)), "FLOPs are none of the things that are met"


def test_what_was_not_compared_was_not_read_either(record: Make, wanted: list[Wanted]) -> None:
    table = view(record, wanted, "time", {"dhc": {"throughput_ratio": 0.1}})
    assert any(line.endswith("times the training time of residual; nothing is compared.") for line in notes(table))


def test_a_resized_arm_goes_before_the_curve_for_time(record: Make, wanted: list[Wanted]) -> None:
    dhc = view(record, wanted, "time", twin=("time", "dhc")).rows[1]
    assert dhc.matched is not None
    assert dhc.matched.how == "resized"


def test_a_resized_arm_that_turned_out_not_to_cost_the_same_is_not_held_against(
    record: Make, wanted: list[Wanted]
) -> None:
    costs = {"dhc": {"throughput_ratio": 0.4}, "dfc": {"throughput_ratio": 0.75}}
    table = view(record, wanted, "time", costs, twin=("time", "dhc"))
    dhc = table.rows[1]
    assert dhc.matched is not None
    assert dhc.matched.how == "curve"
    assert "dfc was resized to cost the same, and it costs 0.53 times as much" in dhc.matched.reading
    table = view(
        record,
        wanted,
        "memory",
        {arm: {"peak_bytes_ratio": peak} for arm, peak in (("dhc", 2.0), ("dfc", 1.02))},
        twin=("memory", "dhc"),
    )
    assert table.rows[1].matched is not None
    assert table.rows[1].matched.how == "none"
    assert any("it costs 0.51 times as much" in line for line in notes(table))


def test_a_resized_control_is_shown_at_equal_tokens_and_not_judged(record: Make, wanted: list[Wanted]) -> None:
    table = view(record, wanted, "tokens", twin=("params", "dhc"))
    dhc, control = table.rows[1:]
    assert control.pairs is not None
    assert (control.verdict, control.p_holm) == (None, None)
    assert dhc.pairs is not None
    assert dhc.p_holm == dhc.pairs.p, "one arm is judged, so nothing is corrected"


def test_tokens_is_the_plain_view(record: Make) -> None:
    done = {"dhc": {1: record("dhc", 1, **TWICE)}, "residual": {1: record("residual", 1, **ONCE)}}
    found = matched("tokens", "dhc", "residual", done, {}, {}, None)
    assert (found.how, found.mine, found.theirs) == ("end", {1: 2.94}, {1: 3.0})
