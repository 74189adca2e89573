"""Rows of the table from records: who is paired with whom, what is missing, what is not known and never zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from compare_support import arm_results
from scipy import stats

from harness.compare.results import ArmResult, Wanted
from harness.tracking import TAG_STATE, Record

Make = Callable[..., Record]
SEEDS = (1, 2, 3, 4)
RESIDUAL, DHC = (3.0, 3.1, 2.9, 3.05), (2.94, 3.03, 2.85, 2.98)


def by_arm(rows: list[ArmResult]) -> dict[str, ArmResult]:
    return {row.arm: row for row in rows}


def every(record: Make, *arms: str, **changes: object) -> list[Record]:
    return [record(arm, seed, **changes) for arm in arms for seed in SEEDS]


def test_rows_come_in_the_suites_order_with_means_over_seeds_and_paired_differences(rows: list[ArmResult]) -> None:
    assert [row.arm for row in rows] == ["residual", "dhc", "dfc"]
    residual, dhc = rows[:2]
    assert residual.delta is None, "the baseline is not compared with itself"
    assert dhc.loss is not None
    assert dhc.loss.mean == pytest.approx(sum(DHC) / 4)
    assert dhc.delta is not None
    assert dhc.delta.mean == pytest.approx(sum(DHC) / 4 - sum(RESIDUAL) / 4)
    assert dhc.delta.p == pytest.approx(stats.ttest_rel(DHC, RESIDUAL).pvalue)
    assert (dhc.n, dhc.missing, dhc.failed, dhc.pairing.left_out) == (4, (), (), {})
    assert (dhc.bits_per_byte, dhc.perplexity, dhc.parameters) == (4.0, 20.0, 1000)
    assert dhc.scores["cloze/acc"] == 0.5
    assert len(set(dhc.runs.values())) == 4


def test_costs_are_ratios_to_the_baseline_seed_by_seed(
    rows: list[ArmResult], record: Make, wanted: list[Wanted]
) -> None:
    assert (rows[0].throughput_ratio, rows[0].saved_bytes_ratio) == (1.0, 1.0)
    assert rows[1].throughput_ratio == pytest.approx(0.5)
    assert rows[1].saved_bytes_ratio == pytest.approx(3.0)
    speeds = [
        record("dhc", seed, cost__tokens_per_second=500.0 * ratio) for seed, ratio in zip(SEEDS, (2, 8), strict=False)
    ]
    found = by_arm(arm_results(wanted, [*every(record, "residual"), *speeds], "residual"))
    assert found["dhc"].throughput_ratio == pytest.approx(4.0), "the geometric mean of 2 and 8"


def test_missing_and_failed_seeds_are_named_and_not_averaged_in(record: Make, wanted: list[Wanted]) -> None:
    records = [
        *every(record, "residual"),
        record("dhc", 1),
        record("dhc", 2, state="failed"),
        record("dhc", 4, state="running"),
    ]
    dhc = by_arm(arm_results(wanted, records, "residual"))["dhc"]
    assert (dhc.n, dhc.missing, dhc.failed) == (1, (2, 3, 4), (2,))
    assert dhc.loss is not None
    assert dhc.loss.mean == 2.94
    assert dhc.delta is not None
    assert (dhc.delta.n, dhc.delta.interval) == (1, None)
    assert list(dhc.runs) == [1]


def test_an_arm_without_a_finished_cell_is_a_row_of_unknowns(record: Make, wanted: list[Wanted]) -> None:
    rows = by_arm(arm_results(wanted, every(record, "residual"), "residual"))
    row = rows["dfc"]
    assert (row.n, row.missing) == (0, SEEDS)
    assert [row.loss, row.delta, row.bits_per_byte, row.perplexity, row.parameters] == [None] * 5
    assert [row.throughput_ratio, row.saved_bytes_ratio, row.scores, row.runs] == [None, None, {}, {}]


def test_without_the_baseline_there_are_losses_and_no_differences(record: Make, wanted: list[Wanted]) -> None:
    dhc = by_arm(arm_results(wanted, every(record, "dhc"), "residual"))["dhc"]
    assert dhc.loss is not None
    assert [dhc.delta, dhc.throughput_ratio, dhc.saved_bytes_ratio] == [None, None, None]


def test_cells_that_saw_other_batches_are_not_paired_and_are_named(record: Make, wanted: list[Wanted]) -> None:
    records = [*every(record, "residual"), *(record("dhc", s, digest="other" if s in (2, 3) else None) for s in SEEDS)]
    dhc = by_arm(arm_results(wanted, records, "residual"))["dhc"]
    assert (dhc.n, tuple(dhc.pairing.left_out)) == (4, (2, 3))
    assert dhc.delta is not None
    assert (dhc.delta.n, dhc.delta.mean) == (2, pytest.approx(((2.94 - 3.0) + (2.98 - 3.05)) / 2))
    alone = [*every(record, "residual"), *every(record, "dhc", digest="other")]
    dhc = by_arm(arm_results(wanted, alone, "residual"))["dhc"]
    assert (dhc.delta, tuple(dhc.pairing.left_out)) == (None, SEEDS)


def test_only_seeds_that_both_have_are_paired(record: Make, wanted: list[Wanted]) -> None:
    records = [record("residual", 1), record("residual", 2), *(record("dhc", seed) for seed in (2, 3, 4))]
    dhc = by_arm(arm_results(wanted, records, "residual"))["dhc"]
    assert dhc.delta is not None
    assert (dhc.n, dhc.delta.n, dhc.delta.mean) == (3, 1, pytest.approx(3.03 - 3.1))


def test_the_latest_run_of_a_cell_stands_for_it(record: Make, wanted: list[Wanted]) -> None:
    first, again = record("dhc", 1, validation__loss=9.0), record("dhc", 1, validation__loss=2.0)
    for records, loss, run in (([first, again], 2.0, again), ([again, first], 9.0, first)):
        dhc = by_arm(arm_results(wanted, [*every(record, "residual"), *records], "residual"))["dhc"]
        assert dhc.loss is not None
        assert (dhc.loss.mean, dhc.runs) == (loss, {1: run.run_id})
    broken = replace(again, tags={**again.tags, TAG_STATE: "failed"})
    dhc = by_arm(arm_results(wanted, [first, broken], "residual"))["dhc"]
    assert (dhc.n, dhc.failed) == (0, (1,)), "an old success does not hide a later failure"


def test_records_of_other_cells_and_other_evaluations_are_left_out(record: Make, wanted: list[Wanted]) -> None:
    foreign = [replace(record("dhc", 1), cell="stranger"), record("dhc", 2, evaluation="other")]
    assert by_arm(arm_results(wanted, [*every(record, "residual"), *foreign], "residual"))["dhc"].n == 0


@pytest.mark.parametrize(
    ("metric", "field"),
    [
        ("validation__bits_per_byte", "bits_per_byte"), ("validation__perplexity", "perplexity"),
        ("cost__parameters", "parameters"), ("cost__tokens_per_second", "throughput_ratio"),
        ("cost__saved_activation_bytes", "saved_bytes_ratio"),
    ],
)  # fmt: skip
def test_a_metric_that_was_not_recorded_is_unknown_and_never_zero(
    record: Make, wanted: list[Wanted], metric: str, field: str
) -> None:
    records = [*every(record, "residual"), *every(record, "dhc", **{metric: None})]
    assert getattr(by_arm(arm_results(wanted, records, "residual"))["dhc"], field) is None
    one = [*every(record, "residual"), record("dhc", 1), record("dhc", 2, **{metric: None})]
    assert getattr(by_arm(arm_results(wanted, one, "residual"))["dhc"], field) in (4.0, 20.0, 1000, pytest.approx(1.0))


def test_a_finished_cell_without_a_loss_counts_as_missing(record: Make, wanted: list[Wanted]) -> None:
    rows = arm_results(wanted, [*every(record, "residual"), record("dhc", 1, validation__loss=None)], "residual")
    assert (by_arm(rows)["dhc"].n, by_arm(rows)["dhc"].missing) == (0, SEEDS)


def test_a_score_that_one_seed_lacks_is_left_out_for_the_arm(record: Make, wanted: list[Wanted]) -> None:
    records = [
        *every(record, "residual"),
        record("dhc", 1, eval__cloze__acc=None),
        record("dhc", 2, eval__cloze__acc=0.0),
    ]
    rows = by_arm(arm_results(wanted, records, "residual"))
    assert "cloze/acc" not in rows["dhc"].scores
    assert "corpus_perplexity/byte_perplexity" in rows["dhc"].scores
    assert "cloze/acc" in rows["residual"].scores


def test_two_arms_that_are_one_cell_share_its_run(record: Make) -> None:
    rows = arm_results(
        [Wanted("a", 1, "residual1", "e"), Wanted("b", 1, "residual1", "e")], [record("residual", 1)], "a"
    )
    assert rows[0].runs == rows[1].runs
    assert rows[1].delta is not None
    assert rows[1].delta.mean == 0.0
