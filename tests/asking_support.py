"""Asking trained cells on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main


def folders(tmp_path: Path) -> dict[str, Path]:
    return {path.name.split("-s1-")[0]: path for path in (tmp_path / "results" / "cells").iterdir()}


def evaluate(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["evaluate", *arguments, "--json"]) == 0
    return {cell["cell"]: cell for cell in json.loads(capsys.readouterr().out)["cells"]}
