"""What a cell was made with: a machine's name, found out without importing torch, and whether it was compiled."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.data.load import load_data
from harness.run import environment
from harness.run.cell import run_cell
from harness.run.celldir import CellDir
from harness.suite.cells import cells
from harness.suite.file import SuiteFile
from harness.training import compiled


def test_gpus_are_asked_for_only_where_there_is_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, stdout="NVIDIA H100 NVL\nNVIDIA A10G\n")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(environment, "DEVICE_FILES", ("/nowhere/at/all",))
    assert environment.gpus.__wrapped__() == ()
    assert asked == []
    monkeypatch.setattr(environment, "DEVICE_FILES", ("/",))
    assert environment.gpus.__wrapped__() == ("NVIDIA H100 NVL", "NVIDIA A10G")


@pytest.mark.parametrize(("backend", "had"), [("eager", True), ("none_of_this_name", False)])
def test_a_cell_says_whether_it_was_compiled_as_its_suite_asks(
    backend: str, had: bool, tiny_suite: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "BACKEND", backend)
    path = tiny_suite()
    suite = SuiteFile(path, ["train.compile=true", "seeds=[1]", "evaluation.tasks=[]"]).resolve()
    cell = cells(suite, load_data(suite.data, path.parent), path.parent)[0]
    folder = CellDir(tmp_path / "cell")
    folder.path.mkdir()
    assert run_cell(cell.config, cell.evaluation, folder, path.parent, threading.Event()) == 0
    found = json.loads((folder.path / "environment.json").read_text())
    assert found["compiled"] is had
    assert ("cost/compile_seconds" in (folder.result() or {})["metrics"]) is had
