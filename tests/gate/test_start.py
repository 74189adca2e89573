"""That an arm starts as the residual network is measured on the models, not believed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_support import ROOT, TINY

from harness.connections.settings import HyperSettings
from harness.connections.settings.base import Start
from harness.data.load import load_data
from harness.gate.start import _start, measured_starts
from harness.suite.cells import Cell, cells
from harness.suite.file import SuiteFile


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Cell]:
    (tmp_path / "corpus.txt").write_bytes((ROOT / "harness/data/pack.py").read_bytes() * 3)
    (tmp_path / "tiny.yaml").write_text(
        TINY.replace("hyper, rate: 2}}\n", "hyper, rate: 3}}\n  post: {connection: post_norm}\n")
    )
    suite = SuiteFile(tmp_path / "tiny.yaml", []).resolve()
    return {cell.arm: cell for cell in cells(suite, load_data(suite.data, tmp_path), tmp_path) if cell.seed == 1}


def test_arms_that_claim_it_do_and_the_others_are_not_asked(made: dict[str, Cell], tmp_path: Path) -> None:
    found = measured_starts(made, tmp_path)
    assert found["residual"].distance == 0.0
    assert found["dhc-n2"].distance is not None
    assert found["dhc-n2"].distance < 1e-12
    assert found["post"].distance is None
    assert "own" in found["post"].why


def test_a_claim_that_is_not_so_is_found(
    made: dict[str, Cell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HyperSettings, "start", lambda self: Start("pre-norm", factor=1.0))
    distance, _ = _start(made["dhc-n2"].config, tmp_path)
    assert distance == pytest.approx(2.0), "three streams are summed"
