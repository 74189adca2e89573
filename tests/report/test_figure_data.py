"""The numbers behind the figures: fronts, sweeps, noise, profiles by depth, maps, costs."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from report_support import ARMS, facts, many

from harness.report.drawing import FEW, INK, Missing, amount, label, limits, lines
from harness.report.facts import Study
from harness.report.figures import answer, costs, depth, maps, noise, pareto, rates


@pytest.fixture
def study() -> Study:
    return facts().studies[0]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1.0, 0.0), (1.2, -0.1), (1.3, -0.05), (1.5, -0.2)], [0, 1, 3]),
        ([(1.0, 0.0), (0.9, -0.1)], [1]),
        ([(1.0, 0.0), (1.0, -0.1)], [1]),
        ([(1.0, 0.0), (1.0, 0.0)], [0, 1]),
        ([(2.0, -1.0), (1.0, 0.0)], [1, 0]),
        ([], []),
    ],
)  # fmt: skip
def test_the_front_is_what_nothing_beats_in_both(points: list[tuple[float, float]], expected: list[int]) -> None:
    assert pareto.front(points) == expected


def test_time_is_one_over_throughput_and_its_interval_turns_round(study: Study) -> None:
    rows = {row["arm"]: row for row in pareto.rows_of(study, "time")}
    assert rows["residual"]["ratio"] == 1.0
    assert rows["residual"]["delta"] == 0.0
    dhc = rows["dhc-n4"]
    assert dhc["ratio"] == pytest.approx(1 / 0.58)
    assert (dhc["ratio_low"], dhc["ratio_high"]) == (
        pytest.approx(1 / (0.58 * 1.015)),
        pytest.approx(1 / (0.58 * 0.98)),
    )
    assert rows["residual"]["front"]
    assert not rows["dfc-m2"]["front"], "shc-n2 is faster and better"


def test_a_line_of_a_sweep_has_arms_that_differ_in_their_rate_alone(study: Study) -> None:
    (sweep,) = rates.sweeps(study)
    assert (sweep["name"], sweep["axis"]) == ("dynamic HC", "streams n")
    assert [(row["rate"], row["arm"]) for row in sweep["rows"]] == [(2, "dhc-n2"), (4, "dhc-n4")]
    other = {**study.settings, "dhc-n2": {**study.settings["dhc-n2"], "train": {"lr": 1.0}}}
    assert rates.sweeps(replace(study, settings=other)) == []


def test_lines_of_a_sweep_with_one_name_say_in_what_they_differ(study: Study) -> None:
    plain = {"type": "hyper", "dynamic": True, "tanh": True}
    connections: dict[str, dict[str, Any]] = {
        "shc-n2": {**plain, "rate": 2}, "dhc-n2": {**plain, "rate": 4},
        "dhc-n4": {**plain, "rate": 2, "tanh": False}, "sfc-m2": {**plain, "rate": 4, "tanh": False},
    }  # fmt: skip
    changed = {arm: {"connection": one} for arm, one in connections.items()}
    names = [sweep["name"] for sweep in rates.sweeps(replace(study, settings={**study.settings, **changed}))]
    assert names == ["dynamic HC, tanh True", "dynamic HC, tanh False"]


def test_fractions_and_streams_are_not_on_one_axis() -> None:
    (study,) = facts(many(20)).studies
    assert {sweep["axis"] for sweep in rates.sweeps(study)} == {"streams n", "fractions m"}


def test_residuals_are_as_wide_as_new_seeds_would_be() -> None:
    values = {1: 3.0, 2: 3.2, 3: 2.9, 4: 3.5}
    found = noise.residuals(values)
    assert noise.deviation(list(found.values())) == pytest.approx(statistics.stdev(values.values()))
    assert sum(found.values()) == pytest.approx(0.0)
    assert noise.residuals({1: 3.0}) == {}


def test_paired_noise_is_that_of_the_differences_that_the_table_compares(study: Study) -> None:
    rows = noise.noise_rows(study)
    assert {row["what"] for row in rows} == {"baseline's loss", "paired difference"}
    for row in study.table.rows:
        mine = [one["residual"] for one in rows if one["arm"] == row.arm and one["what"] == "paired difference"]
        if row.pairs is not None:
            assert noise.deviation(mine) == pytest.approx(row.pairs.sd_paired)


def test_a_pair_that_is_not_compared_is_not_noise(study: Study) -> None:
    rows = [
        replace(row, pairing=replace(row.pairing, seeds=(1, 2))) if row.arm == "dhc-n4" else row
        for row in study.table.rows
    ]
    fewer = replace(study, views={"tokens": replace(study.table, rows=rows)})
    assert list(noise.differences(fewer)["dhc-n4"]) == [1, 2]


def test_profiles_are_medians_over_seeds_of_the_last_step_with_gaps() -> None:
    assert depth.median([[1.0, 2.0, None], [3.0, math.nan, None], [9.0, 4.0, None]]) == [3.0, 3.0, None]
    assert depth.last_step({"steps": [{"step": 20, "x": 1}, {"step": 5, "x": 2}]})["x"] == 1
    assert depth.last_step({"steps": []}) == {}


def test_what_a_type_does_not_have_is_not_drawn_for_it(study: Study) -> None:
    by_name = {drawing.name: drawing for drawing in depth.draw_depth(study) if not isinstance(drawing, Missing)}
    assert {row["arm"] for row in by_name["depth-dispersion"].rows} == {"shc-n2", "dhc-n2", "dhc-n4"}
    assert {row["arm"] for row in by_name["depth-streams"].rows} == {"shc-n2", "dhc-n2", "dhc-n4"}
    assert {row["arm"] for row in by_name["depth-cosine"].rows} == set(ARMS)
    assert len([row for row in by_name["depth-cosine"].rows if row["arm"] == "residual"]) == 23


def test_nulls_all_through_a_document_are_survived(study: Study) -> None:
    empty = {"format": 1, "steps": [{"step": 1, "cosine": None, "gradient_norm": None, "row_rms": None,
                                     "dispersion": None, "dynamic_share": None, "gain": None}], "end": None}  # fmt: skip
    nothing = replace(study, diagnostics={arm: {1: empty} for arm in ARMS})
    assert all(isinstance(one, Missing) for one in depth.draw_depth(nothing))
    assert all(isinstance(one, Missing) for one in maps.draw_maps(nothing))


def test_rows_of_a_map_are_over_their_mean_size_and_residual_ones_are_one() -> None:
    lower = np.tril(np.ones((4, 4)))
    assert np.array_equal(maps.weights(lower), lower)
    grown = lower * np.array([[1.0], [2.0], [30.0], [0.0]])
    assert np.array_equal(maps.weights(grown)[:3], lower[:3])
    assert not maps.weights(grown)[3].any(), "a row of nothing stays nothing"
    signed = maps.weights(np.array([[2.0, 0.0], [-1.0, 3.0]]))
    assert np.allclose(signed, [[1.0, 0.0], [-0.5, 1.5]])


def test_zero_is_transparent_and_signs_have_colours_of_their_own() -> None:
    image = maps.shades(np.array([[0.0, 1.0, -1.0, 5.0, math.nan]]), 2.0)[0]
    assert image[:, 3].tolist() == [0.0, 0.5, 0.5, 1.0, 0.0]
    assert image[1, :3].tolist() != image[2, :3].tolist()
    assert image[1, :3].tolist() == image[3, :3].tolist()


def test_one_entry_far_off_does_not_set_the_scale_of_maps() -> None:
    matrix = np.ones((30, 30))
    matrix[0, 0] = 1e6
    assert maps.reach_of([matrix]) == pytest.approx(1.0)
    assert maps.reach_of([np.zeros((2, 2))]) == 1.0


def test_rounds_are_ratios_of_seconds_beside_each_other() -> None:
    found = {
        "residual": {"seconds": [1.0, 2.0], "positions_per_step": 512},
        "dhc": {"seconds": [2.0, 2.0], "baseline_seconds": [1.0, 3.0], "positions_per_step": 1024},
        "old": {"seconds": [2.0, 4.0]},
    }
    assert costs.rounds(found, "dhc", "residual") == [1.0, 3.0]
    assert costs.rounds({**found, "residual": {"seconds": [1.0, 2.0]}}, "old", "residual") == [0.5, 0.5]
    assert costs.rounds({}, "dhc", "residual") == []


def test_the_answer_names_arms_by_their_difference_at_equal_tokens(study: Study) -> None:
    rows = answer.rows_of(study)
    order = list(dict.fromkeys(row["arm"] for row in rows))
    means = [next(row["delta"] for row in rows if row["arm"] == arm and row["equal"] == "tokens") for arm in order]
    assert means == sorted(means)
    assert {row["equal"] for row in rows} == {"tokens", "flops", "time"}


def test_limits_leave_out_what_is_far_off_and_keep_what_must_be_seen() -> None:
    low, high = limits([1.0, 1.1, 1.2, 1.3, 50.0], 0.0)
    assert low < 0.0
    assert 1.3 < high < 2.0
    low, high = limits([2.0])
    assert low < 2.0 < high
    assert limits([math.nan])[0] < limits([math.nan])[1]


def test_amounts_are_short() -> None:
    assert [amount(v) for v in (0, 950, 2e5, 1.5e6, 3e9, 5.1e12, 3.25e15)] == [
        "0", "950", "200k", "1.5M", "3G", "5.1T", "3.25e15",
    ]  # fmt: skip


def test_arms_are_told_apart_without_colour_and_the_baseline_has_the_ink() -> None:
    arms = ["residual", *(f"arm-{n}" for n in range(24))]
    looks = lines(arms, "residual")
    assert looks["residual"].colour == INK
    assert len({(one.colour, one.dash) for one in looks.values()}) == 25
    few = [one for one in lines(arms[:FEW], "residual").values() if one.marker]
    assert len({one.marker for one in few}) == FEW - 1
    assert INK not in {one.colour for one in looks.values() if one.marker}


def test_names_are_shown_as_they_are_but_for_length_and_what_cannot_be_printed() -> None:
    assert label("dhc-n4") == "dhc-n4"
    assert label("_hidden").strip("\u200b") == "_hidden"
    assert not label("_hidden").startswith("_"), "legends leave such names out"
    assert label("a\x00b") == "a\\x00b"
    assert len(label("x" * 100)) == 26
