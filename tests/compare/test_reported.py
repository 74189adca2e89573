"""What papers printed, beside a suite's own numbers: differences to the baseline, in columns of their own."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest
from compare_support import arm_results, study

from harness.compare.results import ArmResult, Wanted
from harness.compare.table import render, to_json
from harness.tracking import Record

REPORTED = {"V2 loss": {"residual": 2.811, "dhc": 2.781}, "accuracy": {"residual": 62.5, "dhc": 63.8, "dfc": 63.2}}


@pytest.fixture
def reported(record: Callable[..., Record], wanted: list[Wanted]) -> list[ArmResult]:
    records = [record(arm, seed) for arm in ("residual", "dhc", "dfc") for seed in (1, 2, 3, 4)]
    return arm_results(wanted, records, "residual", REPORTED)


def test_columns_are_differences_to_the_baseline(reported: list[ArmResult]) -> None:
    by_arm = {row.arm: row.reported for row in reported}
    assert by_arm["residual"] == {"V2 loss": None, "accuracy": None}
    assert by_arm["dhc"] == {"V2 loss": pytest.approx(-0.030), "accuracy": pytest.approx(1.3)}
    assert by_arm["dfc"] == {"V2 loss": None, "accuracy": pytest.approx(0.7)}


def test_another_baseline_makes_other_differences(record: Callable[..., Record], wanted: list[Wanted]) -> None:
    rows = arm_results(wanted, [record("dhc", 1)], "dhc", REPORTED)
    assert {row.arm: row.reported["V2 loss"] for row in rows} == {
        "residual": pytest.approx(0.030), "dhc": None, "dfc": None,
    }  # fmt: skip


def test_the_table_shows_them_and_says_whose_they_are(reported: list[ArmResult]) -> None:
    text = render("md", "study", [study(reported)])
    head, _, _, dhc, dfc, *_ = text.splitlines()
    assert "paper Δ V2 loss" in head
    cells = [cell.strip() for cell in head.split("|")]
    column = cells.index("paper Δ V2 loss")
    assert dhc.split("|")[column].strip() == "-0.03"
    assert dfc.split("|")[column].strip() == "–"
    assert "in none of the other columns" in text


def test_csv_and_json_have_them(reported: list[ArmResult]) -> None:
    lines = {line["arm"]: line for line in csv.DictReader(io.StringIO(render("csv", "study", [study(reported)])))}
    assert float(lines["dhc"]["reported_delta:V2 loss"]) == pytest.approx(-0.030)
    assert lines["dfc"]["reported_delta:V2 loss"] == ""
    document = to_json("study", [study(reported)])
    assert document["arms"][1]["reported_delta"]["accuracy"] == pytest.approx(1.3)


def test_without_them_there_is_no_column(rows: list[ArmResult]) -> None:
    assert "paper" not in render("md", "study", [study(rows)])
