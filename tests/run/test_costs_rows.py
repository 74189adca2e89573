"""Rows of `costs.json`: ratios to another arm, and numbers that are none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.errors import UsageError
from harness.run.costs import FILE, documents, keep, rebased
from harness.run.layout import Layout


def row(step: float, **changes: Any) -> dict[str, Any]:
    """Of an arm that takes `step` seconds a step, its baseline one."""
    return {
        "key": "k",
        "baseline": "residual",
        "seconds": [step, step],
        "baseline_seconds": [1.0, 1.0],
        "throughput_ratio": 1 / step,
        "throughput_ci": [1 / step, 1 / step],
        "positions_per_step": 128,
        "saved_bytes": int(100 * step),
        "saved_bytes_ratio": step,
        "peak_bytes": None,
        "peak_bytes_ratio": None,
        **changes,
    }


@pytest.fixture
def arms() -> dict[str, Any]:
    return {"residual": row(1.0), "dhc": row(2.0), "dfc": row(1.5, positions_per_step=256)}


def test_another_baseline_has_other_ratios_and_what_was_not_measured_with_it_none(arms: dict[str, Any]) -> None:
    found = rebased(arms, "dhc")
    ratios = {name: (one["throughput_ratio"], one["saved_bytes_ratio"]) for name, one in found.items()}
    assert ratios == {
        "residual": (2.0, 0.5), "dhc": (1.0, 1.0), "dfc": (pytest.approx(2 * 2 / 1.5), 0.75),
    }  # fmt: skip
    assert {one["baseline"] for one in found.values()} == {"dhc"}
    assert found["residual"]["throughput_ci"] == [2.0, 2.0]
    apart = {**arms, "residual": row(1.0, baseline_seconds=[1.0, 2.0]), "other": row(3.0, baseline="vit")}
    found = rebased(apart, "dhc")
    assert "residual" not in found, "of other rounds"
    assert found["other"] == apart["other"], "of another table"
    assert rebased(arms, "nobody") == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"throughput_ratio": "abc"},
        {"throughput_ratio": None},
        {"throughput_ci": [1.0]},
        {"throughput_ci": ["a", "b"]},
        {"seconds": []},
        {"seconds": [1.0, "x"]},
        {"baseline_seconds": None},
        {"saved_bytes_ratio": -1.0},
        {"peak_bytes_ratio": "much"},
    ],
)
def test_a_row_with_other_than_numbers_is_named_and_left_as_it_is(
    layout: Layout, arms: dict[str, Any], changes: dict[str, Any]
) -> None:
    document = {"format": 1, "key": "k", "machine_key": "m", "when": "2026", "arms": arms, "skipped": {}}
    keep(layout, "tiny", document)
    assert documents(layout, "tiny") == [document]
    path = layout.suite("tiny") / FILE
    text = json.dumps({"format": 1, "measured": [{**document, "arms": {**arms, "dhc": row(2.0, **changes)}}]})
    path.write_text(text)
    for read in (lambda: documents(layout, "tiny"), lambda: keep(layout, "tiny", document)):
        with pytest.raises(UsageError, match=r"costs\.json: holds something else than measured costs"):
            read()
    assert path.read_text() == text
