"""A suite with several baselines: a table for each, with the columns and units that it has."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from compare_support import study

from harness.compare.plots import plot_curves
from harness.compare.results import Arm, ArmResult, Comparison, Wanted
from harness.compare.rows import comparisons
from harness.compare.table import render, to_json, to_markdown
from harness.compare.words import verdict
from harness.tracking import Record

UNITS = {"residual": "nats per image", "dhc": "nats per image", "dfc": "squared error per pixel"}


def grouped(
    wanted: list[Wanted], records: list[Record], own: dict[str, str], **reported: dict[str, float]
) -> list[Comparison]:
    arms = {arm: Arm(baseline=baseline, unit=UNITS[arm]) for arm, baseline in own.items()}
    return comparisons(wanted, records, arms, reported=reported)


def test_every_arm_is_compared_with_its_own_baseline(record: Callable[..., Record], wanted: list[Wanted]) -> None:
    records = [record(cell.arm, cell.seed) for cell in wanted]
    own = {"residual": "residual", "dhc": "residual", "dfc": "dfc"}
    one, two = grouped(wanted, records, own)
    assert [row.arm for row in one.rows] == ["residual", "dhc"]
    assert [row.arm for row in two.rows] == ["dfc"]
    assert (one.baseline, one.unit) == ("residual", "nats per image")
    assert (two.baseline, two.unit) == ("dfc", "squared error per pixel")
    assert two.rows[0].delta is None
    together = grouped(wanted, records, dict.fromkeys(own, "residual"))
    assert together[0].rows[1].pairs == one.rows[1].pairs, "the other group changes no difference"


def test_a_papers_column_stands_where_it_has_numbers(record: Callable[..., Record], wanted: list[Wanted]) -> None:
    records = [record(cell.arm, cell.seed) for cell in wanted]
    own = {"residual": "residual", "dhc": "residual", "dfc": "dfc"}
    one, two = grouped(wanted, records, own, loss={"residual": 2.0, "dhc": 1.9})
    assert one.rows[1].reported == {"loss": pytest.approx(-0.1)}
    assert two.rows[0].reported == {}


@pytest.fixture
def images(rows: list[ArmResult]) -> list[ArmResult]:
    return [replace(row, bits_per_byte=None, perplexity=None, accuracy=0.95) for row in rows]


def test_columns_are_those_that_have_numbers(rows: list[ArmResult], images: list[ArmResult]) -> None:
    text, pictures = to_markdown([study(rows)]), to_markdown([study(images, unit="nats per image")])
    assert "| bits/byte |" in text
    assert "accuracy" not in text.splitlines()[0]
    assert "bits/byte" not in pictures
    assert "ppl" not in pictures.splitlines()[0]
    assert "| accuracy |" in pictures.splitlines()[0]
    assert "held-out nats per image" in pictures
    assert "MFU" not in text, "no chip with an entry"
    assert "|   MFU |" in to_markdown([study([replace(row, mfu=0.41) for row in rows])])


def test_two_tables_stand_under_their_baselines_and_in_one_list(rows: list[ArmResult], images: list[ArmResult]) -> None:
    tables = [study(images, "residual", "nats per image"), study(rows[1:], "dhc", "squared error per pixel")]
    text = to_markdown(tables)
    assert [line for line in text.splitlines() if line.startswith("###")] == ["### Against residual", "### Against dhc"]
    document = to_json("s", tables)
    assert document["baseline"] == "residual"
    assert [(arm["arm"], arm["baseline"], arm["unit"]) for arm in document["arms"]][2:4] == [
        ("dfc", "residual", "nats per image"),
        ("dhc", "dhc", "squared error per pixel"),
    ]
    assert document["arms"][0]["accuracy"] == 0.95
    assert document["arms"][0]["mfu"] is None
    lines = list(csv.DictReader(io.StringIO(render("csv", "s", tables))))
    assert [line["baseline"] for line in lines] == ["residual"] * 3 + ["dhc"] * 2
    assert "0.0625 nats per image below" in verdict(tables[0])


def test_the_picture_has_a_row_for_every_table(rows: list[ArmResult], tmp_path: Path) -> None:
    curve = {"residual": {1: {1: 2.0, 2: 1.0}}, "dhc": {1: {1: 1.9, 2: 0.9}}}
    for name, tables in (("one", [study(rows)]), ("two", [study(rows), study(rows, "dhc", "squared error per pixel")])):
        plot_curves([(table, curve) for table in tables], "t", tmp_path / name)
    heights = [int.from_bytes((tmp_path / name).read_bytes()[20:24], "big") for name in ("one", "two")]
    assert heights[1] == 2 * heights[0]
