"""The table, its notes and the picture of documents that are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.bench.output import make_folder, text, write
from harness.bench.picture import draw
from harness.errors import UsageError


def row(arm: str, ratio: float, floor: float | None = 1.04, **more: Any) -> dict[str, Any]:
    known = floor is not None and arm != "residual"
    seconds = (ratio - 1) * 0.1 if known else None
    return {
        "arm": arm, "time_ratio": ratio, "time_ratio_ci": [ratio - 0.02, ratio + 0.02], "saved_bytes_ratio": 1.3,
        "peak_memory_ratio": 1.25, "floor_ratio": floor, "connection_bytes": 80_000_000 if known else None,
        "connection_flops": 160_000_000 if known else None, "connection_seconds": seconds,
        "achieved_bandwidth": 80_000_000 / seconds if seconds and seconds > 0 else None,
        "cpu_time_ratio": ratio - 0.01, "cpu_time_ratio_ci": [ratio - 0.03, ratio], "kernels": "native",
        "compiled": False, "step_seconds": ratio, "tokens_per_second": 4096 / ratio, "saved_bytes": 1, "peak_bytes": 1,
        "parameters": 1, "compile_seconds": 2.0, "seconds": [ratio] * 5, **more,
    }  # fmt: skip


def document(**more: Any) -> dict[str, Any]:
    residual = row("residual", 1.0, 1.0, time_ratio_ci=[1.0, 1.0], kernels=None)
    return {
        "preset": "bench-d256", "device": "cpu", "hardware": "a CPU", "threads": 2, "rounds": 15, "steps": [1],
        "arms": [residual, row("dhc-n4", 1.12), row("mudd", 1.5, None), row("sfc-m4", 0.99, 1.01)],
        "peer": [], "compiled": [], "failed": {}, "copy_bandwidth": 25e9, "product_rate": 150e9,
        "shape": {"width": 256, "layers": 6, "context": 256, "batch": 16, "precision": "fp32"},
        "machine": {"torch": "2.13.0"}, **more,
    }  # fmt: skip


def lines(found: str, arm: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in found.splitlines() if line.startswith(f"| {arm} ")
    ]


def test_a_line_has_ratio_interval_floor_and_what_was_achieved() -> None:
    found = text(document())
    assert lines(found, "dhc-n4") == [
        ["dhc-n4", "1.120 [1.100, 1.140]", "1.040", "1.110", "3,657", "1.300", "1.250", "6.67", "native"]
    ]
    assert lines(found, "residual")[0][1:4] == ["1.000", "1.000", "0.990"]
    assert lines(found, "mudd")[0][2] == "–", "no floor is known"
    assert lines(found, "sfc-m4")[0][7] == "–", "no slower than the residual"
    assert found.startswith("bench-d256: d=256, 6 layers, 16 × 256 tokens, fp32, on a CPU, 2 threads, torch 2.13.0\n")
    assert "copy 25 GB/s, product 150 GFLOP/s; 15 rounds" in found


def test_all_lines_of_a_table_are_as_wide() -> None:
    table = [line for line in text(document()).splitlines() if line.startswith("|")]
    assert len({len(line) for line in table}) == 1


def test_compiled_rows_are_a_table_of_their_own_with_the_seconds_of_compiling_apart() -> None:
    compiled = [row("residual", 1.0, 1.0, compiled=True, step_seconds=0.8), row("dhc-n4", 1.2, compiled=True)]
    found = text(document(compiled=compiled, steps=[1, 2]))
    assert len(lines(found, "dhc-n4")) == 2
    assert "beside a compiled residual, which is 1.25 times as fast" in found
    assert "seconds of compiling: residual native 2, dhc-n4 native 2" in found
    assert "1 and 2 step(s) a visit" in found


def test_who_failed_is_named_and_peers_are_explained() -> None:
    found = text(document(failed={"mhc-n4": "OutOfMemoryError: no"}, peer=[row("hyper-connections/frac-m4", 1.24)]))
    assert "mhc-n4 could not be measured: OutOfMemoryError: no" in found
    assert "hyper-connections/frac-m4 is not the paper's FC: The columns" in found


def test_the_picture_has_every_row_but_the_baselines_and_tells_two_ways_apart() -> None:
    base = document()["arms"]
    both = [*base, row("dhc-n4", 1.9, kernels="plain")]
    drawing = draw(document(arms=both, compiled=[base[0], row("dhc-n4", 1.3, compiled=True)]))
    assert [one["name"] for one in drawing.rows] == [
        "dhc-n4, native", "mudd", "sfc-m4", "dhc-n4, plain", "dhc-n4, native, compiled",
    ]  # fmt: skip
    by_name = {one["name"]: one for one in drawing.rows}
    assert by_name["dhc-n4, native"]["flops_per_byte"] == 2.0
    assert by_name["dhc-n4, native"]["achieved_flops"] == pytest.approx(160e6 / 0.012)
    assert by_name["mudd"]["flops_per_byte"] is None
    assert by_name["sfc-m4"]["achieved_flops"] is None
    distances, roof = drawing.figure.axes
    assert [tick.get_text() for tick in distances.get_yticklabels()] == [one["name"] for one in reversed(drawing.rows)]
    bends = roof.lines[0].get_xydata().tolist()
    assert bends[1] == [6.0, 150e9], "the ridge: the product's rate over the copy's bandwidth"
    assert bends[0][1] == pytest.approx(25e9 * bends[0][0])
    assert "dhc-n4, native 1.12 (floor 1.04)" in drawing.alt


def test_a_picture_of_arms_that_cost_nothing_is_drawn_too(tmp_path: Path) -> None:
    base = document()["arms"]
    files = write(document(arms=[base[0], row("sfc-m4", 0.98, 1.01)]), tmp_path, "harness bench")
    assert {path.name for path in files} == {"bench.json", "bench.md", "bench.svg", "bench.png", "bench.csv"}
    assert "no arm was slower than the residual" in (tmp_path / "bench.svg").read_text()


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_measured(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"^--output: cannot write into .*file/below: Not a directory$"):
        make_folder(tmp_path / "file" / "below")
