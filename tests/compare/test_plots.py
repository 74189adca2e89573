"""The picture of a suite is drawn from what is there, gaps and single seeds included."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import pytest
from compare_support import study
from matplotlib.figure import Figure

from harness.compare.pairing import Pairing
from harness.compare.plots import (
    Curves,
    _draw_deltas,
    _draw_last_deltas,
    _paired,
    loss_curves,
    plot_curves,
    plot_expert_loads,
)
from harness.compare.results import ArmResult, Comparison

CURVE = {10: 4.0, 20: 3.5, 30: 3.2}


def shifted(by: float) -> dict[int, float]:
    return {step: value + by for step, value in CURVE.items()}


def paired(curves: Curves, without: tuple[int, ...] = ()) -> Comparison:
    """A table of these arms in which all common seeds but those `without` are pairs."""
    base = curves.get("residual", {})
    return study(
        [
            ArmResult(arm=arm, n=len(seeds), missing=(), failed=(), loss=None, pairing=Pairing(seeds=common))
            for arm, seeds in curves.items()
            for common in [tuple(s for s in seeds if s in base and s not in without and arm != "residual")]
        ]
    )


class FakeTracker:
    def history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        assert metric == "validation/loss"
        return [(10, float(run_id.removeprefix("run"))), (20, 1.0)]


@pytest.mark.parametrize(
    "curves",
    [
        {"residual": {1: CURVE, 2: shifted(0.1)}, "dhc": {1: shifted(-0.2), 2: shifted(-0.1)}},
        {"residual": {1: CURVE}, "dhc": {1: shifted(-0.2)}},
        {"dhc": {1: shifted(-0.2), 2: CURVE}},
        {"residual": {1: CURVE, 2: CURVE}, "dhc": {2: {10: 3.0}, 3: {10: 3.0, 20: 2.0}}},
        {"residual": {1: {10: 1.0}}, "dhc": {1: {20: 1.0}}, "dfc": {4: CURVE}},
        {"residual": {1: CURVE, 2: CURVE}, **{f"arm{i}": {1: shifted(i / 50), 2: shifted(-i / 40)} for i in range(24)}},
        {f"arm{i}": {1: shifted(i / 50)} for i in range(12)},
        {"residual": {1: CURVE}, **{f"arm{i}": {2: {10: 1.0}} for i in range(9)}},
    ],
    ids=[
        "two seeds", "one seed", "no baseline", "few shared", "nothing shared", "many arms", "many without a baseline",
        "many with nothing shared",
    ],
)  # fmt: skip
def test_a_png_is_written(curves: Curves, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=RuntimeWarning)
        plot_curves([(paired(curves), curves)], "a study", tmp_path / "loss.png")
    data = (tmp_path / "loss.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    assert width > 1000
    assert height > 300


def test_another_curve_gives_another_picture(tmp_path: Path) -> None:
    for name, by in (("a", 0.1), ("b", 0.3)):
        curves = {"residual": {1: CURVE}, "dhc": {1: shifted(by)}}
        plot_curves([(paired(curves), curves)], "t", tmp_path / name)
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("more", [0, 10], ids=["a curve for each arm", "a line for each arm"])
def test_differences_are_drawn_of_the_seeds_that_the_table_compares(more: int) -> None:
    """A seed on other hardware, or a rung of the ladder with its own batches, is a curve and no pair."""
    others = {f"arm{i}": {1: shifted(i / 50), 2: shifted(i / 40)} for i in range(more)}
    curves = {"residual": {1: CURVE, 2: CURVE}, "dhc": {1: shifted(-0.3), 2: shifted(-0.1)}, **others}
    axes = Figure().subplots()
    draw = _draw_last_deltas if more else _draw_deltas
    draw(axes, _paired(paired(curves, without=(2,)), curves), curves["residual"], study([]))
    assert len(axes.containers) == 1 + more
    values = [float(v) for bar in axes.containers for v in bar[0].get_data()[0 if more else 1]]
    assert min(values) == pytest.approx(-0.3), "seed 1 alone"


def test_an_arm_without_pairs_has_no_difference() -> None:
    curves = {"residual": {1: CURVE}, "half": {1: shifted(0.5)}}
    for draw in (_draw_deltas, _draw_last_deltas):
        axes = Figure().subplots()
        draw(axes, _paired(paired(curves, without=(1,)), curves), curves["residual"], study([]))
        assert len(axes.containers) == 0


def test_curves_are_read_run_by_run_for_the_arms_that_have_any(rows: list[ArmResult]) -> None:
    curves = loss_curves(FakeTracker(), rows)  # type: ignore[arg-type]
    assert list(curves) == ["residual", "dhc", "dfc"]
    assert {seed: curve[10] for seed, curve in curves["dhc"].items()} == {
        seed: float(run.removeprefix("run")) for seed, run in rows[1].runs.items()
    }


def test_expert_loads_are_drawn_from_the_busiest(tmp_path: Path) -> None:
    even, skewed = [[[0.25] * 4] * 3] * 2, [[[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7], [0.25] * 4]] * 2
    plot_expert_loads({"even": even, "skewed": skewed}, "t", tmp_path / "a.png")
    plot_expert_loads({"even": even, "skewed": even}, "t", tmp_path / "b.png")
    turned = [[layer[::-1] for layer in cell] for cell in skewed]
    plot_expert_loads({"even": even, "skewed": turned}, "t", tmp_path / "c.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "c.png").read_bytes(), "experts have no order"
