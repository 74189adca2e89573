"""The forms of a report."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from gate_support import ENVIRONMENT

from harness.errors import UsageError
from harness.gate.findings import Finding, Report, SeedLine
from harness.gate.output import document, junit, markdown, write_outputs
from harness.gate.plot import plot_seeds


@pytest.fixture
def report() -> Report:
    made = Report(
        suite="tiny", unit="nats per token", against={"file": "tiny.json", "reason": "a|b"}, environment=ENVIRONMENT,
        rules={"alpha": 0.005, "margin": 0.01, "confirm": [11, 12]}, notes=["another environment"],
    )  # fmt: skip
    made.findings = [
        Finding(layer="L0", rule="golden losses", arm="a", state="pass", measured="equal", limit="equal"),
        Finding(layer="L1", rule="runs", arm="a", state="fail", measured="seed 2: error: x | y\x1b", limit="all end"),
        Finding(layer="L2", rule="loss", arm="a", state="inconclusive", measured="p < 0.1 & more"),
        Finding(layer="L3", rule="drift", arm=None, state="not judged", measured="no anchor"),
    ]
    made.seeds = [
        SeedLine(layer="L2", stage="look 1", arm="a", seed=1, loss=3.02, baseline=3.0, paired=True),
        SeedLine(layer="L2", stage="look 1", arm="a", seed=2, loss=None, baseline=3.0, paired=False, failure="nan"),
        SeedLine(layer="L2", stage="confirmation", arm="a", seed=11, loss=3.01, baseline=3.0, paired=False),
    ]
    return made


def test_markdown_has_the_verdict_every_rule_every_seed_and_every_number_of_the_rules(report: Report) -> None:
    text = markdown(report)
    assert text.startswith("## The gate of 'tiny' FAILS")
    for words in (
        "golden losses",
        "**FAIL**",
        "inconclusive",
        "not judged",
        "+0.0200",
        "nan",
        "confirm 11/12",
        "AVX512",
    ):
        assert words in text
    rows = [line for line in text.splitlines() if line.startswith("|") and "x \\| y" in line]
    assert len(rows) == 1, "a pipe in a message ends no cell"


def test_junit_counts_what_it_holds_and_is_xml_whatever_a_message_says(report: Report) -> None:
    suites = {suite.get("name", "")[:2]: suite for suite in ElementTree.fromstring(junit(report))}
    counts = {
        name: tuple(int(suite.get(key, -1)) for key in ("tests", "failures", "errors", "skipped"))
        for name, suite in suites.items()
    }
    assert counts == {"L0": (1, 0, 0, 0), "L1": (1, 1, 0, 0), "L2": (1, 0, 1, 0), "L3": (1, 0, 0, 1)}
    failure = suites["L1"].find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "seed 2: error: x | y? (passes: all end)"


def test_json_has_null_for_what_is_not_known(report: Report) -> None:
    found = json.loads(json.dumps(document(report), allow_nan=False))
    assert (found["state"], found["exit_code"]) == ("fail", 1)
    assert [seed["difference"] for seed in found["seeds"]] == [pytest.approx(0.02), None, pytest.approx(0.01)]
    assert found["layers"] == {"L0": "pass", "L1": "fail", "L2": "inconclusive", "L3": "not judged"}


def test_a_file_that_cannot_be_written_is_one_line(report: Report, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        write_outputs(report, markdown_file=str(tmp_path / "file" / "x.md"), json_file=None, junit_file=None)
    with pytest.raises(UsageError, match="--plot: cannot write"):
        plot_seeds(report, tmp_path / "nowhere" / "x.png")


def test_the_plot_is_a_picture_with_and_without_seeds(report: Report, tmp_path: Path) -> None:
    plot_seeds(report, tmp_path / "some.png")
    report.seeds = []
    plot_seeds(report, tmp_path / "none.png")
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in ("some.png", "none.png"))
