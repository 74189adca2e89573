"""The verdict says no more than the numbers do, and the notes say what pairing gained and what seeds could find."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from compare_support import compared, study

from harness.compare.documents import Windows
from harness.compare.results import ArmResult, Comparison, View, Wanted
from harness.compare.statistics import seeds_to_resolve
from harness.compare.table import to_markdown
from harness.compare.words import notes, pair_notes, verdict
from harness.tracking import Record

Make = Callable[..., Record]
SEEDS = (1, 2, 3, 4)
BASE = (3.0, 3.1, 2.9, 3.05)


def told(record: Make, wanted: list[Wanted], margin: float = 0.005, **losses: tuple[float, ...]) -> list[ArmResult]:
    records = [record("residual", s, validation__loss=BASE[s - 1]) for s in SEEDS]
    records += [record(arm, s, validation__loss=loss) for arm, each in losses.items() for s, loss in enumerate(each, 1)]
    return compared(wanted, records, "residual", view=View(margin=margin)).rows


def test_the_verdict_names_the_best_arm_its_gain_and_its_price(rows: list[ArmResult]) -> None:
    said = verdict(study(rows))
    assert said.startswith("dhc is better: 0.0625 nats per token below 'residual' (95% interval ")
    found = re.search(r"interval ([\d.-]+) to ([\d.-]+), 4 pairs of seeds, p ([\d.e-]+) after Holm\)", said)
    assert found is not None
    assert rows[1].delta is not None
    assert rows[1].delta.interval is not None
    low, high = rows[1].delta.interval
    assert [float(end) for end in found.groups()[:2]] == pytest.approx([-high, -low], abs=1e-4)
    assert rows[1].p_holm == pytest.approx(2 * rows[1].delta.p), "of two arms"
    assert "0.50 times the tokens per second and 3.00 times the saved activations of 'residual'" in said
    assert said.endswith("Of 2 arms: 1 better, 1 unresolved (margin ±0.005).")


def test_the_verdict_does_not_claim_what_the_interval_does_not_show(record: Make, wanted: list[Wanted]) -> None:
    noisy = told(record, wanted, dhc=(2.9, 3.15, 2.7, 3.15))
    assert verdict(study(noisy)).startswith(
        "No arm is better than 'residual' beyond doubt: the lowest, dhc, is at -0.0375 nats per token over 4 pairs of "
        "seeds, with p "
    )
    assert verdict(study(told(record, wanted, dhc=(2.9,)))).endswith("over 1 pair of seeds, too few for an interval.")
    worse = told(record, wanted, dhc=(3.1, 3.21, 3.0, 3.16))
    assert worse[1].verdict == "worse"
    assert verdict(study(worse)).startswith("No arm is better than 'residual'")


def test_a_resolved_gain_goes_before_a_larger_unresolved_one(record: Make, wanted: list[Wanted]) -> None:
    rows = told(record, wanted, dhc=(2.94, 3.03, 2.85, 2.98), dfc=(0.0, 5.0, 1.9, 4.0))
    assert rows[2].delta is not None
    assert rows[2].delta.mean < -0.25
    assert verdict(study(rows)).startswith("dhc is better")


def test_a_difference_below_the_margin_is_equivalent_however_significant(record: Make, wanted: list[Wanted]) -> None:
    tiny = (3.0 - 0.0010, 3.1 - 0.0011, 2.9 - 0.0009, 3.05 - 0.0010)
    row = told(record, wanted, dhc=tiny)[1]
    assert row.p_holm is not None
    assert row.p_holm < 0.01
    assert row.verdict == "equivalent"
    assert told(record, wanted, margin=0.0005, dhc=tiny)[1].verdict == "better"


def test_seeds_that_failed_stand_in_the_headline(record: Make, wanted: list[Wanted]) -> None:
    records = [record("residual", s, validation__loss=BASE[s - 1]) for s in SEEDS]
    records += [record("dhc", s, validation__loss=BASE[s - 1] - 0.2 - 0.001 * s) for s in (1, 2)]
    records += [record("dhc", 3, state="failed"), record("dhc", 4, validation__loss=float("nan"))]
    table = compared(wanted, records, "residual")
    assert table.rows[1].failed == (3, 4), "a loss that is no number is no success"
    assert "2 pairs of seeds, 2 of its seeds failed, p " in verdict(table)
    assert "dhc: failed with seed 3, 4." in notes(table)


def test_an_arm_of_which_nothing_is_left_stands_in_the_headline_too(record: Make, wanted: list[Wanted]) -> None:
    records = [record(arm, seed) for arm in ("residual", "dhc") for seed in SEEDS]
    records += [record("dfc", seed, state="failed") for seed in SEEDS]
    said = verdict(compared(wanted, records, "residual"))
    assert said.endswith(" Failed with every seed that was tried: dfc.")
    assert "Failed" not in verdict(compared(wanted, records[:8], "residual")), "not finished is not failed"


def test_what_the_table_is_not_stands_first(rows: list[ArmResult]) -> None:
    assert notes(study(rows, view=View(remarks=("a selection",))))[0] == "a selection"


def test_the_verdict_admits_that_there_is_nothing_to_compare(rows: list[ArmResult]) -> None:
    assert verdict(study(rows[:1])) == "Nothing can be compared with 'residual' yet."


def pair_lines(table: Comparison) -> dict[str, dict[str, str]]:
    """The second table: arm -> title -> cell."""
    lines = [line for line in to_markdown([table]).split("\n\n")[2].splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


def test_what_pairing_gained_is_said_and_what_it_did_not(record: Make, wanted: list[Wanted]) -> None:
    alike = tuple(loss - 0.1 + 0.001 * (-1) ** i for i, loss in enumerate(BASE))
    against = tuple(5.9 - loss for loss in BASE)
    rows = told(record, wanted, dhc=alike, dfc=against)
    lines = pair_lines(study(rows))
    deviation = np.std(np.subtract(alike, BASE), ddof=1)
    unpaired = np.hypot(np.std(alike, ddof=1), np.std(BASE, ddof=1))
    dhc, dfc = lines["dhc"], lines["dfc"]
    assert (dhc["pairs"], dhc["ρ"], dhc["pairing"]) == ("4", "1.00", f"SD / {unpaired / deviation:.1f}")
    assert (dhc["SD of Δ"], dhc["if unpaired"]) == (f"{deviation:.4f}", f"{unpaired:.4f}")
    assert (dfc["ρ"], dfc["pairing"]) == ("-1.00", "no help (0.71)")
    assert dfc["detectable ±"] == f"{rows[2].detectable:.4f}"
    assert (dhc["more seeds for ±0.005"], dfc["more seeds for ±0.005"]) == ("0", "–"), "more than anybody trains"
    few = told(record, wanted, margin=0.1, dhc=alike, dfc=against)
    assert pair_lines(study(few, view=View(margin=0.1)))["dfc"]["more seeds for ±0.1"] == f"{few[2].more_seeds:,}"
    assert few[2].more_seeds == seeds_to_resolve(0.1, float(np.std(np.subtract(against, BASE), ddof=1)), 4, 0.05 / 2)


def test_one_pair_has_no_second_table(record: Make, wanted: list[Wanted]) -> None:
    text = to_markdown([study(told(record, wanted, dhc=(2.9,)))])
    assert "if unpaired" not in text


def windows(differences: np.ndarray) -> Windows:
    return Windows(losses=tuple(differences), sizes=(1.0,) * len(differences))


def test_a_gain_on_a_few_windows_alone_is_called_fragile(record: Make, wanted: list[Wanted]) -> None:
    base = np.full(64, 3.0)
    lucky, even = base.copy(), base - 0.06
    lucky[0] -= 0.06 * 64  # one window has all of the gain
    for gain, fragile in ((lucky, True), (even, False)):
        cells = [replace(one, windows=windows(base if one.arm == "residual" else gain)) for one in wanted]
        records = [record(arm, s) for arm in ("residual", "dhc") for s in SEEDS]
        table = compared(cells, records, "residual")
        cell = pair_lines(table)["dhc"]["Δ over seeds and text"]
        assert cell.startswith("-0.")
        assert cell.endswith(" (fragile)") is fragile
        assert any("the 64 pieces of held-out data" in line for line in pair_notes(table))
