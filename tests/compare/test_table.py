"""The comparison in its three forms parses back to the same numbers, and the verdict says no more than they do."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import pytest
from compare_support import arm_results, study

from harness.compare.columns import MISSING
from harness.compare.results import ArmResult, Wanted
from harness.compare.table import render, to_csv, to_json, to_markdown
from harness.compare.words import notes
from harness.tracking import Record

Make = Callable[..., Record]
ISSUE_KEYS = {
    "arm", "n", "loss", "loss_ci", "delta", "delta_ci", "p", "bpb", "ppl", "tokens_per_second_ratio",
    "saved_bytes_ratio", "params", "scores",
}  # fmt: skip


@pytest.fixture
def gaps(record: Make, wanted: list[Wanted]) -> list[ArmResult]:
    """An arm with one finished seed, a failed one and one on other batches; another arm with nothing."""
    records = [record("residual", seed) for seed in (1, 2, 3, 4)]
    records += [
        record("dhc", 1),
        record("dhc", 2, state="failed"),
        record("dhc", 3, digest="other", cost__parameters=None),
    ]
    return arm_results(wanted, records, "residual")


def test_the_json_document_has_the_keys_that_the_issue_lists(rows: list[ArmResult]) -> None:
    document = json.loads(render("json", "study", [study(rows)]))
    assert document.keys() == {"suite", "baseline", "match", "margin", "remarks", "measured_on", "hardware", "arms"}
    assert (document["suite"], document["baseline"]) == ("study", "residual")
    assert [arm["arm"] for arm in document["arms"]] == ["residual", "dhc", "dfc"]
    for arm, row in zip(document["arms"], rows, strict=True):
        assert arm.keys() >= ISSUE_KEYS
        assert row.loss is not None
        low, high = arm["loss_ci"]
        assert low < arm["loss"] < high
        assert [low, high] == list(row.loss.interval or ())
        assert arm["scores"]["cloze/acc"] == 0.5
    residual, dhc, _ = document["arms"]
    assert [residual["delta"], residual["delta_ci"], residual["p"]] == [None, None, None]
    assert dhc["delta_ci"][0] < dhc["delta"] < dhc["delta_ci"][1] < 0
    assert 0 < dhc["p"] < 0.05
    assert (dhc["tokens_per_second_ratio"], dhc["saved_bytes_ratio"]) == (pytest.approx(0.5), pytest.approx(3.0))


def test_what_is_not_known_is_null_in_the_json(gaps: list[ArmResult]) -> None:
    document = json.loads(json.dumps(to_json("study", [study(gaps)]), allow_nan=False))
    _, dhc, dfc = document["arms"]
    assert (dhc["n"], dhc["missing_seeds"], dhc["failed_seeds"], dhc["unpaired_seeds"]) == (2, [2, 4], [2], [3])
    assert [dhc["delta_ci"], dhc["p"]] == [None, None]
    assert dhc["delta"] == pytest.approx(-0.06)
    unknown = ISSUE_KEYS - {"arm", "n", "scores"}
    assert {key: dfc[key] for key in unknown} == dict.fromkeys(unknown)
    assert (dfc["n"], dfc["scores"], dfc["missing_seeds"]) == (0, {}, [1, 2, 3, 4])


def parsed(markdown: str) -> list[dict[str, str]]:
    lines = [line for line in markdown.split("\n\n")[0].splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert all(len(row) == len(cells[0]) for row in cells)
    assert len({len(line) for line in lines}) == 1, "aligned for people, too"
    assert all(set(cell) <= set("-:") for cell in cells[1])
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def test_the_markdown_table_parses_back_to_the_numbers(rows: list[ArmResult]) -> None:
    table = parsed(to_markdown([study(rows)]))
    assert [line["arm"] for line in table] == ["residual", "dhc", "dfc"]
    for line, row in zip(table, rows, strict=True):
        assert row.loss is not None
        mean, half = (float(part) for part in line["loss"].strip("*").split(" ± "))
        assert mean == pytest.approx(row.loss.mean, abs=1e-4)
        assert row.loss.interval is not None
        assert (mean - half, mean + half) == pytest.approx(row.loss.interval, abs=2e-4)
        assert (line["seeds"], line["parameters"]) == ("4", "1,000")
    assert table[0]["Δ loss"] == table[0]["p (Holm)"] == table[0]["verdict"] == MISSING
    assert float(table[1]["Δ loss"].split(" ± ")[0]) == pytest.approx(-0.0625, abs=1e-4)
    assert (table[1]["tokens/s ×"], table[1]["saved bytes ×"], table[1]["cloze acc"]) == ("0.50", "3.00", "0.500")


def test_what_is_not_known_is_a_dash_in_the_markdown_and_every_gap_has_a_note(gaps: list[ArmResult]) -> None:
    markdown = to_markdown([study(gaps)])
    _, dhc, dfc = parsed(markdown)
    assert {value for key, value in dfc.items() if key not in ("arm", "seeds")} == {MISSING}
    assert (dhc["seeds"], dfc["seeds"]) == ("2/4", "0/4")
    assert dhc["Δ loss"] == "-0.0600", "one pair has no interval"
    for said in (
        "dhc: failed with seed 2.", "dhc: not finished with seed 4.",
        "dhc: seed 3 has other batches or held-out data than the baseline: not paired.", "dfc: not finished with seed 1, 2, 3, 4.",
    ):  # fmt: skip
        assert said in notes(study(gaps))
        assert said in markdown


def test_the_csv_parses_back_to_the_json(rows: list[ArmResult], gaps: list[ArmResult]) -> None:
    for made in (rows, gaps):
        lines = list(csv.DictReader(io.StringIO(to_csv("a, study", [study(made)]))))
        arms = to_json("a, study", [study(made)])["arms"]
        assert [line["arm"] for line in lines] == [arm["arm"] for arm in arms]
        for line, arm in zip(lines, arms, strict=True):
            assert (line["suite"], line["baseline"]) == ("a, study", "residual")
            for key in ISSUE_KEYS - {"arm", "scores", "loss_ci", "delta_ci"}:
                assert (float(line[key]) if line[key] else None) == arm[key]
            for key in ("loss_ci", "delta_ci"):
                bounds = [float(line[f"{key}_{end}"]) for end in ("low", "high") if line[f"{key}_{end}"]]
                assert bounds == (arm[key] or [])
            scores = {
                name.removeprefix("score:"): float(v) for name, v in line.items() if name.startswith("score:") and v
            }
            assert scores == arm["scores"]
