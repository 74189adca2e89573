"""`train.kernels`: recorded with every cell, and asked for in vain in one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.cli import main
from harness.connections.kernels import native
from harness.connections.kernels.form import Form


@pytest.fixture
def _no_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CC", "false")
    native._library.cache_clear()
    yield
    native._library.cache_clear()


@pytest.mark.usefixtures("_no_compiler")
def test_kernels_that_cannot_be_had_are_a_line_before_anything_runs(
    tiny_suite: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(tiny_suite()), "train.kernels=fused"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("harness: train.kernels: 'fused' cannot be had: no C compiler ('false'")
    assert not list((tmp_path / "results").glob("cells/*"))


@pytest.mark.parametrize("kernels", ["auto", "plain"])
def test_the_path_is_recorded_with_the_cell(tiny_suite: Callable[..., Path], tmp_path: Path, kernels: str) -> None:
    assert main(["run", str(tiny_suite()), "-k", "s1", f"train.kernels={kernels}"]) == 0
    found = {}
    for path in (tmp_path / "results" / "cells").glob("*/environment.json"):
        found[path.parent.name.split("-s1-")[0]] = json.loads(path.read_text())["kernels"]
    there = native.problem(Form(2, 1, 8, "given")) is None
    assert {name: one["path"] for name, one in found.items() if name != "residual"} == {
        name: "native" if kernels == "auto" and there else "plain" for name in found if name != "residual"
    }
    assert found["residual"]["path"] == "plain"
    assert found["residual"]["why"]
