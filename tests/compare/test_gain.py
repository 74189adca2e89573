"""Compute-equivalent gain: of a planted law, from a suite's own ladder, or borrowed and then said to be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from compare_support import compared

from harness.compare.columns import choose
from harness.compare.gain import Gain
from harness.compare.results import Comparison, Sources, View, Wanted
from harness.compare.table import render, to_markdown
from harness.compare.words import verdict
from harness.tracking import Record

Make = Callable[..., Record]
SEEDS = (1, 2, 3, 4)
RUNGS = {"residual": 1.0, "half": 0.5, "double": 2.0, "four": 4.0}


def law(compute: float) -> float:
    return 2.0 + 1.0 * compute**-0.5


@pytest.fixture
def laddered(record: Make) -> Callable[..., Comparison]:
    """A baseline that obeys the law at several budgets, and an arm as good as it is with 1.5 times the compute."""

    def make(
        ladder: tuple[str, ...] = tuple(RUNGS), noise: float = 0.01, longer: float = 1.0, **changes: Any
    ) -> Comparison:
        losses = {**{arm: law(compute) for arm, compute in RUNGS.items()}, "dhc": law(1.5)}
        own = {"dhc": {"train__tokens": 1e6 * longer, **changes}}
        records = [
            replace(
                record(
                    "residual", s, validation__loss=loss + noise * s, cost__training_flops=1e9 * RUNGS.get(arm, 1.0),
                    **{"train__tokens": 1e6, **own.get(arm, {})},
                ),
                cell=f"{arm}{s}",
            )
            for arm, loss in losses.items()
            for s in SEEDS
        ]  # fmt: skip
        wanted = [Wanted(arm, s, f"{arm}{s}", "e") for s in SEEDS for arm in losses]
        costs = {"dhc": {"throughput_ratio": 0.8, "throughput_ci": [0.79, 0.81]}}
        return compared(wanted, records, "residual", view=View(ladder=ladder), sources=Sources(costs=costs))

    return make


def gain_of(table: Comparison) -> Gain:
    (gain,) = [row.gain for row in table.rows if row.arm == "dhc"]
    assert gain is not None
    return gain


def test_a_planted_gain_is_found_and_speed_taken_off(laddered: Callable[..., Comparison]) -> None:
    gain = gain_of(laddered(noise=0.0))
    assert not gain.borrowed
    assert gain.compute == pytest.approx(1.5, rel=1e-3)
    assert gain.net == pytest.approx(1.2, rel=1e-3)
    table = laddered()
    assert [row.arm for row in table.rows if row.gain] == ["dhc"], "not of the ladder itself"
    assert {"gain", "net_gain"} <= {column.key for column in choose(table)}
    assert "by a curve through the suite's ladder" in to_markdown([table])


def test_an_arm_that_trains_for_longer_pays_for_it(laddered: Callable[..., Comparison]) -> None:
    gain = gain_of(laddered(noise=0.0, longer=1.5, digest="others"))
    assert gain.compute == pytest.approx(1.5, rel=1e-3)
    assert gain.net == pytest.approx(0.8, rel=1e-3)


def test_a_loss_on_other_held_out_data_has_no_gain(laddered: Callable[..., Comparison]) -> None:
    (row,) = [row for row in laddered(held_out="others").rows if row.arm == "dhc"]
    assert row.gain is None


def test_without_a_ladder_the_curve_is_borrowed_shown_on_demand_and_marked(laddered: Callable[..., Comparison]) -> None:
    table = laddered(ladder=("residual", "double"))
    gain = gain_of(table)
    assert gain.borrowed
    base, arm = law(1.0) + 0.025, law(1.5) + 0.025
    assert gain.compute == pytest.approx(((base - 1.6) / (arm - 1.6)) ** (1 / 0.0941), rel=1e-6)
    assert not {"gain", "net_gain"} & {column.key for column in choose(table)}
    assert "(borrowed)" in next(column for column in choose(table, ("gain",)) if column.key == "gain").text(
        next(row for row in table.rows if row.gain)
    )
    arms = {arm["arm"]: arm for arm in json.loads(render("json", "s", [table]))["arms"]}
    assert (arms["dhc"]["gain_curve"], arms["residual"]["gain_curve"]) == ("borrowed", None)


def test_a_loss_in_another_unit_borrows_nothing(record: Make, wanted: list[Wanted]) -> None:
    records = [record(arm, s, cost__training_flops=1e9) for arm in ("residual", "dhc") for s in SEEDS]
    image = {"unit": "squared error per pixel"}
    assert compared(wanted, records, "residual", residual=image, dhc=image).rows[1].gain is None
    assert compared(wanted, records, "residual").rows[1].gain is not None


def test_the_verdict_says_what_the_price_leaves_of_the_gain(laddered: Callable[..., Comparison]) -> None:
    table = laddered(noise=0.001)
    said = verdict(table)
    assert said.startswith("dhc is better: ")
    assert "For dhc's loss the baseline would need 1.50 times (95% " in said
    assert "; with dhc's speed 1.20 times (95% " in said
    assert said.endswith(" the time: it pays.")
    (dhc,) = [row for row in table.rows if row.arm == "dhc"]
    assert dhc.gain is not None
    for net, word in (((0.7, 0.9), "it does not pay."), ((0.9, 1.1), "whether it pays is unresolved.")):
        other = replace(dhc, gain=replace(dhc.gain, net=0.8, net_interval=net))
        rows = [other if row.arm == "dhc" else row for row in table.rows]
        assert verdict(replace(table, rows=rows)).endswith(word)
    borrowed = laddered(ladder=("residual", "double"), noise=0.001)
    assert "would need" not in verdict(borrowed), "nothing is concluded from another study's curve"


def test_controls_are_rows_without_a_verdict(laddered: Callable[..., Comparison]) -> None:
    table = laddered()
    assert {row.arm for row in table.rows if row.control} == {"half", "double", "four"}
    assert all(row.verdict is None for row in table.rows if row.control)
